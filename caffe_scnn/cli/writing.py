"""The folder a rewritten model goes to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.models import FILE
from caffe_scnn.errors import OutputError
from caffe_scnn.model.atomic import output_directory
from caffe_scnn.preprocess import FILE_NAME, Preprocess
from caffe_scnn.save import CAFFEMODEL, PROTOTXT

RECIPE = "recipe.toml"
OURS = frozenset({PROTOTXT, CAFFEMODEL, FILE_NAME, RECIPE})  # that a command may have written


@dataclass(frozen=True)
class Destination:
    """Where to write, and whether what is there may go."""

    out: Path
    overwrite: bool

    @contextmanager
    def folder(self, place: Path, model: ModelFiles) -> Iterator[Path]:
        """Yield a folder that becomes ``place`` at the end, with the model's preprocess.toml."""
        keep_inputs(place, (model.prototxt, model.caffemodel))
        with output_directory(place, self.overwrite, OURS) as folder:
            if (model.folder / FILE_NAME).exists():
                settings = Preprocess.beside(model.folder)
                (folder / FILE_NAME).write_text(settings.text(place), encoding="utf-8")
            yield folder


def keep_inputs(place: Path, read: Iterable[Path | None]) -> None:
    """Refuse to write into a folder that something is read from.

    Raises
    ------
    OutputError
        A file that is read lies in it.
    """
    target = place.resolve()
    for path in read:
        if path is not None and place.is_dir() and target in path.resolve().parents:
            raise OutputError(f"{place}: holds {path}, which is read; choose another folder")


destination_options = grouped(
    "destination",
    Destination,
    click.option(
        "-o",
        "--output",
        "out",
        type=FILE,
        metavar="DIR",
        required=True,
        help="Folder to write; of many models one folder below it for each.",
    ),
    click.option(
        "--overwrite",
        is_flag=True,
        help="Replace the folder if it exists and holds nothing but a model.",
    ),
)
