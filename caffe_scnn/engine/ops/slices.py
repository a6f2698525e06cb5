"""A convolution that runs slice by slice of its channels, with a depthwise one that reads it.

The map between the two never lies in memory as a whole: a slice of it is read while it is still in
the second-level cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from typing import ClassVar

import numpy as np

from caffe_scnn.engine.nodes import Node, Program, Value
from caffe_scnn.engine.ops.base import Context, Op, in_turn
from caffe_scnn.engine.ops.convolution import ConvolutionOp
from caffe_scnn.engine.ops.depthwise import DepthwiseOp
from caffe_scnn.engine.tensor import Border, Float32, Tensor, channels_of, rows_of
from caffe_scnn.layers.base import ActivationSpec, ConvolutionSpec
from caffe_scnn.layers.nonzeros import count_nonzeros

# A map of more bytes than these does not stay in the second-level cache with what is made of it; a
# slice of so many does, beside an input of so many. Every slice reads the input anew, which pays
# where the map has so many times its bytes. Kernels need some channels at a time.
WHOLE_BYTES = 1 << 20
SLICE_BYTES = 800 << 10
INPUT_BYTES = 1 << 20
GROWTH = 3
LEAST_CHANNELS = 8


class SlicesOp(Op):
    """``node.before``, a convolution, and ``node``, a depthwise one: some channels at a time."""

    name: ClassVar[str] = "slices"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        self.source, self.target = context.tensors[node.reads[0]], self.writes[0]
        self.buffer = context.scratch[0]
        step, channels = self.buffer.channels, self.target.channels
        self.slices = {
            begin: self._slice(node, begin, min(begin + step, channels), context)
            for begin in range(0, channels, step)
        }
        ops = self.parts()
        self.threads = max(op.threads for op in ops)
        self.weight_bytes = sum(op.weight_bytes for op in ops)
        self.kernel = " ".join(dict.fromkeys(op.kernel for op in ops))
        why = "; ".join(op.why for op in self.slices[0])
        self.why = f"slices of {step} channels, the first: {why}"

    def parts(self) -> list[ConvolutionOp | DepthwiseOp]:
        """Return the ops of all slices, in order."""
        return [op for pair in self.slices.values() for op in pair]

    def _slice(
        self, node: Node, begin: int, end: int, context: Context
    ) -> tuple[ConvolutionOp, DepthwiseOp]:
        """Make both layers for the channels from ``begin`` to ``end``."""
        given = Value("given", (1, *self.source.shape[1:]))
        between = Value("between", (1, end - begin, *self.buffer.shape[2:]))
        result = Value("result", (1, end - begin, *self.target.shape[2:]))
        tensors = {
            given: Tensor(given.shape, self.source.border),
            between: Tensor(between.shape, self.buffer.border, self.buffer.at),
            result: Tensor(result.shape, self.target.border),
        }
        context = replace(context, tensors=tensors, scratch=[], unread=None)
        (before,) = node.before
        own = replace(
            node,
            layers=node.layers[len(before.layers) :],
            macs=node.macs - before.macs,
            nonzero_macs=node.nonzero_macs - before.nonzero_macs,
        )
        first = replace(_channels_of(before, begin, end), reads=[given], writes=[between])
        last = replace(_channels_of(own, begin, end), reads=[between], writes=[result])
        return ConvolutionOp(first, context), DepthwiseOp(last, context)

    @classmethod
    def border(cls, node: Node, value: Value) -> Border:
        """Ask for what the convolution needs."""
        return ConvolutionOp.border(node.before[0], value)

    @classmethod
    def scratch(cls, node: Node, tensors: Mapping[Value, Tensor], isa: str) -> list[Tensor]:
        """Ask for a slice of the map between the layers."""
        between = node.before[0].writes[0]
        shape = (1, _slice_channels(between), *between.shape[2:])
        return [Tensor(shape, slice_border(node))]

    def bind(self, arena: Float32) -> Callable[[], object]:
        """Return a call that computes slice after slice."""
        calls = []
        for item, begin in product(range(self.source.items), self.slices):
            convolution, depthwise = self.slices[begin]
            between = convolution.target.planes()
            target = channels_of(self.target, item, begin, between.channels)
            calls.append(convolution.over(arena, rows_of(self.source, item), between))
            calls.append(depthwise.over(arena, between, target))
        return in_turn(*calls)


def slice_up(program: Program) -> None:
    """Let convolutions run slice by slice with depthwise ones that read them, in place.

    Only where nobody else reads what is between them, where that would not stay in the
    second-level cache as a whole, and where its slices and the input do.
    """
    producers = {node.writes[0]: node for node in program.nodes if node.writes}
    for node in list(program.nodes):
        before = producers.get(node.reads[0]) if node.reads else None
        if before is None or not DepthwiseOp.computes(node) or not _gives_slices(before):
            continue
        between = before.writes[0]
        if not program.private(between) or _bytes(between) <= WHOLE_BYTES:
            continue
        program.join(before, [before], node)
        node.sliced = True


def slice_border(node: Node) -> Border:
    """Return what the depthwise layer of a node needs around the slices that it reads."""
    between = node.before[0].writes[0]
    return DepthwiseOp.border(replace(node, reads=[between]), between)


def _slice_channels(between: Value) -> int:
    """Return how many channels of a map are computed at a time, in the last slice perhaps fewer."""
    channels = between.shape[1]
    most = SLICE_BYTES * channels // _bytes(between) // LEAST_CHANNELS * LEAST_CHANNELS
    slices = -(-channels // most)
    return min(channels, -(-channels // (slices * LEAST_CHANNELS)) * LEAST_CHANNELS)


def _gives_slices(node: Node) -> bool:
    """Whether a node is a convolution of which some channels at a time are worth computing."""
    spec = node.spec
    if not isinstance(spec, ConvolutionSpec) or node.residual or node.form != "direct":
        return False
    if spec.group > 1 or set(spec.stride) != {1}:
        return False
    given, result = _bytes(node.reads[0]), _bytes(node.writes[0])
    if given > INPUT_BYTES or GROWTH * given > result:
        return False
    return LEAST_CHANNELS * result <= SLICE_BYTES * len(spec.weights)


def _channels_of(node: Node, begin: int, end: int) -> Node:
    """Return a node for some of its output channels."""
    spec, finish = node.spec, node.finish
    assert isinstance(spec, ConvolutionSpec)
    weights, bias = spec.weights[begin:end], spec.bias
    nonzeros = max(1, count_nonzeros(spec.weights))
    return replace(
        node,
        spec=replace(
            spec,
            weights=weights,
            bias=None if bias is None else bias[begin:end],
            group=len(weights) if spec.depthwise else 1,
        ),
        finish=_finish_of(finish, begin, end),
        before=[],
        sliced=False,
        macs=node.macs * len(weights) // len(spec.weights),
        nonzero_macs=node.nonzero_macs * count_nonzeros(weights) // nonzeros,
    )


def _finish_of(finish: ActivationSpec | None, begin: int, end: int) -> ActivationSpec | None:
    """Return what is fused behind some channels."""
    if finish is None or finish.slopes is None:
        return finish
    return replace(finish, slopes=finish.slopes[begin:end])


def _bytes(value: Value) -> int:
    """Bytes of one item."""
    return 4 * int(np.prod(value.shape[1:]))
