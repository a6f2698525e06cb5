"""What the library asks about a layer type, and the plain descriptions of work it answers with.

A :class:`LayerType` answers *questions*: what shape comes out, which blobs are learnt, how many
multiply-accumulates, what the exact result is, how channels tie together. It never touches the
engine: :meth:`LayerType.lower` returns an :data:`OpSpec`, a value that says what is to be
computed, and the engine decides how.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import ModelError
from caffe_scnn.layers.nonzeros import count_nonzeros
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb

Shape = tuple[int, ...]
Array = NDArray[np.float64]
Weights = NDArray[np.float32]


class Coupling(Enum):
    """How the channels of a layer's bottoms and tops tie together."""

    PRODUCES = "produces"  # new channels: convolution, fc
    PASSES = "passes"  # channel i of the top is channel i of the bottom: ReLU, pooling, BatchNorm
    MIXES = "mixes"  # the same, but neighbouring channels have a say: LRN
    FLATTENS = "flattens"  # channel i of the bottom is a run of channels of the top: Flatten
    JOINS = "joins"  # all bottoms share one set of channels: Eltwise
    CONCATENATES = "concatenates"  # the bottoms' channels side by side: Concat
    SPLITS = "splits"  # one bottom's channels dealt out to several tops: Slice
    BLOCKS = "blocks"  # channels cannot be followed through: Reshape, LSTM


@dataclass(frozen=True)
class Param:
    """A learnt blob of a layer: its shape, and the constant it holds when no weights are given."""

    shape: Shape
    fill: float = 0.0


@dataclass(frozen=True)
class Example:
    """A small net for the contract tests: a layer's prototxt body and the shapes it is fed.

    ``prototxt`` is the text inside ``layer { … }`` without name, bottom and top.
    """

    prototxt: str
    bottoms: tuple[Shape, ...]
    tops: int = 1


# --- descriptions of work, made by LayerType.lower -------------------------------------------


@dataclass(frozen=True)
class ConvolutionSpec:
    """A 2-D convolution of an (N, C, H, W) bottom; weights (n, C/group, k_h, k_w)."""

    weights: Weights
    bias: Weights | None
    stride: tuple[int, int]
    pad: tuple[int, int]
    dilation: tuple[int, int]
    group: int

    @property
    def depthwise(self) -> bool:
        """Whether every channel makes one of its own, and no other."""
        return len(self.weights) == self.group > 1 and self.weights.shape[1] == 1


@dataclass(frozen=True)
class InnerProductSpec:
    """``y = x Wᵀ + b``: the bottom as (M, K), weights (n, K)."""

    weights: Weights
    bias: Weights | None
    rows: int  # M


@dataclass(frozen=True)
class AffineSpec:
    """``y = x·scale + shift``, one pair of values per channel (axis 1)."""

    scale: Weights
    shift: Weights


@dataclass(frozen=True)
class ActivationSpec:
    """An element-wise function; ``kind`` names it, ``args`` are its parameters.

    Kinds: ``relu`` (negative_slope), ``clip`` (min, max), ``sigmoid``, ``tanh``; ``prelu`` takes
    one slope per channel in ``slopes``.
    """

    kind: str
    args: tuple[float, ...] = ()
    slopes: Weights | None = None


@dataclass(frozen=True)
class PoolingSpec:
    """Max or average pooling of an (N, C, H, W) bottom, windows as Caffe lays them."""

    method: str  # "max" or "ave"
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]


@dataclass(frozen=True)
class LRNSpec:
    """Local response normalisation across channels: ``x·(k + alpha/n·Σx²)^-beta``."""

    local_size: int
    alpha: float
    beta: float
    k: float


@dataclass(frozen=True)
class LRNWithinSpec:
    """The same of a channel's windows of n × n pixels: ``x·(1 + alpha/n²·Σx²)^-beta``."""

    local_size: int
    alpha: float
    beta: float


@dataclass(frozen=True)
class EltwiseSpec:
    """Element-wise ``sum`` (with a coefficient per bottom), ``prod`` or ``max``."""

    operation: str
    coefficients: tuple[float, ...] = ()


@dataclass(frozen=True)
class ConcatSpec:
    """The bottoms side by side along ``axis``."""

    axis: int


@dataclass(frozen=True)
class SoftmaxSpec:
    """``exp(x − max) / Σ`` along ``axis``."""

    axis: int


@dataclass(frozen=True)
class ViewSpec:
    """Every top holds the bottom's values in the same order, under the shape ``infer`` gives."""


@dataclass(frozen=True)
class ConstantSpec:
    """Tops that do not depend on any bottom."""

    values: tuple[Weights, ...]


@dataclass(frozen=True)
class FilterSpec:
    """The items of the bottoms where the last bottom is not zero."""


@dataclass(frozen=True)
class RaggedSpec:
    """The layer's reference, whose tops have along ``axis`` as many rows as the data give.

    ``infer`` gives the most there can be.
    """

    axis: int


@dataclass(frozen=True)
class NeuronSpec:
    """One function of every value; it takes and returns float32 arrays of any shape."""

    function: Callable[[Any], Any]


@dataclass(frozen=True)
class RearrangeSpec:
    """The bottom, its axes cut into ``split``, with these in the order ``order``."""

    split: Shape
    order: tuple[int, ...]


@dataclass(frozen=True)
class CutSpec:
    """Top i is the part of the bottom that begins at ``begins[i]``."""

    begins: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Sampling:
    """Where the pixels of one axis come from: between ``low`` and the next, ``fraction`` on."""

    low: NDArray[np.int64]
    fraction: Weights  # 0: ``low`` itself


@dataclass(frozen=True)
class ResampleSpec:
    """An (N, C, H, W) bottom in another size, by linear interpolation along both axes."""

    rows: Sampling
    columns: Sampling


@dataclass(frozen=True)
class UnpoolSpec:
    """Values put to the places of their plane that the second bottom names; zero elsewhere."""


@dataclass(frozen=True)
class MaskedPoolingSpec:
    """Max pooling whose second top says where in its plane each maximum lies."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pad: tuple[int, int]


@dataclass(frozen=True)
class ProductSpec:
    """The first bottom times the second, which has the shape ``spread``, plus a third if any."""

    spread: Shape


@dataclass(frozen=True)
class NormalizeSpec:
    """``scale · x / √(Σx² + eps)``, the sum over channels or over the whole item."""

    across_spatial: bool
    scale: Weights | None  # one value, or one a channel
    eps: float


@dataclass(frozen=True)
class InterleaveSpec:
    """Groups of ``stride`` planes dealt out to every stride-th pixel, less ``begin`` pixels.

    ``top[m, y, x] = bottom[m, row phase, column phase, Y // s_y, X // s_x]`` with
    ``Y = y + begin_y``, ``X = x + begin_x`` and the phases their remainders.
    """

    stride: tuple[int, int]
    begin: tuple[int, int]


@dataclass(frozen=True)
class RoiPoolingSpec:
    """The maximum over each of ``pooled`` bins of each region (Fast R-CNN)."""

    pooled: tuple[int, int]
    scale: float


@dataclass(frozen=True)
class PSRoiPoolingSpec:
    """The average over each of group x group bins of each region, of its own channels (R-FCN)."""

    group: int
    scale: float


@dataclass(frozen=True)
class ArgMaxSpec:
    """Where along ``axis`` the largest value is (of equal ones the last), or that value."""

    axis: int
    value: bool


@dataclass(frozen=True)
class ReferenceSpec:
    """No kernel: the layer's own float64 reference computes it."""


@dataclass(frozen=True)
class Step:
    """A part of a layer's work.

    ``reads`` counts the layer's bottoms and, after them, the results of the steps before;
    ``shapes`` are those of its own results.
    """

    spec: OpSpec
    reads: tuple[int, ...]
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class StepsSpec:
    """Several steps, or one that does not read all bottoms; the last one makes the tops."""

    steps: tuple[Step, ...]


OpSpec = (
    ConvolutionSpec
    | InnerProductSpec
    | AffineSpec
    | ActivationSpec
    | PoolingSpec
    | LRNSpec
    | LRNWithinSpec
    | EltwiseSpec
    | ConcatSpec
    | SoftmaxSpec
    | ViewSpec
    | ConstantSpec
    | FilterSpec
    | RaggedSpec
    | NeuronSpec
    | RearrangeSpec
    | CutSpec
    | ResampleSpec
    | UnpoolSpec
    | MaskedPoolingSpec
    | ProductSpec
    | NormalizeSpec
    | InterleaveSpec
    | RoiPoolingSpec
    | PSRoiPoolingSpec
    | ArgMaxSpec
    | ReferenceSpec
    | StepsSpec
)


class LayerType(ABC):
    """Everything the library knows about one Caffe layer type.

    Methods take the layer and the shapes (or arrays) of its bottoms and raise
    :class:`~caffe_scnn.errors.ModelError` (through :func:`refuse`) where Caffe would refuse.
    """

    type: ClassVar[str]
    bottoms: ClassVar[tuple[int, int | None]] = (1, 1)  # least and most; None: any number
    tops: ClassVar[tuple[int, int | None]] = (1, 1)
    in_place: ClassVar[bool] = False  # may top and bottom be one blob?
    stock: ClassVar[bool] = True  # is the type in BVLC Caffe?

    @abstractmethod
    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes of the tops, rounded and clipped exactly as Caffe does."""

    def feed(self, layer: Layer, given: Mapping[str, Shape]) -> list[Shape]:
        """Shapes of the tops of a layer without bottoms, some of which the caller may have given.

        Parameters
        ----------
        given : mapping of top to shape
            May name tops of other layers, too.
        """
        if all(top in given for top in layer.tops):
            return [given[top] for top in layer.tops]
        shapes = self.infer(layer, [])
        return [given.get(name, s) for name, s in zip(layer.tops, shapes, strict=True)]

    @abstractmethod
    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Compute the tops in float64, written for reading."""

    def advance(
        self, layer: Layer, bottoms: Sequence[Array], state: list[Array]
    ) -> tuple[list[Array], list[Array]]:
        """Compute the tops from a state that the last run left (empty at first), and the next one.

        Only recurrent layers have a state.
        """
        return self.reference(layer, bottoms), state

    def params(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Param]:
        """List the learnt blobs, in Caffe's order."""
        return []

    def macs(self, layer: Layer, bottoms: Sequence[Shape]) -> int:
        """Multiply-accumulates of one forward pass with every weight counted."""
        return 0

    def nonzero_macs(self, layer: Layer, bottoms: Sequence[Shape]) -> int:
        """Multiply-accumulates on non-zero weights; equals :meth:`macs` for layers without."""
        total = sum(int(np.prod(p.shape, dtype=np.int64)) for p in self.params(layer, bottoms)[:1])
        if not layer.blobs or not total:
            return self.macs(layer, bottoms)
        return self.macs(layer, bottoms) // total * count_nonzeros(layer.blobs[0])

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Say what the engine is to compute; the slow reference unless the type says better."""
        return ReferenceSpec()

    def coupling(self, layer: Layer) -> Coupling:
        """How channels tie across the layer."""
        return Coupling.BLOCKS

    def examples(self) -> list[Example]:
        """Small nets for the contract tests."""
        return []


def refuse(layer: Layer, reason: str) -> ModelError:
    """Return the error that names the layer, its type and line; the caller raises it."""
    line = f", line {layer.line}" if layer.line else ""
    return ModelError(f'layer "{layer.name}" ({layer.type}{line}): {reason}')


def canonical_axis(layer: Layer, axis: int, ndim: int) -> int:
    """Turn a negative axis into a position; out of range is an error (Caffe's rule)."""
    if not -ndim <= axis < ndim:
        raise refuse(layer, f"axis {axis} is out of range for a blob of {ndim} axes")
    return axis % ndim


def constant_fill(filler: pb.FillerParameter) -> float:
    """Value of a blob without weights: the filler's constant, 0 for the random ones."""
    return float(filler.value) if filler.type == "constant" else 0.0


def count(shape: Shape) -> int:
    """Count the values of a blob of this shape (1 for no axes)."""
    return math.prod(shape)
