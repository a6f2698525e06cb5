"""Training data: sources, augmentation, batches."""

from __future__ import annotations

from caffe_scnn.finetune.data.augment import Augmentation
from caffe_scnn.finetune.data.loader import Loader
from caffe_scnn.finetune.data.sources import Arrays, Files, Part, Source, open_source

__all__ = ["Arrays", "Augmentation", "Files", "Loader", "Part", "Source", "open_source"]
