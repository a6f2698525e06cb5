"""Dense 3x3 convolution through Winograd's coefficients, band by band of the map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from caffe_scnn._kernels import Convolution, DenseConvolution, Planes, Winograd
from caffe_scnn.engine.dense import dense_convolution
from caffe_scnn.engine.nodes import WINOGRAD, Node, Value
from caffe_scnn.engine.ops.base import Context, Op
from caffe_scnn.engine.ops.finish import finish_of
from caffe_scnn.engine.packing import Finish, Run, Taps, convolution, stream
from caffe_scnn.engine.tensor import Border, Float32, Tensor, outside
from caffe_scnn.engine.threads import MULTIPLY_ADD, threads_for
from caffe_scnn.engine.winograd import Bands, filter_coefficients, product_tile, slots
from caffe_scnn.layers.base import ConvolutionSpec

# With so few tiles a thread computes some output channels of every coefficient, and turns them into
# pixels itself. With more, whose coefficients leave the second-level cache anyway, it computes some
# coefficients: their inputs are read once.
FEW_TILES = 64


class WinogradOp(Op):
    """Pixels to coefficients, their products with the filters', and back to pixels."""

    name: ClassVar[str] = "winograd"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        spec, m = node.spec, WINOGRAD[node.form]
        assert isinstance(spec, ConvolutionSpec)
        self.source, self.target = context.tensors[node.reads[0]], self.writes[0]
        self.residual = context.tensors[node.residual] if node.residual else None
        self.threads = threads_for(MULTIPLY_ADD * self.nonzero_macs, context.threads)
        self.bands = Bands.of(node, m)
        self.coefficients, self.products = map(self._band_planes, context.scratch)
        finish = finish_of(spec.bias, node.finish)
        slope = finish.slope
        if slope is not None:
            slope = np.broadcast_to(np.float32(slope), self.target.channels).copy()
        self.transform = Winograd(
            context.isa,
            m,
            self.bands.tiles_y,
            self.bands.tiles_x,
            self.bands.together,
            spec.pad,
            finish.bias,
            slope,
            finish.low,
            finish.high,
        )
        self.multiply: Convolution | DenseConvolution
        self._pack(spec, m, context.isa)
        self.why = f"{len(spec.weights)}x{spec.weights.shape[1]} dense 3x3 kernels"

    def _band_planes(self, memory: Tensor) -> Planes:
        """Describe the coefficients of a band: one row of tiles for each plane."""
        return Planes(
            memory.at, memory.channels, 1, self.bands.width, memory.plane, 0, memory.plane
        )

    def _pack(self, spec: ConvolutionSpec, m: int, isa: str) -> None:
        """Pack the products: one group of a 1x1 convolution for each coefficient (and group)."""
        coefficients = filter_coefficients(spec.weights, m)
        count, _, per_group = coefficients.shape
        channels = per_group * spec.group
        first = np.arange(count, dtype=np.int64)[:, None] * slots(channels)
        offset = (first + np.arange(channels)) * self.coefficients.plane
        taps = Taps(offset.reshape(-1, per_group))
        tile = product_tile(spec, self.bands, isa)
        weights = coefficients.reshape(-1, per_group)
        if tile.op == "dense":
            self.multiply, self.weight_bytes = dense_convolution(
                isa, tile, weights, taps, Finish(), 0
            )
        else:
            width = self.bands.width
            across = self.threads if width <= FEW_TILES else 1
            streams = stream(weights, taps, tile.rows, across=across)
            self.weight_bytes = streams.nbytes
            run = Run(1, width, width, width)
            self.multiply = convolution(
                isa, tile.lanes, streams, taps, run, Finish(), vectors=tile.vectors, base=0,
                threads=self.threads,
            )  # fmt: skip
        self.kernel = f"f32_winograd{m} f32_{tile.kernel}__{isa}"

    @classmethod
    def border(cls, node: Node, value: Value) -> Border:
        """Ask for nothing: the transform pads by itself."""
        return Border()

    @classmethod
    def scratch(cls, node: Node, tensors: Mapping[Value, Tensor], isa: str) -> list[Tensor]:
        """Ask for the coefficients of a band of the input and of the result."""
        m = WINOGRAD[node.form]
        count, plane = (m + 2) ** 2, Bands.of(node, m).plane
        planes = [slots(node.reads[0].shape[1]), node.writes[0].shape[1]]
        return [Tensor((1, count * n, 1, plane), Border(aligned=True)) for n in planes]

    @property
    def reads_anywhere(self) -> bool:
        """Whether ``bind`` takes an input outside the arena."""
        return True

    def bind(
        self, arena: Float32, given: Float32 | None = None, result: Float32 | None = None
    ) -> Callable[[], object]:
        """Return a call that convolves band after band; parameters are ``ConvolutionOp.bind``'s."""
        source, target = outside(self.source, arena, given), outside(self.target, arena, result)
        residual = self.residual.planes() if self.residual else None
        items, threads, rows = self.source.items, self.threads, self.bands.rows
        scattered, products = (arena, self.coefficients), (arena, self.products)
        multiply = self.multiply.bind(*scattered, *products, None, 1, threads)

        def run() -> None:
            for first in range(0, rows, self.bands.band):
                last = min(rows, first + self.bands.band)
                self.transform.scatter(*source, *scattered, first, last, items, threads)
                multiply()
                self.transform.gather(*products, *target, residual, first, last, items, threads)

        return run
