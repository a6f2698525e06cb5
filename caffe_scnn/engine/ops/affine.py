"""Scale and shift per channel, and the activations that are a slope and a clamp."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from caffe_scnn import _kernels
from caffe_scnn.engine.nodes import Node
from caffe_scnn.engine.ops.base import Context, Op
from caffe_scnn.engine.ops.finish import finish_of
from caffe_scnn.engine.packing import Finish
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.engine.threads import MOVED, threads_for
from caffe_scnn.layers.base import AffineSpec


class AffineOp(Op):
    """BatchNorm, Scale and Bias that could not be folded into a producer."""

    name: ClassVar[str] = "affine"

    def __init__(self, node: Node, context: Context) -> None:
        super().__init__(node, context)
        assert isinstance(node.spec, AffineSpec)
        self._prepare(context, node.spec.scale, node.spec.shift, finish_of(None, node.finish))

    def _prepare(self, context: Context, scale: Float32, shift: Float32, finish: Finish) -> None:
        """Bring every parameter to one value a channel."""
        channels = self.writes[0].channels
        slope = 1.0 if finish.slope is None else finish.slope
        self.scale, self.shift, self.slope = (
            np.ascontiguousarray(np.broadcast_to(values, channels), np.float32)
            for values in (scale, shift, slope)
        )
        self.low, self.high = finish.low, finish.high
        self.isa, self.kernel = context.isa, f"f32_affine__{context.isa}"
        self.threads = threads_for(MOVED * int(np.prod(self.writes[0].shape)), context.threads)

    def run(self, arena: Float32) -> None:
        """Compute every plane."""
        source, target = self.reads[0], self.writes[0]
        _kernels.affine(
            self.isa,
            arena,
            source.planes(),
            target.planes(),
            self.scale,
            self.shift,
            self.slope,
            self.low,
            self.high,
            source.items,
            self.threads,
        )
