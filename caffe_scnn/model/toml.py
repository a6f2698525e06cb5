"""TOML files that people write: read whole, with faults that name the file."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from caffe_scnn.errors import CaffeScnnError, FormatError

T = TypeVar("T")


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML text.

    Raises
    ------
    FormatError
        It is not TOML; the message has line and column.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FormatError(f"not a TOML file: {error}") from error


def read_toml(path: str | Path, parse: Callable[[str], T], what: str = "file") -> T:
    """Return what ``parse`` makes of a file's text.

    Parameters
    ----------
    path : path
    parse : callable
        Raises a CaffeScnnError where the text is at fault.
    what : str
        The file in the words of the message.

    Raises
    ------
    FormatError
        The file cannot be read, or is at fault.
    """
    try:
        return parse(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"cannot read the {what}: {error}", path=str(path)) from error
    except CaffeScnnError as error:
        raise FormatError(str(error), path=str(path)) from error
