"""Structured sparsity learning: filters, channels, taps, 2-D filters and residual blocks go.

Wen, Wu, Wang, Chen, Li, "Learning Structured Sparsity in Deep Neural Networks", NeurIPS 2016: the
net is trained under ``λ Σ_l Σ_g ‖w_g‖₂``, a group lasso over groups of weights that can be removed
together (:mod:`caffe_scnn.finetune.groups`); by depth, all weights of a residual branch are one
group. Groups that are zero at the end are taken out of the net: it has fewer filters, inputs and
blocks, and the engine squeezes out the taps that no filter uses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from caffe_scnn.decompose.base import require
from caffe_scnn.errors import ModelError
from caffe_scnn.finetune.bridge import NetModule
from caffe_scnn.finetune.groups import FAMILIES, family_size, group_view, zero_groups
from caffe_scnn.finetune.methods.base import Constraint
from caffe_scnn.finetune.methods.branches import residual_branches
from caffe_scnn.finetune.methods.shrinking import Shrinker, Shrinking, median
from caffe_scnn.finetune.methods.weights import WEIGHTED, Weights, choose
from caffe_scnn.finetune.proximal import (
    GroupPenalty,
    group_norms,
    overlapping_prox,
    shrink_together,
)
from caffe_scnn.layers.base import count
from caffe_scnn.layers.shapes import Shapes, infer_shapes
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.remove_zeros import remove_zeros

Emphasis = Callable[[Tensor, int], Tensor]  # of norms and weights of groups: what they count more


@dataclass(frozen=True)
class Ssl(Shrinking):
    """Group lasso over structures; by default filters and taps of all convolutions.

    ``density`` counts multiply-accumulates of the chosen layers, those on non-zero weights over
    all. Families with weight 0 are not penalised.

    Attributes
    ----------
    filter, channel, shape, kernel, depth : float
        Weights of the families, relative to each other.
    scale : {"size", "one"}
        A group's weight times the square root of its size, as usual for a group lasso, or not.
    multipliers : mapping of str to float
        Factors for single layers (names or globs), as the paper's models have them.
    keep : bool
        Leave zero groups in the net as zeros.
    """

    name: ClassVar[str] = "ssl"

    density: float = field(
        default=0.3, metadata={"help": "multiply-accumulates that are left, over all"}
    )
    filter: float = field(default=1.0, metadata={"help": "weight of filters W[n,:,:,:]"})
    channel: float = field(default=0.0, metadata={"help": "weight of channels W[:,c,:,:]"})
    shape: float = field(default=1.0, metadata={"help": "weight of taps W[:,c,h,w]"})
    kernel: float = field(default=0.0, metadata={"help": "weight of 2-D filters W[n,c,:,:]"})
    depth: float = field(default=0.0, metadata={"help": "weight of whole residual branches"})
    scale: Literal["size", "one"] = field(
        default="size", metadata={"help": "weigh groups by the root of their size, or not"}
    )
    multipliers: Mapping[str, float] = field(
        default_factory=dict, metadata={"help": "factors for single layers"}
    )
    keep: bool = field(default=False, metadata={"help": "leave zero groups in the net as zeros"})

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = {**{family: self.weight(family) for family in FAMILIES}, "depth": self.depth}
        for family, weight in (*weights.items(), *self.multipliers.items()):
            require(weight >= 0, f"the weight of {family} must not be negative, it is {weight}")
        require(any(weights.values()), f"one of {', '.join(weights)} must have a weight")
        require(self.scale in ("size", "one"), f'scale must be "size" or "one", not "{self.scale}"')

    def weight(self, family: str) -> float:
        """Return the weight of a family of groups."""
        return float(getattr(self, family))

    def prepare(self, net: Net, layers: Sequence[str] | None = None) -> Net:
        """Train the net as it is."""
        return net

    def attach(self, module: NetModule, layers: Sequence[str] | None) -> Constraint:
        """Begin with the weights as they are; by default those of all 2-D convolutions."""
        return Structures(self, choose(module, layers, _is_plain), module)


class Structures(Shrinker):
    """Weights under the group lasso."""

    def __init__(self, method: Ssl, weights: Sequence[Weights], module: NetModule) -> None:
        super().__init__(method, weights)
        net = module.to_net()
        self._keep = method.keep
        shapes = infer_shapes(net)
        self._layers = [_Structure(method, own, net, shapes) for own in self.weights]
        self._depth = method.depth
        self._branches = _branches(net, self.weights) if method.depth else []
        if method.depth and not self._branches:
            raise ModelError(
                "ssl finds no residual branch among its layers: depth needs Eltwise sums with an "
                "identity as one bottom"
            )
        self._shifts = [_shifts(net, module, own) for own in self.weights]
        self._total = sum(own.all_macs for own in self._layers)
        self._refuse_out_of_reach(method)

    def _refuse_out_of_reach(self, method: Ssl) -> None:
        """Raise if what the penalty spares is more than is to be left."""
        reached = {i for branch in self._branches for i in branch}
        spared = [
            own for i, own in enumerate(self._layers) if not own.is_penalised and i not in reached
        ]
        share = sum(own.all_macs for own in spared) / self._total
        if method.strength is None and share >= method.density:
            names = ", ".join(own.weights.layer.name for own in spared)
            raise ModelError(
                f"ssl: density {method.density:g} is out of reach: {names}, which no penalty acts "
                f"on, hold {share:.2f} of the multiply-accumulates; leave them out of layers"
            )

    def shrunk(self, amounts: Sequence[float]) -> list[Tensor]:
        """Shrink groups, the smallest families first; branches last."""
        made = [
            own.shrunk(amount, self._emphasis_of(i))
            for i, (own, amount) in enumerate(zip(self._layers, amounts, strict=True))
        ]
        for branch in self._branches:
            scale = self._depth_scale(branch, torch.cat([made[i].flatten() for i in branch]))
            together = shrink_together([made[i] for i in branch], amounts[branch[0]] * scale)
            for i, values in zip(branch, together, strict=True):
                made[i] = values
        return made

    def cut(self, values: Sequence[Tensor], amount: float) -> list[Tensor]:
        """Drop groups and branches."""
        made = [
            own.cut(value, amount, self._emphasis_of(i))
            for i, (own, value) in enumerate(zip(self._layers, values, strict=True))
        ]
        for branch in self._branches:
            flat = torch.cat([made[i].flatten() for i in branch])
            if float(flat.norm()) <= amount * self._depth_scale(branch, flat):
                for i in branch:
                    made[i] = torch.zeros_like(made[i])
        return made

    def _depth_scale(self, branch: Sequence[int], values: Tensor) -> float:
        """Return what a branch of these weights, in one tensor, counts."""
        among = [self._sizes[i] for other in self._branches for i in other]
        size = math.sqrt(sum(own**2 for own in among) / len(among))  # of all: blocks are compared
        emphasis = self.emphasis(size, values.norm(), values.numel())
        return self._depth * math.sqrt(values.numel()) * float(emphasis)

    def _emphasis_of(self, index: int) -> Emphasis:
        return lambda norms, count: self.emphasis(self._sizes[index], norms, count)

    def left(self, values: Sequence[Tensor]) -> float:
        """Count multiply-accumulates on non-zero weights, over all."""
        macs = [own.macs(value) for own, value in zip(self._layers, values, strict=True)]
        return sum(macs) / self._total

    def cost(self) -> Tensor:
        """Return ``Σ_l Σ_g ‖w_g‖₂`` with the weights of families, sizes and layers."""
        terms = [own.cost(self._emphasis_of(i)) for i, own in enumerate(self._layers)]
        for branch in self._branches:
            flat = torch.cat([self.weights[i].parameter.flatten() for i in branch])
            scale = self._depth_scale(branch, flat.detach())
            terms.append(scale * torch.linalg.vector_norm(flat))
        return torch.stack(terms).sum()

    def typical(self) -> float:
        """Return the median over groups of what would put a group to zero."""
        found = [
            value
            for i, own in enumerate(self._layers)
            for value in own.strengths(self._emphasis_of(i))
        ]
        for branch in self._branches:
            flat = torch.cat([self.weights[i].parameter.detach().flatten() for i in branch])
            found.append(flat.norm().reshape(1) / self._depth_scale(branch, flat))
        return median(found)

    def constrain(self) -> None:
        """Take the biases of filters that are gone, too: what they make is then 0."""
        if not self.settled:
            return
        for own, shifts in zip(self._layers, self._shifts, strict=True):
            gone = own.gone()
            for shift in shifts:
                shift.data.masked_fill_(gone, 0.0)

    def finish(self, net: Net) -> Net:
        """Take zero groups out of the net, unless they are to be kept."""
        return net if self._keep else remove_zeros(net).net


class _Structure:
    """The groups of one layer's weights."""

    def __init__(self, method: Ssl, weights: Weights, net: Net, shapes: Shapes) -> None:
        layer = net.layer(weights.layer.name)
        self.weights = weights
        self._bottom = shapes.bottoms[layer][0]
        self._pixels = count(shapes.tops[layer][0][2:])
        factor = next(
            (f for glob, f in method.multipliers.items() if fnmatchcase(layer.name, glob)), 1.0
        )
        view = self._view(weights.parameter.detach())
        self._scales = {
            family: factor * method.weight(family) * self._size(method, view, family)
            for family in FAMILIES
            if method.weight(family) and factor
        }

    @property
    def is_penalised(self) -> bool:
        """Some family of groups acts on the layer."""
        return bool(self._scales)

    @property
    def all_macs(self) -> int:
        """Multiply-accumulates of one image on all weights."""
        return self._pixels * self.weights.parameter.numel()

    @staticmethod
    def _size(method: Ssl, view: Tensor, family: str) -> float:
        return math.sqrt(family_size(view, family)) if method.scale == "size" else 1.0

    def _view(self, values: Tensor) -> Tensor:
        return group_view(values, self.weights.layer, self._bottom)

    def _counted(self, view: Tensor, family: str, emphasis: Emphasis) -> Tensor:
        """Return what every group of a family counts, the axes it extends over of size 1."""
        norms = group_norms(view.detach(), FAMILIES[family])
        return self._scales[family] * emphasis(norms, family_size(view, family))

    def shrunk(self, amount: float, emphasis: Emphasis) -> Tensor:
        """Return the weights after a proximal step on all families."""
        values = self.weights.parameter.detach().clone()
        view = self._view(values)
        penalties = [
            GroupPenalty(FAMILIES[family], amount * self._counted(view, family, emphasis))
            for family in self._scales
        ]
        if penalties:
            view.copy_(overlapping_prox(view, penalties))
        return values

    def cut(self, values: Tensor, amount: float, emphasis: Emphasis) -> Tensor:
        """Return the values without the groups that alone would become zero."""
        values = values.clone()
        view = self._view(values)
        for family in self._scales:
            least = amount * self._counted(view, family, emphasis)
            view.masked_fill_(group_norms(view, FAMILIES[family]) <= least, 0.0)
        return values

    def cost(self, emphasis: Emphasis) -> Tensor:
        """Return the penalty of strength 1."""
        view = self._view(self.weights.parameter)
        terms = []
        for family in self._scales:
            norms = torch.linalg.vector_norm(view, dim=FAMILIES[family], keepdim=True)
            terms.append((self._counted(view, family, emphasis) * norms).sum())
        return torch.stack(terms).sum() if terms else view.new_zeros(())

    def strengths(self, emphasis: Emphasis) -> list[Tensor]:
        """Return, for every group, the strength that alone would put it to zero."""
        view = self._view(self.weights.parameter.detach())
        return [
            group_norms(view, FAMILIES[family]) / self._counted(view, family, emphasis)
            for family in self._scales
        ]

    def macs(self, values: Tensor) -> int:
        """Count multiply-accumulates of one image on non-zero weights."""
        return self._pixels * int(torch.count_nonzero(values))

    def gone(self) -> Tensor:
        """Tell which outputs have no weights."""
        return zero_groups(self._view(self.weights.parameter.detach()), "filter")


def _is_plain(layer: Layer) -> bool:
    """Tell whether a layer is a 2-D convolution that is not depthwise."""
    return (
        layer.type == "Convolution"
        and layer.blobs[0].ndim == 4
        and (layer.blobs[0].shape[1] > 1 or layer.proto.convolution_param.group == 1)
    )


def _branches(net: Net, weights: Sequence[Weights]) -> list[list[int]]:
    """Return, for every residual branch, the indices of its weights; all must be among them."""
    index = {own.layer.name: i for i, own in enumerate(weights)}
    found = []
    for layers in residual_branches(net).values():
        names = [layer.name for layer in layers if layer.type in WEIGHTED]
        if names and all(name in index for name in names):
            found.append([index[name] for name in names])
    return found


def _shifts(net: Net, module: NetModule, weights: Weights) -> list[nn.Parameter]:
    """Return what is added per output: the bias, and what BatchNorm and Scale behind it learn."""
    graph = Graph(net)
    layer = net.layer(weights.layer.name)
    found = list(module.layer(layer.name).blobs)[1:]
    while True:
        (value,) = graph.writes[layer]
        readers = value.consumers
        if len(readers) != 1 or readers[0].type not in ("BatchNorm", "Scale", "Bias"):
            return found
        layer = readers[0]
        if layer.type != "BatchNorm":
            found += module.layer(layer.name).blobs
