"""When which rows of which map are computed, if layers run band by band instead of one by one.

Between two layers only a window of rows is kept, in a buffer that begins with the first row that is
still to be read. All passes of a layer are equally high. So some rows are computed twice: at the
top, where a layer needs more rows at first than later on, and at the bottom, where fewer are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Window:
    """Which rows of its input a layer needs.

    Attributes
    ----------
    span : int
        Rows of the input from the first to the last that one row of the result is made of.
    stride, pad : int
    height : int
        Rows of the result.
    """

    span: int
    stride: int
    pad: int
    height: int

    def begin(self, row: int) -> int:
        """Return the first input row that a row of the result needs, negative in the padding."""
        return row * self.stride - self.pad

    def end(self, row: int) -> int:
        """Return the first input row that the rows before ``row`` do not need."""
        return self.begin(row - 1) + self.span

    def outside(self, row: int, rows: int, height: int) -> tuple[int, int]:
        """Count the rows above and below an input of ``height`` rows that some rows need."""
        return max(0, -self.begin(row)), max(0, self.end(row + rows) - height)


@dataclass(frozen=True)
class Change:
    """What happens to ``count`` rows of a buffer, from row ``first`` on."""

    buffer: int
    first: int
    count: int


class Slide(Change):
    """They move to the begin of the buffer."""


class Clear(Change):
    """They become zero."""


@dataclass(frozen=True)
class Pass:
    """Layer ``stage`` computes its rows from ``row`` on.

    Attributes
    ----------
    source : int
        The first row it needs, in the buffer before it. Of the first layer: ``row · stride``, a row
        of the input.
    target : int
        Where ``row`` lies in the buffer behind it. Of the last layer: ``row``.
    """

    stage: int
    row: int
    source: int
    target: int


@dataclass(frozen=True)
class Schedule:
    """All that is done, in order.

    Attributes
    ----------
    rows : tuple of int
        Rows that one pass of each layer computes.
    heights : tuple of int
        Rows of the buffer behind each layer but the last.
    actions : tuple of Slide, Clear or Pass
        The gaps between the rows of a buffer are zero before the first of them.
    """

    rows: tuple[int, ...]
    heights: tuple[int, ...]
    actions: tuple[Slide | Clear | Pass, ...]


def pass_rows(windows: Sequence[Window], rows: int) -> tuple[int, ...]:
    """Return the rows that a pass of each layer computes if one of the last computes ``rows``."""
    found = [min(rows, windows[-1].height)]
    for window, reader in zip(windows[-2::-1], windows[:0:-1], strict=True):
        found.append(min(window.height, found[-1] * reader.stride))
    return tuple(reversed(found))


@lru_cache(maxsize=64)
def schedule(windows: tuple[Window, ...], rows: int) -> Schedule:
    """Plan layers of which each reads the one before it; a plan asks twice for the same.

    Parameters
    ----------
    windows : tuple of Window
        Of the layers, the first one first.
    rows : int
        Rows that the last layer computes at a time.
    """
    sizes = pass_rows(windows, rows)
    bands = _bands(windows, sizes)
    kept = [_kept(windows, sizes, bands, buffer) for buffer in range(len(windows) - 1)]
    padded = [(buffer, -window.begins[0]) for buffer, window in enumerate(kept)]
    actions: list[Slide | Clear | Pass] = [
        Clear(buffer, 0, rows) for buffer, rows in padded if rows
    ]
    for number, band in enumerate(bands):
        for buffer, window in enumerate(kept):
            actions += window.slide(buffer, number)
        for stage, row in band:
            source, target = row * windows[0].stride, row
            if stage:
                before = kept[stage - 1].begins[number]
                source = windows[stage].begin(row) - before
                end = windows[stage].end(row + sizes[stage]) - before
                below = end - (windows[stage - 1].height - before)
                if below > 0:
                    actions.append(Clear(stage - 1, end - below, below))
            if stage < len(kept):
                target = row - kept[stage].begins[number]
            actions.append(Pass(stage, row, source, target))
    return Schedule(sizes, tuple(window.height for window in kept), tuple(actions))


def _bands(windows: Sequence[Window], sizes: Sequence[int]) -> list[list[tuple[int, int]]]:
    """List the passes of each band, as (layer, first row)."""
    done = [0] * len(windows)
    bands = []
    while done[-1] < windows[-1].height:
        ends = [min(done[-1] + sizes[-1], windows[-1].height)]
        for window, reader, size in zip(
            windows[-2::-1], windows[:0:-1], sizes[-2::-1], strict=True
        ):
            ends.append(min(window.height, max(size, reader.end(ends[-1]))))
        band = []
        for stage, (end, size) in enumerate(zip(reversed(ends), sizes, strict=True)):
            while done[stage] < end:
                done[stage] = min(done[stage] + size, end)
                band.append((stage, done[stage] - size))
        bands.append(band)
    return bands


@dataclass(frozen=True)
class _Kept:
    """The rows that a buffer holds during each band, and how many it must have room for."""

    begins: list[int]
    ends: list[int]

    @property
    def height(self) -> int:
        return max(end - begin for begin, end in zip(self.begins, self.ends, strict=True))

    def slide(self, buffer: int, band: int) -> list[Slide | Clear | Pass]:
        """Return what lets the buffer begin with the first row that this band needs."""
        if not band or self.begins[band] == self.begins[band - 1]:
            return []
        first = self.begins[band] - self.begins[band - 1]
        count = self.ends[band - 1] - self.begins[band]
        return [Slide(buffer, first, count)] if count > 0 else []


def _kept(
    windows: Sequence[Window],
    sizes: Sequence[int],
    bands: list[list[tuple[int, int]]],
    buffer: int,
) -> _Kept:
    """Find what a buffer must hold: rows are written once and stay until they were last read."""
    reader = windows[buffer + 1]
    begins, ends = [], [0]
    for band in bands:
        used = []
        for stage, row in band:
            if stage == buffer:
                used.append((row, row + sizes[stage]))
            elif stage == buffer + 1:
                used.append((reader.begin(row), reader.end(row + sizes[stage])))
        begins.append(min((begin for begin, _ in used), default=windows[buffer].height))
        ends.append(max([ends[-1], *(end for _, end in used)]))
    for later in range(len(bands) - 1, 0, -1):
        begins[later - 1] = min(begins[later - 1], begins[later])
    return _Kept(begins, ends[1:])
