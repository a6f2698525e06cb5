"""How far the rows of maps lie apart, where convolutions gain by more than their readers need.

A convolution of stride 1 walks over its input as one flat run. If the rows of its result lie as far
apart as those of its input, it stores the run as it is; else the place of every vector is looked
up, which weighs where sums are short. So maps get wider gaps between their rows where that makes
the convolutions around them faster, all together: a map has several readers.
"""

from __future__ import annotations

from collections import ChainMap, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from caffe_scnn.engine.choose import store_cycles
from caffe_scnn.engine.nodes import WINOGRAD, Node, Program, Value
from caffe_scnn.engine.tensor import Border
from caffe_scnn.engine.tile import tile_sizes
from caffe_scnn.layers.base import ConcatSpec, ConvolutionSpec, EltwiseSpec, PoolingSpec
from caffe_scnn.layers.nonzeros import count_nonzeros

Borders = dict[Value, Border]

# Cycles of a vector of results: of each of its products and of its store, and what dense tiles of
# so many channels cost at their ends instead; they do not mind where rows lie.
PRODUCT, STORE, DENSE, WIDE = 0.5, 3.2, 6.6, 32
# Layers that do not mind gaps between rows.
INDIFFERENT = (ConvolutionSpec, PoolingSpec, EltwiseSpec, ConcatSpec)


def widened(
    program: Program, borders: Borders, alike: Sequence[Sequence[Value]], isa: str
) -> Borders:
    """Return the borders with wider gaps where they pay.

    Parameters
    ----------
    program : Program
    borders : dict of Value to Border
        Those that the readers need.
    alike : sequence of sequences of Value
        All values, those together that must have the same border: they have.
    isa : str
    """
    return _Search(program, borders, alike, isa).run()


@dataclass(frozen=True)
class Walk:
    """A convolution on the direct kernel.

    Attributes
    ----------
    source : Value, optional
        What it walks over; None: phase planes, which are made for it alone.
    target : Value
    reach : int
        Columns that phase planes have more than the result.
    products : float
        Of one value of the result, on average.
    dense : bool
        It can run on dense tiles along channels: no weight is zero, and the ISA has them.
    lanes : int
        Of a vector.
    """

    source: Value | None
    target: Value
    reach: int
    products: float
    dense: bool
    lanes: int

    @classmethod
    def of(cls, node: Node, isa: str) -> Walk:
        """Describe a convolution."""
        spec = node.spec
        assert isinstance(spec, ConvolutionSpec)
        products = count_nonzeros(spec.weights) / len(spec.weights)
        reach = (spec.weights.shape[3] - 1) * spec.dilation[1] // spec.stride[1]
        source = node.reads[0] if max(spec.stride) == 1 else None
        full = products == spec.weights[0].size
        dense, lanes = full and bool(tile_sizes(isa, "dense")[0]), tile_sizes(isa)[1]
        return cls(source, node.writes[0], reach, float(products), dense, lanes)

    def stride_in(self, borders: Mapping[Value, Border]) -> int:
        """Return the distance between two rows of what it walks over."""
        if self.source is not None:
            return _pitch(self.source, borders)
        least, wide = self.target.shape[3] + self.reach, _pitch(self.target, borders)
        match = wide > least and self._cost(wide, borders) < self._cost(least, borders)
        return wide if match else least

    def cycles(self, borders: Mapping[Value, Border]) -> float:
        """Predict its cycles, up to a factor that all have in common."""
        return self._cost(self.stride_in(borders), borders)

    def _cost(self, stride: int, borders: Mapping[Value, Border]) -> float:
        items, channels, height, width = self.target.shape
        border, out = borders[self.target], _pitch(self.target, borders)
        flat = height == 1 or (not border.halo and stride == out)
        store = STORE + (0 if flat else store_cycles(width, stride, out))
        vectors = -(-((height - 1) * stride + width) // self.lanes)
        cost = channels * vectors * self.lanes * (PRODUCT * self.products + store)
        if self.dense:
            blocks = -(-channels // WIDE)
            dense = WIDE * blocks * height * width * (PRODUCT * self.products + DENSE)
            cost = min(cost, dense)
        return items * cost


class _Search:
    """Changes one convolution after the other, until nothing becomes cheaper."""

    def __init__(
        self, program: Program, borders: Borders, alike: Sequence[Sequence[Value]], isa: str
    ) -> None:
        firsts = [[*node.before, node][0] for node in program.nodes]  # of layers in parts
        self._walks = [Walk.of(node, isa) for node in firsts if _walks(node)]
        self._borders = borders
        self._alike = {value: values for values in alike for value in values}
        fixed = _fixed(program)
        self._fixed = {v for values in alike if not fixed.isdisjoint(values) for v in values}
        self._around: dict[Value, list[Walk]] = defaultdict(list)
        for walk in self._walks:
            for end in (walk.source, walk.target):
                if end is not None:
                    self._around[self._alike[end][0]].append(walk)

    def run(self) -> Borders:
        """Return the best borders found."""
        found, changed = dict(self._borders), True
        while changed:
            changed = False
            for walk, spread in product(self._walks, (False, True)):
                moved = self._matched(walk, found, spread)
                touched = {w for value in moved for w in self._around[self._alike[value][0]]}
                trial = ChainMap(moved, found)
                gain = sum(walk.cycles(found) - walk.cycles(trial) for walk in touched)
                if gain > 0:
                    found.update(moved)
                    changed = True
        return found

    def _matched(self, walk: Walk, borders: Borders, spread: bool) -> Borders:
        """Let the rows of a convolution's input and result match; return what moves.

        With ``spread`` those of its neighbours, too, and so on.
        """
        moved: Borders = {}
        found, left = ChainMap(moved, borders), [walk]
        while left:
            walk = left.pop()
            width = max(walk.stride_in(found), _pitch(walk.target, found))
            for value in (walk.source, walk.target):
                if value is None or value in self._fixed or _pitch(value, found) == width:
                    continue
                gap = found[value].gap + width - _pitch(value, found)
                moved.update(dict.fromkeys(self._alike[value], replace(found[value], gap=gap)))
                left += self._around[self._alike[value][0]] if spread else []
        return moved


def _pitch(value: Value, borders: Mapping[Value, Border]) -> int:
    """Return the distance between two rows of a value."""
    border = borders[value]
    return value.shape[3] + border.columns + border.gap


def _walks(node: Node) -> bool:
    """Whether a node is a convolution on the direct kernel."""
    spec = node.spec
    return isinstance(spec, ConvolutionSpec) and not spec.depthwise and node.form not in WINOGRAD


def _fixed(program: Program) -> set[Value]:
    """List values that the caller sees or that other layers want without gaps."""
    found = {*program.inputs.values(), *program.wanted.values()}
    for node in program.nodes:
        found.update(one.writes[0] for one in node.before)
        if not isinstance(node.spec, INDIFFERENT):
            found.update((*node.inputs(), *node.writes))
    return found
