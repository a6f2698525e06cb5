"""The net as data: a list of layers around protobuf messages, with their learnt blobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import ModelError
from caffe_scnn.model.prototxt import Document, Message
from caffe_scnn.proto import caffe_pb2 as pb

Blob = NDArray[np.float32]


@dataclass(eq=False)
class Layer:
    """One layer: its parameters and its learnt blobs.

    Attributes
    ----------
    proto : LayerParameter
        The parameters; ``proto.blobs`` stays empty.
    blobs : list of float32 ndarray
        The learnt blobs in Caffe's order. Layers that share a blob hold the same array object.
    source : Message, optional
        The text this layer was read from; None for a layer made by a program.
    """

    proto: pb.LayerParameter
    blobs: list[Blob] = field(default_factory=list)
    source: Message | None = None

    @property
    def name(self) -> str:
        """The layer's name."""
        return self.proto.name

    @property
    def type(self) -> str:
        """Caffe's name of the layer type."""
        return self.proto.type

    @property
    def bottoms(self) -> list[str]:
        """Names of the blobs it reads."""
        return list(self.proto.bottom)

    @property
    def tops(self) -> list[str]:
        """Names of the blobs it writes."""
        return list(self.proto.top)


@dataclass(eq=False)
class Net:
    """A Caffe net.

    Attributes
    ----------
    proto : NetParameter
        Everything but the layers (name, state …); ``proto.layer`` and ``proto.input*`` stay
        empty: old-style inputs are an ordinary ``Input`` layer here.
    layers : list of Layer
        In file order, which is the order of execution.
    source : Document, optional
        The prototxt it was read from, for lossless writing.
    """

    proto: pb.NetParameter
    layers: list[Layer] = field(default_factory=list)
    source: Document | None = None

    @property
    def name(self) -> str:
        """The net's name."""
        return self.proto.name

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def layer(self, name: str) -> Layer:
        """Return the first layer of this name.

        Raises
        ------
        ModelError
            No layer has the name.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = ", ".join(layer.name for layer in self.layers)
        raise ModelError(f'the net has no layer "{name}"; it has {known}')

    def replace(self, old: Layer, *new: Layer) -> None:
        """Put ``new`` layers in the place of ``old``; no new layer removes it."""
        at = self.layers.index(old)
        self.layers[at : at + 1] = new

    def insert_after(self, anchor: Layer, *new: Layer) -> None:
        """Put ``new`` layers right after ``anchor``."""
        at = self.layers.index(anchor) + 1
        self.layers[at:at] = new

    def remove(self, layer: Layer) -> None:
        """Take a layer out."""
        self.layers.remove(layer)
