"""What to do to a model, from the command line and a recipe file: the options of ``compress``."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

import click

from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.method_options import method_options, parameter_names
from caffe_scnn.cli.models import FILE
from caffe_scnn.decompose import METHODS, Goal, Recipe, method_type
from caffe_scnn.decompose.costs import Resource
from caffe_scnn.decompose.recipe import TARGETS, bytes_of
from caffe_scnn.errors import CaffeScnnError


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line; None where it was not."""

    recipe: Path | None
    method: str | None
    density: float | None
    error: float | None
    macs: float | None
    speedup: float | None
    size: int | None
    max_drop: float | None
    spare: Resource | None
    across_layers: bool | None
    layers: tuple[str, ...]
    seed: int | None
    parameters: dict[str, Any]

    def resolve(self) -> Recipe:
        """Return the recipe of the file (or the default one) with the wishes put in."""
        base = Recipe.read(self.recipe) if self.recipe else Recipe()
        changes: dict[str, Any] = {"goal_of_all": self._goal(base.goal_of_all)}
        if self.layers:
            changes["layers"] = self.layers
        if self.across_layers is not None:
            changes["across_layers"] = self.across_layers
        if self.seed is not None:
            changes["seed"] = self.seed
        if self.spare is not None:
            if self.max_drop is None and base.max_drop is None:
                raise click.UsageError("--spare says what --max-drop makes small: give that, too")
            changes["spare"] = self.spare
        if self._targets or self.density is not None or self.error is not None:
            changes |= {**dict.fromkeys(TARGETS), **self._targets}
        return replace(base, **changes)

    @property
    def _targets(self) -> dict[str, Any]:
        """What the whole net is to reach."""
        given = {name: getattr(self, name) for name in TARGETS}
        return {name: value for name, value in given.items() if value is not None}

    def _goal(self, base: Goal) -> Goal:
        kind = method_type(self.method) if self.method else type(base.method)
        foreign = [name for name in self.parameters if name not in parameter_names(kind)]
        if foreign:
            raise click.UsageError(f"--{foreign[0]} is no parameter of the method {kind.name}")
        method = kind(**self.parameters)
        if isinstance(base.method, kind):
            method = replace(base.method, **self.parameters)  # type: ignore[type-var]
        if self._targets and self.density is None and self.error is None:
            return Goal(method)
        if self.density is None and self.error is None:
            return replace(base, method=method)
        return Goal(method, self.density, self.error)


def _wishes(**values: Any) -> Wishes:
    own = [field.name for field in fields(Wishes) if field.name != "parameters"]
    parameters = {k: v for k, v in values.items() if k not in own and v is not None}
    return Wishes(**{name: values[name] for name in own}, parameters=parameters)


class _Bytes(click.ParamType[int]):
    """``10MB``."""

    name = "BYTES"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> int:
        """Read a number and a unit."""
        try:
            return bytes_of(str(value))
        except CaffeScnnError as error:
            self.fail(str(error), param, context)


class _Points(click.ParamType[float]):
    """``1%``, ``1`` or ``0.5%``: percent points."""

    name = "POINTS"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Read a number with or without a percent sign."""
        try:
            return float(str(value).strip().removesuffix("%"))
        except ValueError:
            self.fail(f"{value!r} is not a number of percent points, as in 1%", param, context)


wishes_options = grouped(
    "wishes",
    _wishes,
    click.option(
        "--recipe",
        type=FILE,
        metavar="FILE.toml",
        help="What to do, as a file; options given here go before it.",
    ),
    click.option(
        "--method",
        type=click.Choice([method.name for method in METHODS]),
        help=f"How [{METHODS[0].name}].",
    ),
    click.option(
        "--density",
        type=float,
        help="Non-zeros written, over the original weights of each compressed layer.",
    ),
    click.option(
        "--error",
        type=float,
        help="Instead: largest relative error that each layer is fitted to, of its weights, or "
        "with images of its responses; on the inputs it gets in the end it may be larger.",
    ),
    click.option(
        "--macs",
        type=float,
        metavar="FRACTION",
        help="Instead, for the whole net: multiply-accumulates on non-zero weights, as a fraction "
        "of what they are. What every layer becomes is found, here and below.",
    ),
    click.option(
        "--speedup",
        type=float,
        metavar="TIMES",
        help="Or: how many times as fast it is to be, measured on this machine.",
    ),
    click.option(
        "--size",
        type=_Bytes(),
        help="Or: bytes of its blobs where zeros cost one bit each, as 10MB or 500kB.",
    ),
    click.option(
        "--max-drop",
        type=_Points(),
        help="Or: points of top-1 that may be lost on some of the images, as 1%; without labels "
        "points of agreement with the original. As fast as this allows.",
    ),
    click.option(
        "--spare",
        type=click.Choice(get_args(Resource)),
        help="What --max-drop makes small [time].",
    ),
    click.option(
        "--global/--per-layer",
        "across_layers",
        default=None,
        help="Is the density that of all compressed layers together? [--per-layer]",
    ),
    click.option(
        "--layers",
        multiple=True,
        metavar="GLOB",
        help="Layers to compress; may be repeated [all convolutions but the first and "
        "the depthwise ones].",
    ),
    click.option("--seed", type=click.IntRange(min=0), help="Seed of every random choice [0]."),
    *method_options(),
)
