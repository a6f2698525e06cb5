"""A net's layers from its prototxt, and the prototxt of a net that was changed."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, NamedTuple

from caffe_scnn.errors import FormatError
from caffe_scnn.model import legacy_inputs
from caffe_scnn.model.edits import Edit, apply
from caffe_scnn.model.messages import UnknownField, fields_of, fill
from caffe_scnn.model.patch import Rewriter, patch
from caffe_scnn.model.printing import Layout, print_fields, print_lines
from caffe_scnn.model.prototxt import Document, Field, Message
from caffe_scnn.proto import caffe_pb2 as pb

if TYPE_CHECKING:
    from caffe_scnn.model.net import Layer

_NET = fields_of(pb.NetParameter.DESCRIPTOR)
_SOLVER_ONLY = set(fields_of(pb.SolverParameter.DESCRIPTOR)) - set(_NET)
_LAYERS = ("layer", "layers")


class LayerText(NamedTuple):
    """A layer as read: its parameters, where they stand, and what the schema does not know."""

    proto: pb.LayerParameter
    source: Message
    unknown: list[UnknownField]


class NetText(NamedTuple):
    """A net as read."""

    proto: pb.NetParameter
    layers: list[LayerText]
    unknown: list[UnknownField]


def read_net(document: Document) -> NetText:
    """Return what a prototxt says.

    Raises
    ------
    FormatError
        It is no net of the current form, or a value does not fit its field.
    """
    _check_kind(document)
    proto, inputs, unknown = _read_root(document)
    layers = [LayerText(inputs, document.root, [])] if inputs else []
    for field in document.root.named("layer"):
        for value in field.values:
            if not isinstance(value, Message):
                raise document.error('"layer" is a message; write layer { … }', value.start)
            layers.append(read_layer(value))
    return NetText(proto, layers, unknown)


def read_layer(message: Message) -> LayerText:
    """Return what the text of one layer says."""
    proto = pb.LayerParameter()
    return LayerText(proto, message, fill(proto, message, "layer"))


def _read_root(
    document: Document,
) -> tuple[pb.NetParameter, pb.LayerParameter | None, list[UnknownField]]:
    """Read everything but the layers; old-style inputs become a layer."""
    proto = pb.NetParameter()
    unknown = fill(proto, document.root, "net", skip=_LAYERS)
    return proto, legacy_inputs.take_inputs(proto, document.root), unknown


def _check_kind(document: Document) -> None:
    """Refuse files that are no net of the current form."""
    first: dict[str, Field] = {}
    for field in document.root.fields:
        first.setdefault(field.name, field)
    solver = next((name for name in first if name in _SOLVER_ONLY), None)
    if solver and not any(name in first for name in (*_LAYERS, *legacy_inputs.FIELDS)):
        raise _solver(document, solver)
    if "layers" not in first:
        return
    line, column = document.position(first["layers"].start)
    if "layer" in first:
        other = document.position(first["layer"].start)[0]
        raise FormatError(
            f'the net has both "layer" (line {other}) and the old "layers" (line {line}); '
            "write all layers in one form",
            document.path,
            line,
            column,
        )
    raise document.error(
        'the net has the old "layers" form of Caffe files before 2015, which is not read yet; '
        "upgrade it with Caffe's upgrade_net_proto_text first",
        first["layers"].start,
    )


def _solver(document: Document, name: str) -> FormatError:
    field = next(document.root.named(name))
    nets = [f for f in document.root.fields if f.name in ("net", "train_net", "test_net")]
    names = [value.text for f in nets for value in f.values]
    return document.error(
        f'this is a solver (it has "{name}"), not a net'
        + (f"; the net it trains is {names[0]}" if names else ""),
        field.start,
    )


def write_net(
    document: Document | None, proto: pb.NetParameter, layers: Sequence[Layer]
) -> str:
    """Return the prototxt of a net.

    Parameters
    ----------
    document : Document or None
        The text it was read from; only what differs from it is changed.
    proto : NetParameter
        Everything but the layers.
    layers : sequence of Layer
        The layers, in order.
    """
    if document is None:
        layout = Layout()
        lines = list(print_fields(proto, layout.indent))
        for layer in layers:
            lines += _layer_lines(layer, layout)
        return "".join(line + layout.newline for line in lines)
    rewriter = Rewriter(document.root, Layout.of(document))
    layers = _compare_root(rewriter, document, proto, layers)
    _compare_layers(rewriter, layers)
    return apply(document.text, rewriter.edits())


def _compare_root(
    rewriter: Rewriter, document: Document, proto: pb.NetParameter, layers: Sequence[Layer]
) -> list[Layer]:
    """Note what differs outside the layers; return the layers that are written as such."""
    old = pb.NetParameter()
    fill(old, document.root, "net", skip=_LAYERS)
    new = pb.NetParameter()
    new.CopyFrom(proto)
    rest = []
    for layer in layers:
        old_style = layer.source is document.root and not new.input
        if not (old_style and legacy_inputs.put_inputs(layer.proto, old, new)):
            rest.append(layer)
    rewriter.compare(old, new)
    return rest


def _compare_layers(rewriter: Rewriter, layers: Sequence[Layer]) -> None:
    """Note which layers come, go and change."""
    found = rewriter.places("layer")
    old = [id(place.value) for place in found]
    new = [id(layer.source) for layer in layers]
    opcodes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for tag, _, _, start, end in opcodes:
        for layer in layers[start:end] if tag == "equal" else ():
            rewriter.add(_layer_edits(layer, rewriter.layout))
    rewriter.align(
        _NET["layer"], found, opcodes, lambda j: _layer_lines(layers[j], rewriter.layout)
    )


def _layer_edits(layer: Layer, layout: Layout) -> list[Edit]:
    source = layer.source
    assert source is not None
    return patch(source, read_layer(source).proto, layer.proto, layout)


def _layer_lines(layer: Layer, layout: Layout) -> list[str]:
    """Return a layer's text for a new place: its own, where it has one, or a fresh print."""
    source = layer.source
    if source is None or source is source.document.root:
        return list(print_lines("layer", layer.proto, _NET["layer"], layout.indent))
    edits = _layer_edits(layer, layout)
    return ("layer " + apply(source.document.text, edits, source.start, source.end)).splitlines()
