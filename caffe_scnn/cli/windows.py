"""How many windows pass a rejection, as an option."""

from __future__ import annotations

import click


class _Windows(click.ParamType[int | float]):
    """A number of windows from 2, or their share."""

    name = "windows"

    def convert(
        self,
        value: str | float,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> int | float:
        """Read a number or a share."""
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if not 0 < number <= 1 and (number < 2 or number % 1):
            self.fail(f"{value!r} is no number of windows and no share of them (0 … 1)", param, ctx)
        return number if number <= 1 else int(number)


WINDOWS = _Windows()
