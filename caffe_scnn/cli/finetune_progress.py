"""Shows a training as it goes: a bar where a person looks on, else a line a minute; evaluations."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from caffe_scnn.cli.progress import Pace

NAMES = {
    "density": "density",
    "held_back_loss": "held-back loss",
    "held_back_agreement": "same class %",
    "held_back_top1": "top-1 %",
}


class Follower:
    """Follows one training.

    Parameters
    ----------
    speaks : bool
        False: says nothing, as all processes but one should.
    """

    def __init__(self, speaks: bool = True) -> None:
        self._speaks = speaks
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not (speaks and sys.stderr.isatty()),
        )
        self._task = self._bar.add_task("training", total=None)
        self._seen: dict[str, float] = {}
        self._begun: tuple[Pace, int] | None = None

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, value, trace)

    def follow(self, step: int, total: int, numbers: dict[str, float]) -> None:
        """Take the numbers of a step."""
        if not self._speaks:
            return
        pace, first = self._begun = self._begun or (Pace(), step)
        self._bar.update(
            self._task,
            completed=step,
            total=total,
            description=f"loss {numbers['loss']:.4g}, rate {numbers['rate']:.3g}",
        )
        judged = {name: numbers[name] for name in NAMES if name in numbers}
        due = self._bar.disable and pace.due()
        if judged == self._seen and step < total and not due:
            return
        self._seen = judged
        parts = [f"step {step}/{total}", f"loss {numbers['loss']:.4g}"]
        parts += [f"{NAMES[name]} {value:.4g}" for name, value in judged.items()]
        if first < step < total:
            parts.append(pace.left(step - first, total - first))
        if not self._bar.disable:
            self._bar.console.print(", ".join(parts), highlight=False)
        else:
            click.echo(", ".join(parts), err=True)
