"""The folder a rewritten model goes to."""

from __future__ import annotations

from collections.abc import Iterator
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
        self._keep(place, model)
        with output_directory(place, self.overwrite, OURS) as folder:
            if (model.folder / FILE_NAME).exists():
                settings = Preprocess.beside(model.folder)
                (folder / FILE_NAME).write_text(settings.text(place), encoding="utf-8")
            yield folder

    def _keep(self, place: Path, model: ModelFiles) -> None:
        """Refuse to replace the folder that a model is read from."""
        target = place.resolve()
        for path in (model.prototxt, model.caffemodel):
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
        help="Folder to write; with --models one folder below it for each model.",
    ),
    click.option(
        "--overwrite",
        is_flag=True,
        help="Replace the folder if it exists and holds nothing but a model.",
    ),
)
