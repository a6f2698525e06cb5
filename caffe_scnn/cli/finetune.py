"""``caffe-scnn finetune``: trains a model with PyTorch, and writes an ordinary Caffe model."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np

from caffe_scnn.batch import ModelFiles
from caffe_scnn.calibrate.agreement import Agreement, agreement, answer
from caffe_scnn.cli.finetune_progress import Follower
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.models import FILE, Models, takes_models
from caffe_scnn.cli.opening import Opening, opening_options, threads_option
from caffe_scnn.cli.preprocessing import Preprocessing, preprocessing_options
from caffe_scnn.cli.writing import RECIPE, keep_inputs
from caffe_scnn.engine import Executor, FlushToZero
from caffe_scnn.errors import CaffeScnnError, OutputError
from caffe_scnn.layers.summary import summarize
from caffe_scnn.loading import load
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Preprocess, Transformer
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import count, significant
from caffe_scnn.report.plot import Plot, Series, write_plot
from caffe_scnn.save import CAFFEMODEL, save

if TYPE_CHECKING:
    from caffe_scnn.finetune.data import Source
    from caffe_scnn.finetune.recipe import FinetuneRecipe
    from caffe_scnn.finetune.team import Team
    from caffe_scnn.finetune.trainer import Trainer

CURVES = "curves.svg"
EVERY = 10  # of so many images the last one is held back
SHOWN = 8  # rows of the log that the report shows


@dataclass(frozen=True)
class Sources:
    """Where images are."""

    data: Path
    root: Path | None
    held_back: Path | None
    workers: int

    def open(self, transformer: Transformer) -> tuple[Source, Source | None]:
        """Return images to train on, and those that are held back."""
        from caffe_scnn.finetune.data import Part, open_source

        source = open_source(self.data, transformer, self.root)
        if self.held_back is not None:
            return source, open_source(self.held_back, transformer, self.root)
        index = np.arange(len(source))
        held = index % EVERY == EVERY - 1
        if not held.any():
            return source, None
        return Part(source, index[~held]), Part(source, index[held])


@dataclass(frozen=True)
class Place:
    """The folder of a training, and whether it goes on there or begins anew."""

    out: Path
    resume: bool
    overwrite: bool

    def check(self, folder: Path) -> None:
        """Refuse a folder that holds something else.

        Raises
        ------
        OutputError
            It is not empty and nothing says what to do, or there is nothing to go on from.
        """
        from caffe_scnn.finetune.checkpoint import FILE_NAME

        if self.resume and not (folder / FILE_NAME).is_file():
            if (folder / CAFFEMODEL).is_file():
                raise OutputError(f"{folder}: the training in it has come to its end already")
            raise OutputError(
                f"{folder}: there is no {FILE_NAME} to go on from; leave --resume out"
            )
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: exists and is not a folder; choose another name")
        if folder.is_dir() and any(folder.iterdir()) and not (self.resume or self.overwrite):
            on = "--resume goes on with the training in it, " * (folder / FILE_NAME).is_file()
            raise OutputError(f"{folder}: the folder is not empty; {on}--overwrite begins anew")


@click.command(
    "finetune",
    epilog=examples(
        "caffe-scnn finetune sparse/deploy.prototxt sparse/weights.caffemodel -o trained \\",
        "    --teacher deploy.prototxt --teacher-weights weights.caffemodel \\",
        "    --data pictures/ --mean 104,117,123 --crop 227",
        "caffe-scnn finetune deploy.prototxt weights.caffemodel -o trained \\",
        "    --recipe gradual.toml --data train.txt --root pictures/",
        "torchrun --nproc-per-node 4 -m caffe_scnn finetune ...",
    ),
)
@takes_models(weights=True)
@grouped(
    "place",
    Place,
    click.option(
        "-o",
        "--output",
        "out",
        type=FILE,
        metavar="DIR",
        required=True,
        help="Folder of the training and, in the end, of the model; with --models one folder "
        "below it for each model.",
    ),
    click.option("--resume", is_flag=True, help="Go on with the training in that folder."),
    click.option("--overwrite", is_flag=True, help="Begin anew in a folder that is not empty."),
)
@click.option(
    "--recipe", type=FILE, metavar="FILE.toml", help="How to train [keep zeros, 10 epochs]."
)
@grouped(
    "sources",
    Sources,
    click.option(
        "--data",
        type=FILE,
        metavar="PATH",
        required=True,
        help="Images: a folder of pictures; a list, name, blank, class a line; npz with x, pixels "
        "(N, C, H, W), and perhaps y, classes; an LMDB or LevelDB of Caffe.",
    ),
    click.option("--root", type=FILE, metavar="DIR", help="Where the names of a list start."),
    click.option(
        "--held-back",
        type=FILE,
        metavar="PATH",
        help="Images to judge by, in the same forms [every tenth of --data].",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=0),
        default=2,
        show_default=True,
        help="Threads that prepare images.",
    ),
)
@click.option(
    "--teacher", type=FILE, metavar="PROTOTXT", help="Net to answer like [the given one]."
)
@click.option("--teacher-weights", type=FILE, metavar="CAFFEMODEL", help="Its weights.")
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto: a GPU if there is one.",
)
@preprocessing_options
@threads_option
@opening_options
def command(
    models: Models,
    place: Place,
    recipe: Path | None,
    sources: Sources,
    teacher: Path | None,
    teacher_weights: Path | None,
    device: Literal["auto", "cpu", "cuda"],
    preprocessing: Preprocessing,
    threads: int | None,
    opening: Opening,
) -> None:
    """Train a model, and write DIR/deploy.prototxt and weights.caffemodel.

    With labels it learns them; without, it learns to answer as the teacher does. Weights that are
    zero stay zero, unless the recipe's method says otherwise. DIR holds checkpoint.pt while the
    training runs: Ctrl-C ends it after a step, --resume goes on as if nothing had been. log.csv and
    curves.svg show its course; train_val.prototxt and solver.prototxt are for training in Caffe.
    """
    if (teacher is None) != (teacher_weights is None):
        raise click.UsageError("give --teacher and --teacher-weights together")
    _require_torch()
    from caffe_scnn.finetune.recipe import FinetuneRecipe
    from caffe_scnn.finetune.team import join_team

    wishes = FinetuneRecipe.read(recipe) if recipe else FinetuneRecipe()
    guide = load(teacher, teacher_weights) if teacher and teacher_weights else None

    with join_team(device) as team, _threads(threads), FlushToZero(1), _quiet(not team.leads):

        def action(model: ModelFiles) -> Report:
            guided = teacher, teacher_weights
            net = opening.load(model)
            work = Work(model, net, wishes, guide, guided, sources, place, team)
            return work.run(models.place(place.out, model), preprocessing, threads)

        models.deliver(action)


@dataclass(frozen=True, eq=False)
class Work:
    """The training of one model; ``guided``: the files of the teacher."""

    model: ModelFiles
    net: Net
    recipe: FinetuneRecipe
    teacher: Net | None
    guided: tuple[Path | None, Path | None]
    sources: Sources
    place: Place
    team: Team

    def run(self, folder: Path, preprocessing: Preprocessing, threads: int | None) -> Report:
        """Train, write, and say what came of it."""
        from caffe_scnn.finetune.checkpoint import FILE_NAME

        if self.team.leads:
            keep_inputs(folder, (self.model.prototxt, self.model.caffemodel, *self.guided))
            self.place.check(folder)
        transformer = preprocessing.transformer(self.model, self.net)
        settings = replace(Preprocess.beside(self.model.folder), **preprocessing.given)
        trainer, held_back = self._trainer(transformer)
        checkpoint = folder / FILE_NAME
        if self.place.resume:
            trainer.resume(checkpoint)
        if self.team.leads:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(folder / RECIPE) as file:
                file.write(self.recipe.text().encode())
        try:
            with _interruptions() as interrupted, Follower(self.team.leads) as follower:
                done = trainer.run(checkpoint, follower.follow, interrupted)
        except (CaffeScnnError, OSError):
            if self.team.leads and not checkpoint.exists():  # nothing to go on from
                (folder / RECIPE).unlink(missing_ok=True)
                with suppress(OSError):  # it holds more
                    folder.rmdir()
            raise
        if not done:
            raise KeyboardInterrupt
        result = trainer.result()
        if self.team.leads:
            self._write(folder, trainer, result, settings, transformer)
            checkpoint.unlink(missing_ok=True)
        judged = None
        if held_back is not None and self.team.leads:
            judged = self._judge(result, held_back, transformer, threads)
        return _report(self.net, result, trainer, folder, judged)

    def _trainer(self, transformer: Transformer) -> tuple[Trainer, Source | None]:
        from caffe_scnn.finetune.trainer import Data, Trainer

        training, held_back = self.sources.open(transformer)
        data = Data(training, transformer, held_back, self.sources.workers)
        trainer = Trainer(self.net, self.recipe, data, teacher=self.teacher, team=self.team)
        return trainer, held_back

    def _write(
        self,
        folder: Path,
        trainer: Trainer,
        result: Net,
        settings: Preprocess,
        transformer: Transformer,
    ) -> None:
        from caffe_scnn.finetune.caffe_files import Images, write_caffe_files
        from caffe_scnn.finetune.log import FILE_NAME

        save(result, folder)
        settings.save(folder)
        trainer.log.write(folder / FILE_NAME)
        curves = plots(trainer.log.rows)
        if curves:
            write_plot(folder / CURVES, *curves)
        images = Images.of(self.sources.data, self.sources.root, trainer.images)
        write_caffe_files(folder, result, self.recipe, settings, transformer, images)

    def _judge(
        self, result: Net, held_back: Source, transformer: Transformer, threads: int | None
    ) -> tuple[Agreement, list[float] | None]:
        """Compare both nets, run by the engine, on the images held back."""
        from caffe_scnn.finetune.data import Loader

        original = self.teacher or self.net
        blob, softmax = answer(original)
        executors = [Executor(net, threads=threads) for net in (original, result)]
        found: list[list[Any]] = [[], []]
        for values, _ in Loader(held_back, transformer, self.recipe.train.batch).epoch(0):
            for executor, answers in zip(executors, found, strict=True):
                answers.append(executor.run({executor.inputs[0]: values}, [blob])[blob])
        before, after = (np.concatenate(answers) for answers in found)
        right = None
        if held_back.labels is not None:
            right = [
                100 * float((s.reshape(len(s), -1).argmax(axis=1) == held_back.labels).mean())
                for s in (before, after)
            ]
        return agreement(before, after, softmax), right


def plots(rows: list[dict[str, float]]) -> list[Plot]:
    """Return the curves of a training: losses, percents, the share of non-zeros."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    losses = [name for name in names if "loss" in name or name == "penalty"]
    percents = [name for name in names if name.endswith(("agreement", "top1"))]
    rest = [name for name in names if name not in (*losses, *percents, "step")]
    groups = (("loss", losses, True), ("percent", percents, False), ("other", rest, False))
    return [
        Plot(
            [_series(rows, name) for name in chosen],
            "step",
            label if len(chosen) > 1 else chosen[0].replace("_", " "),
            log_y=logarithmic,
        )
        for label, chosen, logarithmic in groups
        if chosen
    ]


def _series(rows: list[dict[str, float]], name: str) -> Series:
    there = [row for row in rows if name in row]
    return Series(name.replace("_", " "), [r["step"] for r in there], [r[name] for r in there])


def _report(
    before: Net,
    after: Net,
    trainer: Trainer,
    folder: Path,
    judged: tuple[Agreement, list[float] | None] | None,
) -> Report:
    rows = trainer.log.rows
    every = max(1, -(-len(rows) // SHOWN))
    last = len(rows) - 1
    shown = [
        {**row, "step": int(row["step"])}
        for i, row in enumerate(rows)
        if i % every == 0 or i == last
    ]
    columns = tuple(
        Column(name, name.replace("_", " "), count if name == "step" else significant)
        for name in trainer.log.columns()
    )
    sizes = [summarize(net).total for net in (before, after)]
    said = [
        f"{trainer.step} of {trainer.total} steps; non-zeros {sizes[0].nonzeros:,} before, "
        f"{sizes[1].nonzeros:,} after; multiply-accumulates on non-zero weights "
        f"{sizes[0].nonzero_macs:,} before, {sizes[1].nonzero_macs:,} after"
    ]
    held: dict[str, Any] | None = None
    if judged is not None:
        found, right = judged
        held = {**asdict(found), "top1": right}
        said.append(
            f"run by the engine on {found.images} images held back: same first class as the "
            f"teacher on {found.same_top1:.2f} %"
            + ("" if right is None else "; top-1 {:.2f} % teacher, {:.2f} % trained".format(*right))
        )
    said.append(f"wrote {folder}")
    data = {
        "steps": trainer.step,
        "planned": trainer.total,
        "log": rows,
        "nonzeros": [size.nonzeros for size in sizes],
        "nonzero_macs": [size.nonzero_macs for size in sizes],
        "held_back": held,
        "output": folder,
    }
    return Report(data, (Table(columns, shown), "\n".join(said)))


@contextmanager
def _interruptions() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C end a training after its step; a second one ends it at once."""
    asked: list[int] = []

    def remember(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # the stream itself may be in the middle of a write, which this handler interrupted
        os.write(2, b"ending after this step; --resume goes on from there\n")

    before = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Keep reports to the process that leads; errors are heard from all."""
    if not wanted:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _require_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise CaffeScnnError(
            "fine-tuning needs PyTorch: pip install 'caffe-scnn[train]'"
        ) from error
