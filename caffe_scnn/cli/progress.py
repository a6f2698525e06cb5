"""How far long work is, on stderr: a bar where a person looks on, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

SECONDS_A_LINE = 60.0


class Pace:
    """Says when the next line is due, and how much time is left."""

    def __init__(self) -> None:
        self._begin = self._last = time.monotonic()

    def due(self) -> bool:
        """Whether a minute has passed since this was last so."""
        now = time.monotonic()
        if now - self._last < SECONDS_A_LINE:
            return False
        self._last = now
        return True

    def left(self, done: float, total: float) -> str:
        """Return the time left if the rest takes as long as what was done since the begin."""
        seconds = (time.monotonic() - self._begin) / done * (total - done)
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min left" if hours else f"{minutes} min {rest} s left"


@contextmanager
def progress(total: int | None, what: str) -> Iterator[Callable[..., None]]:
    """Show how much of ``total`` is done.

    Yields
    ------
    callable
        ``advance(done, total=None)`` reports more of it, and the total where it was not known.
    """
    if not sys.stderr.isatty():
        yield _lines(total, what)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)

        def advance(done: int, total: int | None = None) -> None:
            bar.update(task, advance=done, total=total)

        yield advance


def _lines(total: int | None, what: str) -> Callable[..., None]:
    """Return the report of work that nobody watches."""
    pace, state = Pace(), {"done": 0, "total": total}

    def advance(done: int, total: int | None = None) -> None:
        finished = state["done"] = (state["done"] or 0) + done
        known = state["total"] = total if total is not None else state["total"]
        if pace.due() and finished:
            rest = f"/{known}, {pace.left(finished, known)}" if known else ""
            click.echo(f"{what}: {finished}{rest}", err=True)

    return advance
