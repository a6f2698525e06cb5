"""A convolution and the 1x1 convolution behind it, band by band of the map.

The bases Q of a decomposition (Liu 2015) make many more maps than the layer's input or output has.
Computed a few rows at a time they stay in the cache until S has used them, and never lie in memory
as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from caffe_scnn._kernels import Planes, clear_halo
from caffe_scnn.engine.nodes import Node, Program, Value, unread_channels
from caffe_scnn.engine.ops.base import Context, Op
from caffe_scnn.engine.ops.convolution import ConvolutionOp
from caffe_scnn.engine.tensor import Border, Float32, Tensor
from caffe_scnn.layers.base import ConvolutionSpec

# Bases of a whole map beyond so many bytes are worth the bands; a band has about so many. (Smaller
# maps stay in the last-level cache, and bands make narrow tiles: 1.1 to 1.7 of the time.)
WHOLE_BYTES = 5 << 20
BAND_BYTES = 1 << 19


class ChainOp(Op):
    """``node.before`` and then ``node``, for one band of rows after another."""

    name: ClassVar[str] = "chain"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert node.before is not None and isinstance(node.spec, ConvolutionSpec)
        (self.band,) = context.scratch
        rows, whole = self.band.height, self.writes[0]
        between = Value("band", self.band.shape)
        part = Value("part", (*whole.shape[:2], rows, whole.shape[3]))
        # the part's planes are given when it runs; until then only its rows and pitch matter
        tensors = {
            **context.tensors,
            between: self.band,
            part: Tensor(part.shape, whole.border, whole.at),
        }
        bases = replace(node.before, writes=[between])
        mixed = replace(node, before=None, reads=[between], writes=[part])
        inner = replace(context, tensors=tensors, scratch=[])
        self.bases = ConvolutionOp(bases, replace(inner, unread=unread_channels(node.spec)))
        self.mixed = ConvolutionOp(mixed, replace(inner, unread=None))
        self.source = context.tensors[node.reads[0]]
        self.residual = context.tensors[node.residual] if node.residual else None
        self.weight_bytes = self.bases.weight_bytes + self.mixed.weight_bytes
        self.kernel = f"{self.bases.kernel} {self.mixed.kernel}"
        self.why = f"bands of {rows} rows; {self.bases.why}; {self.mixed.why}"

    @classmethod
    def border(cls, node: Node, value: Value) -> Border:
        """Ask for what the first convolution needs."""
        assert node.before is not None
        if value is not node.reads[0]:
            return Border()
        return ConvolutionOp.border(node.before, value)

    @classmethod
    def scratch(cls, node: Node, tensors: Mapping[Value, Tensor]) -> list[Tensor]:
        """Ask for the maps between the two, a band of rows of them."""
        assert node.before is not None
        items, channels, height, width = node.before.writes[0].shape
        fit = max(1, BAND_BYTES // (4 * items * channels * width))
        bands = -(-height // fit)
        return [Tensor((items, channels, -(-height // bands), width), Border(aligned=True))]

    def run(self, arena: Float32) -> None:
        """Compute the bands; the last one begins early enough to be as high as the others."""
        whole, band, rows = self.writes[0], self.band.planes(), self.band.height
        clear_halo(arena, whole.planes(), whole.items, self.threads)
        residual = self.residual.planes() if self.residual else None
        for top in range(0, whole.height, rows):
            first = min(top, whole.height - rows)
            given = from_row(self.source.planes(), first, self.source.height - first)
            result = from_row(whole.planes(), first, rows)
            added = from_row(residual, first, rows) if residual else None
            self.bases.convolution.run(
                arena, given, arena, band, None, self.source.items, self.bases.threads
            )
            self.mixed.convolution.run(
                arena, band, arena, result, added, whole.items, self.mixed.threads, False
            )


def from_row(planes: Planes, first: int, rows: int) -> Planes:
    """Return some rows of the same planes."""
    return Planes(
        planes.at,
        planes.channels,
        rows,
        planes.width,
        planes.pitch,
        planes.lead + first * planes.pitch,
        planes.plane,
        planes.item,
    )


def chain(program: Program) -> None:
    """Join convolutions that make many maps with the 1x1 convolutions that read them, in place.

    Only where nobody else reads the maps, and where they would not stay in the cache as a whole.
    """
    producers = {node.writes[0]: node for node in program.nodes if node.writes}
    for node in list(program.nodes):
        before = producers.get(node.reads[0]) if node.reads else None
        if before is None or not _takes(node) or not _gives(before):
            continue
        between = before.writes[0]
        items, channels, height, width = between.shape
        if program.private(between) and 4 * items * channels * height * width > WHOLE_BYTES:
            node.before = before
            node.layers = [*before.layers, *node.layers]
            node.reads = before.reads
            node.macs += before.macs
            node.nonzero_macs += before.nonzero_macs
            program.nodes.remove(before)


def _gives(node: Node) -> bool:
    """Whether a node makes several maps of each of its input's, in a stride of 1."""
    spec = node.spec
    return (
        isinstance(spec, ConvolutionSpec)
        and spec.weights.shape[1] == 1
        and len(spec.weights) > spec.group > 1
        and set(spec.stride) == {1}
        and not node.residual
        and not node.winograd
    )


def _takes(node: Node) -> bool:
    """Whether a node mixes maps pixel by pixel."""
    spec = node.spec
    return (
        isinstance(spec, ConvolutionSpec)
        and spec.weights.shape[2:] == (1, 1)
        and set(spec.stride) == {1}
        and not any(spec.pad)
        and node.before is None
    )
