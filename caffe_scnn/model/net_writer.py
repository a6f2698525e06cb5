"""The prototxt of a net: the text it was read from, with the smallest changes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from caffe_scnn.model import legacy_inputs
from caffe_scnn.model.edits import Edit, apply
from caffe_scnn.model.messages import fields_of, fill
from caffe_scnn.model.net_reader import NetText, is_old, is_v0, read_net, read_root
from caffe_scnn.model.patch import Place, Rewriter
from caffe_scnn.model.printing import Layout, print_lines
from caffe_scnn.model.prototxt import Document, Message, parse
from caffe_scnn.model.scalars import format_scalar
from caffe_scnn.model.upgrade_v1 import CHANGED
from caffe_scnn.proto import caffe_pb2 as pb

if TYPE_CHECKING:
    from caffe_scnn.model.net import Layer

_LAYER = fields_of(pb.NetParameter.DESCRIPTOR)["layer"]
_TYPE = fields_of(pb.LayerParameter.DESCRIPTOR)["type"]


def write_net(
    document: Document | None,
    proto: pb.NetParameter,
    layers: Sequence[Layer],
    *,
    current: bool = False,
    weights: bool = True,
) -> str:
    """Return the prototxt of a net.

    Parameters
    ----------
    document : Document or None
        The text it was read from; only what differs from it is changed. Without it all is new,
        but layers that were read from some file bring their own text.
    proto : NetParameter
        Everything but the layers.
    layers : sequence of Layer
        The layers, in order.
    current : bool
        Bring old forms to the current one. Otherwise old-style inputs stay, and ``layers`` of the
        old generations stay as long as nothing is changed (they cannot be mixed with new ones).
    weights : bool
        Keep weights that stand in the text.
    """
    writer = _Writer(document or parse(""), weights)
    if not current and writer.unchanged(proto, layers):
        return writer.document.text
    return writer.write(proto, layers, current)


def _read(document: Document) -> NetText:
    """Read a document again; its warnings were given the first time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read_net(document)


class _Writer:
    """Compares a net with the document it was read from."""

    def __init__(self, document: Document, weights: bool) -> None:
        self.document = document
        self.weights = weights
        self.layout = Layout.of(document)
        self.read = _read(document)
        self.originals: dict[Message, pb.LayerParameter] = {}
        self._learn(self.read)

    def _learn(self, read: NetText) -> None:
        self.originals.update({layer.source: layer.proto for layer in read.layers})

    def original(self, source: Message) -> pb.LayerParameter:
        """Return what a layer's text says, be it of this document or another."""
        if source not in self.originals:
            self._learn(_read(source.document))
        return self.originals[source]

    def unchanged(self, proto: pb.NetParameter, layers: Sequence[Layer]) -> bool:
        """Tell whether the net still is what the document says."""
        read = self.read.layers
        return (
            [layer.source for layer in read] == [layer.source for layer in layers]
            and all(_same(a.proto, b.proto) for a, b in zip(read, layers, strict=True))
            and _same(self.read.proto, proto)
            and (self.weights or not any(layer.weights for layer in layers))
        )

    def write(self, proto: pb.NetParameter, layers: Sequence[Layer], current: bool) -> str:
        """Return the document's text with what differs changed."""
        rewriter = Rewriter(self.document.root, self.layout)
        old, _ = read_root(self.document)
        new = pb.NetParameter()
        new.CopyFrom(proto)
        layers = [
            layer for layer in layers if current or not self._stays_old_input(layer, old, new)
        ]
        rewriter.compare(old, new)
        self._compare_layers(rewriter, layers)
        return apply(self.document.text, rewriter.edits())

    def _stays_old_input(self, layer: Layer, old: pb.NetParameter, new: pb.NetParameter) -> bool:
        """Put a layer made of old-style input fields back into them, if they can say it."""
        if layer.source is not self.document.root or new.input:
            return False
        return legacy_inputs.put_inputs(layer.proto, old, new)

    def _compare_layers(self, rewriter: Rewriter, layers: Sequence[Layer]) -> None:
        """Note which layers come, go and change."""
        name = "layers" if is_old(self.document) else "layer"
        found = rewriter.places(name)
        opcodes = _opcodes(found, layers)
        kept = [k for tag, i, i_end, *_ in opcodes if tag == "equal" for k in range(i, i_end)]
        if name == "layers":
            fields = dict.fromkeys(found[i].field for i in kept)
            rewriter.add([Edit(f.start, f.start + len(name), "layer") for f in fields])
        for tag, _, _, start, end in opcodes:
            for layer in layers[start:end] if tag == "equal" else ():
                rewriter.add(self._edits(layer))
        rewriter.align(_LAYER, found, opcodes, lambda j: self._lines(layers[j]))

    def _edits(self, layer: Layer) -> list[Edit]:
        """Return the edits that bring a layer's own text up to date."""
        source = layer.source
        assert source is not None
        if is_v0(source):
            lines = print_lines("", self._message(layer), _LAYER, self.layout.indent)
            return [Edit(source.start, source.end, self.layout.newline.join(lines).lstrip())]
        rewriter = Rewriter(source, self.layout)
        if not self.weights:
            rewriter.drop(["blobs"])
        if is_old(source.document):
            _compare_v1(rewriter, layer.proto)
        else:
            rewriter.compare(self.original(source), layer.proto)
        return rewriter.edits()

    def _message(self, layer: Layer) -> pb.LayerParameter:
        """Return all that a layer's text says, weights included if they are kept."""
        proto = pb.LayerParameter()
        proto.CopyFrom(layer.proto)
        if self.weights:
            proto.blobs.extend(layer.weights)
        return proto

    def _lines(self, layer: Layer) -> list[str]:
        """Return a layer's text for a new place: its own, where it has one, or a fresh print."""
        source = layer.source
        if source is None or source is source.document.root:
            return list(print_lines("layer", self._message(layer), _LAYER, self.layout.indent))
        text = apply(source.document.text, self._edits(layer), source.start, source.end)
        return [f"layer {text}"]


def _opcodes(
    found: Sequence[Place], layers: Sequence[Layer]
) -> Sequence[tuple[str, int, int, int, int]]:
    """Return how the layers follow from those found in the text, as difflib puts it."""
    old = [place.value for place in found]
    new = [layer.source for layer in layers]
    if old != new and any(place.field.listed for place in found):
        return [("replace", 0, len(old), 0, len(new))]  # a list [{ … }, { … }] goes as a whole
    return SequenceMatcher(None, old, new, autojunk=False).get_opcodes()


def _compare_v1(rewriter: Rewriter, new: pb.LayerParameter) -> None:
    """Note what turns the text of a V1 layer into that of a current one; weights stay."""
    old = pb.LayerParameter()
    fill(old, rewriter.message, "layer", skip=CHANGED)
    for place in rewriter.places("type"):
        old.type = new.type
        value = place.value
        rewriter.add([Edit(value.start, value.end, format_scalar(new.type, _TYPE))])
    rewriter.drop(name for name in CHANGED if name not in ("type", "blobs"))
    rewriter.compare(old, new)


def _same(one: pb.LayerParameter | pb.NetParameter, other: object) -> bool:
    """Compare messages; a NaN equals itself, unlike with ``==``."""
    assert isinstance(other, type(one))
    return one.SerializePartialToString() == other.SerializePartialToString()
