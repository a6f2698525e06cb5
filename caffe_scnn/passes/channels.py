"""Which channels of a net stand and fall together.

Every index along axis 1 of every value gets a number; equal numbers are one *channel* of the net:
the same feature map wherever it goes. It starts as an output of a convolution or InnerProduct,
passes element-wise layers, pooling, BatchNorm and depthwise convolutions, is one with the channels
it is added to, runs through Concat, Slice and Flatten, and ends at the inputs of convolutions and
InnerProducts. Layers that share weights share their channels' numbers, too.

A channel is *fixed*, with the reason, where it is an input or output of the net, or meets a layer
that it cannot be followed through.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Coupling, Shape
from caffe_scnn.layers.convolution import Convolution
from caffe_scnn.layers.deconvolution import Deconvolution
from caffe_scnn.layers.shapes import Shapes, infer_shapes
from caffe_scnn.model.graph import Graph, Value, is_fed
from caffe_scnn.model.net import Layer, Net

Numbers = NDArray[np.int64]
NONE: Numbers = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Linear:
    """A layer that makes channels out of others: a convolution or an InnerProduct from axis 1.

    Attributes
    ----------
    rows : int ndarray of shape (num_output,)
        Channels that it makes.
    columns : int ndarray
        Channels that it reads: (C,) for a convolution, (C·H·W,) for an InnerProduct.
    group : int
        1 for an InnerProduct.
    """

    rows: Numbers
    columns: Numbers
    group: int


class Channels:
    """The channels of a net as it is.

    Parameters
    ----------
    net : Net
        Phase selected. Weights are not needed.

    Attributes
    ----------
    net : Net
    graph : Graph
    shapes : Shapes
    of : dict of Value to int ndarray
        The channel at each index along axis 1; empty for values without such an axis.
    linear : dict of Layer to Linear
        Layers whose inputs and outputs can be cut apart from each other, in file order.
    depthwise : dict of Layer to int
        Convolutions with a group for every input channel, which only hand channels on; outputs
        per input.
    fixed : dict of int to str
        Channels that cannot go, and why.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self.graph = Graph(net)
        self.shapes: Shapes = infer_shapes(net)
        self.of: dict[Value, Numbers] = {}
        self.linear: dict[Layer, Linear] = {}
        self.depthwise: dict[Layer, int] = {}
        self.fixed: dict[int, str] = {}
        self._parents: list[int] = []
        for layer in net.layers:
            self._follow(layer)
        self._join_sharers()
        for name in self.graph.outputs:
            self._fix([self.graph.blobs[name]], f'"{name}" is an output of the net')
        self._settle()

    @property
    def count(self) -> int:
        """One more than the largest number."""
        return len(self._parents)

    def tops(self, layer: Layer) -> list[Numbers]:
        """Return the channels of a layer's tops."""
        return [self.of[value] for value in self.graph.writes[layer]]

    def bottoms(self, layer: Layer) -> list[Numbers]:
        """Return the channels of a layer's bottoms."""
        return [self.of[value] for value in self.graph.reads[layer]]

    def _follow(self, layer: Layer) -> None:
        if is_fed(layer) or not layer.bottoms:
            self._make_tops(layer)
            self._fix(self.graph.writes[layer], f'"{layer.name}" ({layer.type}) feeds the net')
            return
        coupling = layer_type(layer).coupling(layer)
        tops = self._handed_on(layer, coupling)
        if tops is None:
            self._make_tops(layer)
            around = [*self.graph.reads[layer], *self.graph.writes[layer]]
            self._fix(around, f'channels cannot be followed through "{layer.name}" ({layer.type})')
            return
        for value, numbers in zip(self.graph.writes[layer], tops, strict=True):
            self.of[value] = numbers

    def _handed_on(self, layer: Layer, coupling: Coupling) -> list[Numbers] | None:
        """Return the channels of the tops; None where they cannot be told."""
        bottoms = self.bottoms(layer)
        extents = [_extent(shape) for shape in self.shapes.tops[layer]]
        tops: list[Numbers] | None = None
        if coupling is Coupling.PRODUCES:
            return self._produced(layer, bottoms)
        if coupling in (Coupling.PASSES, Coupling.MIXES):
            several = len(bottoms) > 1
            tops = bottoms[: len(extents)] if several else bottoms * len(extents)
        elif coupling is Coupling.JOINS:
            if len({len(numbers) for numbers in bottoms}) == 1:
                self._join(bottoms)
                tops = bottoms[:1] * len(extents)
        elif coupling is Coupling.CONCATENATES:
            tops = [np.concatenate(bottoms)]
        elif coupling is Coupling.SPLITS:
            tops = np.split(bottoms[0], np.cumsum(extents)[:-1])
        elif coupling is Coupling.FLATTENS:
            tops = self._runs(layer, bottoms[0])
        if tops is None or [len(numbers) for numbers in tops] != extents:
            return None
        return tops

    def _runs(self, layer: Layer, bottom: Numbers) -> list[Numbers] | None:
        before, after = self.shapes.bottoms[layer][0], self.shapes.tops[layer][0]
        if len(after) < 2 or before[0] != after[0] or after[1] % before[1]:
            return None
        return [np.repeat(bottom, after[1] // before[1])]

    def _produced(self, layer: Layer, bottoms: Sequence[Numbers]) -> list[Numbers] | None:
        kind, shape = layer_type(layer), self.shapes.bottoms[layer][0]
        outputs = _extent(self.shapes.tops[layer][0])
        group = 1
        if isinstance(kind, Convolution):
            if layer.proto.convolution_param.axis % len(shape) != 1:
                return None
            group = kind.group(layer, shape[1])
            self._join(bottoms)
            if group == shape[1] > 1:
                self.depthwise[layer] = outputs // group
                return [np.repeat(bottoms[0], outputs // group)] * len(layer.tops)
            columns = bottoms[0]
        elif layer.type == "InnerProduct":
            if layer.proto.inner_product_param.axis % len(shape) != 1:
                return None
            columns = np.repeat(bottoms[0], int(np.prod(shape[2:], dtype=np.int64)))
        else:
            return None
        rows = self._new(outputs)
        self.linear[layer] = Linear(rows, columns, group)
        return [rows] * len(layer.tops)

    def _make_tops(self, layer: Layer) -> None:
        for value, shape in zip(self.graph.writes[layer], self.shapes.tops[layer], strict=True):
            self.of[value] = self._new(_extent(shape))

    def _new(self, count: int) -> Numbers:
        first = len(self._parents)
        self._parents += range(first, first + count)
        return np.arange(first, first + count)

    def _fix(self, values: Iterable[Value], reason: str) -> None:
        for value in values:
            for number in np.unique(self.of[value]):
                self.fixed.setdefault(int(number), reason)

    def _join_sharers(self) -> None:
        """Make one of the channels around layers whose learnt blobs are shared under a name."""
        first: dict[str, Layer] = {}
        named = [(spec.name, layer) for layer in self.net for spec in layer.proto.param]
        for name, layer in named:
            other = first.setdefault(name, layer) if name else layer
            if other is layer or self._alike(other, layer):
                continue
            around = [*self.graph.reads[layer], *self.graph.reads[other]]
            around += [*self.graph.writes[layer], *self.graph.writes[other]]
            self._fix(around, f'"{other.name}" and "{layer.name}" share "{name}" unlike')

    def _alike(self, one: Layer, other: Layer) -> bool:
        """Join the channels of two layers, if they are of one form."""
        ours = [*self.bottoms(one), *self.tops(one)]
        theirs = [*self.bottoms(other), *self.tops(other)]
        if [len(numbers) for numbers in ours] != [len(numbers) for numbers in theirs]:
            return False
        for pair in zip(ours, theirs, strict=True):
            self._join(pair)
        return True

    def _join(self, several: Sequence[Numbers]) -> None:
        for other in several[1:]:
            for a, b in zip(several[0].tolist(), other.tolist(), strict=True):
                a, b = self._root(a), self._root(b)
                self._parents[max(a, b)] = min(a, b)

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def _settle(self) -> None:
        """Put the final numbers everywhere."""
        roots = np.array([self._root(i) for i in range(len(self._parents))], np.int64)
        self.of = {value: roots[numbers] for value, numbers in self.of.items()}
        self.linear = {
            layer: Linear(roots[ends.rows], roots[ends.columns], ends.group)
            for layer, ends in self.linear.items()
        }
        fixed: dict[int, str] = {}
        for number, reason in self.fixed.items():
            fixed.setdefault(int(roots[number]), reason)
        self.fixed = fixed


def is_transposed(layer: Layer) -> bool:
    """Tell whether the inputs come first in a layer's weights."""
    if layer.type == "InnerProduct":
        return bool(layer.proto.inner_product_param.transpose)
    return isinstance(layer_type(layer), Deconvolution)


def _extent(shape: Shape) -> int:
    return shape[1] if len(shape) > 1 else 0
