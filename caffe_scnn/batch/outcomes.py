"""One action for many models: what each gave, and a summary."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from caffe_scnn.batch.models import ModelFiles
from caffe_scnn.errors import CaffeScnnError
from caffe_scnn.report import Column, Report, Table
from caffe_scnn.report.numbers import significant

# Causes that lie with the user's files or machine; anything else is our bug and stays loud.
USER_ERRORS = (CaffeScnnError, OSError, MemoryError)


class Status(Enum):
    """How one model ended."""

    OK = "ok"
    FAILED = "failed"  # it ran, and a check on the result failed
    ERROR = "error"  # it could not be done
    SKIPPED = "skipped"  # an earlier model stopped the batch


@dataclass(frozen=True)
class Outcome:
    """How one model ended.

    Attributes
    ----------
    model : ModelFiles
    status : Status
    seconds : float
    report : Report, optional
        What was found, when there is an answer.
    error : str, optional
        Why there is none.
    """

    model: ModelFiles
    status: Status
    seconds: float = 0.0
    report: Report | None = None
    error: str | None = None

    def data(self) -> dict[str, Any]:
        """Return what JSON holds of it."""
        return {
            "model": self.model.name,
            "prototxt": self.model.prototxt,
            "caffemodel": self.model.caffemodel,
            "status": self.status.value,
            "seconds": self.seconds,
            "error": self.error,
            "result": self.report.data if self.report else None,
        }


def explain(error: BaseException) -> str:
    """Say in one line why it did not work."""
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def run_all(
    models: Sequence[ModelFiles],
    action: Callable[[ModelFiles], Report],
    *,
    keep_going: bool = False,
) -> Iterator[Outcome]:
    """Apply an action to each model in turn.

    Parameters
    ----------
    models : sequence of ModelFiles
    action : callable
        Raises one of ``USER_ERRORS`` for a model that cannot be done.
    keep_going : bool
        Go on after a model that failed; otherwise the rest is skipped.

    Yields
    ------
    Outcome
        One for each model, as it ends.
    """
    stopped = False
    for model in models:
        if stopped:
            yield Outcome(model, Status.SKIPPED)
            continue
        outcome = _run_one(model, action)
        stopped = outcome.status is not Status.OK and not keep_going
        yield outcome


def summarize(outcomes: Sequence[Outcome]) -> Report:
    """Put all outcomes into one report: a row each, and how many ended how."""
    counts = Counter(outcome.status for outcome in outcomes)
    table = Table(
        columns=(
            Column("model"),
            Column("status"),
            Column("seconds", "time [s]", significant),
            Column("error"),
        ),
        rows=[outcome.data() for outcome in outcomes],
    )
    summary = {status.value: counts[status] for status in Status}
    said = ", ".join(f"{number} {name}" for name, number in summary.items() if number)
    return Report(
        data={"models": [outcome.data() for outcome in outcomes], "summary": summary},
        parts=(table, f"{len(outcomes)} models: {said}"),
        passed=counts[Status.OK] == len(outcomes),
    )


def _run_one(model: ModelFiles, action: Callable[[ModelFiles], Report]) -> Outcome:
    started = time.perf_counter()
    try:
        report = action(model)
    except USER_ERRORS as error:
        seconds = time.perf_counter() - started
        return Outcome(model, Status.ERROR, seconds, error=explain(error))
    status = Status.OK if report.passed else Status.FAILED
    return Outcome(model, status, time.perf_counter() - started, report)
