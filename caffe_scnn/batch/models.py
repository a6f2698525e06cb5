"""Which caffemodel belongs to which prototxt."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe_scnn.errors import ModelError


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model.

    Attributes
    ----------
    name : str
        What it is called in reports, and below an output folder.
    prototxt, caffemodel : Path, optional
        None where there is none.
    problem : str, optional
        Why it is not clear which files are meant.
    """

    name: str
    prototxt: Path | None
    caffemodel: Path | None
    problem: str | None = None

    @classmethod
    def of(cls, prototxt: Path, caffemodel: Path | None = None) -> ModelFiles:
        """Return the model of these files, named after the prototxt."""
        return cls(prototxt.stem, prototxt, caffemodel)

    @property
    def folder(self) -> Path:
        """Where the model lies."""
        path = self.prototxt or self.caffemodel
        return path.parent if path else Path()


def find_models(pattern: str) -> list[ModelFiles]:
    """Find models by a pattern such as ``zoo/*`` or ``zoo/**/deploy.prototxt``.

    Parameters
    ----------
    pattern : str
        Matches prototxt files, or folders: these stand for the prototxts in them, solvers left
        out, and beside a deploy prototxt those for training. Each prototxt is paired with the
        caffemodel in its folder that has the same name (``a.prototxt``, ``a.caffemodel``), else the
        only one whose name it begins (``lenet``, ``lenet_iter_10000``), else the only one there
        that has no prototxt of its own name.

    Returns
    -------
    list of ModelFiles
        Sorted by path; named by it, below the folder they have in common.

    Raises
    ------
    ModelError
        Nothing matches.
    """
    prototxts = _prototxts(pattern)
    if not prototxts:
        raise ModelError(f'--models "{pattern}": matches no prototxt and no folder with one')
    common = Path(os.path.commonpath([path.parent for path in prototxts]))
    return [_with_caffemodel(path, common) for path in prototxts]


def _with_caffemodel(path: Path, common: Path) -> ModelFiles:
    """Pair a prototxt; where several caffemodels could be meant, say so when it is its turn."""
    name = path.relative_to(common).with_suffix("").as_posix()
    try:
        return ModelFiles(name, path, find_caffemodel(path))
    except ModelError as error:
        return ModelFiles(name, path, None, str(error))


def find_caffemodel(prototxt: Path) -> Path | None:
    """Find the caffemodel of a prototxt by the rules of :func:`find_models`; None without one."""
    folder = sorted(prototxt.parent.glob("*.caffemodel"))
    same = prototxt.with_suffix(".caffemodel")
    if same in folder:
        return same
    free = [path for path in folder if not path.with_suffix(".prototxt").exists()]
    begun = [path for path in free if path.name.startswith(prototxt.stem)]
    return _only(begun, prototxt) or _only(free, prototxt)


def _only(candidates: Sequence[Path], prototxt: Path) -> Path | None:
    if len(candidates) > 1:
        raise ModelError(
            f"{prototxt}: {' and '.join(path.name for path in candidates)} could belong to it; "
            f"call one {prototxt.stem}.caffemodel, or give the two files instead of --models"
        )
    return candidates[0] if candidates else None


def _in_folder(folder: Path) -> list[Path]:
    """Return the prototxts of a folder that are meant: no solvers, no net twice."""
    nets = [path for path in folder.glob("*.prototxt") if "solver" not in path.stem]
    to_deploy = [path for path in nets if "deploy" in path.stem]
    return [path for path in nets if not to_deploy or path in to_deploy or "train" not in path.stem]


def _prototxts(pattern: str) -> list[Path]:
    found: set[Path] = set()
    for path in map(Path, glob.glob(pattern, recursive=True)):
        if path.is_dir():
            found.update(_in_folder(path))
        elif path.suffix == ".prototxt":
            found.add(path)
    return sorted(found)
