"""How a model is opened: phase, level, stages, and whether weights may be missing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import click

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.errors import ModelError
from caffe_scnn.layers.base import Shape
from caffe_scnn.layers.binding import IGNORED
from caffe_scnn.loading import check_wiring, load_weights
from caffe_scnn.model.net import Net
from caffe_scnn.passes.select_phase import select_phase


@dataclass(frozen=True)
class Opening:
    """Options of opening a model; None and empty mean Caffe's defaults: TEST, 0, no stage."""

    phase: str | None = None
    level: int | None = None
    stages: tuple[str, ...] = ()
    allow_missing: bool = False
    shapes: tuple[tuple[str, Shape], ...] = ()

    def load(self, model: ModelFiles) -> Net:
        """Read the files of a model, select the phase and bind the weights."""
        return self.complete(model, self.layers(model))

    def layers(self, model: ModelFiles) -> Net:
        """Read the layers of a model's prototxt; nothing is checked."""
        if model.prototxt is None:
            raise ModelError(f"{model.name}: there is no prototxt")
        net = Net.read(model.prototxt)
        net = select_phase(net, self.phase or "TEST", self.level or 0, self.stages)
        net.input_shapes.update(dict(self.shapes))
        return net

    def complete(self, model: ModelFiles, net: Net) -> Net:
        """Check the layers of a model, and bind the weights."""
        check_wiring(net, model.prototxt or "", self.phase or "TEST")
        found = load_weights(net, model.caffemodel, allow_missing=self.allow_missing)
        extra = dict.fromkeys(row.layer for row in found.with_status(IGNORED))
        if extra:
            said = f"weights of {len(extra)} layers that are not in the net are left out"
            click.echo(f"{model.caffemodel}: {said} ({', '.join(list(extra)[:5])})", err=True)
        return net

    def or_else(self, phase: str | None, level: int | None, stages: tuple[str, ...]) -> Opening:
        """Take over what was not given here."""
        return replace(
            self,
            phase=self.phase or phase,
            level=level if self.level is None else self.level,
            stages=self.stages or stages,
        )


def _make(
    stage: tuple[str, ...], input_shape: tuple[tuple[str, Shape], ...], **values: Any
) -> Opening:
    return Opening(stages=stage, shapes=input_shape, **values)


class _NamedShape(click.ParamType[tuple[str, Shape]]):
    """``data=1,3,224,224``."""

    name = "NAME=N,C,H,W"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> tuple[str, Shape]:
        """Split; names may hold anything but line ends."""
        name, _, sizes = str(value).rpartition("=")
        if not name or not all(size.strip().isdecimal() for size in sizes.split(",")):
            self.fail(f"{value!r} is not a name, =, and sizes with commas", param, context)
        return name, tuple(int(size) for size in sizes.split(","))


opening_options = grouped(
    "opening",
    _make,
    click.option(
        "--phase",
        type=click.Choice(["TRAIN", "TEST"], case_sensitive=False),
        help="Phase whose layers are kept [TEST].",
    ),
    click.option("--level", type=int, help="Level of the net state [0]."),
    click.option("--stage", multiple=True, help="Stage of the net state; may be repeated."),
    click.option(
        "--allow-missing",
        is_flag=True,
        help="Fill missing weights with their constant fillers instead of refusing.",
    ),
    click.option(
        "--input-shape",
        type=_NamedShape(),
        multiple=True,
        help="Shape of an input, where the prototxt gives none or another; may be repeated.",
    ),
)

threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads [the processors this process may use; 1 for nets of less than 0.2 ms].",
)
tune_option = click.option(
    "--tune",
    is_flag=True,
    help="Time the kernels of each convolution instead of predicting the fastest; remembered.",
)
exact_option = click.option(
    "--exact",
    is_flag=True,
    help="Add up every product as Caffe does: no Winograd form of dense 3x3 convolutions, and no "
    "products of 16-bit parts (AMX).",
)
bf16x3_option = click.option(
    "--bf16x3",
    is_flag=True,
    help="With AMX: products of dense convolutions may be 2^-15 off (2^-18 on average), for half "
    "the time.",
)
codegen_option = click.option(
    "--codegen",
    is_flag=True,
    help="Try a program made for the zeros of each sparse convolution, too; needs a C compiler.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of every random number.",
)
