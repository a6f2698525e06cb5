"""Where text goes in and comes out of a prototxt, so that a diff shows only the lines concerned."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import NamedTuple

from caffe_scnn.model.printing import Layout
from caffe_scnn.model.prototxt import Field, Message

# What may follow on a line that still belongs to the field it ends: a separator and a comment.
_REST_OF_LINE = re.compile(r"[ \t]*[;,]?[ \t]*(?:#[^\n]*?)?(\r?\n|$)")
_SEPARATOR = re.compile(r"(?:[ \t]*[;,])?")
_SPACE = re.compile(r"[ \t]*")
_BETWEEN = re.compile(r"[ \t]*[;,]?[ \t]*")  # between two fields on one line


class Edit(NamedTuple):
    """Replace ``text[start:end]``."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit], start: int = 0, end: int | None = None) -> str:
    """Return ``text[start:end]`` with the edits made; insertions at one place keep their order."""
    pieces = []
    at = start
    for edit in sorted(edits, key=lambda edit: edit[:2]):
        pieces += [text[at : edit.start], edit.text]
        at = edit.end
    return "".join(pieces) + text[at:end]


def line_start(text: str, offset: int) -> int:
    """Return the offset at which the line of an offset begins."""
    return text.rfind("\n", 0, offset) + 1


def line_indent(text: str, offset: int) -> str:
    """Return the white space at the start of the line of an offset."""
    start = line_start(text, offset)
    return text[start : _match_end(_SPACE, text, start)]


def first_on_line(text: str, offset: int) -> bool:
    """Tell whether only white space stands before an offset on its line."""
    return not text[line_start(text, offset) : offset].strip()


def child_indent(message: Message, layout: Layout) -> str:
    """Return the indentation of the fields of a message."""
    text = message.document.text
    for field in message.fields:
        if first_on_line(text, field.start):
            return line_indent(text, field.start)
    if message is message.document.root:
        return ""
    return line_indent(text, message.start) + layout.indent


def insert_after(
    message: Message, offset: int, lines: Sequence[str], layout: Layout, inline: bool = True
) -> Edit:
    """Put lines after what ends at an offset.

    They become lines of their own if nothing but a comment follows on the offset's line;
    otherwise they are squeezed in there, joined to one line if ``inline`` allows it.
    """
    text = message.document.text
    indent = child_indent(message, layout)
    block = layout.newline.join(indent + line if line else line for line in lines)
    rest = _REST_OF_LINE.match(text, offset)
    if rest and (rest.group(1) or not text):
        return Edit(rest.end(), rest.end(), block + layout.newline)
    if rest:  # the last line of the file, without an end
        return Edit(rest.end(), rest.end(), layout.newline + block)
    if not inline:
        return Edit(offset, offset, layout.newline + block + layout.newline)
    following = text[offset]
    space = "" if following.isspace() or following in ";," else " "
    return Edit(offset, offset, " " + " ".join(line.strip() for line in lines) + space)


def insert_before(
    message: Message, offset: int, lines: Sequence[str], layout: Layout, inline: bool = True
) -> Edit:
    """Put lines before what starts at an offset; see :func:`insert_after`."""
    text = message.document.text
    indent = child_indent(message, layout)
    block = "".join((indent + line if line else line) + layout.newline for line in lines)
    if first_on_line(text, offset):
        start = line_start(text, offset)
        return Edit(start, start, block)
    if not inline:
        return Edit(offset, offset, layout.newline + block)
    return Edit(offset, offset, " ".join(line.strip() for line in lines) + " ")


def remove(message: Message, fields: Container[Field]) -> Iterator[Edit]:
    """Take fields out, with their separators, and with the lines that they have alone."""
    text = message.document.text
    spans: list[tuple[int, int]] = []
    for field in message.fields:
        if field not in fields:
            continue
        start = field.start
        if spans and _BETWEEN.fullmatch(text, spans[-1][1], start):
            start = spans.pop()[0]  # neighbours on one line go together
        spans.append((start, field.end))
    return (_removal(text, start, end) for start, end in spans)


def _removal(text: str, start: int, end: int) -> Edit:
    first = first_on_line(text, start)
    rest = _REST_OF_LINE.match(text, end)
    if rest and first:
        return Edit(line_start(text, start), rest.end(), "")
    end = _match_end(_SEPARATOR, text, end)
    if first:
        return Edit(start, _match_end(_SPACE, text, end), "")
    while text[start - 1] in " \t":
        start -= 1
    return Edit(start, end, "")


def _match_end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
