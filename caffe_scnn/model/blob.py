"""BlobProto and ndarray: one learnt blob (or a mean image) as stored in a file."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError
from caffe_scnn.model.wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    WireField,
    WireFile,
    encode_head,
    encode_varint,
    signed,
)
from caffe_scnn.proto import caffe_pb2 as pb

# Field numbers of BlobProto; 1 to 4 are num, channels, height and width.
_LEGACY = (1, 2, 3, 4)
_DATA, _SHAPE, _DOUBLE = 5, 7, 8
# NVIDIA's Caffe from 0.16 on stores bytes and their type instead: double, float or half.
_RAW_TYPE, _RAW = 10, 12
_RAW_WIDTHS = {0: 8, 1: 4, 2: 2}
_DIM = 1

MAX_AXES = 32
MAX_COUNT = 2**31 - 1
_PIECE = 1 << 18  # values converted at a time where they are not stored as we hold them


@dataclass(eq=False)
class StoredBlob:
    """One blob of a file.

    Attributes
    ----------
    shape : tuple of int
        As stored.
    legacy : bool
        Whether the shape is the old (num, channels, height, width).
    array : float32 ndarray
        The values, in that shape.
    """

    shape: tuple[int, ...]
    legacy: bool
    array: NDArray[np.float32]


@dataclass(frozen=True)
class BlobCount:
    """A blob without its values: shape, number of values and of those that are not zero."""

    shape: tuple[int, ...]
    values: int
    nonzeros: int


@dataclass(frozen=True)
class _Layout:
    """A checked blob: its shape, and the runs of its values (``width`` bytes each)."""

    shape: tuple[int, ...]
    legacy: bool
    runs: list[WireField]
    width: int
    count: int


@dataclass
class _Content:
    """What a BlobProto holds: its shape, and where its values lie in the file."""

    legacy: dict[int, int] = field(default_factory=dict)
    dims: list[int] = field(default_factory=list)
    floats: list[WireField] = field(default_factory=list)
    doubles: list[WireField] = field(default_factory=list)
    raw: list[WireField] = field(default_factory=list)
    raw_type: int = 0

    def values(self) -> tuple[list[WireField], int]:
        """Where the values lie, and how many bytes one takes; doubles go before floats."""
        if self.doubles:
            return self.doubles, 8
        if self.raw and not self.floats and self.raw_type in _RAW_WIDTHS:
            return self.raw[-1:], _RAW_WIDTHS[self.raw_type]
        return self.floats, 4

    @property
    def shape(self) -> tuple[int, ...]:
        """Caffe's rule: any old field present makes the blob four-axis, absent ones are 0."""
        if self.legacy:
            return tuple(self.legacy.get(number, 0) for number in _LEGACY)
        return tuple(self.dims)


def stored_blob(proto: pb.BlobProto) -> StoredBlob:
    """Return the blob of a message, by the rules of :func:`read_blob`.

    Raises
    ------
    ValueError
        The number of values is not what the shape says.
    """
    legacy = any(proto.HasField(name) for name in ("num", "channels", "height", "width"))
    shape = tuple(proto.shape.dim)
    if legacy:
        shape = proto.num, proto.channels, proto.height, proto.width
    with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, as in Caffe
        array = np.array(proto.double_data or proto.data, np.float32)
    if any(dim < 0 for dim in shape) or math.prod(shape) != array.size:
        raise ValueError(f"its shape {_short(shape)} does not fit its {array.size} values")
    return StoredBlob(shape, legacy, array.reshape(shape))


def read_blob(file: WireFile, start: int, end: int, owner: str) -> StoredBlob:
    """Read the BlobProto between two offsets of a file.

    Double data are preferred over float data and rounded to float32; NVIDIA's raw data (double,
    float or half) count where there are neither.

    Parameters
    ----------
    file : WireFile
        The file.
    start, end : int
        Where the message lies.
    owner : str
        Whose blob it is, for messages.

    Raises
    ------
    FormatError
        The bytes are no BlobProto, or the number of values is not what the shape says.
    """
    layout = _layout(file, start, end, owner)
    array = np.empty(layout.count, np.float32)
    _load(file, layout.runs, layout.width, array)
    return StoredBlob(layout.shape, layout.legacy, array.reshape(layout.shape))


def count_blob(file: WireFile, start: int, end: int, owner: str) -> BlobCount:
    """Count the non-zero values of a BlobProto, a piece at a time; see :func:`read_blob`."""
    layout = _layout(file, start, end, owner)
    nonzeros = 0
    piece = np.empty(_PIECE, np.float32)
    for run in layout.runs:
        stride = run.stride or layout.width
        count = _values(file, run, layout.width)
        for first in range(0, count, _PIECE):
            part = piece[: count - first]
            at = run.start + first * stride
            _load_run(file, run._replace(start=at), layout.width, part)
            nonzeros += int(np.count_nonzero(part))
    return BlobCount(layout.shape, layout.count, nonzeros)


def _layout(file: WireFile, start: int, end: int, owner: str) -> _Layout:
    """Find a blob's values and check that they are as many as its shape says."""
    content = _Content()
    for part in file.fields(start, end):
        _note(file, content, part)
    shape = content.shape
    runs, width = content.values()
    stored = sum(_values(file, run, width) for run in runs)
    if len(shape) > MAX_AXES or any(dim < 0 for dim in shape) or math.prod(shape) > MAX_COUNT:
        raise file.error(f"{owner} has the impossible shape {_short(shape)}", start)
    if math.prod(shape) != stored:
        raise file.error(
            f"{owner} has the shape {_short(shape)} = {math.prod(shape)} values, "
            f"but {stored} are stored{_why(content)}",
            start,
        )
    return _Layout(shape, bool(content.legacy), runs, width, stored)


def _note(file: WireFile, content: _Content, part: WireField) -> None:
    """Take note of one field; a known number with a foreign wire type is an unknown field."""
    if part.number in _LEGACY and part.wire == VARINT:
        content.legacy[part.number] = signed(part.value, 32)
    elif part.number == _SHAPE and part.wire == BYTES:
        content.dims += _dims(file, part)
    elif part.number == _DATA and part.wire in (BYTES, FIXED32) and part.end > part.start:
        content.floats.append(part)
    elif part.number == _DOUBLE and part.wire in (BYTES, FIXED64) and part.end > part.start:
        content.doubles.append(part)
    elif part.number == _RAW_TYPE and part.wire == VARINT:
        content.raw_type = part.value
    elif part.number == _RAW and part.wire == BYTES:
        content.raw.append(part)


def _dims(file: WireFile, shape: WireField) -> Iterator[int]:
    """Yield the axes of a BlobShape, packed or not."""
    count = 0
    for part in file.fields(shape.start, shape.end):
        if part.number != _DIM or part.wire not in (VARINT, BYTES):
            continue
        at = part.start
        while at < part.end:
            value, at = file.varint(at, part.end)
            yield signed(value)
            count += 1
            if count > MAX_AXES:
                raise file.error(f"a blob has more than {MAX_AXES} axes", part.start)


def _values(file: WireFile, run: WireField, width: int) -> int:
    """Return how many values a packed field or a run of single ones holds."""
    if run.wire != BYTES:
        return run.times
    if (run.end - run.start) % width:
        raise file.error(f"packed values end within one of them ({width} bytes each)", run.end)
    return (run.end - run.start) // width


def _load(
    file: WireFile, runs: Sequence[WireField], width: int, array: NDArray[np.float32]
) -> None:
    """Fill an array; packed floats go straight from the file into it."""
    at = 0
    for run in runs:
        count = _values(file, run, width)
        _load_run(file, run, width, array[at : at + count])
        at += count


def _load_run(file: WireFile, run: WireField, width: int, target: NDArray[np.float32]) -> None:
    """Fill an array with as many values as it holds, from the start of a run."""
    if run.wire == BYTES and width == 4:
        file.read_into(target.view(np.uint8).data, run.start)
        if sys.byteorder == "big":
            target.byteswap(inplace=True)
    else:
        _convert(file, run, width, target)


def _convert(file: WireFile, run: WireField, width: int, target: NDArray[np.float32]) -> None:
    """Read values that are spread out, doubles or halves, a piece at a time."""
    stride = run.stride or width
    kind = np.dtype(f"<f{width}")
    for first in range(0, target.size, _PIECE):
        count = min(_PIECE, target.size - first)
        start = run.start + first * stride
        raw = np.frombuffer(file.read(start, start + count * stride), np.uint8)
        values = np.ascontiguousarray(raw.reshape(count, stride)[:, stride - width :])
        with np.errstate(over="ignore"):  # a double beyond float32 becomes inf, as in Caffe
            target[first : first + count] = values.view(kind)[:, 0]


def _short(shape: Sequence[int]) -> str:
    listed = ", ".join(str(dim) for dim in shape[:MAX_AXES])
    return f"({listed}{', …' if len(shape) > MAX_AXES else ''})"


def _why(content: _Content) -> str:
    if content.legacy and content.dims:
        return (
            f"; the file has both the old num/channels/height/width and a shape "
            f"{_short(content.dims)}, and the old form counts"
        )
    if not (content.floats or content.doubles):
        return " (other data than floats, doubles and NVIDIA's halves are not read)"
    return ""


def encode_blob(array: NDArray[np.float32]) -> tuple[bytes, memoryview, bytes]:
    """Return a BlobProto as (head, values, tail); the values are written as they are in memory."""
    values = np.ascontiguousarray(array, "<f4").reshape(-1).view(np.uint8).data
    dims = b"".join(encode_varint(dim) for dim in array.shape)
    shape = encode_head(_DIM, len(dims)) + dims if dims else b""
    return encode_head(_DATA, values.nbytes), values, encode_head(_SHAPE, len(shape)) + shape


def read_binaryproto(path: str | Path) -> StoredBlob:
    """Read a file that holds one BlobProto, such as a mean image.

    Raises
    ------
    FormatError
        The file cannot be read or holds no blob.
    """
    with WireFile(path) as file:
        blob = read_blob(file, 0, file.size, "the blob")
        if blob.array.ndim == 0:
            raise FormatError("holds no blob; is it a mean image (binaryproto)?", file.path)
        return blob
