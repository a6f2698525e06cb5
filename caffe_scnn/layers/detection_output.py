"""DetectionOutput."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from caffe_scnn.layers.base import (
    Array,
    Example,
    LayerType,
    OpSpec,
    RaggedSpec,
    Shape,
    refuse,
)
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb

CORNER, CENTER_SIZE = pb.PriorBoxParameter.CORNER, pb.PriorBoxParameter.CENTER_SIZE
BLOCK = 128  # boxes whose overlaps are computed at once


class DetectionOutput(LayerType):
    """The boxes of SSD: decoded, thresholded, without overlaps (fork weiliu89/caffe, ssd).

    Bottoms: locations (N, boxes · 4), confidences (N, boxes · classes), priors (1, 2, boxes · 4).
    The top is (1, 1, detections, 7): image, label, confidence, xmin, ymin, xmax, ymax. How many
    there are is known only when the net runs; ``infer`` gives the most there can be. If there are
    none, each image has a row of -1. Settings that write files are not followed.
    """

    type: ClassVar[str] = "DetectionOutput"
    stock: ClassVar[bool] = False
    bottoms: ClassVar[tuple[int, int | None]] = (3, 4)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return as many rows as there can be."""
        param = layer.proto.detection_output_param
        if not param.num_classes:
            raise refuse(layer, "num_classes must be given")
        if len(bottoms) != 3:
            raise refuse(layer, f"takes locations, confidences and priors; got {len(bottoms)}")
        priors = bottoms[2][2] // 4 if len(bottoms[2]) > 2 else 0
        parts = 1 if param.share_location else int(param.num_classes)
        sizes = [int(np.prod(shape[1:])) for shape in bottoms[:2]]
        if sizes != [priors * parts * 4, priors * int(param.num_classes)]:
            raise refuse(layer, f"{priors} priors do not fit bottoms of {bottoms[0]}, {bottoms[1]}")
        most = priors * (
            int(param.num_classes) - (0 <= param.background_label_id < param.num_classes)
        )
        if param.keep_top_k > -1:
            most = min(most, int(param.keep_top_k))
        return [(1, 1, max(most, 1) * bottoms[0][0], 7)]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Image by image, class by class."""
        param = layer.proto.detection_output_param
        images, classes = len(bottoms[0]), int(param.num_classes)
        priors, variances = bottoms[2].reshape(2, -1, 4)
        parts = 1 if param.share_location else classes
        locations = bottoms[0].reshape(images, -1, parts, 4)
        scores = bottoms[1].reshape(images, -1, classes)
        if param.variance_encoded_in_target:
            variances = np.ones_like(variances)
        rows: list[list[float]] = []
        for image in range(images):
            boxes = [
                _decode(layer, locations[image, :, n], priors, variances) for n in range(parts)
            ]
            found = [
                (scores[image, at, label], label, at)
                for label in range(classes)
                if label != param.background_label_id
                for at in self._keep(layer, boxes[label % parts], scores[image, :, label])
            ]
            if -1 < param.keep_top_k < len(found):
                found = sorted(found, key=lambda f: -f[0])[: param.keep_top_k]
                found.sort(key=lambda f: f[1])
            rows += [[image, label, s, *boxes[label % parts][at]] for s, label, at in found]
        if not rows:
            rows = [[image, *[-1] * 6] for image in range(images)]
        return [np.array(rows, np.float64)[None, None]]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Have as many rows as are found."""
        return RaggedSpec(axis=2)

    def examples(self) -> list[Example]:
        """Shared locations, and locations for each class."""
        body = (
            "detection_output_param { num_classes: 3 %s code_type: CENTER_SIZE keep_top_k: 5 "
            "confidence_threshold: 0.1 nms_param { nms_threshold: 0.4 top_k: 10 } }"
        )
        return [
            Example(body % "", ((2, 24), (2, 18), (1, 2, 24))),
            Example(body % "share_location: false", ((2, 72), (2, 18), (1, 2, 24))),
        ]

    def _keep(self, layer: Layer, boxes: Array, scores: Array) -> list[int]:
        """Non-maximum suppression of one class; best first."""
        param = layer.proto.detection_output_param
        candidates = np.argsort(-scores, kind="stable")
        if param.HasField("confidence_threshold"):
            candidates = candidates[scores[candidates] > param.confidence_threshold]
        if param.nms_param.top_k > -1 and param.nms_param.HasField("top_k"):
            candidates = candidates[: param.nms_param.top_k]
        threshold, kept = param.nms_param.nms_threshold, list[int]()
        for begin in range(0, len(candidates), BLOCK):
            part = candidates[begin : begin + BLOCK]
            within = _overlaps(boxes[part], boxes[part])
            # the largest overlap of each with one that is kept already
            worst = _overlaps(boxes[part], boxes[kept]).max(axis=1, initial=0.0)
            for i, at in enumerate(part.tolist()):
                if worst[i] <= threshold:
                    kept.append(at)
                    np.maximum(worst, within[i], out=worst)
                    if param.nms_param.eta < 1 and threshold > 0.5:
                        threshold *= param.nms_param.eta
        return kept


def _decode(layer: Layer, locations: Array, priors: Array, variances: Array) -> Array:
    """Corners of boxes (boxes, 4) from what was predicted relative to the priors."""
    code = layer.proto.detection_output_param.code_type
    moved = locations * variances
    if code == CORNER:
        return priors + moved
    size = priors[:, 2:] - priors[:, :2]
    if code != CENTER_SIZE:  # CORNER_SIZE
        return priors + moved * np.tile(size, 2)
    middle = (priors[:, :2] + priors[:, 2:]) / 2 + moved[:, :2] * size
    half = np.exp(moved[:, 2:]) * size / 2
    return np.concatenate([middle - half, middle + half], 1)


def _overlaps(boxes: Array, others: Array) -> Array:
    """Intersection over union (n, m) of boxes (n, 4) with others (m, 4)."""
    (left, top, right, bottom), (left_, top_, right_, bottom_) = boxes.T, others.T
    width = (np.minimum.outer(right, right_) - np.maximum.outer(left, left_)).clip(0)
    height = (np.minimum.outer(bottom, bottom_) - np.maximum.outer(top, top_)).clip(0)
    common: Array = width * height
    union = _areas(boxes)[:, None] + _areas(others) - common
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def _areas(boxes: Array) -> Array:
    size = (boxes[:, 2:] - boxes[:, :2]).clip(0)
    return np.asarray(size[:, 0] * size[:, 1])
