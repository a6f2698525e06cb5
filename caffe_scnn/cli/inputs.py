"""Where the numbers come from that a net is fed with: a file or a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from caffe_scnn.cli.grouped import Decorator, grouped
from caffe_scnn.cli.models import FILE
from caffe_scnn.cli.opening import seed_option
from caffe_scnn.evaluate.arrays import Values, input_shapes, pick_inputs, random_inputs, read_arrays
from caffe_scnn.model.net import Net


@dataclass(frozen=True)
class Source:
    """A file of arrays, or random values made from a seed."""

    path: Path | None
    seed: int
    batch: int | None

    def inputs(self, net: Net) -> dict[str, Values]:
        """Return one array for each input of a net."""
        wanted = input_shapes(net)
        if self.path is None:
            return random_inputs(wanted, self.seed, self.batch)
        return pick_inputs(read_arrays(self.path), wanted, str(self.path))


def _make(
    input_path: Path | None, seed: int, batch: int | None, random_input: bool | None = None
) -> Source:
    if input_path is not None and (random_input or batch):
        raise click.UsageError("--input brings its own values: no --random-input or --batch")
    if input_path is None and random_input is False:
        raise click.UsageError("give --input FILE, or --random-input")
    return Source(input_path, seed, batch)


def source_options(*, explicit: bool) -> Decorator:
    """Let a command take ``--input`` or random values.

    Parameters
    ----------
    explicit : bool
        Must random values be asked for with ``--random-input``?
    """
    asked = click.option("--random-input", is_flag=True, help="Feed normally distributed values.")
    return grouped(
        "source",
        _make,
        click.option(
            "--input",
            "input_path",
            type=FILE,
            metavar="FILE",
            help="npz with an array for each input (blob or in/blob), or an npy for a net of one.",
        ),
        *((asked,) if explicit else ()),
        click.option("--batch", type=click.IntRange(min=1), help="Batch size of random values."),
        seed_option,
    )
