"""Layers without bottoms whose values are not fed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from caffe_scnn.finetune.bridge.base import LayerModule
from caffe_scnn.model.net import Layer


class Parameter(LayerModule):
    """A learnt blob as a top."""

    types: ClassVar[tuple[str, ...]] = ("Parameter",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Return the blob."""
        return (self.blob(0),)


class DummyData(LayerModule):
    """Tops of constant values."""

    types: ClassVar[tuple[str, ...]] = ("DummyData",)

    def __init__(self, layer: Layer, blobs: Sequence[nn.Parameter]) -> None:
        super().__init__(layer, blobs)
        for index, value in enumerate(self.kind.reference(layer, [])):
            self.register_buffer(f"value{index}", torch.from_numpy(value.astype(np.float32)))

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Return the constants."""
        return [self.get_buffer(f"value{index}") for index in range(len(self.layer.tops))]
