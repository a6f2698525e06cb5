"""Progress of a command in several steps: one bar after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from caffe_scnn.cli.progress import progress


class Steps:
    """Shows the bar of the step that was begun last."""

    def __init__(self) -> None:
        self._bar = ExitStack()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the last bar away."""
        self._bar.close()

    def begin(self, what: str, total: int) -> Callable[[], None]:
        """Begin a step; what is returned is called when one more of ``total`` is done."""
        self._bar.close()
        advance = self._bar.enter_context(progress(total, what))
        return lambda: advance(1)
