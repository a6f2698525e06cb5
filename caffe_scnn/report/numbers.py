"""Numbers as people read them, with their unit; JSON keeps the raw values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def count(number: int) -> str:
    """``1234567`` → ``1,234,567``."""
    return f"{number:,}"


def percent(fraction: float) -> str:
    """``0.05`` → ``5.0 %``."""
    return f"{100 * fraction:.1f} %"


def milliseconds(value: float) -> str:
    """Milliseconds with three digits after the point: microseconds are worth showing."""
    return f"{value:.3f}"


def significant(value: float) -> str:
    """Three significant digits: errors, GFLOP/s."""
    return f"{value:.3g}"


def times(value: float) -> str:
    """``3.2`` → ``3.20x``."""
    return f"{value:.2f}x"


def megabytes(number: int) -> str:
    """Bytes as megabytes of 10⁶ bytes."""
    return f"{number / 1e6:.2f} MB"


def shape(dims: Sequence[int]) -> str:
    """``(1, 3, 227, 227)`` → ``1x3x227x227``; a blob without axes is a ``scalar``."""
    return "x".join(map(str, dims)) or "scalar"


def shapes(many: Iterable[Sequence[int]]) -> str:
    """Several shapes, separated by spaces."""
    return " ".join(map(shape, many))


def names(many: Iterable[str]) -> str:
    """Several names, separated by spaces."""
    return " ".join(many)


def counted(number: int, thing: str) -> str:
    """``1, "thread"`` → ``1 thread``, ``2, "thread"`` → ``2 threads``."""
    return f"{count(number)} {thing}{'s' * (number != 1)}"
