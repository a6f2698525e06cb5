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

    @property
    def just_begun(self) -> bool:
        """Whether less than a second has passed: what is done by then was done before."""
        return time.monotonic() - self._begin < 1

    def due(self) -> bool:
        """Whether a minute has passed since this was last so."""
        now = time.monotonic()
        if now - self._last < SECONDS_A_LINE:
            return False
        self._last = now
        return True

    def left(self, done: float, total: float) -> str:
        """Return the time left if the rest takes as long as what was done since the begin."""
        seconds = (time.monotonic() - self._begin) / done * max(0, total - done)
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
    pace, whole = Pace(), total
    finished = known = 0  # of these, done before: they took no time now

    def advance(done: int, total: int | None = None) -> None:
        nonlocal finished, known, whole
        finished, whole = finished + done, total or whole
        if pace.just_begun:
            known = finished
        elif pace.due() and finished > known:
            left = f"/{whole}, {pace.left(finished - known, whole - known)}" if whole else ""
            click.echo(f"{what}: {finished}{left}", err=True)

    return advance
