"""Protobuf text as a tree that remembers where everything stands.

The tree is only about syntax: it knows no schema, so fields of unknown forks are in it like all
others, and comments and white space are what lies between its nodes. Nodes never change; who wants
a different file makes edits of its text (:mod:`caffe_scnn.model.patch`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from caffe_scnn.errors import FormatError
from caffe_scnn.model.tokens import NO_TEXT, Token, is_binary, line_and_column, tokenize

# Deeper nesting is no net; the limit is protobuf's own for binary files.
MAX_DEPTH = 100

_HEAD = 4096

_CLOSING = {"{": "}", "<": ">"}


class _Node:
    """A node is a value that never changes: copies of it are the node itself."""

    def __copy__(self) -> _Node:
        return self

    def __deepcopy__(self, memo: object) -> _Node:
        return self


@dataclass(frozen=True, eq=False)
class Scalar(_Node):
    """A number, string or name.

    Attributes
    ----------
    kind : str
        ``integer``, ``float``, ``name`` or ``string``.
    text : str
        As written; a minus sign belongs to it, and so do all parts of a joined string.
    start, end : int
        Where it stands in the document.
    """

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Field(_Node):
    """One ``name: value``; several values if it was written as a list ``[a, b]``."""

    name: str
    values: tuple[Scalar | Message, ...]
    start: int
    end: int
    colon: bool
    listed: bool


@dataclass(frozen=True, eq=False)
class Message(_Node):
    """What stands between ``{`` and ``}``, or the whole document.

    ``start`` and ``end`` include the braces, ``body`` is the offset after the opening one.
    """

    document: Document
    fields: tuple[Field, ...]
    start: int
    body: int
    end: int

    def named(self, name: str) -> Iterator[Field]:
        """Return the fields of this name, in file order."""
        return (field for field in self.fields if field.name == name)

    @property
    def text(self) -> str:
        """The message as written, braces included."""
        return self.document.text[self.start : self.end]


@dataclass(eq=False)
class Document(_Node):
    """A prototxt: its text and the tree over it."""

    text: str
    path: str | None = None
    root: Message = field(init=False)

    def error(self, message: str, offset: int) -> FormatError:
        """Return the error that names this place of the file; the caller raises it."""
        return FormatError(message, self.path, *line_and_column(self.text, offset))

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column of an offset, counted from 1."""
        return line_and_column(self.text, offset)


def parse(text: str, path: str | None = None) -> Document:
    """Parse protobuf text of any schema.

    Parameters
    ----------
    text : str
        The text.
    path : str, optional
        The file it came from, for messages.

    Returns
    -------
    Document
        The tree; ``document.text`` is ``text``, unchanged.

    Raises
    ------
    FormatError
        The text does not follow the grammar; names the place.
    """
    document = Document(text, path)
    document.root = _Parser(document).root()
    return document


def read(path: str | Path) -> Document:
    """Read and parse a file.

    Bytes that are no UTF-8 (old comments in other encodings) survive in the text as surrogates;
    write it with ``errors="surrogateescape"`` to get the same bytes back.

    Raises
    ------
    FormatError
        The file cannot be read, or is no protobuf text.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(_HEAD)
            if is_binary(raw.decode("latin-1")):  # do not go through half a gigabyte of weights
                raise FormatError(NO_TEXT, str(path))
            raw += file.read()
    except OSError as error:
        raise FormatError(f"cannot be read: {error.strerror or error}", str(path)) from error
    return parse(raw.decode("utf-8", "surrogateescape"), str(path))


class _Parser:
    """Recursive descent over the tokens of one document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.tokens = tokenize(document.text, document.path)
        self.at = 0
        self.depth = 0

    def peek(self) -> Token:
        return self.tokens[self.at]

    def take(self) -> Token:
        token = self.tokens[self.at]
        self.at += token.kind != "end"
        return token

    def accept(self, symbols: str) -> Token | None:
        """Take the next token if it is one of these symbols."""
        token = self.peek()
        return self.take() if token.kind == "symbol" and token.text in symbols else None

    def unexpected(self, wanted: str) -> FormatError:
        token = self.peek()
        found = "the end of the file" if token.kind == "end" else f'"{token.text[:40]}"'
        return self.document.error(f"expected {wanted}, found {found}", token.start)

    def root(self) -> Message:
        fields = []
        while self.peek().kind != "end":
            if closing := self.accept("}>"):
                raise self.document.error(
                    f'this "{closing.text}" closes nothing; remove it or add what it closes',
                    closing.start,
                )
            fields.append(self.field())
        return Message(self.document, tuple(fields), 0, 0, len(self.document.text))

    def field(self) -> Field:
        name = self.peek()
        if name.kind != "name":
            raise self.unexpected("a field name")
        self.take()
        colon = self.accept(":") is not None
        listed = self.accept("[") is not None
        values = self.list_values() if listed else (self.value(name, colon),)
        end = self.tokens[self.at - 1].end
        self.accept(";,")
        return Field(name.text, values, name.start, end, colon, listed)

    def list_values(self) -> tuple[Scalar | Message, ...]:
        opening = self.tokens[self.at - 1]
        if self.accept("]"):
            return ()
        values = [self.value(opening, True)]
        while self.accept(","):
            values.append(self.value(opening, True))
        if not self.accept("]"):
            raise self.unexpected('"," or "]" in a list')
        return tuple(values)

    def value(self, owner: Token, colon: bool) -> Scalar | Message:
        if opening := self.accept("{<"):
            return self.message(owner, opening)
        if not colon:
            raise self.document.error(
                f'"{owner.text}" needs a ":" before its value; write {owner.text}: …',
                self.peek().start,
            )
        return self.scalar()

    def message(self, owner: Token, opening: Token) -> Message:
        if self.depth == MAX_DEPTH:
            raise self.document.error(
                f"messages are nested deeper than {MAX_DEPTH}; this is no net", opening.start
            )
        self.depth += 1
        fields = []
        closing = _CLOSING[opening.text]
        while not (end := self.accept("}>")):
            if self.peek().kind == "end":
                raise self.document.error(
                    f'the "{opening.text}" of "{owner.text}" is never closed; '
                    f'add the missing "{closing}"',
                    opening.start,
                )
            fields.append(self.field())
        if end.text != closing:
            raise self.document.error(
                f'"{owner.text}" was opened with "{opening.text}"; '
                f'close it with "{closing}", not "{end.text}"',
                end.start,
            )
        self.depth -= 1
        return Message(self.document, tuple(fields), opening.start, opening.end, end.end)

    def scalar(self) -> Scalar:
        start = self.peek().start
        sign = "-" if self.accept("-") else ""
        token = self.peek()
        if token.kind == "string" and not sign:
            return self.string()
        if token.kind not in ("integer", "float", "name"):
            raise self.unexpected("a value")
        self.take()
        return Scalar(token.kind, sign + token.text, start, token.end)

    def string(self) -> Scalar:
        """Adjacent strings are one value."""
        first = last = self.take()
        while self.peek().kind == "string":
            last = self.take()
        return Scalar("string", self.document.text[first.start : last.end], first.start, last.end)
