"""Layers that run band by band of the map: what is between them never lies in memory as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import clear_halo, clear_rows, slide_rows
from caffe_scnn.engine.bands import Clear, Pass, Schedule, Slide, Window, pass_rows, schedule
from caffe_scnn.engine.bf16 import PARTS
from caffe_scnn.engine.nodes import WINOGRAD, Node, Program, Value, unread_channels
from caffe_scnn.engine.ops.base import Context, Op, Rows, in_turn
from caffe_scnn.engine.ops.bf16 import Bf16Op
from caffe_scnn.engine.ops.convolution import ConvolutionOp
from caffe_scnn.engine.ops.depthwise import DepthwiseOp
from caffe_scnn.engine.ops.pooling import PoolingOp
from caffe_scnn.engine.tensor import Border, Float32, Tensor, rows_of
from caffe_scnn.layers.base import ConvolutionSpec, PoolingSpec

# A map of more bytes than these does not stay in the last-level cache: it is worth the bands, if
# what is under way at a time takes about as many as these, with so many pixels a pass that tiles
# are wide. With fewer bands what the first one computes twice would weigh. Between convolutions
# half as many bytes do, if that is so many times what goes in and comes out: bases (Q and S).
WHOLE_BYTES = 4 << 20
SWOLLEN = 3
BAND_BYTES = 3 << 20
LEAST_PIXELS = 200
LEAST_BANDS = 20

Stage = ConvolutionOp | DepthwiseOp | PoolingOp


class BandsOp(Op):
    """``node.before``, one after the other, and then ``node``: a band of rows of each at a time."""

    name: ClassVar[str] = "bands"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        plan = _schedule(node)
        buffers, self.windows = len(plan.heights), [_window(one) for one in _chain(node)]
        self.rows, self.whole = plan.rows, self.writes[0]
        self.source = context.tensors[node.reads[0]]
        self.residual = context.tensors[node.residual] if node.residual else None
        self.buffers, scratch = context.scratch[:buffers], context.scratch[buffers:]
        self.stages = self._stages(node, replace(context, scratch=scratch))
        self.threads = max(stage.threads for stage in self.stages)
        self.weight_bytes = sum(stage.weight_bytes for stage in self.stages)
        self.kernel = " ".join(stage.kernel for stage in self.stages)
        why = "; ".join(stage.why for stage in self.stages)
        self.why = f"bands of {plan.rows[-1]} rows; {why}"
        self.actions = plan.actions

    def _stages(self, node: Node, context: Context) -> list[Stage]:
        """Make each layer for the rows of one pass of it."""
        unread = [*(_unread(reader) for reader in _chain(node)[1:]), context.unread]
        scratch, stages = list(context.scratch), []
        passes = _passes(node, self.source, self.whole, self.buffers)
        for number, (part, tensors) in enumerate(passes):
            kind = _kind(part)
            own = [scratch.pop(0) for _ in kind.scratch(part, tensors, context.isa)]
            inner = replace(context, tensors=tensors, scratch=own, unread=unread[number])
            stages.append(kind(part, inner))
        return stages

    def _action(
        self, arena: Float32, action: Slide | Clear | Pass, item: int
    ) -> Callable[[], object]:
        """Bind one action to its memory."""
        if isinstance(action, Clear):
            planes = self.buffers[action.buffer].planes()
            return partial(clear_rows, arena, planes, action.first, action.count)
        if isinstance(action, Slide):
            planes = self.buffers[action.buffer].planes()
            return partial(slide_rows, arena, planes, action.first, action.count, self.threads)
        number, rows, residual = action.stage, self.rows[action.stage], None
        source, item_read = (self.buffers[number - 1], 0) if number else (self.source, item)
        if number < len(self.buffers):
            target = rows_of(self.buffers[number], 0, action.target, rows)
        else:
            target = rows_of(self.whole, item, action.target, rows)
            if self.residual:
                residual = rows_of(self.residual, item, action.target, rows)
        outside = self.windows[number].outside(action.row, rows, self._height(number))
        part = Rows(source, item_read, action.source, target, residual, outside)
        return self.stages[number].part(part, arena)

    def _height(self, stage: int) -> int:
        """Return the rows of what a layer reads, as a whole."""
        return self.windows[stage - 1].height if stage else self.source.height

    @classmethod
    def border(cls, node: Node, value: Value) -> Border:
        """Ask for what the first layer needs."""
        first = node.before[0]
        return _kind(first).border(first, value) if value is node.reads[0] else Border()

    @classmethod
    def scratch(cls, node: Node, tensors: Mapping[Value, Tensor], isa: str) -> list[Tensor]:
        """Ask for the buffers between layers, and for what a pass of the first layer needs."""
        plan, buffers = _schedule(node), []
        readers = [*node.before[1:], node]
        for one, reader, height in zip(node.before, readers, plan.heights, strict=True):
            _, channels, _, width = one.writes[0].shape
            buffers.append(Tensor((1, channels, height, width), between(one, reader)))
        passes = _passes(node, tensors[node.reads[0]], tensors[node.writes[0]], buffers)
        own = [_kind(part).scratch(part, of_part, isa) for part, of_part in passes]
        return [*buffers, *(tensor for of_stage in own for tensor in of_stage)]

    def bind(self, arena: Float32) -> Callable[[], object]:
        """Return a call that does everything that was planned."""
        whole = self.whole.planes()
        calls = [partial(clear_halo, arena, whole, self.whole.items, self.threads)]
        calls += [partial(clear_halo, arena, buffer.planes(), 1, 1) for buffer in self.buffers]
        actions = product(range(self.source.items), self.actions)
        return in_turn(*calls, *(self._action(arena, action, item) for item, action in actions))


def _passes(
    node: Node, source: Tensor, whole: Tensor, buffers: list[Tensor]
) -> list[tuple[Node, dict[Value, Tensor]]]:
    """Return each layer for the rows of one pass of it, with the tensors of its operands."""
    nodes, rows = _chain(node), _schedule(node).rows
    read = [Tensor((1, *source.shape[1:]), source.border), *buffers]
    borders = [*(buffer.border for buffer in buffers), whole.border]
    found = []
    for number, (one, count, tensor) in enumerate(zip(nodes, rows, read, strict=True)):
        _, channels, _, width = one.writes[0].shape
        given = Value("given", tensor.shape)
        result = Value("result", (1, channels, count, width))
        tensors = {given: tensor, result: Tensor(result.shape, borders[number])}
        part = replace(_part(one, first=not number), reads=[given], writes=[result])
        if one.residual:
            part.residual = Value("added", result.shape)
            tensors[part.residual] = tensors[result]
        found.append((part, tensors))
    return found


def join(program: Program) -> None:
    """Let layers run band by band with the one that reads them, in place.

    Only where nobody else reads what is between them, where that would not stay in a cache as a
    whole, and where the bands do.
    """
    producers = {node.writes[0]: node for node in program.nodes if node.writes}
    for node in list(program.nodes):
        before = producers.get(node.reads[0]) if node.reads else None
        if before is None or before.sliced or node.sliced:
            continue
        if not _reads_bands(node) or not _gives_bands(before):
            continue
        if not program.private(before.writes[0]) or not _leaves_cache(before, node):
            continue
        chain = [*before.before, replace(before, before=[])]
        if _under_way([*chain, node], _least_rows(node)) > BAND_BYTES:
            continue
        program.join(before, chain, node)


def _leaves_cache(node: Node, reader: Node) -> bool:
    """Whether the map between two layers would not stay in a cache as a whole."""
    size, around = _bytes(node.writes[0]), max(_bytes(node.reads[0]), _bytes(reader.writes[0]))
    swollen = isinstance(reader.spec, ConvolutionSpec) and size >= SWOLLEN * around
    return size > WHOLE_BYTES // (2 if swollen else 1)


def between(node: Node, reader: Node) -> Border:
    """Return the border of a buffer; the padding above and below is among its rows."""
    value = node.writes[0]
    part = replace(_part(reader, first=False), reads=[value])
    return Border(0, _kind(reader).border(part, value).columns, aligned=True)


def _gives_bands(node: Node) -> bool:
    """Whether a node can compute a few rows, and nothing is added to them."""
    if isinstance(node.spec, PoolingSpec):
        return _pools_bands(node.spec)
    if not isinstance(node.spec, ConvolutionSpec) or node.residual or node.form in WINOGRAD:
        return False
    return _sees_pixels(node)


def _reads_bands(node: Node) -> bool:
    """Whether a node can read a few rows."""
    spec = node.spec
    if isinstance(spec, PoolingSpec):
        return _pools_bands(spec)
    if not isinstance(spec, ConvolutionSpec) or node.form in WINOGRAD or not _sees_pixels(node):
        return False
    return DepthwiseOp.computes(node) or set(spec.stride) == {1}


def _sees_pixels(node: Node) -> bool:
    """Whether no row of the result is made of padding alone."""
    window = _window(node)
    return window.pad < window.span


def _pools_bands(spec: PoolingSpec) -> bool:
    """Whether a pooling needs only its rows: an average counts the padding below the image, too."""
    return spec.method == "max" or not any(spec.pad)


def _chain(node: Node) -> list[Node]:
    return [*node.before, node]


def _kind(node: Node) -> type[Stage]:
    if isinstance(node.spec, PoolingSpec):
        return PoolingOp
    if DepthwiseOp.computes(node):
        return DepthwiseOp
    return Bf16Op if node.form in PARTS else ConvolutionOp


def _spec(node: Node) -> ConvolutionSpec | PoolingSpec:
    assert isinstance(node.spec, ConvolutionSpec | PoolingSpec)
    return node.spec


def _part(node: Node, first: bool) -> Node:
    """Return a node for some rows; the padding above and below is among the rows of a buffer."""
    spec = _spec(node)
    return replace(node, spec=spec if first else replace(spec, pad=(0, spec.pad[1])), before=[])


def _unread(reader: Node) -> NDArray[np.bool_] | None:
    spec = _spec(reader)
    return unread_channels(spec) if isinstance(spec, ConvolutionSpec) else None


def _window(node: Node) -> Window:
    spec = _spec(node)
    if isinstance(spec, PoolingSpec):
        span = spec.kernel[0]
    else:
        span = (spec.weights.shape[2] - 1) * spec.dilation[0] + 1
    return Window(span, spec.stride[0], spec.pad[0], node.writes[0].shape[2])


def _schedule(node: Node) -> Schedule:
    """Let as many rows be under way as ``BAND_BYTES`` allow, in bands of about equal height."""
    nodes, height = _chain(node), node.writes[0].shape[2]
    rows, most = _least_rows(node), -(-height // LEAST_BANDS)
    while rows < most and _under_way(nodes, rows + 1) <= BAND_BYTES:
        rows += 1
    bands = -(-height // rows)
    return schedule(tuple(_window(one) for one in nodes), -(-height // bands))


def _least_rows(node: Node) -> int:
    """Rows of the result with enough pixels for a pass."""
    height, width = node.writes[0].shape[2:]
    return min(height, -(-LEAST_PIXELS // width))


def _under_way(nodes: list[Node], rows: int) -> int:
    """Bytes between the layers while the last computes so many rows; what they look ahead apart."""
    windows, total = [_window(node) for node in nodes], 0
    sizes = pass_rows(windows, rows)
    for node, reader, size in zip(nodes[:-1], windows[1:], sizes[:-1], strict=True):
        _, channels, _, width = node.writes[0].shape
        total += 4 * channels * width * (size + max(0, reader.span - reader.stride))
    return total


def _bytes(value: Value) -> int:
    """Bytes of one item."""
    return 4 * int(np.prod(value.shape[1:]))
