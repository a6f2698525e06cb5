"""PASCAL VOC: annotations, image sets, result files, and average precision."""

from caffe_scnn.evaluate.voc.annotation import Annotation, Object, read_annotation
from caffe_scnn.evaluate.voc.classes import VOC_CLASSES
from caffe_scnn.evaluate.voc.devkit import Devkit
from caffe_scnn.evaluate.voc.evaluation import Evaluation, ImageSet, Measure, evaluate
from caffe_scnn.evaluate.voc.results import (
    Detections,
    read_detections,
    read_results,
    write_results,
)

__all__ = [
    "VOC_CLASSES",
    "Annotation",
    "Detections",
    "Devkit",
    "Evaluation",
    "ImageSet",
    "Measure",
    "Object",
    "evaluate",
    "read_annotation",
    "read_detections",
    "read_results",
    "write_results",
]
