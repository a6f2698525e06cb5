"""SCNN: bases and sparse coefficients of all layers trained together.

Liu, Wang, Foroosh, Tappen, Pensky, "Sparse Convolutional Neural Networks", CVPR 2015: after the
decomposition of :mod:`caffe_scnn.decompose.scnn` into P, Q and S the net is trained under::

    λ₁ Σ_i ‖S_i‖₁ + λ₂ Σ_i Σ_j ‖S_i(j,·)‖₂     with ‖P(·,j)‖₂ ≤ 1, ‖Q_i(·,·,k)‖₂ ≤ 1

Row j of S_i holds what the outputs take of basis j of channel i: a row without coefficients is a
basis that nobody needs. The bounds keep the penalty from being dodged by small S and large Q.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from caffe_scnn.decompose import Goal, Recipe, compress
from caffe_scnn.decompose import Scnn as Decomposition
from caffe_scnn.decompose.base import require
from caffe_scnn.decompose.kernel import compact
from caffe_scnn.errors import ModelError
from caffe_scnn.finetune.bridge import NetModule
from caffe_scnn.finetune.methods.base import Constraint
from caffe_scnn.finetune.methods.shrinking import Shrinker, Shrinking, median
from caffe_scnn.finetune.methods.weights import Weights, weighted
from caffe_scnn.finetune.proximal import group_norms, project_to_ball, sparse_group_prox
from caffe_scnn.model.net import Blob, Layer, Net
from caffe_scnn.passes.remove_zeros import remove_zeros

COEFFICIENTS = "/S"
BASES = "/Q"
MIXING = "/P"


@dataclass(frozen=True)
class Scnn(Shrinking):
    """Sparse decomposition, trained: convolutions become bases Q and sparse coefficients S.

    Layers that were decomposed before (``compress --method scnn``) are trained as they are; a 1×1
    convolution is all S. ``density`` counts the non-zeros of S over its entries at full rank.

    Attributes
    ----------
    rows : float
        λ₂ over λ₁·√n, n outputs: how much more a whole row of S costs than its entries.
    p : {"identity", "pca"}
        Mixing of the channels before the bases; "pca" adds a dense 1×1 layer.
    """

    name: ClassVar[str] = "scnn"

    density: float = field(
        default=0.05, metadata={"help": "non-zeros of S over its entries at full rank"}
    )
    rows: float = field(
        default=0.5, metadata={"help": "penalty of a row of S over that of its entries"}
    )
    p: Literal["identity", "pca"] = field(
        default="identity", metadata={"help": "mixing of the channels before the bases"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.rows >= 0, f"rows must not be negative, it is {self.rows}")
        require(self.p in ("identity", "pca"), f'p must be "identity" or "pca", not "{self.p}"')

    def prepare(self, net: Net, layers: Sequence[str] | None = None) -> Net:
        """Decompose the chosen convolutions at full rank; those with a Q already stay.

        By default all convolutions but the first and the depthwise ones.
        """
        names = {layer.name for layer in net}
        decomposed = {name for name in names if _original(name) + BASES in names}
        wanted = None if layers is None else tuple(layers)
        if decomposed:
            wanted = tuple(
                layer.name
                for layer in net
                if layer.type == "Convolution"
                and layer.name not in decomposed
                and any(fnmatchcase(layer.name, glob) for glob in layers or ())
            )
            if not wanted:
                return net
        return compress(net, Recipe(Goal(Decomposition(p=self.p)), layers=wanted)).net

    def attach(self, module: NetModule, layers: Sequence[str] | None) -> Constraint:
        """Begin with the coefficients as they are.

        Parameters
        ----------
        module : NetModule
        layers : sequence of str, optional
            Names or globs of the layers before the decomposition; all that have bases by default.
        """
        found = list(weighted(module))
        bases = {_original(own.layer.name) for own in found if own.layer.name.endswith(BASES)}
        chosen = [own for own in found if _has_coefficients(own.layer, bases, layers)]
        if not chosen:
            raise ModelError(
                "scnn finds no coefficients to train: name convolutions, layers = [...]"
            )
        unique = {id(own.parameter): own for own in reversed(chosen)}
        return Coefficients(self, list(unique.values())[::-1], module)


class Coefficients(Shrinker):
    """Coefficients under the penalty, bases and mixing in their balls."""

    def __init__(self, method: Scnn, weights: Sequence[Weights], module: NetModule) -> None:
        super().__init__(method, weights)
        self._rows = method.rows
        names = {_original(own.layer.name) for own in weights}
        parts = [own for own in weighted(module) if _original(own.layer.name) in names]
        self._bases = _unique(parts, BASES)
        self._mixing = _unique(parts, MIXING)

    def shrunk(self, amounts: Sequence[float]) -> list[Tensor]:
        """Shrink coefficients, then the rows of every S_i."""
        made = []
        for index, (own, amount) in enumerate(zip(self.weights, amounts, strict=True)):
            view = _by_group(own, own.parameter.detach())
            entries, rows = self._counted(index, view)
            shrunk = sparse_group_prox(view, amount * entries, amount * rows, (1,))
            made.append(shrunk.view_as(own.parameter))
        return made

    def cut(self, values: Sequence[Tensor], amount: float) -> list[Tensor]:
        """Drop coefficients, then rows."""
        made = []
        for index, (own, value) in enumerate(zip(self.weights, values, strict=True)):
            view = _by_group(own, value)
            entries, _ = self._counted(index, view)
            view = view.masked_fill(view.abs() <= amount * entries, 0.0)
            _, rows = self._counted(index, view)
            view = view.masked_fill(group_norms(view, (1,)) <= amount * rows, 0.0)
            made.append(view.view_as(value))
        return made

    def _counted(self, index: int, view: Tensor) -> tuple[Tensor, Tensor]:
        """Return what every entry and every row of a layer's S counts."""
        outputs = view.shape[1]
        entries = self.emphasis(self._sizes[index], view.abs(), 1)
        rows = self.emphasis(self._sizes[index], group_norms(view.detach(), (1,)), outputs)
        return entries, self._rows * math.sqrt(outputs) * rows

    def left(self, values: Sequence[Tensor]) -> float:
        """Count non-zeros of S over its entries."""
        total = sum(value.numel() for value in values)
        return sum(int(torch.count_nonzero(value)) for value in values) / total

    def cost(self) -> Tensor:
        """Return ``Σ ‖S‖₁ + rows·√n Σ ‖S(j,·)‖₂``."""
        terms = []
        for index, own in enumerate(self.weights):
            view = _by_group(own, own.parameter)
            entries, rows = self._counted(index, view)
            norms = torch.linalg.vector_norm(view, dim=1, keepdim=True)
            terms.append((entries * view.abs()).sum() + (rows * norms).sum())
        return torch.stack(terms).sum()

    def typical(self) -> float:
        """Return the median of what would put a coefficient to zero."""
        found = []
        for index, own in enumerate(self.weights):
            values = own.parameter.detach().abs()
            found.append(values / self.emphasis(self._sizes[index], values, 1))
        return median(found)

    def constrain(self) -> None:
        """Put bases and the columns of P back into their balls."""
        for bases in self._bases:
            axes = tuple(range(1, bases.parameter.dim()))
            bases.parameter.data.copy_(project_to_ball(bases.parameter.detach(), axes))
        for mixing in self._mixing:
            view = _by_group(mixing, mixing.parameter.detach())
            mixing.parameter.data.copy_(project_to_ball(view, (1,)).view_as(mixing.parameter))

    def finish(self, net: Net) -> Net:
        """Drop bases that no output takes, give the others norm 1, and remove what is zero."""
        net = net.copy()
        by_name = {layer.name: layer for layer in net}
        made: dict[tuple[int, int], tuple[Blob, Blob]] = {}
        for layer in net:
            bases = by_name.get(_original(layer.name) + BASES)
            if layer.name.endswith(COEFFICIENTS) and bases is not None:
                key = id(bases.blobs[0]), id(layer.blobs[0])
                if key not in made:  # layers that share weights go on sharing them
                    made[key] = _without_dead_bases(bases, layer)
                bases.blobs[0], layer.blobs[0] = made[key]
                bases.proto.convolution_param.num_output = len(bases.blobs[0])
        return remove_zeros(net).net


def _original(name: str) -> str:
    """Return the name of a layer before its decomposition."""
    for part in (COEFFICIENTS, BASES, MIXING):
        name = name.removesuffix(part)
    return name


def _has_coefficients(layer: Layer, bases: set[str], layers: Sequence[str] | None) -> bool:
    """Tell whether a layer's weights are coefficients that were chosen to be trained."""
    original = _original(layer.name)
    whole = layer.type == "Convolution" and layer.name == original and layer.blobs[0].ndim == 4
    is_s = layer.name.endswith(COEFFICIENTS) and original in bases
    if layers is None:
        return is_s
    named = any(fnmatchcase(original, glob) for glob in layers)
    return named and (is_s or (whole and layer.blobs[0].shape[2:] == (1, 1)))


def _unique(parts: Sequence[Weights], suffix: str) -> list[Weights]:
    own = [part for part in parts if part.layer.name.endswith(suffix)]
    return list({id(part.parameter): part for part in own}.values())


def _by_group(own: Weights, values: Tensor) -> Tensor:
    """Return the weights of a 1×1 convolution as (group, outputs, inputs)."""
    group = own.layer.proto.convolution_param.group
    return values.view(group, -1, values.shape[1])


def _without_dead_bases(bases: Layer, coefficients: Layer) -> tuple[Blob, Blob]:
    """Return Q and S without bases that no output takes; the others get norm 1."""
    q, s = bases.blobs[0], coefficients.blobs[0]
    group = coefficients.proto.convolution_param.group
    channels = bases.proto.convolution_param.group
    taps = q.reshape(channels, len(q) // channels, -1).astype(np.float64)
    by_group = s.reshape(group, len(s) // group, channels // group, -1).astype(np.float64)
    codes = by_group.swapaxes(1, 2).reshape(channels, len(s) // group, -1)
    norms = np.linalg.norm(taps, axis=2)
    taps = taps / np.where(norms > 0, norms, 1.0)[..., None]
    codes, taps = compact(codes * norms[:, None], taps)
    by_group = codes.reshape(group, channels // group, len(s) // group, -1).swapaxes(1, 2)
    return (
        np.asarray(taps.reshape(-1, *q.shape[1:]), np.float32),
        np.asarray(by_group.reshape(len(s), -1, *s.shape[2:]), np.float32),
    )
