"""Errors a user can act on: one message with the cause, the place, the numbers and the remedy."""

from __future__ import annotations


class CaffeScnnError(Exception):
    """Base of every error whose cause is the user's input; the CLI prints it and exits with 2."""


class FormatError(CaffeScnnError):
    """A file that is not what it should be.

    Parameters
    ----------
    message : str
        What is wrong and what to do about it.
    path : str, optional
        The file.
    line, column : int, optional
        The place in a text file, counted from 1.
    """

    def __init__(
        self,
        message: str,
        path: str | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        place = ":".join(str(part) for part in (path, line, column) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)
        self.path = path
        self.line = line
        self.column = column


class ModelError(CaffeScnnError):
    """A net that Caffe would refuse: wiring, shapes, parameters or weights that do not fit."""


class UnsupportedLayer(ModelError):
    """A layer type or a field that the asked-for step needs to understand and does not."""


class PassError(CaffeScnnError):
    """A rewriting step whose result failed its own check."""


class KernelError(CaffeScnnError):
    """No kernel for what was asked: an unknown ISA cap, or an operand that does not fit."""


class OutputError(CaffeScnnError):
    """A result that cannot be written: the place is taken, or the system refuses."""
