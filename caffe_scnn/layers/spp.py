"""SPP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    ConcatSpec,
    Example,
    LayerType,
    OpSpec,
    Shape,
    Step,
    StepsSpec,
    ViewSpec,
    count,
    refuse,
)
from caffe_scnn.layers.pooling import AVE, MAX, Pooling
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb


class SPP(LayerType):
    """Pooling to 1×1, 2×2, 4×4 … bins, flattened side by side (``spp_layer.cpp``)."""

    type: ClassVar[str] = "SPP"

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Count the bins of all levels; a single level keeps its four axes."""
        shape = bottoms[0]
        if len(shape) != 4:
            raise refuse(layer, f"needs a blob of four axes, got shape {shape}")
        if layer.proto.spp_param.pyramid_height < 1:
            raise refuse(layer, "pyramid_height must be given")
        sizes = [Pooling().infer(pool, [shape])[0] for pool in self.levels(layer, shape)]
        if len(sizes) == 1:
            return sizes
        return [(shape[0], sum(count(size[1:]) for size in sizes))]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Pool each level as a Pooling layer does."""
        x = bottoms[0]
        tops = [Pooling().reference(pool, [x])[0] for pool in self.levels(layer, x.shape)]
        return tops if len(tops) == 1 else [np.hstack([top.reshape(len(x), -1) for top in tops])]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Pool each level, flatten it, and put the levels side by side."""
        pools = self.levels(layer, bottoms[0])
        if len(pools) == 1:
            return Pooling().lower(pools[0], bottoms)
        steps = list[Step]()
        for pool in pools:
            shape = Pooling().infer(pool, bottoms)[0]
            steps.append(Step(Pooling().lower(pool, bottoms), (0,), (shape,)))
            flat = shape[0], count(shape[1:])
            steps.append(Step(ViewSpec(), (len(steps),), (flat,)))
        flattened = tuple(range(2, len(steps) + 1, 2))
        steps.append(Step(ConcatSpec(1), flattened, tuple(self.infer(layer, bottoms))))
        return StepsSpec(tuple(steps))

    def examples(self) -> list[Example]:
        """Two levels, and one."""
        return [
            Example("spp_param { pyramid_height: 2 pool: MAX }", ((2, 3, 6, 7),)),
            Example("spp_param { pyramid_height: 1 pool: AVE }", ((2, 3, 6, 7),)),
        ]

    def levels(self, layer: Layer, shape: Shape) -> list[Layer]:
        """Return the pooling layer of each level, from one bin to 2^(height − 1) a side."""
        height = int(layer.proto.spp_param.pyramid_height)
        return [self._level(layer, shape, level) for level in range(height)]

    def _level(self, layer: Layer, shape: Shape, level: int) -> Layer:
        """Return the pooling layer that makes 2^level bins a side."""
        bins = 2**level
        kernel = [-(-n // bins) for n in shape[2:]]
        pad = [(k * bins - n + 1) // 2 for k, n in zip(kernel, shape[2:], strict=True)]
        proto = pb.LayerParameter(name=layer.name, type="SPP", bottom=layer.bottoms, top=layer.tops)
        pool = proto.pooling_param
        pool.pool = AVE if layer.proto.spp_param.pool == pb.SPPParameter.AVE else MAX
        pool.kernel_h, pool.kernel_w = kernel
        pool.stride_h, pool.stride_w = kernel
        pool.pad_h, pool.pad_w = pad
        return Layer(proto)
