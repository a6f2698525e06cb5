"""How far the rows of maps lie apart, where convolutions gain by more than their readers need.

A convolution of stride 1 walks over its input as one flat run. If the rows of its result lie as far
apart as those of its input, it stores the run as it is; else the place of every vector is looked
up, which weighs where sums are short. So maps get wider gaps between their rows where that makes
the convolutions around them faster, all together: a map has several readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from caffe_scnn.engine.choose import store_cycles
from caffe_scnn.engine.nodes import Node, Program, Value
from caffe_scnn.engine.tensor import Border
from caffe_scnn.layers.base import ConcatSpec, ConvolutionSpec, EltwiseSpec, PoolingSpec

Borders = dict[Value, Border]
Settle = Callable[[Borders], Borders]

# Cycles of a vector of results: of each of its products and of its store, and what dense tiles of
# so many channels cost at their ends instead; they do not mind where rows lie.
PRODUCT, STORE, DENSE, WIDE = 0.5, 3.2, 6.6, 32
# Layers that do not mind gaps between rows.
INDIFFERENT = (ConvolutionSpec, PoolingSpec, EltwiseSpec, ConcatSpec)


def pitch(value: Value, borders: Mapping[Value, Border]) -> int:
    """Return the distance between two rows of a value."""
    border = borders[value]
    return value.shape[3] + border.columns + border.gap


def widened(program: Program, borders: Borders, settle: Settle) -> Borders:
    """Return the borders with wider gaps where they pay.

    Parameters
    ----------
    program : Program
    borders : dict of Value to Border
        Those that the readers need.
    settle : callable
        Gives values that share memory the same border.
    """
    firsts = [[*node.before, node][0] for node in program.nodes]  # of layers in bands
    walks = [Walk.of(node) for node in firsts if _walks(node)]
    fixed = _fixed(program)
    best, least, before = borders, _cycles(walks, borders), np.inf
    while least < before:
        before = least
        for walk, neighbours in product(walks, ([], walks)):
            trial = _matched(walk, best, neighbours, fixed, settle)
            cycles = _cycles(walks, trial)
            if cycles < least:
                best, least = trial, cycles
    return best


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
    full : bool
        No weight is zero.
    """

    source: Value | None
    target: Value
    reach: int
    products: float
    full: bool

    @classmethod
    def of(cls, node: Node) -> Walk:
        """Describe a convolution."""
        spec = node.spec
        assert isinstance(spec, ConvolutionSpec)
        products = np.count_nonzero(spec.weights) / len(spec.weights)
        reach = (spec.weights.shape[3] - 1) * spec.dilation[1] // spec.stride[1]
        source = node.reads[0] if max(spec.stride) == 1 else None
        full = products == spec.weights[0].size
        return cls(source, node.writes[0], reach, float(products), full)

    def pitch(self, borders: Mapping[Value, Border]) -> int:
        """Return the distance between two rows of what it walks over."""
        if self.source is not None:
            return pitch(self.source, borders)
        least, wide = self.target.shape[3] + self.reach, pitch(self.target, borders)
        match = wide > least and self._cost(wide, borders) < self._cost(least, borders)
        return wide if match else least

    def cycles(self, borders: Mapping[Value, Border]) -> float:
        """Predict its cycles, up to a factor that all have in common."""
        return self._cost(self.pitch(borders), borders)

    def _cost(self, run: int, borders: Mapping[Value, Border]) -> float:
        items, channels, height, width = self.target.shape
        border, out = borders[self.target], pitch(self.target, borders)
        free = not (border.rows or border.columns)
        store = STORE + store_cycles(out if free else width, run, out)
        cost = channels * run * (PRODUCT * self.products + store)
        if self.full:
            blocks = -(-channels // WIDE)
            cost = min(cost, WIDE * blocks * width * (PRODUCT * self.products + DENSE))
        return items * height * cost


def _walks(node: Node) -> bool:
    """Whether a node is a convolution on the direct kernel."""
    spec = node.spec
    return isinstance(spec, ConvolutionSpec) and not spec.depthwise and not node.winograd


def _fixed(program: Program) -> set[Value]:
    """List values that the caller sees or that other layers want without gaps."""
    found = {*program.inputs.values(), *program.wanted.values()}
    for node in program.nodes:
        found.update(one.writes[0] for one in node.before)
        if not isinstance(node.spec, INDIFFERENT):
            found.update((*node.inputs(), *node.writes))
    return found


def _matched(
    walk: Walk, borders: Borders, neighbours: list[Walk], fixed: set[Value], settle: Settle
) -> Borders:
    """Let the rows of a convolution's input and result, and so on of its neighbours, match."""
    found, left = borders, [walk]
    while left:
        walk = left.pop()
        before, width = found, max(walk.pitch(found), pitch(walk.target, found))
        for value in (walk.source, walk.target):
            if value is not None and value not in fixed:
                gap = found[value].gap + width - pitch(value, found)
                found = {**found, value: replace(found[value], gap=gap)}
        found = settle(found)
        moved = {value for value, border in found.items() if border != before[value]}
        left += [other for other in neighbours if moved & {other.source, other.target}]
    return found


def _cycles(walks: list[Walk], borders: Borders) -> float:
    return sum(walk.cycles(borders) for walk in walks)
