"""Finds commands when they are called for; turns a mistake of the user into a line and code 2."""

from __future__ import annotations

import io
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import IO, Any, TextIO

import click


class CommandTable(click.Group):
    """A group whose commands are imported when they are used: ``--help`` stays quick.

    Parameters
    ----------
    commands_help : mapping
        Command name → the line ``--help`` shows for it.
    module : str
        Where ``{}`` is the name, the module with the click command called ``command``.
    """

    def __init__(self, *args: Any, commands_help: Mapping[str, str], module: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.commands_help = commands_help
        self.module = module

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(self.commands_help)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.commands_help:
            return None
        command = import_module(self.module.format(cmd_name.replace("-", "_"))).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table into ``--help`` without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.commands_help.items()))


class UserError(click.ClickException):
    """A mistake in what the user gave us: one line, exit code 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it."""
        click.echo(f"error: {self.format_message()}", file=file, err=True)


class FrontDoor(CommandTable):
    """The outermost group: the one place where exceptions become messages."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Only errors whose cause lies with the user are turned into a line; any other is a bug of
        ours and keeps its traceback.
        """
        from caffe_scnn.batch import USER_ERRORS, explain

        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # Names in prototxts may be of any encoding, and a terminal too.
                stream.reconfigure(errors="backslashreplace")
        try:
            with warnings.catch_warnings(), _terminated_like_interrupted():
                warnings.simplefilter("always", UserWarning)
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except BrokenPipeError:
            raise  # the reader has gone (| head): click ends quietly
        except USER_ERRORS as error:
            raise UserError(explain(error)) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)  # 128 + SIGINT, as shells count


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM, which batch systems send, end a command as orderly as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only there signals can be handled
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # shells let background jobs ignore Ctrl-C
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    click.echo(f"warning: {message}", err=True)


def examples(*lines: str) -> str:
    """Return the epilog of a command's ``--help``: examples, not to be wrapped."""
    return "\n".join(["\b", "Example:", *(f"  {line}" for line in lines)])
