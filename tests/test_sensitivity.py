"""Scans: every point a real net, resumable, written as CSV and plot."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from cli_support import answer, call, refusal
from coupled_nets import COUPLINGS, END, FIRST, layer, net_of

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import Goal, Recipe, compress
from caffe_scnn.decompose.channels import ChannelSelection
from caffe_scnn.decompose.low_rank import LowRank
from caffe_scnn.decompose.sensitivity import Answer, Scan
from caffe_scnn.layers.summary import summarize
from caffe_scnn.save import save

TEXT = FIRST + layer("r", "ReLU", "a", tops="a") + COUPLINGS["convolution"] + END


def values(count=30):
    return np.random.default_rng(3).standard_normal((count, 3, 6, 5)).astype(np.float32)


def test_points_are_real_nets():
    net = net_of(TEXT)
    calibration = Calibration(Images(values()), threads=1)
    seen = []

    def run(made):
        seen.append(made)
        return Answer(50.0, 0.5)

    scan = Scan(net, ChannelSelection(), (0.5, 0.25), calibration=calibration)
    points = list(scan.points(run, {("a", 0.25)}))
    assert [(p.layer, p.density) for p in points] == [("a", 0.5), ("x", 0.5), ("x", 0.25)]
    assert [len(made.layer("x").blobs[0]) for made in seen] == [4, 2, 1]
    recipe = Recipe(Goal(ChannelSelection(), 0.5), layers=("a",))
    alone = compress(net, recipe, calibration=calibration).net
    assert points[0].macs == summarize(alone).total.nonzero_macs / summarize(net).total.nonzero_macs
    assert points[0].response_error is not None


def test_what_goes_together_is_scanned_together():
    net = net_of(FIRST + COUPLINGS["residual"] + END)
    points = list(Scan(net, ChannelSelection(), (0.5,)).points(lambda made: Answer(1, 1)))
    assert [p.layer for p in points] == ["a"]


def test_a_size_out_of_reach_is_a_note():
    net = net_of(TEXT)
    scan = Scan(net, LowRank(), (0.001,), ("x",))
    (point,) = scan.points(lambda made: Answer(1, 1))
    assert point.macs is None or point.note == ""
    assert point.answer is not None or point.note


@pytest.fixture
def model(tmp_path):
    save(net_of(TEXT), tmp_path)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "images.npz", x=values(), y=rng.integers(0, 3, 30))
    files = tmp_path / "deploy.prototxt", tmp_path / "weights.caffemodel"
    return [*files, "--input", tmp_path / "images.npz", "-o", tmp_path / "scan"]


def test_the_command_writes_csv_and_plot(model, tmp_path):
    said = answer("sensitivity", *model, "--densities", "0.5,0.25")
    assert [(p["layer"], p["density"]) for p in said["points"]] == [
        (name, density) for name in "ax" for density in (0.5, 0.25)
    ]
    text = (tmp_path / "scan" / "sensitivity.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()[1:]))
    assert [float(row["macs"]) for row in rows] == [p["macs"] for p in said["points"]]
    assert all(0 <= float(row["top1"]) <= 100 for row in rows)
    plot = (tmp_path / "scan" / "sensitivity.svg").read_text()
    assert "divergence of the answers" in plot


def test_an_interrupted_scan_goes_on(model, tmp_path):
    whole = answer("sensitivity", *model, "--densities", "0.5,0.25")["points"]
    path = tmp_path / "scan" / "sensitivity.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]))  # two of four points
    result = call("sensitivity", *model, "--densities", "0.5,0.25")
    assert "going on: 2 of 4 points" in result.stderr
    assert path.read_text() == "".join(lines)
    fewer = call("sensitivity", *model, "--densities", "0.5")  # others than these are there, too
    assert "going on: 2 of 2 points" in fewer.stderr
    again = answer("sensitivity", *model, "--densities", "0.5,0.25")["points"]
    assert again == whole
    more = answer("sensitivity", *model, "--densities", "0.75")["points"]
    assert len(more) == 6


def test_another_models_scan_is_not_gone_on_with(model, tmp_path):
    answer("sensitivity", *model, "--densities", "0.5")
    assert "not the scan of the same model" in refusal("sensitivity", *model, "--method", "obs")
    path = tmp_path / "scan" / "sensitivity.csv"
    path.write_text(path.read_text().replace("a,0.5", "a,half"))
    assert "a row of the scan is damaged" in refusal("sensitivity", *model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--densities", "0.5,2"], "between 0 and 1"),
        (["--densities", "all"], "no list of numbers"),
        (["--damping", "0.1", "--method", "magnitude"], "no parameter of the method magnitude"),
        (["--layers", "z"], "matches no layer"),
    ],
)
def test_wrong_options(model, options, message):
    result = call("sensitivity", *model, *options)
    assert result.exit_code == 2
    assert message in result.stderr
