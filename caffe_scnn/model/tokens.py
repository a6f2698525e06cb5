"""Protobuf text cut into tokens, as Caffe's parser cuts it."""

from __future__ import annotations

import re
from typing import NamedTuple

from caffe_scnn.errors import FormatError

# Comments and white space separate tokens. A number may be followed by a letter without a space
# and a string may span lines: Caffe's parser allows both.
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f\v]+ | \#[^\n]*)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<float>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]? | \d+[eE][+-]?\d+[fF]? | \d+[fF])
  | (?P<integer>0[xX][0-9a-fA-F]+ | \d+)
  | (?P<string>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
  | (?P<symbol>[{}<>\[\]:;,\-])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
NO_TEXT = "this is not a text file; a prototxt is expected here (is it a caffemodel?)"


class Token(NamedTuple):
    """One token: its kind (name, float, integer, string, symbol, end) and where it stands."""

    kind: str
    start: int
    end: int
    text: str


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return the place of an offset, both counted from 1."""
    start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - start + 1


def is_binary(text: str) -> bool:
    """Tell whether there are control characters that no text file has."""
    return _CONTROL.search(text) is not None


def tokenize(text: str, path: str | None = None) -> list[Token]:
    """Cut protobuf text into tokens; the last one has the kind ``end``.

    Raises
    ------
    FormatError
        A character or a string that the text format does not know, with its place.
    """
    tokens = []
    at = 1 if text.startswith("\ufeff") else 0  # the byte-order mark of some editors
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise FormatError(_strange(text, at), path, *line_and_column(text, at))
        kind, end = match.lastgroup, match.end()
        if kind is not None and kind != "space":
            tokens.append(Token(kind, at, end, match.group()))
        at = end
    tokens.append(Token("end", len(text), len(text), ""))
    return tokens


def _strange(text: str, at: int) -> str:
    """Say why no token starts here."""
    if text[at] in "\"'":
        return "the string that starts here is never closed; add the missing quote"
    if is_binary(text):
        return NO_TEXT
    if "\udc80" <= text[at] <= "\udcff":  # how undecodable bytes are kept
        byte = ord(text[at]) - 0xDC00
        return f"the byte 0x{byte:02x} is not UTF-8 text; remove it or put it into quotes"
    return f"the character {text[at]!r} has no meaning here; remove it or put it into quotes"
