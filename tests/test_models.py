"""The nets in models/: the published sizes, and text that is what generate.py writes."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from caffe_scnn.engine import Executor
from caffe_scnn.layers.summary import summarize
from caffe_scnn.loading import load

MODELS = Path(__file__).parents[1] / "models"

# Multiply-accumulates and learnt values at batch 1. AlexNet, VGG-16 and GoogLeNet have exactly the
# published 60,965,224, 138,357,544 and 6,998,552 parameters; BatchNorm's statistics count here.
SIZES = {
    "lenet": (2_293_000, 431_080),
    "cifar10_quick": (12_354_176, 145_578),
    "alexnet": (724_406_816, 60_965_224),
    "caffenet": (724_406_816, 60_965_224),
    "zf5_spp": (1_182_712_960, 77_037_672),
    "vgg16": (15_470_264_320, 138_357_544),
    "squeezenet_v1.1": (387_747_520, 1_235_496),
    "mobilenet_v1": (568_740_352, 4_253_891),
    "mobilenet_v2": (300_774_272, 3_539_036),
    "googlenet": (1_582_671_872, 6_998_552),
    "resnet50": (3_857_973_248, 25_610_205),
}


def test_the_text_is_what_the_generator_writes():
    nets = runpy.run_path(str(MODELS / "generate.py"))["NETS"]
    assert nets.keys() == SIZES.keys()
    for name, make in nets.items():
        assert (MODELS / f"{name}.prototxt").read_text() == make().text


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name):
    total = summarize(load(MODELS / f"{name}.prototxt")).total
    assert (total.macs, total.params) == SIZES[name]


def test_first_layer_of_caffenet():
    rows = {row.name: row for row in summarize(load(MODELS / "caffenet.prototxt")).layers}
    assert rows["conv1"].macs == 96 * 3 * 11 * 11 * 55 * 55 == 105_415_200
    assert rows["conv1"].shape == (1, 96, 55, 55)
    assert rows["fc6"].macs == rows["fc6"].params - 4096 == 9216 * 4096


@pytest.mark.parametrize("name", ["mobilenet_v2", "googlenet", "resnet50"])
def test_large_designs_run(name):
    """Compiles and runs, and the classes sum up to one."""
    net = load(MODELS / f"{name}.prototxt")
    rng = np.random.default_rng(0)
    for layer in net.layers:
        layer.blobs = [
            (rng.random(b.shape) / max(1, np.prod(b.shape[1:]))).astype(np.float32)
            for b in layer.blobs
        ]
    data = rng.standard_normal((1, 3, 224, 224)).astype(np.float32)
    (prob,) = Executor(net).run({"data": data}).values()
    assert prob.shape == (1, 1000)
    assert abs(prob.sum() - 1) < 1e-5
