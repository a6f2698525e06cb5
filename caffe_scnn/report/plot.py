"""Plots of named series, as PNG or SVG; matplotlib is imported only when one is written."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from caffe_scnn.errors import OutputError
from caffe_scnn.model.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")

# One panel in inches, and the pixels of an inch in a PNG.
_WIDTH, _HEIGHT, _DPI = 6.0, 4.0, 120
# Series differ by marker as well as by colour: not everyone sees, or prints, colours.
_MARKERS = "osD^vP*X"
_LEGEND_ROWS = 12

# Without a salt the ids in an SVG are random; text as text keeps it small and searchable.
_SVG_STYLE = {"svg.hashsalt": "caffe-scnn", "svg.fonttype": "none"}


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Parameters
    ----------
    name : str
        Its name in the legend.
    x, y : array_like of shape (points,)
        Values that are not finite, or not positive on a logarithmic axis, are left out.
    style : {"line", "points", "both"}
        How they are drawn: joined in the order given, as markers, or both.

    Raises
    ------
    ValueError
        ``x`` and ``y`` are not two rows of equal length.
    """

    name: str
    x: ArrayLike
    y: ArrayLike
    style: Literal["line", "points", "both"] = "line"

    def __post_init__(self) -> None:
        shapes = np.shape(self.x), np.shape(self.y)
        if shapes[0] != shapes[1] or len(shapes[0]) != 1:
            raise ValueError(f'series "{self.name}": x has the shape {shapes[0]}, y {shapes[1]}')


@dataclass(frozen=True)
class Plot:
    """Series over common axes.

    Parameters
    ----------
    series : sequence of Series
        With more than one, a legend names them.
    x_label, y_label : str
        What an axis shows, with its unit.
    title : str
    log_x, log_y : bool
        Logarithmic axes.
    x_limits, y_limits : (float, float), optional
        The ends of an axis; None: what the values need.
    """

    series: Sequence[Series]
    x_label: str
    y_label: str
    title: str = ""
    log_x: bool = False
    log_y: bool = False
    x_limits: tuple[float, float] | None = None
    y_limits: tuple[float, float] | None = None


def check_plot_path(path: str | Path) -> None:
    """Refuse a name that no plot can be written to, before any work is done for it.

    Raises
    ------
    OutputError
        The name ends neither in ``.png`` nor in ``.svg``.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise OutputError(f"{path}: a plot is written as {' or '.join(SUFFIXES)}; change its name")


def write_plot(path: str | Path, *plots: Plot, columns: int = 1) -> None:
    """Write one plot, or several as the panels of one picture; whole or not at all.

    The same plots give the same bytes of SVG wherever matplotlib has the same version.

    Parameters
    ----------
    path : str or Path
        ``.png`` or ``.svg``.
    plots : Plot
        The panels, row by row.
    columns : int
        Panels in a row.

    Raises
    ------
    OutputError
        Another suffix, or the place cannot be written.
    ValueError
        No plot.
    """
    check_plot_path(path)
    data = _drawn(plots, columns, Path(path).suffix.lower()[1:])
    with atomic_write(path) as file:
        file.write(data)


def _drawn(plots: Sequence[Plot], columns: int, kind: str) -> bytes:
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not plots:
        raise ValueError("no plot to write")
    rows, columns = math.ceil(len(plots) / columns), min(columns, len(plots))
    # A person's own matplotlibrc must not change what is written.
    with style.context(["default", _SVG_STYLE]):
        figure = Figure((_WIDTH * columns, _HEIGHT * rows), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)  # no display, and no pyplot with its global state
        for index, plot in enumerate(plots):
            _draw(figure.add_subplot(rows, columns, index + 1), plot)
        buffer = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()


def _draw(axes: Axes, plot: Plot) -> None:
    for index, series in enumerate(plot.series):
        x, y = _shown(series, plot)
        axes.plot(
            x,
            y,
            label=series.name,
            linestyle="none" if series.style == "points" else "-",
            marker="" if series.style == "line" else _MARKERS[index % len(_MARKERS)],
            markersize=4,
        )
    if plot.log_x:
        axes.set_xscale("log")
    if plot.log_y:
        axes.set_yscale("log")
    axes.set(xlabel=plot.x_label, ylabel=plot.y_label, title=plot.title)
    axes.set(xlim=plot.x_limits, ylim=plot.y_limits)
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)
    if len(plot.series) > 1:
        axes.legend(fontsize="small", ncols=math.ceil(len(plot.series) / _LEGEND_ROWS))


def _shown(series: Series, plot: Plot) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(series.x, np.float64), np.asarray(series.y, np.float64)
    kept = np.isfinite(x) & np.isfinite(y)
    if plot.log_x:
        kept &= x > 0
    if plot.log_y:
        kept &= y > 0
    return x[kept], y[kept]
