"""What a Caffe layer is in PyTorch: its blobs as parameters, and a forward pass."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Shape
from caffe_scnn.model.net import Layer


class LayerModule(nn.Module):
    """One Caffe layer.

    Parameters
    ----------
    layer : Layer
        Its parameters; the blobs only give the shapes.
    blobs : sequence of nn.Parameter
        The learnt blobs; layers that share one hold the same object. A sharer may see it under
        another shape (``share_mode: PERMISSIVE``).
    """

    types: ClassVar[tuple[str, ...]]
    # Blobs that training does not reach by gradients, such as running statistics.
    statistics: ClassVar[tuple[int, ...]] = ()

    def __init__(self, layer: Layer, blobs: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.layer = layer
        self.kind = layer_type(layer)
        self.blobs = nn.ParameterList(blobs)
        self.shapes = [blob.shape for blob in layer.blobs]

    def blob(self, index: int) -> Tensor:
        """Return a blob in the layer's own shape."""
        blob: Tensor = self.blobs[index]
        return blob if blob.shape == self.shapes[index] else blob.view(self.shapes[index])

    def infer(self, bottoms: Sequence[Tensor]) -> list[Shape]:
        """Return the shapes of the tops."""
        return self.kind.infer(self.layer, [tuple(bottom.shape) for bottom in bottoms])

    @classmethod
    def gradient_free(cls, layer: Layer) -> tuple[int, ...]:
        """Return the indices of the blobs that are no weights; see ``statistics``."""
        return cls.statistics

    @abstractmethod
    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Compute the tops."""


def per_channel(values: Tensor, ndim: int) -> Tensor:
    """Reshape (C) so that it broadcasts over axis 1 of a blob of ``ndim`` axes."""
    return values.reshape(-1, *[1] * (ndim - 2))
