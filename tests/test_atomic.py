"""Files and folders appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from caffe_scnn.errors import OutputError
from caffe_scnn.evaluate.arrays import write_arrays
from caffe_scnn.model.atomic import atomic_write, output_directory


class Interrupted(Exception):
    """Stands for anything that goes wrong while a result is being written."""


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a") as file:
        file.write(b"new")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a"]


def test_who_reads_the_old_file_goes_on_reading_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with (tmp_path / "a").open("rb") as reader:
        with atomic_write(tmp_path / "a") as file:
            file.write(b"new")
        assert reader.read() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"


def test_permissions_are_those_of_a_plain_open(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with atomic_write(tmp_path / "a"):
        pass
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(Interrupted), atomic_write(tmp_path / "a") as file:
        file.write(b"half")
        raise Interrupted
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.parametrize("place", ["missing/a", "", "file/a"])
def test_unwritable_places_are_one_message(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / place
    with pytest.raises(OutputError, match=target.name) as caught, atomic_write(target):
        pass
    assert ".part" not in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=rf"\({tmp_path / 'file'}\)"),
        output_directory(tmp_path / "file" / "out"),
    ):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have names on POSIX only")
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with atomic_write(pipe) as file:
            file.write(b"new")
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    write_arrays(Path(os.devnull), {"a": np.zeros((2, 3)), "b": np.ones(4)})
    assert os.listdir(tmp_path) == ["pipe"]


def test_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    with output_directory(tmp_path / "deep" / "out") as folder:
        (folder / "a").touch()
        assert not (tmp_path / "deep" / "out").exists()
    assert os.listdir(tmp_path / "deep") == ["out"]
    assert os.listdir(tmp_path / "deep" / "out") == ["a"]


def test_failure_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Interrupted), output_directory(tmp_path / "out") as folder:
        (folder / "a").touch()
        raise Interrupted
    assert os.listdir(tmp_path) == []


def test_existing_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="--overwrite"), output_directory(tmp_path / "out"):
        pytest.fail("the block must not run")


def test_overwriting_replaces_everything_or_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(Interrupted), output_directory(out, True, {"old"}):
        raise Interrupted
    assert os.listdir(out) == ["old"]
    with output_directory(out, True, {"old"}) as folder:
        (folder / "new").touch()
    assert os.listdir(out) == ["new"]
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("foreign", ["thesis.txt", "folder/"])
def test_overwriting_deletes_nothing_that_others_wrote(tmp_path: Path, foreign: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "ours").touch()
    place = out / foreign
    place.mkdir() if foreign.endswith("/") else place.touch()
    with (
        pytest.raises(OutputError, match=rf"would delete .*\({foreign.strip('/')}\)"),
        output_directory(out, True, {"ours", "folder"}),
    ):
        pytest.fail("the block must not run")
    assert len(os.listdir(out)) == 2 and os.listdir(tmp_path) == ["out"]


def test_overwriting_leaves_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out" / "deep")
    for place in (".", "..", "../.."):
        with pytest.raises(OutputError, match="you are in"), output_directory(place, True):
            pytest.fail("the block must not run")


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_came_meanwhile_is_not_replaced(tmp_path: Path, overwrite: bool) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError), output_directory(out, overwrite, {"a"}):
        out.mkdir()
        (out / "other").touch()
    assert os.listdir(tmp_path) == ["out"] and os.listdir(out) == ["other"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_way_is_never_replaced(tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    with (
        pytest.raises(OutputError, match="not a folder"),
        output_directory(tmp_path / "out", overwrite),
    ):
        pytest.fail("the block must not run")
    with pytest.raises(OutputError), output_directory(tmp_path / "out" / "deeper"):
        pytest.fail("the block must not run")
    assert (tmp_path / "out").read_bytes() == b"mine"


def test_what_cannot_be_read_is_not_said_to_be_unwritable(tmp_path: Path) -> None:
    missing = tmp_path / "missing.txt"
    with pytest.raises(FileNotFoundError), output_directory(tmp_path / "out"):
        missing.read_text()
    with (
        pytest.raises(OutputError, match="cannot be written"),
        output_directory(tmp_path / "out") as folder,
    ):
        (folder / "deep" / "file").write_text("")
    assert os.listdir(tmp_path) == []
