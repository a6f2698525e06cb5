"""What an interrupted training goes on from: one file, written whole or not at all."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from caffe_scnn.errors import FormatError
from caffe_scnn.model.atomic import atomic_write

FILE_NAME = "checkpoint.pt"
VERSION = 1


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values.

    Raises
    ------
    OutputError
        The place cannot be written; an existing checkpoint keeps its content.
    """
    with atomic_write(path) as file:
        torch.save({"version": VERSION, **state}, file)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint back; nothing in it is executed.

    Raises
    ------
    FormatError
        There is none, it is damaged, or of another version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).split("\n")[0]
        raise FormatError(f"no checkpoint that can be read: {reason}", str(path)) from error
    if not isinstance(state, dict) or state.get("version") != VERSION:
        raise FormatError("a checkpoint of another version of this program", str(path))
    return state
