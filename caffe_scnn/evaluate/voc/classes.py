"""The classes of PASCAL VOC, and how names of classes are compared."""

from __future__ import annotations

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


def same_class(name: str) -> str:
    """Return what the names of one class have in common: sets made at home write ``Car ``."""
    return name.strip().lower()
