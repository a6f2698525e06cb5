"""Protobuf's binary format: fields read from a file without holding it in memory, and tags made."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from caffe_scnn.errors import FormatError

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
WIDTH = {FIXED64: 8, FIXED32: 4}

# protobuf cannot hold more; neither can Caffe.
MAX_FILE = 2**31 - 1
# No net has so many fields outside its arrays. The limit keeps hostile files from running for ever.
MAX_FIELDS = 2_000_000
MAX_GROUPS = 100
_WINDOW = 1 << 16


class WireField(NamedTuple):
    """One field of a message, or a run of fixed-width fields of one number.

    Attributes
    ----------
    number, wire : int
        Field number and wire type.
    start, end : int
        Offsets of the content in the file (for a run, of the first tag and of the end).
    value : int
        The value of a varint.
    times, stride : int
        How many fixed-width values, and the bytes from one to the next, tags included.
    """

    number: int
    wire: int
    start: int
    end: int
    value: int = 0
    times: int = 0
    stride: int = 0


class WireFile:
    """A binary protobuf file, read where asked.

    Parameters
    ----------
    path : str or Path
        The file; at most 2 GiB − 1 bytes.

    Raises
    ------
    FormatError
        The file cannot be read, is empty or too large.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._window = b""
        self._window_start = 0
        self._fields = 0
        try:
            self._file: FileIO = open(path, "rb", buffering=0)  # noqa: SIM115  closed in __exit__
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror or error}") from error
        status = os.fstat(self._file.fileno())
        self.size = status.st_size
        if refusal := _unfit(status):
            self._file.close()
            raise self.error(refusal)

    def __enter__(self) -> WireFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def error(self, message: str, offset: int | None = None) -> FormatError:
        """Return the error that names the file and the byte; the caller raises it."""
        place = "" if offset is None else f" (at byte {offset})"
        return FormatError(message + place, self.path)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill a buffer of bytes from an offset, straight from the file."""
        self._file.seek(start)
        at = 0
        while at < len(buffer):
            got = self._file.readinto(buffer[at:])
            if not got:
                raise self.error("ends too early; the file changed while it was read", start + at)
            at += got

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes between two offsets."""
        low, high = start - self._window_start, end - self._window_start
        if low >= 0 and high <= len(self._window):
            return self._window[low:high]
        buffer = bytearray(min(max(end - start, _WINDOW), self.size - start))
        self.read_into(memoryview(buffer), start)
        if len(buffer) <= _WINDOW:
            self._window, self._window_start = bytes(buffer), start
        return bytes(buffer[: end - start])

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """Return the varint at an offset and the offset after it."""
        value = shift = 0
        for byte in self.read(at, min(at + 10, end)):
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise self.broken(at)

    def broken(
        self, offset: int, reason: str = "a field is cut off or has an impossible type"
    ) -> FormatError:
        """Return the error for bytes that are no protobuf."""
        if guess := self._guess():
            return self.error(guess)
        return self.error(
            f"is damaged, cut off or no protobuf file: {reason}; copy or download it again", offset
        )

    def _guess(self) -> str | None:
        """Say what the file seems to be instead."""
        head = self.read(0, min(self.size, 512))
        if head.startswith(b"\x89HDF"):
            return "is HDF5; save the weights as .caffemodel"
        if all(byte in b"\t\n\r" or byte >= 0x20 for byte in head):
            return "looks like text; a binary file (caffemodel) is expected here, not a prototxt"
        return None

    def fields(self, start: int, end: int) -> Iterator[WireField]:
        """Yield the fields of the message between two offsets.

        Raises
        ------
        FormatError
            The bytes are no message; names the file and the byte.
        """
        at = start
        while at < end:
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise self.error("has millions of fields; this is no net", at)
            field = self._field(at, end)
            at = field.end
            if field.wire == END_GROUP:
                raise self.broken(field.start)
            if field.wire == GROUP:
                at = self._skip_group(field, end)
            else:
                yield field

    def _field(self, at: int, end: int) -> WireField:
        """Return the field whose tag is at an offset."""
        tag, content = self.varint(at, end)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise self.broken(at)
        if wire == VARINT:
            value, after = self.varint(content, end)
            return WireField(number, wire, content, after, value)
        if wire == BYTES:
            length, content = self.varint(content, end)
            if length > end - content:
                raise self.broken(
                    at, f"a field claims {length} bytes, but {end - content} are left"
                )
            return WireField(number, wire, content, content + length)
        if wire in WIDTH:
            return self._run(number, wire, at, content - at, end)
        if wire in (GROUP, END_GROUP):
            return WireField(number, wire, content, content)
        raise self.broken(at)

    def _run(self, number: int, wire: int, at: int, tag: int, end: int) -> WireField:
        """Return the fixed-width fields of one number that follow one another."""
        stride = tag + WIDTH[wire]
        if at + stride > end:
            raise self.broken(at)
        first = np.frombuffer(self.read(at, at + tag), np.uint8)
        count, most = 1, (end - at) // stride
        block = 16
        while count < most:
            size = min(block, most - count)
            start = at + count * stride
            raw = np.frombuffer(self.read(start, start + size * stride), np.uint8)
            same = (raw.reshape(size, stride)[:, :tag] == first).all(axis=1)
            count += size if same.all() else int(np.argmin(same))
            if not same.all():
                break
            block = min(block * 4, 1 << 18)
        return WireField(number, wire, at, at + count * stride, 0, count, stride)

    def _skip_group(self, opening: WireField, end: int) -> int:
        """Return the offset after a group: an old kind of message that Caffe never writes."""
        open_groups = [opening.number]
        at = opening.end
        while open_groups:
            self._fields += 1
            if at >= end or len(open_groups) > MAX_GROUPS or self._fields > MAX_FIELDS:
                raise self.broken(at)
            field = self._field(at, end)
            at = field.end
            if field.wire == GROUP:
                open_groups.append(field.number)
            elif field.wire == END_GROUP and open_groups.pop() != field.number:
                raise self.broken(at)
        return at


def _unfit(status: os.stat_result) -> str | None:
    """Say why a file cannot be read here, from what the system knows about it."""
    if not stat.S_ISREG(status.st_mode):
        return "is no plain file, and parts of it are read out of order; copy it to one"
    if not status.st_size:
        return "is empty; was a download or a copy cut off?"
    if status.st_size > MAX_FILE:
        return f"is too large ({status.st_size} bytes; protobuf ends at 2 GiB)"
    return None


def signed(value: int, bits: int = 64) -> int:
    """Return a varint's value as protobuf reads it for a signed field of this width."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def encode_varint(value: int) -> bytes:
    """Return a number from 0 as a varint."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_head(number: int, length: int) -> bytes:
    """Return what precedes ``length`` bytes of content of a field: its tag and length."""
    return encode_varint(number << 3 | BYTES) + encode_varint(length)
