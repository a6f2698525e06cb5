"""``caffe-scnn compress``: a smaller model, written as an ordinary Caffe model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import click

from caffe_scnn import __version__
from caffe_scnn.batch import ModelFiles
from caffe_scnn.calibrate import Calibration
from caffe_scnn.cli.calibrating import Pictures, Sighted, calibrating_options
from caffe_scnn.cli.compression_report import (
    Files,
    compression_report,
    plan_report,
    selection_report,
)
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.models import Models, takes_models
from caffe_scnn.cli.opening import Opening, opening_options, threads_option
from caffe_scnn.cli.preprocessing import Preprocessing, preprocessing_options
from caffe_scnn.cli.progress import progress
from caffe_scnn.cli.wishes import Wishes, wishes_options
from caffe_scnn.cli.writing import RECIPE, Destination, destination_options
from caffe_scnn.decompose import Compression, Journal, Recipe, compress, plan
from caffe_scnn.decompose.carry_out import targets_of
from caffe_scnn.errors import CaffeScnnError
from caffe_scnn.evaluate.arrays import input_shapes, random_inputs
from caffe_scnn.evaluate.benchmark import compare_speed
from caffe_scnn.model.net import Net
from caffe_scnn.report import Report
from caffe_scnn.save import CAFFEMODEL, save


@click.command(
    "compress",
    epilog=examples(
        "caffe-scnn compress deploy.prototxt weights.caffemodel -o sparse --density 0.2",
        "caffe-scnn compress deploy.prototxt weights.caffemodel -o sparse --method obs \\",
        "    --macs 0.5 --images pictures/ --mean 104,117,123 --crop 227",
        "caffe-scnn compress deploy.prototxt weights.caffemodel -o fast --method auto \\",
        "    --max-drop 1% --images pictures/ --list val.txt --mean 104,117,123 --crop 227",
    ),
)
@takes_models(weights=True)
@destination_options
@wishes_options
@calibrating_options
@preprocessing_options
@click.option("--dry-run", is_flag=True, help="Show what would be done to which layer; no writing.")
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
    dry_run: bool,
    repeat: int,
    threads: int | None,
    opening: Opening,
) -> None:
    """Make a model smaller or faster: DIR/deploy.prototxt, weights.caffemodel, recipe.toml.

    What is written is an ordinary Caffe model. Shows for every compressed layer the
    multiply-accumulates on non-zero weights, the non-zeros, errors and measured times, and for the
    model its size, speed, and on images held back how alike both models answer. The resolved recipe
    repeats the result. Interrupted, the same command goes on from what lies in DIR.resume.
    """
    recipe = wishes.resolve()
    if recipe.max_drop is not None and pictures is None:
        raise click.UsageError("--max-drop needs --images, --list or --input to check on")
    _warn(recipe, pictures)

    def action(model: ModelFiles) -> Report:
        place = models.place(destination.out, model)
        net = opening.load(model)
        sighted = None
        if pictures:
            transformer = preprocessing.transformer(model, net)
            checked = recipe.max_drop is not None
            sighted = Sighted(net, pictures, transformer, recipe.seed, threads, checked)
        work = Work(net, recipe, model.name, sighted, threads)
        if dry_run:
            return work.plan()
        with destination.folder(place, model) as folder:
            compression = work.compress(place)
            save(compression.net, folder)
            compression.recipe.write(folder / RECIPE)
            files = Files(place, _size(model.caffemodel), _size(folder / CAFFEMODEL))
            inputs = random_inputs(input_shapes(net), seed=0)
            time = None
            if repeat:
                time = compare_speed(net, compression.net, inputs, threads=threads, repeat=repeat)
            judgements = sighted.judgements(compression.net) if sighted else []
        return compression_report(net, compression, time, files, judgements)

    models.deliver(action)


@dataclass(frozen=True, eq=False)
class Work:
    """One model to compress, and what it is compressed with."""

    net: Net
    recipe: Recipe
    name: str
    sighted: Sighted | None
    threads: int | None

    @property
    def _calibration(self) -> Calibration | None:
        return self.sighted.calibration if self.sighted else None

    def plan(self) -> Report:
        """Say what would be done."""
        if not self.recipe.searched:
            return selection_report(targets_of(self.net, self.recipe))
        with progress(None, self.name) as advance:
            found = plan(
                self.net,
                self.recipe,
                calibration=self._calibration,
                on_layer=lambda at, total, layer: advance(1, total),
                threads=self.threads,
            )
        return plan_report(found)

    def compress(self, place: Path) -> Compression:
        """Do it, and leave what is finished beside ``place`` if it is interrupted."""
        with self._journal(place) as journal, progress(None, self.name) as advance:
            return compress(
                self.net,
                self.recipe,
                calibration=self._calibration,
                check=self.sighted.drop if self.sighted else None,
                on_layer=lambda at, total, layer: advance(1, total),
                journal=journal,
                threads=self.threads,
            )

    @contextmanager
    def _journal(self, place: Path) -> Iterator[Journal]:
        # What goes by weights alone is done again sooner than it is stored.
        slow = self.sighted is not None or self.recipe.searched
        folder = place.with_name(f"{place.name}.resume") if slow else None
        journal = Journal(folder, self._identity() if slow else "")
        if journal.pieces:
            click.echo(f"going on: {journal.pieces} pieces are in {folder}", err=True)
        try:
            yield journal
        except KeyboardInterrupt:
            if journal.pieces:
                click.echo(
                    f"what is finished lies in {folder}: the same command goes on from there",
                    err=True,
                )
            raise
        except CaffeScnnError:
            journal.discard()
            raise
        journal.discard()

    def _identity(self) -> str:
        """Return what the result depends on."""
        digest = sha256(self.net.text().encode())
        for layer in self.net:
            for blob in layer.blobs:
                digest.update(blob.tobytes())
        seen = self.sighted.identity() if self.sighted else "no images"
        parts = (__version__, digest.hexdigest(), self.recipe.text(), seen, str(self.threads))
        return "\n".join(parts)


def _warn(recipe: Recipe, pictures: Pictures | None) -> None:
    goal = recipe.goal_of_all
    if goal.density is None and goal.error is None and not recipe.searched:
        click.echo("warning: no target, --density or --error: nothing is made sparse", err=True)
    methods = {goal.method, *(other.method for other in recipe.overrides.values())}
    if pictures is None and any(method.calibrated for method in methods):
        click.echo(
            "warning: no --images: the method cannot see responses and goes by weights alone, "
            "which costs much more accuracy",
            err=True,
        )


def _size(path: Path | None) -> int:
    return path.stat().st_size if path else 0
