"""Binary weights: read straight into arrays, written straight from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caffe_scnn.errors import OutputError
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.model.blob import BlobCount, StoredBlob, count_blob, encode_blob, read_blob
from caffe_scnn.model.hdf5 import SUFFIXES, is_hdf5, read_hdf5, write_hdf5
from caffe_scnn.model.layer_names import V1_TYPES
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.model.wire import BYTES, MAX_FILE, VARINT, WireField, WireFile, encode_head
from caffe_scnn.proto import caffe_pb2 as pb

# Field numbers of NetParameter: the name and the layers of the two generations.
_NAME, _V1_LAYERS, _LAYER = 1, 2, 100


@dataclass(frozen=True)
class _Numbers:
    """Field numbers of a layer message."""

    name: int
    type: int
    blobs: int
    nested: int = 0  # the message inside a V1 layer that makes it V0


_V2 = _Numbers(name=1, type=2, blobs=7)
_V1 = _Numbers(name=4, type=5, blobs=6, nested=1)
_V0 = _Numbers(name=1, type=2, blobs=50)


@dataclass(eq=False)
class StoredLayer:
    """One layer of a caffemodel: its name, type (Caffe's current word for it) and blobs."""

    name: str
    type: str
    blobs: list[StoredBlob] = field(default_factory=list)


@dataclass(frozen=True)
class LayerCount:
    """One layer of a caffemodel without its values: shapes and numbers of non-zeros."""

    name: str
    type: str
    blobs: list[BlobCount]


@dataclass(eq=False)
class StoredNet:
    """What a caffemodel holds.

    Attributes
    ----------
    path : str
        The file.
    name : str
        The net's name.
    layers : list of StoredLayer
        In file order; names need not be unique.
    generation : str
        ``V0``, ``V1`` (``layers``), ``V2`` (``layer``) or ``HDF5``, which has no types.
    """

    path: str
    name: str
    layers: list[StoredLayer]
    generation: str


def read_caffemodel(path: str | Path) -> StoredNet:
    """Read all blobs of a caffemodel.

    Each blob's values are read straight into the array that holds them.

    Parameters
    ----------
    path : str or Path
        A caffemodel of any generation, or HDF5 weights (with the extra ``hdf5``).

    Returns
    -------
    StoredNet
        Its layers with their blobs, in the order of the file.

    Raises
    ------
    FormatError
        The file cannot be read, is no caffemodel, is damaged or mixes generations.
    """
    if is_hdf5(path):
        return StoredNet(str(path), "", read_hdf5(path), "HDF5")
    with WireFile(path) as file:
        found = _scan(file)
        layers = []
        for one in found.layers:
            owned = [(part, one.owner(i)) for i, part in enumerate(one.blobs)]
            blobs = [read_blob(file, part.start, part.end, owner) for part, owner in owned]
            layers.append(StoredLayer(one.name, one.type, blobs))
        return StoredNet(file.path, found.name, layers, found.generation)


def count_caffemodel(path: str | Path) -> list[LayerCount]:
    """Count the non-zero values of a caffemodel, a piece of the file at a time.

    Returns
    -------
    list of LayerCount
        Its layers in file order; only a few megabytes are held, whatever the size of the file.

    Raises
    ------
    FormatError
        As :func:`read_caffemodel`.
    """
    if is_hdf5(path):
        return [_count(layer) for layer in read_hdf5(path)]
    with WireFile(path) as file:
        layers = []
        for one in _scan(file).layers:
            owned = [(part, one.owner(i)) for i, part in enumerate(one.blobs)]
            blobs = [count_blob(file, part.start, part.end, owner) for part, owner in owned]
            layers.append(LayerCount(one.name, one.type, blobs))
        return layers


def _count(layer: StoredLayer) -> LayerCount:
    """Count what has been read."""
    arrays = [blob.array for blob in layer.blobs]
    counts = [BlobCount(a.shape, a.size, int(np.count_nonzero(a))) for a in arrays]
    return LayerCount(layer.name, layer.type, counts)


@dataclass(eq=False)
class _FoundLayer:
    """A layer whose blobs have not been read: where they lie in the file."""

    name: str = ""
    type: str = ""
    blobs: list[WireField] = field(default_factory=list)

    def owner(self, blob: int) -> str:
        """Name a blob in messages."""
        return f'layer "{self.name}", blob {blob}:'


@dataclass(eq=False)
class _Found:
    """A net whose blobs have not been read."""

    name: str = ""
    generation: str = "V2"
    layers: list[_FoundLayer] = field(default_factory=list)


def _scan(file: WireFile) -> _Found:
    """Find the layers of a caffemodel and their blobs."""
    net = _Found()
    generations = set()
    for part in file.fields(0, file.size):
        if part.wire != BYTES:
            continue
        if part.number == _NAME:
            net.name = _text(file, part)
        elif part.number in (_V1_LAYERS, _LAYER):
            generations.add("V2" if part.number == _LAYER else "V1")
            _scan_layer(file, part, net)
    if len(generations) > 1:
        raise file.error('has both "layer" and the old "layers"; Caffe refuses such a file')
    if not net.layers:
        raise file.error("holds no layers; is it a caffemodel (and not a mean image)?")
    return net


def _text(file: WireFile, part: WireField) -> str:
    return file.read(part.start, part.end).decode("utf-8", "replace")


def _scan_layer(file: WireFile, part: WireField, net: _Found) -> None:
    layer = _FoundLayer()
    if part.number == _LAYER:
        _fill_layer(file, part, layer, _V2)
    else:
        net.generation = "V1" if net.generation == "V2" else net.generation
        if _fill_layer(file, part, layer, _V1):
            net.generation = "V0"
    net.layers.append(layer)


def _fill_layer(file: WireFile, message: WireField, layer: _FoundLayer, numbers: _Numbers) -> bool:
    """Scan one layer message; tells whether there was a V0 layer inside."""
    nested = []
    blobs = []
    for part in file.fields(message.start, message.end):
        if part.wire == BYTES and part.number == numbers.name:
            layer.name = _text(file, part)
        elif part.number == numbers.type:
            layer.type = _type(file, part) or layer.type
        elif part.wire == BYTES and part.number == numbers.blobs:
            blobs.append(part)
        elif part.wire == BYTES and part.number == numbers.nested:
            nested.append(part)
    for part in nested:
        _fill_layer(file, part, layer, _V0)
    layer.blobs += blobs
    return bool(nested)


def _type(file: WireFile, part: WireField) -> str:
    """Return a layer's type: a string in V0 and V2, a number in V1."""
    if part.wire == BYTES:
        return _text(file, part)
    if part.wire != VARINT:
        return ""
    known = pb.V1LayerParameter.LayerType.DESCRIPTOR.values_by_number.get(part.value)
    return V1_TYPES[known.name] if known else str(part.value)


def write_caffemodel(net: Net, path: str | Path) -> None:
    """Write all layers with their parameters and blobs, in the current form.

    A path that ends in ``.h5`` or ``.hdf5`` is written as HDF5: blobs only. Else arrays
    go to the file as they are; nothing of their size is copied.

    Parameters
    ----------
    net : Net
    path : str or Path
        The file; it is replaced as a whole.

    Raises
    ------
    OutputError
        The file cannot be written, or would pass the 2 GiB that protobuf can hold.
    """
    if str(path).endswith(SUFFIXES):
        return write_hdf5(net, path)
    name = net.name.encode("utf-8", "replace")
    pieces: list[bytes | memoryview] = [encode_head(_NAME, len(name)), name]
    for layer in net.layers:
        pieces += _encode_layer(layer)
    size = _size(pieces)
    if size > MAX_FILE:
        raise OutputError(f"{path}: the weights take {size} bytes; a caffemodel ends at 2 GiB")
    with atomic_write(path) as file:
        for piece in pieces:
            file.write(piece)


def _encode_layer(layer: Layer) -> list[bytes | memoryview]:
    """Return a layer as pieces: small bytes, and the arrays themselves."""
    body: list[bytes | memoryview] = [layer.proto.SerializePartialToString()]
    for blob in layer.blobs:
        encoded = encode_blob(blob)
        body += [encode_head(_V2.blobs, _size(encoded)), *encoded]
    return [encode_head(_LAYER, _size(body)), *body]


def _size(pieces: Sequence[bytes | memoryview]) -> int:
    return sum(len(piece) for piece in pieces)
