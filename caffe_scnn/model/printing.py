"""Protobuf messages as prototxt text, in the layout of the file they go into."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message as Proto

from caffe_scnn.model.prototxt import Document
from caffe_scnn.model.scalars import format_scalar

_INDENT = re.compile(r"^([ \t]+)[A-Za-z_]", re.MULTILINE)
_EMPTY_LINE = re.compile(r"\n[ \t]*\r?\n")


@dataclass(frozen=True)
class Layout:
    """How a file is written: one step of indentation, the end of a line, gaps between layers."""

    indent: str = "  "
    newline: str = "\n"
    spaced: bool = False

    @classmethod
    def of(cls, document: Document) -> Layout:
        """Return the layout of an existing file."""
        text = document.text
        step = _INDENT.search(text)
        crlf = 2 * text.count("\r\n") > text.count("\n")
        return cls(step.group(1) if step else "  ", "\r\n" if crlf else "\n", _spaced(document))


def _spaced(document: Document) -> bool:
    """Tell whether an empty line stands between most layers."""
    layers = [field for field in document.root.fields if field.name == "layer"]
    gaps = [
        _EMPTY_LINE.search(document.text, one.end, other.start) is not None
        for one, other in pairwise(layers)
    ]
    return 2 * sum(gaps) > len(gaps)


def elements(proto: Proto, field: FieldDescriptor) -> Sequence[Any]:
    """Return the values a field holds: none, one, or those of a repeated field."""
    if field.is_repeated:
        repeated: Sequence[Any] = getattr(proto, field.name)
        return repeated
    return [getattr(proto, field.name)] if proto.HasField(field.name) else []


def print_lines(name: str, value: Any, field: FieldDescriptor, indent: str) -> Iterator[str]:
    """Yield the lines of ``name: value`` or ``name { … }``, not indented themselves.

    Parameters
    ----------
    name : str
        The field's name.
    value : message or scalar
        One value of the field.
    field : FieldDescriptor
        The field in the schema.
    indent : str
        One step of indentation inside a message.
    """
    if field.message_type is None:
        yield f"{name}: {format_scalar(value, field)}"
        return
    yield f"{name} {{"
    yield from (indent + line for line in print_fields(value, indent))
    yield "}"


def print_fields(proto: Proto, indent: str) -> Iterator[str]:
    """Yield the lines of everything a message holds, in the order of the schema."""
    for field, _ in proto.ListFields():
        for value in elements(proto, field):
            yield from print_lines(field.name, value, field, indent)
