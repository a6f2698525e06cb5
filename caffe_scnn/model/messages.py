"""From the tree of a prototxt to protobuf messages, as strictly as Caffe reads text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message as Proto

from caffe_scnn.errors import FormatError
from caffe_scnn.model.forks import fork_of, only_executes
from caffe_scnn.model.prototxt import Field, Message, Scalar
from caffe_scnn.model.scalars import parse_scalar


@dataclass(frozen=True)
class UnknownField:
    """A field of a prototxt that stock Caffe does not know: a fork's, or a misspelt one.

    Attributes
    ----------
    name : str
        The field.
    owner : str
        The field it stands in (``convolution_param``), or the kind of message.
    path : str or None
        The file.
    line, column : int
        Where it stands, counted from 1.
    nearest : str or None
        The known name most like it.
    fork : str or None
        The forks of Caffe that have such a field, where known.
    harmless : bool
        It says how a fork computes, and not what.
    """

    name: str
    owner: str
    path: str | None
    line: int
    column: int
    nearest: str | None
    fork: str | None = None
    harmless: bool = False

    def error(self) -> FormatError:
        """Return the error for who needs to understand the field; the caller raises it."""
        meant = f"; did you mean {self.nearest}?" if self.nearest else ""
        if self.fork:
            meant = f"; it is a field of {self.fork}"
        return FormatError(
            f'{self.owner} has no field "{self.name}"{meant} '
            "(fields of Caffe forks are kept when a net is rewritten, but not understood)",
            self.path,
            self.line,
            self.column,
        )


def fields_of(descriptor: Any) -> Mapping[str, FieldDescriptor]:
    """Return the schema's fields by name."""
    fields: Mapping[str, FieldDescriptor] = descriptor.fields_by_name
    return fields


def fill(
    proto: Proto, message: Message, owner: str, skip: Iterable[str] = ()
) -> list[UnknownField]:
    """Fill a protobuf message from the tree.

    Parameters
    ----------
    proto : protobuf message
        Is filled; empty before.
    message : Message
        The tree.
    owner : str
        What the message is called in errors.
    skip : names
        Fields to leave alone.

    Returns
    -------
    list of UnknownField
        Everything the schema does not know, at any depth. Such fields are in the tree only.

    Raises
    ------
    FormatError
        A value that does not fit its field, a non-repeated field given twice, a required one
        missing.
    """
    known = fields_of(proto.DESCRIPTOR)
    unknown = []
    seen: set[str] = set()
    skipped = set(skip)
    for field in message.fields:
        if field.name in skipped:
            continue
        descriptor = known.get(field.name)
        if descriptor is None:
            unknown.append(_unknown(message, field, owner, proto.DESCRIPTOR.name, known))
            continue
        _check_once(message, field, owner, descriptor, seen)
        if descriptor.message_type is None:
            _set_scalars(proto, message, field, descriptor)
        else:
            unknown += _fill_messages(proto, message, field, descriptor)
    _check_required(proto, message, owner)
    return unknown


def _unknown(
    message: Message, field: Field, owner: str, scope: str, known: Mapping[str, FieldDescriptor]
) -> UnknownField:
    line, column = message.document.position(field.start)
    nearest = get_close_matches(field.name, known, 1)
    path = message.document.path
    near = nearest[0] if nearest else None
    fork, harmless = fork_of(scope, field.name), only_executes(scope, field.name)
    return UnknownField(field.name, owner, path, line, column, near, fork, harmless)


def _check_once(
    message: Message, field: Field, owner: str, descriptor: FieldDescriptor, seen: set[str]
) -> None:
    if descriptor.is_repeated:
        return
    if field.listed:
        raise message.document.error(
            f'"{field.name}" takes one value, not a list; remove the [ ]', field.start
        )
    if field.name in seen:
        raise message.document.error(
            f'"{field.name}" is given twice in one {owner}; keep one of them', field.start
        )
    seen.add(field.name)


def _set_scalars(proto: Proto, message: Message, field: Field, descriptor: FieldDescriptor) -> None:
    if not field.colon:
        raise message.document.error(
            f'"{field.name}" is not a message and needs a ":" before its value', field.start
        )
    values = []
    for value in field.values:
        if not isinstance(value, Scalar):
            raise message.document.error(
                f'"{field.name}" takes a plain value, not a message', value.start
            )
        values.append(parse_scalar(message.document, value, descriptor))
    if descriptor.is_repeated:
        getattr(proto, field.name).extend(values)
    else:
        setattr(proto, field.name, values[0])


def _fill_messages(
    proto: Proto, message: Message, field: Field, descriptor: FieldDescriptor
) -> list[UnknownField]:
    unknown = []
    for value in field.values:
        if not isinstance(value, Message):
            raise message.document.error(
                f'"{field.name}" is a message; write {field.name} {{ … }}', value.start
            )
        target: Any = getattr(proto, field.name)
        if descriptor.is_repeated:
            target = target.add()
        else:
            target.SetInParent()
        unknown += fill(target, value, field.name)
    return unknown


def _check_required(proto: Proto, message: Message, owner: str) -> None:
    for name, descriptor in fields_of(proto.DESCRIPTOR).items():
        if descriptor.is_required and not proto.HasField(name):
            raise message.document.error(
                f'{owner} lacks the required field "{name}"; add {name}: …', message.start
            )
