"""PriorBox."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    ConstantSpec,
    Coupling,
    Example,
    LayerType,
    OpSpec,
    Shape,
    Step,
    StepsSpec,
    refuse,
)
from caffe_scnn.model.net import Layer


class PriorBox(LayerType):
    """Boxes around every pixel of a map, as fractions of the image (fork weiliu89/caffe, ssd).

    The first row of the top holds xmin, ymin, xmax, ymax of each box, the second their variances.
    ``offset_h`` and ``offset_w`` are of TextBoxes: boxes are repeated for each offset.
    """

    type: ClassVar[str] = "PriorBox"
    stock: ClassVar[bool] = False
    bottoms: ClassVar[tuple[int, int | None]] = (2, 2)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """(1, 2, 4 · boxes)."""
        if any(len(shape) != 4 for shape in bottoms):
            raise refuse(layer, f"takes two blobs of four axes, got {list(bottoms)}")
        height, width = bottoms[0][2:]
        boxes = len(self._sizes(layer)) * len(self._offsets(layer))
        return [(1, 2, height * width * boxes * 4)]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Pixel by pixel, box by box."""
        param = layer.proto.prior_box_param
        shape = bottoms[0].shape[2:]
        image = self._image(layer, bottoms[1].shape)
        step = self._step(layer, shape, image)
        boxes = []
        for row, column in np.ndindex(*shape):
            for (width, height), (down, right) in product(self._sizes(layer), self._offsets(layer)):
                x, y = (column + right) * step[1], (row + down) * step[0]
                corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
                boxes.append([v / image[(n + 1) % 2] for n, v in enumerate(corners)])
        corners_of_all = np.array(boxes).ravel()
        if param.clip:
            corners_of_all = corners_of_all.clip(0, 1)
        variances = np.resize(self._variance(layer), corners_of_all.size)
        return [np.stack([corners_of_all, variances])[None]]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Shapes are all that counts: compute the boxes once."""
        # reference asks its bottoms for their shapes only; these take no memory
        (boxes,) = self.reference(layer, [np.broadcast_to(0.0, shape) for shape in bottoms])
        constant = ConstantSpec((boxes.astype(np.float32),))
        return StepsSpec((Step(constant, (), (boxes.shape,)),))

    def coupling(self, layer: Layer) -> Coupling:
        """Only the shapes of its bottoms count."""
        return Coupling.BLOCKS

    def examples(self) -> list[Example]:
        """One size; two sizes with everything; several offsets."""
        two = "min_size: 3.7 max_size: 6 min_size: 5 max_size: 9 aspect_ratio: 2 clip: true step: 4"
        return [
            Example("prior_box_param { min_size: 4 }", ((1, 2, 3, 4), (1, 3, 24, 30))),
            Example(f"prior_box_param {{ {two} }}", ((1, 2, 3, 4), (1, 3, 24, 30))),
            Example(
                "prior_box_param { min_size: 4 aspect_ratio: 3 flip: false img_h: 20 img_w: 30 "
                "offset_h: 0.5 offset_w: 0.5 offset_h: 1 offset_w: 0.5 variance: 0.1 "
                "variance: 0.1 variance: 0.2 variance: 0.2 }",
                ((1, 2, 3, 4), (1, 3, 24, 30)),
            ),
        ]

    def _sizes(self, layer: Layer) -> list[tuple[float, float]]:
        """Width and height of each box of a pixel, in the order of the file."""
        param = layer.proto.prior_box_param
        if not param.min_size or min(param.min_size) <= 0:
            raise refuse(layer, f"min_size {list(param.min_size)} must be given and positive")
        if len(param.max_size) not in (0, len(param.min_size)):
            raise refuse(layer, "give a max_size for each min_size, or none")
        ratios: list[float] = [1.0]
        for ratio in param.aspect_ratio:
            if all(abs(ratio - other) >= 1e-6 for other in ratios):
                ratios += [ratio, 1 / ratio] if param.flip else [ratio]
        sizes = []
        for at, given in enumerate(param.min_size):
            small = int(given)  # as the fork does
            sizes.append((float(small), float(small)))
            if param.max_size:
                if param.max_size[at] <= given:
                    raise refuse(layer, f"max_size {param.max_size[at]} must exceed {given}")
                sizes.append((np.sqrt(small * int(param.max_size[at])),) * 2)
            sizes += [(small * r**0.5, small / r**0.5) for r in ratios if abs(r - 1) >= 1e-6]
        return sizes

    def _offsets(self, layer: Layer) -> list[tuple[float, float]]:
        param = layer.proto.prior_box_param
        if len(param.offset_h) != len(param.offset_w):
            raise refuse(layer, "give an offset_w for each offset_h")
        return list(zip(param.offset_h, param.offset_w, strict=True)) or [(param.offset,) * 2]

    def _image(self, layer: Layer, shape: Shape) -> tuple[int, int]:
        """Height and width of the image."""
        param = layer.proto.prior_box_param
        if param.HasField("img_h") or param.HasField("img_w"):
            return int(param.img_h), int(param.img_w)
        if param.HasField("img_size"):
            return int(param.img_size), int(param.img_size)
        return shape[2], shape[3]

    def _step(self, layer: Layer, shape: Shape, image: tuple[int, int]) -> tuple[float, float]:
        """Image pixels from one map pixel to the next."""
        param = layer.proto.prior_box_param
        if param.HasField("step_h") or param.HasField("step_w"):
            return param.step_h, param.step_w
        if param.HasField("step"):
            return param.step, param.step
        return image[0] / shape[0], image[1] / shape[1]

    def _variance(self, layer: Layer) -> Array:
        variance = list(layer.proto.prior_box_param.variance) or [0.1]
        if len(variance) not in (1, 4):
            raise refuse(layer, f"takes one variance or four, got {len(variance)}")
        return np.array(variance)
