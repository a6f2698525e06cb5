"""Options that say how pictures become inputs; what is not given comes from ``preprocess.toml``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import click

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.errors import ModelError
from caffe_scnn.evaluate.arrays import input_shapes
from caffe_scnn.evaluate.classify import only_input
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import CHANNELS, FILE_NAME, Preprocess, Transformer, parse_mean


@dataclass(frozen=True)
class Preprocessing:
    """The settings that were given, and whether to keep them beside the model."""

    given: dict[str, Any]
    save: bool

    def transformer(self, model: ModelFiles, net: Net) -> Transformer:
        """Fit the settings to the net's one input, say so on stderr, and save them if asked."""
        settings = replace(Preprocess.beside(model.folder), **self.given)
        shapes = input_shapes(net)
        name = only_input(tuple(shapes))
        shape = shapes[name]
        if shape is None:
            raise ModelError(f'the prototxt gives the input "{name}" no shape')
        transformer = Transformer(settings, name, shape)
        click.echo(f"preprocessing: {transformer.describe()}", err=True)
        if self.save:
            click.echo(f"saved {settings.save(model.folder)}", err=True)
        return transformer


def _make(save_preprocess: bool, mean: str | None, **values: Any) -> Preprocessing:
    given: dict[str, Any] = {key: value for key, value in values.items() if value is not None}
    if mean is not None:
        given["mean"] = parse_mean(mean)
    return Preprocessing(given, save_preprocess)


preprocessing_options = grouped(
    "preprocessing",
    _make,
    click.option(
        "--mean",
        metavar="FILE|VALUES",
        help="Mean to subtract: values per channel such as 104,117,123, a Caffe binaryproto or a "
        "NumPy npy, channels in the order of --channels [0].",
    ),
    click.option("--scale", type=float, help="Factor after the mean is subtracted [1]."),
    click.option(
        "--resize",
        metavar="N|keep|none",
        help="N: to NxN pixels; keep: the shorter side to the crop, keep:N: to N, proportions "
        "kept; none: as they are [the net's input size; none with --crop].",
    ),
    click.option(
        "--crop",
        type=click.IntRange(min=1),
        metavar="N",
        help="The NxN pixels in the middle [all].",
    ),
    click.option(
        "--channels",
        type=click.Choice(CHANNELS),
        help="Order of the channels [bgr; gray for a net of one channel].",
    ),
    click.option(
        "--save-preprocess",
        is_flag=True,
        help=f"Keep these settings in {FILE_NAME} beside the model.",
    ),
)


@dataclass(frozen=True)
class Scoring:
    """The blob with the class scores, and how many pictures go through the net together."""

    blob: str | None
    batch: int


scoring_options = grouped(
    "scoring",
    Scoring,
    click.option("--blob", help="Blob with the class scores [the net's only output]."),
    click.option(
        "--batch",
        type=click.IntRange(min=1),
        default=8,
        show_default=True,
        help="Pictures that go through the net together.",
    ),
)
