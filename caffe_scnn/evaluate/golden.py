"""Stored results of a reference implementation: an npz of inputs and blobs, options beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.arrays import Arrays, Values, pick_inputs, read_arrays
from caffe_scnn.layers.base import Shape


@dataclass(frozen=True)
class Golden:
    """What a net must compute.

    Attributes
    ----------
    path : Path
    arrays : dict
        ``in/<blob>`` (or ``u8/``, ``mean/``, ``scale/``): inputs; ``out/<blob>``: results;
        ``first/<blob>``: results of the first item only; ``in.2/``, ``out.2/``: a second run
        right after the first.
    phase, level, stages
        How the net was opened, from the ``.json`` beside the npz; None where it does not say.
    """

    path: Path
    arrays: Arrays
    phase: str | None = None
    level: int | None = None
    stages: tuple[str, ...] = field(default=())

    @classmethod
    def read(cls, path: Path) -> Golden:
        """Read the npz, and the options in the ``.json`` beside it if there is one.

        Raises
        ------
        FormatError
            A file that cannot be read, or an npz without any ``out/<blob>``.
        """
        arrays = read_arrays(path)
        if not any(name.startswith("out/") for name in arrays):
            raise FormatError(
                'holds no "out/<blob>" array; it is no stored result to compare with', str(path)
            )
        options = _read_options(path.with_suffix(".json"))
        return cls(path, arrays, options.get("phase"), options.get("level"), options["stages"])

    @property
    def steps(self) -> tuple[str, ...]:
        """Suffixes of the runs that were stored: ``("",)``, or ``("", ".2")``."""
        return ("", *(s for s in (".2",) if any(n.startswith(f"out{s}/") for n in self.arrays)))

    def inputs(self, wanted: Mapping[str, Shape | None], step: str = "") -> dict[str, Values]:
        """Return the inputs of one run; see :func:`~caffe_scnn.evaluate.arrays.pick_inputs`."""
        return pick_inputs(self.arrays, wanted, str(self.path), step)

    def blobs(self, step: str = "") -> dict[str, NDArray[Any]]:
        """Blob name → values for the whole batch."""
        return self._under(f"out{step}/")

    def first_items(self) -> dict[str, NDArray[Any]]:
        """Blob name → values of the first item."""
        return self._under("first/")

    def _under(self, prefix: str) -> dict[str, NDArray[Any]]:
        return {
            name.removeprefix(prefix): np.asarray(array)
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }


def _read_options(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"stages": ()}
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
        return {**options, "stages": tuple(options.get("stages", ()))}
    except (ValueError, TypeError, AttributeError) as error:
        raise FormatError(f"not the options of a stored result: {error}", str(path)) from error
