"""``caffe-scnn compress``: a smaller model, written as an ordinary Caffe model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from caffe_scnn.batch import ModelFiles
from caffe_scnn.calibrate import Calibration
from caffe_scnn.cli.calibrating import Judgement, Pictures, calibrating_options
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.method_options import method_options, parameter_names
from caffe_scnn.cli.models import FILE, Models, takes_models
from caffe_scnn.cli.opening import Opening, opening_options, threads_option
from caffe_scnn.cli.preprocessing import Preprocessing, preprocessing_options
from caffe_scnn.cli.progress import progress
from caffe_scnn.cli.writing import Destination, destination_options
from caffe_scnn.decompose import METHODS, Compression, Goal, Recipe, compress, method_type
from caffe_scnn.engine import Executor
from caffe_scnn.evaluate.arrays import input_shapes, random_inputs
from caffe_scnn.evaluate.benchmark import race
from caffe_scnn.layers.summary import summarize
from caffe_scnn.model.net import Net
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import count, megabytes, names, percent, significant
from caffe_scnn.save import CAFFEMODEL, save

RECIPE = "recipe.toml"
COLUMNS = (
    Column("layer"),
    Column("written", "written as", names, left=True),
    Column("macs_before", "MACs", count),
    Column("macs_after", "MACs after", count),
    Column("nonzeros_before", "non-zeros", count),
    Column("nonzeros_after", "non-zeros after", count),
    Column("density", show=percent),
    Column("weight_error", "weight error", significant),
)
RESPONSES = Column("response_error", "response error", significant)


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line; None where it was not."""

    recipe: Path | None
    method: str | None
    density: float | None
    error: float | None
    macs: float | None
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
        if self.macs is not None:
            changes["macs"] = self.macs
        elif self.density is not None or self.error is not None:
            changes["macs"] = None
        return replace(base, **changes)

    def _goal(self, base: Goal) -> Goal:
        kind = method_type(self.method) if self.method else type(base.method)
        foreign = [name for name in self.parameters if name not in parameter_names(kind)]
        if foreign:
            raise click.UsageError(f"--{foreign[0]} is no parameter of the method {kind.name}")
        method = kind(**self.parameters)
        if isinstance(base.method, kind):
            method = replace(base.method, **self.parameters)  # type: ignore[type-var]
        if self.macs is not None and self.density is None and self.error is None:
            return Goal(method)
        if self.density is None and self.error is None:
            return replace(base, method=method)
        return Goal(method, self.density, self.error)


def _wishes(**values: Any) -> Wishes:
    own = ("recipe", "method", "density", "error", "macs", "across_layers", "layers", "seed")
    parameters = {k: v for k, v in values.items() if k not in own and v is not None}
    return Wishes(**{name: values[name] for name in own}, parameters=parameters)


@click.command(
    "compress",
    epilog=examples(
        "caffe-scnn compress deploy.prototxt weights.caffemodel -o sparse --density 0.2",
        "caffe-scnn compress deploy.prototxt weights.caffemodel -o sparse --method magnitude \\",
        "    --density 0.1 --global --layers 'conv*'",
        "caffe-scnn compress deploy.prototxt weights.caffemodel -o sparse --method obs \\",
        "    --macs 0.5 --images pictures/ --mean 104,117,123 --crop 227",
    ),
)
@takes_models(weights=True)
@destination_options
@grouped(
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
        help="Instead: largest relative error of each compressed layer, of its weights or (obs) "
        "of its responses.",
    ),
    click.option(
        "--macs",
        type=float,
        metavar="FRACTION",
        help="Instead: multiply-accumulates on non-zero weights of the whole net, as a fraction "
        "of what they are; the layers' densities are found.",
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
@calibrating_options
@preprocessing_options
@click.option(
    "--repeat",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Timed passes of both models; 0: no timing.",
)
@threads_option
@opening_options
def command(
    models: Models,
    destination: Destination,
    wishes: Wishes,
    pictures: Pictures | None,
    preprocessing: Preprocessing,
    repeat: int,
    threads: int | None,
    opening: Opening,
) -> None:
    """Make a model's weights sparse: DIR/deploy.prototxt, weights.caffemodel, recipe.toml.

    What is written is an ordinary Caffe model. Shows for every compressed layer the
    multiply-accumulates on non-zero weights, the non-zeros and the relative weight error, and the
    measured time of a forward pass of both models. The resolved recipe repeats the result.
    """
    recipe = wishes.resolve()
    _warn(recipe, pictures)

    def action(model: ModelFiles) -> Report:
        place = models.place(destination.out, model)
        with destination.folder(place, model) as folder:
            net = opening.load(model)
            transformer = preprocessing.transformer(model, net) if pictures else None
            calibration = None
            if pictures and transformer:
                calibration = pictures.calibration(transformer, recipe.seed, threads)
            compression = _compress(net, recipe, model.name, calibration)
            save(compression.net, folder)
            compression.recipe.write(folder / RECIPE)
            files = Files(place, _size(model.caffemodel), _size(folder / CAFFEMODEL))
            time = _race(net, compression.net, threads, repeat) if repeat else None
            judgement = None
            if pictures and transformer:
                judgement = pictures.judge(net, compression.net, transformer, threads)
        return compression_report(net, compression, time, files, judgement)

    models.deliver(action)


def _warn(recipe: Recipe, pictures: Pictures | None) -> None:
    goal = recipe.goal_of_all
    if goal.density is None and goal.error is None and recipe.macs is None:
        click.echo("warning: no --density and no --error: nothing is made sparse", err=True)
    methods = {goal.method, *(other.method for other in recipe.overrides.values())}
    if pictures is None and any(method.calibrated for method in methods):
        click.echo(
            "warning: no --images: the method cannot see responses and goes by weights alone, "
            "which costs much more accuracy",
            err=True,
        )


@dataclass(frozen=True)
class Files:
    """Where the model was written, and the size of its caffemodel in bytes before and after."""

    folder: Path
    size_before: int
    size_after: int


def _size(path: Path | None) -> int:
    return path.stat().st_size if path else 0


def _compress(net: Net, recipe: Recipe, name: str, calibration: Calibration | None) -> Compression:
    with progress(None, name) as advance:
        return compress(
            net,
            recipe,
            calibration=calibration,
            on_layer=lambda at, total, layer: advance(1, total),
        )


def _race(before: Net, after: Net, threads: int | None, repeat: int) -> dict[str, float]:
    """Measure both nets in turns on the same random input."""
    executors = {
        "before": Executor(before, threads=threads),
        "after": Executor(after, threads=threads),
    }
    inputs = random_inputs(input_shapes(before), seed=0)
    times = {name: timing.median_ms for name, timing in race(executors, inputs, repeat).items()}
    return {
        "before_ms": times["before"],
        "after_ms": times["after"],
        "ratio": times["before"] / times["after"],
        "threads": executors["after"].threads,
    }


def compression_report(
    net: Net,
    compression: Compression,
    time: dict[str, float] | None,
    files: Files,
    judgement: Judgement | None = None,
) -> Report:
    """Make the report: before and after for every layer, the whole net, the files, the time."""
    before, after = summarize(net).total, summarize(compression.net).total
    total = _row(
        "whole net", before.nonzero_macs, after.nonzero_macs, before.nonzeros, after.nonzeros
    )
    rows = [
        {
            **_row(
                report.layer,
                report.before.macs,
                report.after.macs,
                report.before.nonzeros,
                report.after.nonzeros,
            ),
            "written": report.written,
            "density": report.density,
            "weight_error": report.weight_error,
            "response_error": report.response_error,
        }
        for report in compression.reports
    ]
    said = [
        "MACs on non-zero weights; density: non-zeros written over the layer's original weights; "
        "the whole net's non-zeros include biases.",
        f"{CAFFEMODEL}: {megabytes(files.size_after)}, before {megabytes(files.size_before)}. "
        "Caffe stores zeros like any number: a sparse model is not smaller on disk.",
    ]
    if time:
        said.append(
            f"time of one forward pass, {time['threads']} threads, medians in turns: "
            f"{time['before_ms']:.3f} ms before, {time['after_ms']:.3f} ms after, "
            f"{time['ratio']:.2f}x as fast"
        )
    if judgement:
        said.append(judgement.text())
    said.append(f"wrote {files.folder}")
    data = {
        "layers": [report.as_dict() for report in compression.reports],
        "total": total,
        "time": time,
        "held_back": asdict(judgement) if judgement else None,
        "caffemodel_bytes": {"before": files.size_before, "after": files.size_after},
        "output": files.folder,
    }
    looked = any(report.response_error is not None for report in compression.reports)
    columns = (*COLUMNS, RESPONSES) if looked else COLUMNS
    return Report(data, (Table(columns, rows, total), "\n".join(said)))


def _row(
    name: str, macs: int, macs_after: int, nonzeros: int, nonzeros_after: int
) -> dict[str, Any]:
    return {
        "layer": name,
        "macs_before": macs,
        "macs_after": macs_after,
        "nonzeros_before": nonzeros,
        "nonzeros_after": nonzeros_after,
    }
