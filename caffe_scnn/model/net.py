"""The net as data: a list of layers around protobuf messages, with their learnt blobs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import ModelError
from caffe_scnn.model import prototxt
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.model.messages import UnknownField
from caffe_scnn.model.net_reader import read_net
from caffe_scnn.model.net_writer import write_net
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
        The text this layer was read from; None for a layer made by a program, the whole document
        for the layer that stands for old-style ``input`` fields.
    unknown : list of UnknownField
        Fields of the text that stock Caffe does not know; kept when the net is written.
    weights : list of BlobProto
        Weights that stand in the text itself; a caffemodel goes before them, as in Caffe.
    """

    proto: pb.LayerParameter
    blobs: list[Blob] = field(default_factory=list)
    source: Message | None = None
    unknown: list[UnknownField] = field(default_factory=list)
    weights: list[pb.BlobProto] = field(default_factory=list)

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

    @property
    def line(self) -> int | None:
        """The line of the prototxt on which the layer starts, if it was read from one."""
        if self.source is None or self.source is self.source.document.root:
            return None
        return self.source.document.position(self.source.start)[0]

    def copy(self) -> Layer:
        """Return a layer that can be changed without changing this one; blobs are not copied."""
        proto = pb.LayerParameter()
        proto.CopyFrom(self.proto)
        weights = list(self.weights)
        return Layer(proto, list(self.blobs), self.source, list(self.unknown), weights)


def refuse_unknown(layer: Layer) -> None:
    """Refuse a layer whose numbers may depend on a field that stock Caffe does not know.

    Raises
    ------
    FormatError
        Names file, line, column, the first such field and the nearest known name.
    """
    refuse_fields(layer.unknown)


def refuse_fields(unknown: Iterable[UnknownField]) -> None:
    """Raise the error of the first field that may change what a net computes."""
    for one in unknown:
        if not one.harmless:
            raise one.error()


@dataclass(eq=False, repr=False)
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
    unknown : list of UnknownField
        Fields outside the layers that stock Caffe does not know; kept when the net is written.
    input_shapes : dict of str to shape
        Shapes that a user gave for inputs: they go before the prototxt's and are not written.
    """

    proto: pb.NetParameter
    layers: list[Layer] = field(default_factory=list)
    source: Document | None = None
    unknown: list[UnknownField] = field(default_factory=list)
    input_shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f'<Net "{self.proto.name}": {len(self.layers)} layers>'

    @classmethod
    def read(cls, path: str | Path) -> Net:
        """Read a prototxt.

        Raises
        ------
        FormatError
            The file cannot be read or is no net; names the place.
        """
        return cls._from(prototxt.read(path))

    @classmethod
    def parse(cls, text: str, path: str | None = None) -> Net:
        """Return the net that a prototxt's text describes; see :meth:`read`."""
        return cls._from(prototxt.parse(text, path))

    @classmethod
    def _from(cls, document: Document) -> Net:
        proto, layers, unknown = read_net(document)
        made = [Layer(text.proto, [], text.source, text.unknown, text.weights) for text in layers]
        return cls(proto, made, document, unknown)

    def text(self, *, weights: bool = True) -> str:
        """Return the net as prototxt: the text it was read from with what was changed.

        Without ``weights``, those that stand in the text are left out.
        """
        return write_net(self.source, self.proto, self.layers, weights=weights)

    def write(self, path: str | Path, *, weights: bool = True) -> None:
        """Write the prototxt; an untouched net gives the bytes it was read from.

        Parameters
        ----------
        path : str or Path
        weights : bool
            False leaves out weights that stand in the text: a caffemodel will hold them.

        Raises
        ------
        OutputError
            The file cannot be written; an existing one keeps its content.
        """
        with atomic_write(path) as file:
            file.write(self.text(weights=weights).encode("utf-8", "surrogateescape"))

    def copy(self) -> Net:
        """Return a net that can be changed without changing this one; blobs are not copied."""
        proto = pb.NetParameter()
        proto.CopyFrom(self.proto)
        layers = [layer.copy() for layer in self.layers]
        return Net(proto, layers, self.source, list(self.unknown), dict(self.input_shapes))

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
