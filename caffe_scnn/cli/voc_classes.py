"""The option ``--classes`` of commands that work on VOC's, or someone's own, classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from caffe_scnn.evaluate.labels import read_class_names
from caffe_scnn.evaluate.voc import VOC_CLASSES
from caffe_scnn.evaluate.voc.classes import same_class


def _parse(context: click.Context, parameter: click.Parameter, text: str | None) -> Sequence[str]:
    if text is None:
        return VOC_CLASSES
    names = read_class_names(Path(text)) if Path(text).is_file() else text.split(",")
    names = [name.strip() for name in names if name.strip()]
    if not names or len({same_class(name) for name in names}) < len(names):
        raise click.BadParameter(f'"{text}" names no class, or one twice')
    return names


classes_option = click.option(
    "--classes",
    callback=_parse,
    metavar="NAMES",
    help="Comma-separated names, or a file with one a line [VOC's 20].",
)
