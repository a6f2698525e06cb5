"""What a tile of pixels needs of the cache, and what is chosen for it."""

import numpy as np
import pytest
from test_engine import net_of

from caffe_scnn import _kernels
from caffe_scnn.engine import Executor, choose
from caffe_scnn.engine import tile as tile_module
from caffe_scnn.engine.tile import FLOATS_OF_LINE, Shape


def lines_of(taps, size):
    """Return the cache lines that tiles of ``size`` pixels touch when they start on a line."""
    pixels = taps[:, None] + np.arange(size)
    return len(np.unique(pixels // FLOATS_OF_LINE))


@pytest.mark.parametrize("pitch", [16, 32, 64, 240, 1024])
@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("size", [16, 32, 96, 512])
def test_the_pixels_of_a_tile_are_those_of_the_cache_lines_that_it_touches(pitch, kernel, size):
    taps = (np.arange(kernel)[:, None] * pitch + np.arange(kernel)).ravel()
    shape = Shape(10_000, 64, int(np.ptp(taps)), rows=kernel, across=kernel - 1)
    touched = FLOATS_OF_LINE * lines_of(taps, size)
    assert touched - FLOATS_OF_LINE <= shape.pixels(size) <= touched + kernel * FLOATS_OF_LINE


def test_taps_that_may_lie_anywhere_keep_all_that_is_between_them():
    assert Shape(10_000, 64, 1000).pixels(24) == 1024


@pytest.mark.skipif("avx2" not in _kernels.isas(), reason="the processor has no AVX2")
def test_pixels_of_the_first_layer_of_a_large_map_leave_room_for_several_channels(monkeypatch):
    """The rows of its taps lie apart: what is between them takes no cache."""
    caches = {1: 32 << 10, 2: 512 << 10}
    for module in (choose, tile_module):
        monkeypatch.setattr(module, "cache_bytes", caches.__getitem__)
    net = net_of(
        'layer { name: "data" type: "Input" top: "data" input_param { shape { '
        "dim: 1 dim: 3 dim: 224 dim: 224 } } }\n"
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" '
        "convolution_param { num_output: 64 kernel_size: 7 stride: 2 pad: 3 } }\n"
    )
    (step,) = Executor(net, threads=1, isa="avx2").plan().steps
    assert "sconv_4x3v" in step.kernel
