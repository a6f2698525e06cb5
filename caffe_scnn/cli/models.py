"""The model a command works on, or the many models of ``--models``; printing and exit codes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from caffe_scnn.batch import ModelFiles, Outcome, Status, find_models, run_all, summarize
from caffe_scnn.cli.grouped import Decorator, grouped
from caffe_scnn.errors import ModelError
from caffe_scnn.report import Report

FILE = click.Path(path_type=Path)


@dataclass(frozen=True)
class Output:
    """The form of what is printed."""

    json: bool
    markdown: bool

    def show(self, report: Report) -> None:
        """Print a report on stdout."""
        if self.json:
            click.echo(report.json())
        else:
            click.echo(report.markdown() if self.markdown else report.text())


@dataclass(frozen=True)
class Models:
    """One model, or all that match a pattern.

    Attributes
    ----------
    one : ModelFiles, optional
        None when ``pattern`` is given.
    pattern : str, optional
        Of ``--models``.
    keep_going : bool
    needs_weights : bool
        Is a prototxt without a caffemodel an error?
    output : Output
    """

    one: ModelFiles | None
    pattern: str | None
    keep_going: bool
    needs_weights: bool
    output: Output

    def deliver(self, action: Callable[[ModelFiles], Report]) -> None:
        """Do it for each model, print what was found, and leave with the exit code."""
        context = click.get_current_context()
        if self.one is not None:
            report = action(self.one)
            self.output.show(report)
            context.exit(0 if report.passed else 1)
        outcomes = self._run_all(action)
        self.output.show(summarize(outcomes))
        context.exit(_exit_code(outcomes))

    def place(self, out: Path, model: ModelFiles, suffix: str = "") -> Path:
        """Where a model's output goes: ``out`` itself, or with ``--models`` a name below it."""
        return out if self.one is not None else out / f"{model.name}{suffix}"

    def _run_all(self, action: Callable[[ModelFiles], Report]) -> list[Outcome]:
        def checked(model: ModelFiles) -> Report:
            if model.problem is not None:
                raise ModelError(model.problem)
            if self.needs_weights and model.caffemodel is None:
                raise ModelError(f"{model.prototxt}: found no caffemodel beside it")
            return action(model)

        models = find_models(self.pattern or "")
        outcomes = []
        for outcome in run_all(models, checked, keep_going=self.keep_going):
            outcomes.append(outcome)
            self._follow(outcome, f"{len(outcomes)}/{len(models)}")
        return outcomes

    def _follow(self, outcome: Outcome, place: str) -> None:
        """Print what one model gave, and its status line."""
        if outcome.report and not self.output.json:
            click.echo(f"# {outcome.model.name}\n")
            self.output.show(outcome.report)
            click.echo()
        said = outcome.error or f"{outcome.seconds:.1f} s"
        click.echo(f"[{place}] {outcome.model.name}: {outcome.status.value} ({said})", err=True)


def takes_models(*, weights: bool) -> Decorator:
    """Let a command take ``PROTOTXT [CAFFEMODEL]`` or ``--models GLOB``, and ``--json``.

    Parameters
    ----------
    weights : bool
        Is the caffemodel required?
    """

    def make(prototxt: Path | None, caffemodel: Path | None, **rest: Any) -> Models:
        files = [path for path in (prototxt, caffemodel) if path is not None]
        return make_models(files, weights=weights, **rest)

    return grouped(
        "models",
        make,
        click.argument("prototxt", type=FILE, required=False),
        click.argument("caffemodel", type=FILE, required=False),
        *MANY,
        *FORMATS,
    )


def make_models(
    files: Sequence[Path],
    *,
    models: str | None,
    keep_going: bool,
    as_json: bool,
    as_markdown: bool,
    weights: bool,
) -> Models:
    """Check that there are the files of one model or a pattern, not both and not neither."""
    if models is not None and files:
        raise click.UsageError("give either files or --models, not both")
    if models is None and not files:
        raise click.UsageError("give a PROTOTXT, or --models 'GLOB'")
    if models is None and weights and len(files) < 2:
        raise click.UsageError("give the CAFFEMODEL too: this command needs weights")
    one = ModelFiles.of(*files) if files else None
    return Models(one, models, keep_going, weights, Output(as_json, as_markdown))


MANY = (
    click.option(
        "--models",
        metavar="GLOB",
        help="Do it for every prototxt that matches, each with the caffemodel found beside it; a "
        "folder stands for the prototxts in it, but for solvers, and beside a deploy prototxt for "
        "those that train. Quote the pattern.",
    ),
    click.option("--keep-going", is_flag=True, help="With --models: go on after a failure."),
)

FORMATS = (
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    click.option("--markdown", "as_markdown", is_flag=True, help="Print markdown."),
)

output_options = grouped(
    "output", lambda as_json, as_markdown: Output(as_json, as_markdown), *FORMATS
)


def _exit_code(outcomes: list[Outcome]) -> int:
    statuses = {outcome.status for outcome in outcomes}
    if Status.ERROR in statuses:
        return 2
    return 1 if Status.FAILED in statuses else 0
