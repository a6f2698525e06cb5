"""Steps of a long computation kept on disk, so that it can be killed and goes on."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import OutputError
from caffe_scnn.model.atomic import atomic_write

Arrays = dict[str, NDArray[Any]]


class Checkpoint:
    """A folder with the arrays of each step that is done.

    Parameters
    ----------
    folder : Path
        Made when needed.
    settings : dict
        All that the steps depend on.

    Raises
    ------
    OutputError
        The folder holds steps of other settings, or cannot be written.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        text = json.dumps(settings, indent=1, sort_keys=True)
        path = folder / "settings.json"
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise OutputError(
                f"{folder}: holds the steps of a training with other settings; delete it, or "
                "choose another folder"
            )
        with suppress(OSError):  # the message comes from atomic_write
            folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with atomic_write(path) as file:
                file.write(text.encode())

    def step(self, name: str, compute: Callable[[], Arrays]) -> Arrays:
        """Return the arrays of a step, computed unless they are kept.

        Parameters
        ----------
        name : str
        compute : callable
        """
        path = self.folder / f"{name}.npz"
        spoilt = (OSError, ValueError, EOFError, zipfile.BadZipFile)
        with suppress(*spoilt), np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file}
        found = compute()
        with atomic_write(path) as file:
            np.savez(file, **found)  # type: ignore[arg-type]
        return found
