"""Hostile and damaged files: one message each, never a crash, a hang or a huge allocation."""

from __future__ import annotations

import os
import random
import time
import tracemalloc
from pathlib import Path

import pytest

from caffe_scnn.errors import FormatError
from caffe_scnn.model import wire
from caffe_scnn.model.caffemodel import read_caffemodel
from caffe_scnn.model.net import Net
from caffe_scnn.model.wire import encode_head, encode_varint


def message(number: int, content: bytes) -> bytes:
    return encode_head(number, len(content)) + content


def with_blob(blob: bytes) -> bytes:
    return message(100, message(1, b"c") + message(7, blob))


def dims(*values: int) -> bytes:
    packed = b"".join(encode_varint(value % 2**64) for value in values)
    return message(7, message(1, packed))


DAMAGED = {
    "empty": (b"", "is empty"),
    "text": (b'layer {\n  name: "a"\n}\n', "looks like text"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "HDF5"),
    "end of nothing": (b"\x0c", "no protobuf file"),
    "field number 0": (b"\x02\x01a", "no protobuf file"),
    "wire type 6": (b"\x0e", "no protobuf file"),
    "varint of eleven bytes": (b"\x08" + b"\xff" * 10 + b"\x01", "no protobuf file"),
    "length beyond the file": (b"\x0a\xff\xff\xff\xff\x0f", "no protobuf file"),
    "length beyond the layer": (message(100, b"\x0a\x05a"), "no protobuf file"),
    "length of 2^63": (b"\x0a" + b"\xff" * 9 + b"\x01", "no protobuf file"),
    "group without end": (b"\x0b" + b"\x08\x01" * 3, "no protobuf file"),
    "group closed by another": (b"\x0b\x14", "no protobuf file"),
    "groups without end": (b"\x0b" * 100_000, "no protobuf file"),
    "no layers": (message(1, b"name"), "holds no layers"),
    "both generations": (message(2, b"") + message(100, b""), "both"),
    "negative axis": (with_blob(dims(-1)), r"impossible shape \(-1\)"),
    "huge axes": (with_blob(dims(2**31, 2**31)), "impossible shape"),
    "count beyond int32": (with_blob(dims(2**16, 2**15)), "impossible shape"),
    "33 axes": (with_blob(dims(*[1] * 33)), "more than 32 axes"),
    "a million axes": (with_blob(dims(*[1] * 1_000_000)), "more than 32 axes"),
    "shape without data": (with_blob(dims(2**30)), "0 are stored"),
    "data without shape": (with_blob(message(5, b"\0" * 8)), r"\(\) = 1 values, but 2"),
    "data of five bytes": (with_blob(message(5, b"\0" * 5)), "within one of them"),
    "fixed32 cut off": (message(100, message(7, b"\x2d\0\0")), "no protobuf file"),
    "negative legacy": (with_blob(b"\x08" + encode_varint(2**64 - 1)), "impossible shape"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_one_message(tmp_path: Path, case: str) -> None:
    content, phrase = DAMAGED[case]
    path = tmp_path / "x.caffemodel"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=phrase) as caught:
        read_caffemodel(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("place", [".", "missing"])
def test_what_is_no_file_is_one_message(tmp_path: Path, place: str) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        read_caffemodel(tmp_path / place)


def test_pipes_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDWR)  # so that opening it does not wait
    with pytest.raises(FormatError, match="is no plain file"):
        read_caffemodel(tmp_path / "pipe")
    os.close(reader)


def test_files_beyond_two_gigabytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.caffemodel"
    with path.open("wb") as file:
        file.truncate(2**31)  # a hole, takes no room on the disk
    with pytest.raises(FormatError, match="2 GiB"):
        read_caffemodel(path)


def test_millions_of_tiny_fields_end_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FIELDS", 1000)
    path = tmp_path / "x.caffemodel"
    path.write_bytes(b"\x08\x01" * 2000)
    with pytest.raises(FormatError, match="millions of fields"):
        read_caffemodel(path)
    path.write_bytes(b"\x0b" + b"\x08\x01" * 2000 + b"\x0c")
    with pytest.raises(FormatError, match="no protobuf file"):
        read_caffemodel(path)


def mutations(raw: bytes, count: int) -> list[bytes]:
    """Return damaged versions of a file: bits flipped, pieces cut, doubled and overwritten."""
    chance = random.Random(len(raw))
    made = []
    for _ in range(count):
        content = bytearray(raw)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(content))
            length = chance.randint(0, 8)
            content[at : at + length] = chance.choice(
                [
                    chance.randbytes(length),
                    b"\xff" * length,
                    b"",
                    bytes(content[at : at + length]) * 2,
                ]
            )
            content = content or bytearray(b"\0")
        made.append(bytes(content[: chance.choice([len(content), chance.randrange(len(content))])]))
    return made


@pytest.mark.parametrize("case", ["blob_chunks", "blob_double", "blob_legacy4d", "v0_lenet"])
def test_mutated_caffemodels_are_read_or_refused(
    golden_dir: Path, tmp_path: Path, case: str
) -> None:
    raw = (golden_dir / "legacy" / f"{case}.caffemodel").read_bytes()
    path = tmp_path / "x.caffemodel"
    refused = 0
    tracemalloc.start()
    start = time.monotonic()
    for content in mutations(raw, 400):
        path.write_bytes(content)
        try:
            read_caffemodel(path)
        except FormatError:
            refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 100
    assert peak < 2_000_000 + 20 * len(raw)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("case", ["text_odd", "input_two", "bn_params_names", "text_interleaved"])
def test_mutated_prototxts_are_read_or_refused(golden_dir: Path, tmp_path: Path, case: str) -> None:
    raw = (golden_dir / "legacy" / f"{case}.prototxt").read_bytes()
    path = tmp_path / "x.prototxt"
    refused = 0
    for content in mutations(raw, 300):
        path.write_bytes(content)
        try:
            net = Net.read(path)
        except FormatError:
            refused += 1
        else:
            assert net.text().encode("utf-8", "surrogateescape") == content
    assert refused > 100
