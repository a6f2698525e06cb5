"""Plots are written whole, the same each time, and say what they show."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from caffe_scnn.errors import OutputError
from caffe_scnn.report.plot import Plot, Series, write_plot

CURVE = Series("sparse net", [1, 10, 100], [0.1, 0.5, 0.9], "both")
OTHER = Series("dense net", [1, 10, 100], [0.2, 0.6, 0.8], "points")


def plot(**settings):
    return Plot([CURVE, OTHER], "density [%]", "accuracy", "digits", **settings)


def svg(path, *plots, **settings):
    write_plot(path, *plots, **settings)
    return path.read_text()


def test_svg_names_what_it_shows(tmp_path):
    text = svg(tmp_path / "a.svg", plot())
    for words in ("sparse net", "dense net", "density [%]", "accuracy", "digits"):
        assert words in text


def test_svg_is_the_same_each_time(tmp_path):
    # In another process with another hash seed and its own matplotlibrc: the bytes must not care.
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\n")
    code = (
        "from caffe_scnn.report.plot import *\n"
        "write_plot('b.svg', Plot([Series('s', [1, 2], [3, 4], 'both')], 'x', 'y'))\n"
    )
    here = tmp_path / "b.svg"
    written = []
    for seed in "12":
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            check=True,
        )
        written.append(here.read_bytes())
    assert written[0] == written[1]
    write_plot(here, Plot([Series("s", [1, 2], [3, 4], "both")], "x", "y"))
    assert here.read_bytes() == written[0]


def test_png_is_a_picture_with_a_size_for_each_panel(tmp_path):
    write_plot(tmp_path / "one.png", plot())
    write_plot(tmp_path / "three.PNG", plot(), plot(), plot(), columns=2)
    one, three = (cv2.imread(str(tmp_path / name)) for name in ("one.png", "three.PNG"))
    assert one.shape == (480, 720, 3)
    assert three.shape == (960, 1440, 3)
    assert len(np.unique(one.reshape(-1, 3), axis=0)) > 2


def test_log_axes_and_limits(tmp_path):
    linear = svg(tmp_path / "a.svg", plot())
    logarithmic = svg(tmp_path / "b.svg", plot(log_x=True, log_y=True))
    limited = svg(tmp_path / "c.svg", plot(y_limits=(0, 1)))
    assert len({linear, logarithmic, limited}) == 3


def test_values_that_cannot_be_drawn_are_left_out(tmp_path):
    clean = Plot([Series("s", [1, 2, 3], [1, 2, 3])], "x", "y", log_y=True)
    holes = [1, 2, 2.5, np.nan, 3, 3], [1, 2, 0, 1, 3, np.inf]
    dirty = Plot([Series("s", *holes)], "x", "y", log_y=True)
    assert svg(tmp_path / "a.svg", clean) == svg(tmp_path / "b.svg", dirty)


def test_what_is_no_plot_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"a\.pdf: a plot is written as \.png or \.svg"):
        write_plot(tmp_path / "a.pdf", plot())
    with pytest.raises(ValueError, match=r'series "s": x has the shape \(2,\), y \(3,\)'):
        Series("s", [1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="no plot"):
        write_plot(tmp_path / "a.svg")
    with pytest.raises(OutputError, match="cannot be written"):
        write_plot(tmp_path / "missing" / "a.svg", plot())
    assert list(tmp_path.iterdir()) == []


def test_matplotlib_is_loaded_only_for_a_plot():
    code = "import sys, caffe_scnn.report.plot; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
