"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from caffe_scnn.errors import OutputError


def _sibling(path: Path) -> Path:
    """Return an unused hidden name beside ``path``: a rename within one folder is atomic."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _failure(path: Path, error: OSError) -> OutputError:
    place = str(error.filename or "")  # a file in the way, but not the hidden one of our own
    where = "" if not place or place.endswith(".part") or place == str(path) else f" ({place})"
    return OutputError(f"{path}: cannot be written: {error.strerror or error}{where}")


def _create(path: Path) -> BinaryIO:
    """Open a new file with the permissions a plain ``open`` would give it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "wb")


class _Stream(io.BufferedWriter):
    """A pipe or a device. Some devices say where they are, and it is always the same place."""

    def tell(self) -> int:
        """Say that there is no place, so that an archive counts for itself."""
        raise io.UnsupportedOperation("a stream has no place")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file that replaces ``path`` only when the block ends without an error.

    Parameters
    ----------
    path : str or Path
        The file; through a symbolic link, the file it points to. What is no regular file, such as
        a pipe or a device, is written to directly: it must not be replaced by a file.

    Yields
    ------
    BinaryIO
        The file to write to, in the same folder as ``path``.

    Raises
    ------
    OutputError
        The place cannot be written. Nothing is left behind, and an existing file keeps its content.
    """
    target = Path(os.path.realpath(path))
    temporary = _sibling(target)
    try:
        if target.is_dir():
            raise OutputError(f"{path}: is a folder; name a file in it")
        if target.exists() and not target.is_file():
            with _Stream(target.open("wb", buffering=0)) as device:
                yield device
            return
        with _create(temporary) as file:
            yield file
        temporary.replace(target)
    except OSError as error:
        raise _failure(Path(path), error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_free(path: Path, overwrite: bool, ours: Collection[str] = ()) -> None:
    """Refuse a place for an output folder that is taken; long commands ask before they begin.

    Parameters
    ----------
    path : Path
    overwrite : bool
        An existing folder may be replaced, if it holds nothing but ...
    ours : collection of str
        ... files of these names.

    Raises
    ------
    OutputError
        The folder exists and may not be replaced, or something else has its name.
    """
    if path.is_dir() and overwrite:
        _check_replaceable(path, ours)
    elif path.is_dir():
        raise OutputError(f"{path}: the folder exists already; choose another or use --overwrite")
    elif path.exists() or path.is_symlink():
        raise OutputError(f"{path}: exists and is not a folder; choose another name")


def _check_replaceable(path: Path, ours: Collection[str]) -> None:
    """Refuse to replace a folder that somebody stands in, or that holds what is not ours."""
    here, target = Path.cwd(), path.resolve()
    if target == here or target in here.parents:
        raise OutputError(f"{path}: holds the folder you are in; choose another name")
    foreign = sorted(
        entry.name for entry in path.iterdir() if entry.name not in ours or entry.is_dir()
    )
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise OutputError(
            f"{path}: --overwrite would delete what this command does not write "
            f"({', '.join(foreign[:3])}{more}); move that, or choose another folder"
        )


def _swap(temporary: Path, path: Path, overwrite: bool, ours: Collection[str]) -> None:
    """Put ``temporary`` in the place of ``path``; the old folder goes only when that worked."""
    check_free(path, overwrite, ours)  # again: others may have written there meanwhile
    old = _sibling(path)
    if path.exists():
        path.rename(old)
    try:
        temporary.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def output_directory(
    path: str | Path, overwrite: bool = False, ours: Collection[str] = ()
) -> Iterator[Path]:
    """Build a folder that appears as ``path`` only when the block ends without an error.

    Parameters
    ----------
    path : str or Path
        The folder to make; missing parents are made too.
    overwrite : bool
        Replace an existing folder, if it holds nothing but ...
    ours : collection of str
        ... files of these names.

    Yields
    ------
    Path
        An empty folder beside ``path`` to write into; it is renamed at the end.

    Raises
    ------
    OutputError
        The folder exists and may not be replaced, or the place cannot be written.
    """
    target = Path(os.path.realpath(path))
    check_free(target, overwrite, ours)
    temporary = _sibling(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        _swap(temporary, target, overwrite, ours)
    except OSError as error:
        if _was_read(error, target):
            raise
        raise _failure(Path(path), error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _was_read(error: OSError, target: Path) -> bool:
    """Whether an error names a file that has nothing to do with the writing of ``target``."""
    if not isinstance(error.filename, str):
        return False
    at = Path(os.path.realpath(error.filename))
    hidden = any(p.parent == target.parent and p.suffix == ".part" for p in (at, *at.parents))
    return not hidden and target not in (at, *at.parents) and at not in target.parents
