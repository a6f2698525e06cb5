"""SPP_net's detectors imported: the same scores as MATLAB's pipeline, window by window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cli_support import answer, call, refusal
from spp_net_support import (
    BINS,
    CHANNELS,
    DEFINITION,
    a_model,
    matlab_scores,
    pooled_by_matlab,
    write,
)

from caffe_scnn.detect.detector import build
from caffe_scnn.detect.geometry import map_geometry
from caffe_scnn.detect.model_folder import DetectorModel
from caffe_scnn.detect.proposals import SlidingWindows
from caffe_scnn.detect.pyramid import Backbone
from caffe_scnn.model.caffemodel import write_caffemodel
from caffe_scnn.model.net import Net

SCALES = (240, 480)


def backbone():
    net = Net.parse(DEFINITION)
    weights, bias = a_model()["cnn"]["layers"][0]["weights"]
    net.layer("conv1").blobs = [np.ascontiguousarray(weights.T) / 100, bias.ravel()]
    return net


def fitting(layer=7.0):
    """A model whose numbers are those of the net: stride 2, the first cell at pixel 1."""
    model = a_model()
    geometry = map_geometry(Net.parse(DEFINITION), "conv1")
    assert (geometry.stride, geometry.offset) == (2, 1)
    model["spp_pooler"]["step_standard"] = np.array([[2.0]])
    model["spp_pooler"]["offset0"] = np.array([[1.0]])
    model["spp_pooler"]["offset"] = np.array([[0.8]])
    model["training_opts"]["layer"] = np.array([[layer]])
    if layer == 5:
        model["detectors"]["W"] = np.random.default_rng(2).standard_normal((3, CHANNELS * BINS))
    return model


@pytest.fixture
def files(tmp_path):
    (tmp_path / "conv.prototxt").write_text(DEFINITION)
    write_caffemodel(backbone(), tmp_path / "conv.caffemodel")
    return tmp_path / "conv.prototxt", tmp_path / "conv.caffemodel"


def imported(files, tmp_path, source):
    mat = write(tmp_path / "spp_model.mat", source)
    line = ("detect-import", mat, *files, "-o", tmp_path / "out", "--scales", "240,480")
    words = f"{tmp_path / 'out'}: 3 classes, levels 1, 2, 3, 6, feature map conv1."
    assert call(*line).stdout == f"{words}\n"
    assert answer(*line, "--overwrite")["scales"] == [240, 480]
    return DetectorModel.read(tmp_path / "out")


@pytest.mark.parametrize("layer", [5.0, 7.0])
def test_scores_are_those_of_the_matlab_pipeline(files, tmp_path, layer):
    source = fitting(layer)
    model = imported(files, tmp_path, source)
    every = replace(model.settings, threshold=-1e9, overlap=1.0, limit=10**6)
    picture = np.random.default_rng(3).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    proposer = SlidingWindows(scales=(0.4, 0.8), minimum_side=10)
    frame, _ = build(replace(model, settings=every), proposer).run("a", picture)
    windows = proposer.boxes("a", picture)
    # The steps of the original, with its numbers
    net = Backbone(backbone(), "conv1", model.preprocess, rounding=0.8)
    chosen = net.geometry.choose_scale(windows, 60, SCALES)
    assert set(chosen) == {0, 1}
    maps = [net.map(picture, scale) for scale in SCALES]
    expected = []
    for window, at in zip(windows, chosen, strict=True):
        size = maps[at].shape[1:]
        cells = net.geometry.to_cells(window[None].astype(float), 60, SCALES[at], size)
        (x1, y1, x2, y2) = cells[0]
        part = maps[at][:, y1 : y2 + 1, x1 : x2 + 1]
        expected.append(matlab_scores(source, pooled_by_matlab(part)))
    found = np.full((len(windows), 3), np.nan)
    found[frame.found.windows, frame.found.labels] = frame.found.scores
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_refused(files, tmp_path):
    def message(source, *rest):
        mat = write(tmp_path / "spp_model.mat", source)
        return refusal("detect-import", mat, *files, "-o", tmp_path / "out", *rest)

    assert "has a stride of 2 and an offset of 1" in message(a_model())
    wrong = fitting(5.0)
    wrong["detectors"]["W"] = np.zeros((3, 2 * BINS))
    assert "has 4 channels, which makes 200 pooled values" in message(wrong)
    assert 'no blob "conv9"' in message(fitting(), "--blob", "conv9")
    assert not (tmp_path / "out").exists()
