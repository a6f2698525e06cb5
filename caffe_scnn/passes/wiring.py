"""Rewiring: which blob stands for which, and the proof that outputs are computed as before."""

from __future__ import annotations

from collections.abc import Iterable

from caffe_scnn.errors import PassError
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.proto import caffe_pb2 as pb

# Layers that hand their bottom on at TEST.
IDENTITIES = ("Dropout", "Split")
# What says nothing about the result of a layer at TEST.
_BESIDE = ("name", "bottom", "top", "phase", "loss_weight", "param", "propagate_down")


def remove_identity(net: Net, layer: Layer) -> None:
    """Take out a layer whose tops hold its bottom: who read a top reads the bottom.

    Nobody may change a top in place where the bottom has other readers.
    """
    at = net.layers.index(layer)
    net.remove(layer)
    bottom = layer.bottoms[0]
    for top in layer.tops:
        if top == bottom:
            continue
        for later in net.layers[at:]:
            later.proto.bottom[:] = [bottom if b == top else b for b in later.bottoms]
            # Tops that a later layer writes in place carry the name on.
            later.proto.top[:] = [bottom if t == top else t for t in later.tops]


def in_place_reader(net: Net, layer: Layer) -> str | None:
    """Name a layer that changes a top of this one in place, if there is one."""
    for value in Graph(net).writes[layer]:
        for reader in value.consumers:
            if value.name in reader.tops:
                return reader.name
    return None


def rename_blob(net: Net, old: str, new: str) -> None:
    """Give a blob another name wherever it is read and written."""
    for layer in net.layers:
        layer.proto.bottom[:] = [new if b == old else b for b in layer.bottoms]
        layer.proto.top[:] = [new if t == old else t for t in layer.tops]


def check_same_results(before: Net, after: Net, blobs: Iterable[str], name: str) -> None:
    """Prove that blobs are computed by the same layers on the same values as before.

    Each value is numbered by its layer's type, parameters, learnt arrays and the numbers of what
    it reads; Dropout and Split are passed through. Equal numbers are equal results, bit by bit.

    Raises
    ------
    PassError
        A blob is missing or is computed otherwise: the pass is wrong.
    """
    seen: dict[tuple[object, ...], int] = {}
    old, new = _numbers(before, seen), _numbers(after, seen)
    for blob in blobs:
        if blob not in old or blob not in new or old[blob] != new[blob]:
            raise PassError(f'{name}: blob "{blob}" is not computed as before')


def _numbers(net: Net, seen: dict[tuple[object, ...], int]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for layer in net:
        reads = tuple(numbers[bottom] for bottom in layer.bottoms)
        if layer.type in IDENTITIES:
            numbers.update(dict.fromkeys(layer.tops, reads[0]))
            continue
        proto = pb.LayerParameter()
        proto.CopyFrom(layer.proto)
        for field in _BESIDE:
            proto.ClearField(field)
        arrays = tuple(blob.ctypes.data for blob in layer.blobs)
        source = layer.name if layer.type == "Input" else ""
        for i, top in enumerate(layer.tops):
            key = (proto.SerializeToString(deterministic=True), arrays, reads, source, i)
            numbers[top] = seen.setdefault(key, len(seen))
    return numbers
