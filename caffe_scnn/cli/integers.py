"""Lists of whole numbers as the value of an option."""

from __future__ import annotations

import click


class _Integers(click.ParamType[tuple[int, ...]]):
    """``480,576,688``."""

    name = "N,N,…"

    def convert(
        self,
        value: str | tuple[int, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[int, ...]:
        """Split at commas."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isdecimal() for part in parts):
            self.fail(f"{value!r} is not whole numbers with commas", param, ctx)
        return tuple(int(part) for part in parts)


INTEGERS = _Integers()
