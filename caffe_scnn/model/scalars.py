"""One value of a prototxt: from text to number or string, and back."""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor

from caffe_scnn.errors import FormatError
from caffe_scnn.model.prototxt import Document, Scalar

Value = int | float | bool | str | bytes

_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}
_MOST_DIGITS = 100  # int() takes quadratic time, and refuses thousands

_FLOATS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
_BOOLS = {"true": True, "True": True, "t": True, "false": False, "False": False, "f": False}
_SPECIAL = {"inf": math.inf, "infinity": math.inf, "nan": math.nan}

_PIECE = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\#[^\n]*""", re.DOTALL)
_ESCAPE = re.compile(
    rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.|\n))"
)
_ESCAPED = dict(zip(b"abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))
_UNPRINTABLE = re.compile(r'[\x00-\x1f\x7f\\"]')


def parse_scalar(document: Document, scalar: Scalar, field: FieldDescriptor) -> Value:
    """Return the value that a scalar has in a field of the schema.

    Raises
    ------
    FormatError
        The text is no value of the field's type; names the place, the field and the remedy.
    """
    try:
        return _convert(scalar, field)
    except ValueError as error:
        raise _refuse(document, scalar, field, str(error)) from None


def _convert(scalar: Scalar, field: FieldDescriptor) -> Value:
    if field.type in _INTEGERS:
        return _integer(scalar, *_INTEGERS[field.type])
    if field.type in _FLOATS:
        return _float(scalar)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return _bool(scalar)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum(scalar, field.enum_type)
    return _string(scalar, field)


def _refuse(document: Document, scalar: Scalar, field: FieldDescriptor, why: str) -> FormatError:
    return document.error(f"{field.name}: {scalar.text[:60]} is {why}", scalar.start)


def _digits(scalar: Scalar) -> int:
    """Read a decimal, octal (leading 0) or hexadecimal (0x) integer with its sign."""
    digits = scalar.text.lstrip("-")
    base = 16 if digits[:2].lower() == "0x" else 8 if digits[0] == "0" else 10
    if base == 8 and set(digits) & set("89"):
        raise ValueError("not an octal number; remove the leading 0")
    if len(digits) > _MOST_DIGITS:
        raise ValueError("out of range of any integer")
    value = int(digits, base)
    return -value if scalar.text[0] == "-" else value


def _integer(scalar: Scalar, least: int, most: int) -> int:
    if scalar.kind != "integer":
        raise ValueError("not an integer; write it without fraction, exponent or quotes")
    value = _digits(scalar)
    if not least <= value <= most:
        raise ValueError(f"out of range; write a number from {least} to {most}")
    return value


def _float(scalar: Scalar) -> float:
    number = scalar.text.lower()
    if scalar.kind == "name":
        sign, name = (-1.0, number[1:]) if number[0] == "-" else (1.0, number)
        if name in _SPECIAL:
            return sign * _SPECIAL[name]
        raise ValueError("not a number")
    if scalar.kind == "string":
        raise ValueError("a string; write the number without quotes")
    digits = number.lstrip("-")
    if scalar.kind == "integer" and digits[0] == "0" and len(digits) > 1:
        raise ValueError("not a decimal number; write it without the leading 0")
    return float(number.rstrip("f"))


def _bool(scalar: Scalar) -> bool:
    if scalar.kind == "name" and scalar.text in _BOOLS:
        return _BOOLS[scalar.text]
    if scalar.kind == "integer" and _digits(scalar) in (0, 1):
        return bool(_digits(scalar))
    raise ValueError("neither true nor false; write one of these (without quotes)")


def _enum(scalar: Scalar, enum: Any) -> int:
    if scalar.kind == "name" and scalar.text in enum.values_by_name:
        return int(enum.values_by_name[scalar.text].number)
    if scalar.kind == "integer" and _digits(scalar) in enum.values_by_number:
        return _digits(scalar)
    names = list(enum.values_by_name)
    near = get_close_matches(scalar.text.strip("\"'").upper(), names, 1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"not a value of {enum.name} ({', '.join(names)}){meant}")


def _string(scalar: Scalar, field: FieldDescriptor) -> str | bytes:
    if scalar.kind != "string":
        raise ValueError('not a string; put it into quotes: "…"')
    raw = b"".join(
        _unescape(piece[1:-1].encode("utf-8", "surrogateescape"))
        for piece in _PIECE.findall(scalar.text)
        if piece[0] != "#"
    )
    if field.type == FieldDescriptor.TYPE_BYTES:
        return raw
    return raw.decode("utf-8", "replace")


def _unescape(raw: bytes) -> bytes:
    return _ESCAPE.sub(_unescaped, raw) if b"\\" in raw else raw


def _unescaped(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, short, long, letter = match.groups()
    if octal:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if short or long:
        point = int(short or long, 16)
        if point > 0x10FFFF:
            raise ValueError(f"a string with the code point \\U{point:08x}, which does not exist")
        return chr(point).encode("utf-8", "replace")
    if letter[0] not in _ESCAPED:
        raise ValueError(f"a string with the unknown escape \\{chr(letter[0])}; write \\\\ for one")
    return bytes([_ESCAPED[letter[0]]])


def format_scalar(value: Value, field: FieldDescriptor) -> str:
    """Return the shortest text that reads back as exactly this value of the field."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return "true" if value else "false"
    if field.type == FieldDescriptor.TYPE_ENUM:
        values: Any = field.enum_type
        known = values.values_by_number.get(value)
        return str(known.name) if known else str(value)
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return _shortest(np.float32(value))
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _shortest(np.float64(value))
    if isinstance(value, bytes):
        return '"' + "".join(_escape_byte(byte) for byte in value) + '"'
    if isinstance(value, str):
        return '"' + _UNPRINTABLE.sub(_escape, value) + '"'
    return str(value)


def _shortest(number: np.floating[Any]) -> str:
    """Return the fewest digits that read back exactly; an exponent where it saves more than one."""
    plain = np.format_float_positional(number, trim="-")
    scientific = np.format_float_scientific(number, trim="-")
    return plain if len(plain) <= len(scientific) + 1 else scientific


def _escape(match: re.Match[str]) -> str:
    return _escape_byte(ord(match.group()))


def _escape_byte(byte: int) -> str:
    character = chr(byte)
    if character in '"\\':
        return "\\" + character
    if character == "\n":
        return "\\n"
    return character if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
