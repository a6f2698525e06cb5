"""A net from its prototxt, in whatever form of Caffe's history it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from caffe_scnn.errors import FormatError
from caffe_scnn.model import legacy_inputs
from caffe_scnn.model.messages import UnknownField, fields_of, fill
from caffe_scnn.model.prototxt import Document, Field, Message
from caffe_scnn.model.upgrade_v0 import merge_padding, upgrade_v0
from caffe_scnn.model.upgrade_v1 import upgrade_v1
from caffe_scnn.proto import caffe_pb2 as pb

LAYER_FIELDS = ("layer", "layers")

_SOLVER_ONLY = set(fields_of(pb.SolverParameter.DESCRIPTOR)) - set(
    fields_of(pb.NetParameter.DESCRIPTOR)
)
_Old = TypeVar("_Old")
_New = TypeVar("_New")


class LayerText(NamedTuple):
    """A layer as read: its parameters, where they stand, and what the schema does not know.

    Weights that stand in the text are not among the parameters but in ``weights``.
    """

    proto: pb.LayerParameter
    source: Message
    unknown: list[UnknownField]
    weights: list[pb.BlobProto]


class NetText(NamedTuple):
    """A net as read; ``proto`` is everything but layers and inputs."""

    proto: pb.NetParameter
    layers: list[LayerText]
    unknown: list[UnknownField]


def is_old(document: Document) -> bool:
    """Tell whether a net has the ``layers`` of Caffe before 2015 (V0 or V1)."""
    return any(document.root.named("layers"))


def is_v0(layer: Message) -> bool:
    """Tell whether one of ``layers`` has the form of 2013."""
    return any(layer.named("layer"))


def read_net(document: Document) -> NetText:
    """Return what a prototxt says, with old forms upgraded as Caffe does on loading.

    Raises
    ------
    FormatError
        It is no net, or a value does not fit its field.
    """
    _check_kind(document)
    proto, unknown = read_root(document)
    inputs = legacy_inputs.take_inputs(proto, document.root)
    first = [LayerText(inputs, document.root, [], [])] if inputs else []
    read = _read_old_layers if is_old(document) else _read_layers
    return NetText(proto, first + read(document), unknown)


def read_root(document: Document) -> tuple[pb.NetParameter, list[UnknownField]]:
    """Return everything but the layers, old-style inputs included."""
    proto = pb.NetParameter()
    return proto, fill(proto, document.root, "net", skip=LAYER_FIELDS)


def _check_kind(document: Document) -> None:
    """Refuse solvers, and files in which two generations are mixed."""
    first: dict[str, Field] = {}
    for field in document.root.fields:
        first.setdefault(field.name, field)
    solver = next((name for name in first if name in _SOLVER_ONLY), None)
    if solver and not any(name in first for name in (*LAYER_FIELDS, *legacy_inputs.FIELDS)):
        raise _solver(document, first[solver])
    if "layers" in first and "layer" in first:
        line = document.position(first["layer"].start)[0]
        old = document.position(first["layers"].start)[0]
        raise document.error(
            f'the net has both "layer" (line {line}) and the old "layers" (line {old}); '
            "write all layers in one form",
            first["layers"].start,
        )


def _solver(document: Document, field: Field) -> FormatError:
    nets = [f for f in document.root.fields if f.name in ("net", "train_net", "test_net")]
    names = [document.text[value.start : value.end] for f in nets for value in f.values]
    return document.error(
        f'this is a solver (it has "{field.name}"), not a net'
        + (f"; the net it trains is {names[0]}" if names else ""),
        field.start,
    )


def _messages(document: Document, name: str) -> list[Message]:
    messages = []
    for field in document.root.named(name):
        for value in field.values:
            if not isinstance(value, Message):
                raise document.error(f'"{name}" is a message; write {name} {{ … }}', value.start)
            messages.append(value)
    return messages


def _read_layers(document: Document) -> list[LayerText]:
    read = []
    for message in _messages(document, "layer"):
        proto = pb.LayerParameter()
        unknown = fill(proto, message, "layer")
        read.append(LayerText(proto, message, unknown, _take_weights(proto)))
    return read


def _read_old_layers(document: Document) -> list[LayerText]:
    """Read V0 and V1 layers as the current ones they stand for."""
    messages = _messages(document, "layers")
    protos = [pb.V1LayerParameter() for _ in messages]
    unknown = [fill(p, m, "layers") for p, m in zip(protos, messages, strict=True)]
    weights = [_take_weights(p.layer if p.HasField("layer") else p) for p in protos]
    kept = _placed(document.root, merge_padding, protos)
    return [
        LayerText(_placed(messages[i], _upgrade, protos[i]), messages[i], unknown[i], weights[i])
        for i in kept
    ]


def _take_weights(
    layer: pb.LayerParameter | pb.V1LayerParameter | pb.V0LayerParameter,
) -> list[pb.BlobProto]:
    """Take the weights out of a layer just read."""
    weights = list(layer.blobs)
    layer.ClearField("blobs")
    return weights


def _upgrade(old: pb.V1LayerParameter) -> pb.LayerParameter:
    return upgrade_v1(upgrade_v0(old))


def _placed(message: Message, upgrade: Callable[[_Old], _New], old: _Old) -> _New:
    """Run an upgrade; what it refuses is an error at the place of the message."""
    try:
        return upgrade(old)
    except ValueError as error:
        raise message.document.error(str(error), message.start) from None
