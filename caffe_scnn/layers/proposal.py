"""The regions of Faster R-CNN: py-faster-rcnn's ``rpn/proposal_layer.py`` with its TEST settings.

Pixels are counted as there: a box from x1 to x2 is x2 - x1 + 1 wide.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caffe_scnn.layers.base import Array, Shape, refuse
from caffe_scnn.model.net import Layer

PRE_NMS, POST_NMS = 6000, 300  # boxes before and after suppression (TEST.RPN_…_NMS_TOP_N)
OVERLAP = 0.7  # TEST.RPN_NMS_THRESH
MIN_SIZE = 16  # TEST.RPN_MIN_SIZE: pixels of the unscaled image
BASE = 16  # side of the box that ratios and scales are applied to
RATIOS = (0.5, 1.0, 2.0)
SCALES = (8.0, 16.0, 32.0)


@dataclass(frozen=True)
class Proposals:
    """What the layer's ``param_str`` sets: pixels from one anchor to the next, and their sizes."""

    stride: int
    scales: tuple[float, ...] = SCALES

    @classmethod
    def of(cls, layer: Layer) -> Proposals:
        """Read ``'feat_stride': 16`` and, if given, ``'scales': [4, 8]`` of a layer.

        Raises
        ------
        ModelError
            There is no ``feat_stride``.
        """
        text = layer.proto.python_param.param_str
        stride = re.search(r"feat_stride['\"]?\s*:\s*([1-9]\d*)", text)
        if not stride:
            raise refuse(layer, f"param_str {text!r} gives no feat_stride")
        listed = re.search(r"scales['\"]?\s*:[^\[(]*(?:tuple\s*)?[\[(]([^\])]*)[\])]", text)
        scales = [float(v) for v in re.findall(r"[\d.]+", listed[1])] if listed else list(SCALES)
        return cls(int(stride[1]), tuple(scales))

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Regions (300, 5) and, if wanted, their scores (300, 1); there may be fewer."""
        anchors = len(RATIOS) * len(self.scales)
        if len(bottoms) != 3 or len(layer.tops) > 2:
            raise refuse(layer, "takes scores, box deltas and im_info; gives regions, scores")
        scores, deltas, info = bottoms
        if len(scores) != 4 or deltas != (scores[0], 4 * anchors, *scores[2:]):
            raise refuse(
                layer, f"{anchors} anchors a pixel do not fit deltas {deltas} of scores {scores}"
            )
        if scores[:2] != (1, 2 * anchors) or len(info) != 2 or info[1] < 3:
            raise refuse(
                layer,
                f"takes scores (1, {2 * anchors}, H, W) of one image and im_info (1, 3), got "
                f"{scores} and {info}",
            )
        shapes: list[Shape] = [(POST_NMS, 5), (POST_NMS, 1)]
        return shapes[: len(layer.tops)]

    def compute(self, scores: Array, deltas: Array, info: Array) -> tuple[Array, Array]:
        """Return regions (R, 5), image 0 first, and their scores (R, 1), best first.

        Parameters
        ----------
        scores : array (1, 2·A, H, W)
            Background for each anchor, then foreground.
        deltas : array (1, 4·A, H, W)
        info : array (1, 3)
            Height, width and scale of the image.
        """
        height, width, scale = info[0, :3]
        anchors = self._anchors(*scores.shape[2:])
        foreground = scores[0, scores.shape[1] // 2 :].transpose(1, 2, 0).ravel()
        moved = deltas[0].transpose(1, 2, 0).reshape(-1, 4)
        boxes = _moved(anchors, moved).clip(0, [width - 1, height - 1] * 2)
        large = (boxes[:, 2:] - boxes[:, :2] + 1 >= MIN_SIZE * scale).all(axis=1)
        boxes, foreground = boxes[large], foreground[large]
        best = np.argsort(-foreground, kind="stable")[:PRE_NMS]
        kept = best[_suppressed(boxes[best])]
        return np.pad(boxes[kept], ((0, 0), (1, 0))), foreground[kept, None]

    def _anchors(self, rows: int, columns: int) -> Array:
        """Boxes (rows · columns · A, 4) around every pixel of the map."""
        middle = (BASE - 1) / 2
        sizes = []
        for ratio in RATIOS:  # the side is rounded before it is scaled
            across = np.round(np.sqrt(BASE * BASE / ratio))
            sizes += [(across * s, np.round(across * ratio) * s) for s in self.scales]
        half = (np.array(sizes) - 1) / 2
        y, x = np.mgrid[:rows, :columns] * self.stride
        at = np.stack([x, y, x, y], -1)[:, :, None]
        anchors: Array = at + np.concatenate([middle - half, middle + half], 1)
        return anchors.reshape(-1, 4)


def _moved(boxes: Array, deltas: Array) -> Array:
    """Shift the middles by parts of the size, and stretch the size exponentially."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    middle = boxes[:, :2] + size / 2 + deltas[:, :2] * size
    half = np.exp(deltas[:, 2:]) * size / 2
    return np.concatenate([middle - half, middle + half], 1)


def _suppressed(boxes: Array) -> list[int]:
    """Positions of at most POST_NMS boxes that overlap no better one too much; best come first."""
    area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    left, kept = np.arange(len(boxes)), list[int]()
    while left.size and len(kept) < POST_NMS:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        low = np.maximum(boxes[left, :2], boxes[best, :2])
        high = np.minimum(boxes[left, 2:], boxes[best, 2:])
        common = (high - low + 1).clip(0).prod(axis=1)
        left = left[common <= OVERLAP * (area[left] + area[best] - common)]
    return kept
