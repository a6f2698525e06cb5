"""A model of real size: VGG-16 with random weights, 553 MB."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from caffe_scnn.loading import load
from caffe_scnn.model.caffemodel import write_caffemodel

# The kernel's own count of a process; getrusage would pass on the parent's to its children.
PROGRAM = """
import pathlib, re, sys
from caffe_scnn.loading import load
load(*sys.argv[1:])
status = pathlib.Path("/proc/self/status").read_text()
print(1024 * int(re.search(r"VmHWM:\\s*(\\d+)", status)[1]))
"""

INFO = """
import pathlib, re, sys, time
begin = time.perf_counter()
from caffe_scnn.cli import main
try: main(["info", sys.argv[1], "--json"])
except SystemExit as end: assert not end.code
status = pathlib.Path("/proc/self/status").read_text()
peak = 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", status)[1])
print(peak, time.perf_counter() - begin, file=sys.stderr)
"""


def vgg16() -> str:
    """Return the prototxt of VGG-16."""
    text = 'name: "VGG16"\ninput: "data"\ninput_shape { dim: 1 dim: 3 dim: 224 dim: 224 }\n'
    bottom = "data"
    for stage, (channels, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        for i in range(depth):
            top = f"conv{stage}_{i}"
            text += f'layer {{ name: "{top}" type: "Convolution" bottom: "{bottom}" top: "{top}" '
            text += f"convolution_param {{ num_output: {channels} pad: 1 kernel_size: 3 }} }}\n"
            bottom = top
        text += f'layer {{ name: "p{stage}" type: "Pooling" bottom: "{bottom}" top: "p{stage}" '
        text += "pooling_param { kernel_size: 2 stride: 2 } }\n"
        bottom = f"p{stage}"
    for top, outputs in (("fc6", 4096), ("fc7", 4096), ("fc8", 1000)):
        text += f'layer {{ name: "{top}" type: "InnerProduct" bottom: "{bottom}" top: "{top}" '
        text += f"inner_product_param {{ num_output: {outputs} }} }}\n"
        bottom = top
    return text


def fastest(action: Callable[[], object], times: int = 4) -> float:
    """Return the least seconds an action took."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@pytest.mark.large
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_vgg16_is_written_and_loaded_at_the_speed_of_memory(tmp_path: Path) -> None:
    prototxt, model, plain = (tmp_path / name for name in ("a.prototxt", "a.caffemodel", "plain"))
    prototxt.write_text(vgg16())
    net = load(prototxt)
    chance = np.random.default_rng(0)
    for layer in net:
        layer.blobs = [chance.standard_normal(b.shape, np.float32) for b in layer.blobs]
    content = np.concatenate([b.ravel() for layer in net for b in layer.blobs]).data

    def write() -> None:
        model.unlink(missing_ok=True)
        write_caffemodel(net, model)

    def write_plainly() -> None:
        plain.unlink(missing_ok=True)
        plain.write_bytes(content)

    writing, plainly = fastest(write), fastest(write_plainly)
    plain.unlink()
    size = model.stat().st_size
    assert size > 553_000_000
    reading = fastest(lambda: bytearray(model.read_bytes()))
    loading = fastest(lambda: load(prototxt, model))
    child = [sys.executable, "-c", PROGRAM, str(prototxt), str(model)]
    peak = int(subprocess.run(child, check=True, capture_output=True, text=True).stdout)
    print(
        f"\nwrite {writing:.2f} s (plain {plainly:.2f} s), load {loading:.2f} s "
        f"(read and copy {reading:.2f} s), peak {peak / size:.3f} of {size} bytes"
    )
    assert writing <= 2 * plainly
    assert loading <= 2 * reading
    assert peak <= 1.3 * size
    again = load(prototxt, model)
    for layer, other in zip(net, again, strict=True):
        for blob, read in zip(layer.blobs, other.blobs, strict=True):
            assert np.array_equal(blob, read)


@pytest.mark.large
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_info_on_a_large_caffemodel_is_quick_and_needs_little_memory(tmp_path: Path) -> None:
    prototxt, model = tmp_path / "a.prototxt", tmp_path / "a.caffemodel"
    prototxt.write_text(vgg16())
    net = load(prototxt)
    for layer in net:
        layer.blobs = [np.ones(b.shape, np.float32) for b in layer.blobs]
    net.layer("fc6").blobs[0][:, ::2] = 0
    params = sum(blob.size for layer in net for blob in layer.blobs)
    zeros = net.layer("fc6").blobs[0].size // 2
    write_caffemodel(net, model)
    child = [sys.executable, "-c", INFO, str(model)]
    done = subprocess.run(child, check=True, capture_output=True, text=True)
    peak, seconds = map(float, done.stderr.split())
    print(f"\ninfo: {seconds:.2f} s, peak {peak / 1e6:.0f} MB")
    total = json.loads(done.stdout)["total"]
    assert (total["params"], total["nonzeros"]) == (params, params - zeros)
    assert seconds < 2
    assert peak < 200e6
