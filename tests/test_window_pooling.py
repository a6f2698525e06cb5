"""Pyramid pooling of windows: the kernel of every ISA, the three kinds of bins, the projection."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from caffe_scnn import Executor, _kernels
from caffe_scnn.detect.geometry import MapGeometry, map_geometry
from caffe_scnn.detect.spp_pool import bins_of, roi_pooling_bins, spp_layer_bins, spp_net_bins
from caffe_scnn.engine.window_pooling import blocked, pool_windows
from caffe_scnn.errors import KernelError, ModelError
from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net

ISAS = [isa for isa in _kernels.isas() if os.environ.get("CAFFE_SCNN_ISA") in (None, isa)]
CANARY = np.float32(-77.25)

# Zeiler and Fergus' net up to its last convolution, as the SPP-net detector uses it.
ZF5 = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 2 kernel_size: 7 stride: 2 pad: 1 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1"
  lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL } }
layer { name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 2 kernel_size: 5 stride: 2 } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "conv3" type: "Convolution" bottom: "pool2" top: "conv3"
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }
layer { name: "conv5" type: "Convolution" bottom: "conv3" top: "conv5"
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }
layer { name: "pool" type: "Pooling" bottom: "conv5" top: "pool"
  pooling_param { pool: AVE global_pooling: true } }
"""  # noqa: E501


def oracle(maps, bins):
    """Bin by bin: the maximum of the cells, not below ``lowest``; 0 without cells."""
    rows = []
    for window in range(len(bins)):
        parts = []
        for level, bounds in zip(bins.levels, bins.bounds, strict=True):
            part = np.zeros((len(maps), level, level), np.float32)
            for i, j in np.ndindex(level, level):
                (top, bottom), (left, right) = bounds[window, 0, i], bounds[window, 1, j]
                cells = maps[:, top:bottom, left:right]
                if cells.size:
                    part[:, i, j] = np.maximum(cells.max(axis=(1, 2)), np.float32(bins.lowest))
            parts.append(part.ravel())
        rows.append(np.concatenate(parts))
    return np.array(rows).reshape(len(bins), bins.size(len(maps)))


def random_cells(rng, windows, height, width):
    x = np.sort(rng.integers(0, width, (windows, 2)))
    y = np.sort(rng.integers(0, height, (windows, 2)))
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)


def canaried(rows, columns):
    memory = np.full((rows + 2, columns), CANARY, np.float32)
    return memory, memory[1:-1]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 33])
@pytest.mark.parametrize("levels", [(1,), (1, 2, 3, 6), (6, 3, 2, 1), (4, 3)])
def test_every_isa_equals_the_oracle(isa, channels, levels):
    rng = np.random.default_rng(channels)
    maps = rng.standard_normal((channels, 9, 11)).astype(np.float32)
    cells = random_cells(rng, 130, 9, 11)
    for bins in (spp_net_bins(cells, levels), spp_layer_bins(cells, levels)):
        memory, out = canaried(130, bins.size(channels))
        for threads in (1, 2):
            out[:] = np.nan
            pool_windows(blocked(maps), channels, bins, out, threads=threads, isa=isa)
            assert np.array_equal(out, oracle(maps, bins))
        assert (memory[[0, -1]] == CANARY).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("height", [1, 2, 3, 40, 70])
def test_bins_of_any_height(isa, height):
    """Cells of many rows at a time, and more rows than the tallest cells have."""
    rng = np.random.default_rng(height)
    maps = rng.standard_normal((17, height, 5)).astype(np.float32)
    for levels in ((1, 2, 3), (1,)):
        chosen = spp_net_bins(random_cells(rng, 60, height, 5), levels)
        out = np.empty((60, chosen.size(17)), np.float32)
        pool_windows(blocked(maps), 17, chosen, out, isa=isa)
        assert np.array_equal(out, oracle(maps, chosen))


def test_windows_go_to_the_rows_of_the_index():
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((5, 4, 4)).astype(np.float32)
    bins = spp_net_bins(random_cells(rng, 2, 4, 4), (2,))
    out = np.full((4, bins.size(5)), CANARY, np.float32)
    pool_windows(blocked(maps), 5, bins, out, [3, 1])
    assert np.array_equal(out[[3, 1]], oracle(maps, bins))
    assert (out[[0, 2]] == CANARY).all()


def test_no_windows_give_no_rows():
    bins = spp_net_bins(np.empty((0, 4), np.int64), (1, 2))
    out = np.empty((0, bins.size(3)), np.float32)
    assert pool_windows(blocked(np.ones((3, 2, 2), np.float32)), 3, bins, out).shape == (0, 15)


def test_coarse_levels_are_made_of_fine_ones_only_where_the_cells_are_the_same():
    cells = random_cells(np.random.default_rng(0), 50, 20, 20)
    assert spp_net_bins(cells, (1, 2, 3, 6)).sources() == [(3, None), (2, 3), (1, 3), (0, 1)]
    assert spp_net_bins(cells, (4, 6)).sources() == [(1, None), (0, None)]
    small = spp_layer_bins(np.array([[0, 0, 1, 1]]), (2, 4))  # bins of the finer level are empty
    assert small.sources() == [(1, None), (0, None)]
    uneven = spp_layer_bins(np.array([[0, 0, 13, 13]]), (3, 6))  # 4–8, but 4–6 and 7–9
    assert uneven.sources() == [(1, None), (0, None)]


def test_a_window_outside_its_map_is_refused():
    bins = spp_net_bins(np.array([[0, 0, 4, 1]]), (1,))
    out = np.empty((1, 1), np.float32)
    with pytest.raises(KernelError, match="outside its map"):
        pool_windows(blocked(np.ones((1, 2, 4), np.float32)), 1, bins, out)
    with pytest.raises(KernelError, match="do not fit together"):
        pool_windows(blocked(np.ones((2, 9, 9), np.float32)), 2, bins, out)


def test_bins_overlap_as_in_spp_net():
    bounds = spp_net_bins(np.array([[2, 5, 5, 14]]), (3,)).bounds[0][0]
    assert bounds[1].tolist() == [[2, 4], [3, 5], [4, 6]]  # 4 columns: 0–1, 1–2, 2–3
    assert bounds[0].tolist() == [[5, 9], [8, 12], [11, 15]]  # 10 rows: 0–3, 3–6, 6–9
    one = spp_net_bins(np.array([[7, 7, 7, 7]]), (6,)).bounds[0][0]
    assert (one == [7, 8]).all()


def test_layer_bins_equal_caffes_spp_layer():
    net = Net.parse(
        'layer { name: "data" type: "Input" top: "data" input_param { '
        "shape { dim: 1 dim: 3 dim: 13 dim: 10 } } } "
        'layer { name: "spp" type: "SPP" bottom: "data" top: "spp" '
        "spp_param { pyramid_height: 3 } }"
    )
    bind(net, None)
    x = np.random.default_rng(0).standard_normal((1, 3, 13, 10)).astype(np.float32)
    bins = spp_layer_bins(np.array([[0, 0, 9, 12]]), (1, 2, 4))
    out = np.empty((1, bins.size(3)), np.float32)
    pool_windows(blocked(x[0]), 3, bins, out)
    assert np.array_equal(out, Executor(net).run({"data": x})["spp"])


def test_roi_bins_equal_the_roi_pooling_layer():
    net = Net.parse(
        'layer { name: "data" type: "Input" top: "data" top: "rois" input_param { '
        "shape { dim: 1 dim: 3 dim: 9 dim: 10 } shape { dim: 4 dim: 5 } } } "
        'layer { name: "roi" type: "ROIPooling" bottom: "data" bottom: "rois" top: "roi" '
        "roi_pooling_param { pooled_h: 3 pooled_w: 3 spatial_scale: 0.25 } }"
    )
    bind(net, None)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 9, 10)).astype(np.float32)
    boxes = np.array([[1, 1, 40, 36], [9, 6, 12, 30], [38, 33, 44, 44], [3, 3, 3, 3]], float)
    regions = np.hstack([np.zeros((4, 1)), boxes - 1]).astype(np.float32)
    wanted = Executor(net).run({"data": x, "rois": regions})["roi"]
    geometry = MapGeometry(4, 1, 56, 0)
    bins = bins_of("roi", (3,), geometry, boxes, (36, 36), (9, 10))
    out = np.empty((4, bins.size(3)), np.float32)
    pool_windows(blocked(x[0]), 3, bins, out)
    assert np.array_equal(out, wanted.reshape(4, -1))
    assert len(roi_pooling_bins(np.empty((0, 4), np.int64), (9, 10), (3,))) == 0


def test_the_geometry_of_zf5_follows_from_its_layers():
    net = Net.parse(ZF5)
    assert map_geometry(net, "conv5") == MapGeometry(16, 21, 13, 6.5)
    assert map_geometry(net, "conv1") == MapGeometry(2, 3, 110, 0.8125)
    assert map_geometry(net, "conv5", rounding=0).rounding == 0
    with pytest.raises(ModelError, match='no blob "conv9"'):
        map_geometry(net, "conv9")


@pytest.mark.parametrize(
    ("name", "blob", "geometry"),
    [
        ("zf5_spp", "conv5", MapGeometry(16, 21, 13, 6.5)),
        ("caffenet", "conv5", MapGeometry(16, 18, 13, 6.5)),
        ("vgg16", "conv5_3", MapGeometry(16, 8.5, 14, 6.5)),
        ("squeezenet_v1.1", "fire9/concat", MapGeometry(16, 16, 13, 6.5)),
    ],
)
def test_the_geometry_of_well_known_nets(name, blob, geometry):
    net = Net.read(Path(__file__).parents[1] / "models" / f"{name}.prototxt")
    assert map_geometry(net, blob) == geometry


def test_caffes_poolings_give_the_same_pyramid_of_a_whole_map():
    """models/zf5_spp.prototxt pools a 13 x 13 map by ordinary layers."""
    net = Net.read(Path(__file__).parents[1] / "models" / "zf5_spp.prototxt")
    at = next(i for i, layer in enumerate(net.layers) if layer.name == "spp1")
    upper = net.copy()
    end = next(i for i, layer in enumerate(net.layers) if layer.name == "spp")
    text = (
        'layer { name: "data" type: "Input" top: "conv5" '
        "input_param { shape { dim: 1 dim: 256 dim: 13 dim: 13 } } }"
    )
    upper.layers = [*Net.parse(text).layers, *upper.layers[at : end + 1]]
    x = np.random.default_rng(0).random((1, 256, 13, 13)).astype(np.float32)
    bins = spp_net_bins(np.array([[0, 0, 12, 12]]), (1, 2, 3, 6))
    out = np.empty((1, bins.size(256)), np.float32)
    pool_windows(blocked(x[0]), 256, bins, out)
    assert np.array_equal(out, Executor(upper).run({"conv5": x})["spp"])


def test_a_split_kernel_leaves_the_geometry_as_it_was():
    text = ZF5.replace(
        "num_output: 2 kernel_size: 5 stride: 2",
        "num_output: 2 kernel_h: 5 kernel_w: 1 stride_h: 2 stride_w: 1",
    )
    with pytest.raises(ModelError, match="rows than in columns"):
        map_geometry(Net.parse(text), "conv5")
    text = text.replace(
        'layer { name: "pool2" type: "Pooling" bottom: "conv2"',
        'layer { name: "conv2/h" type: "Convolution" bottom: "conv2" top: "conv2/h" '
        "convolution_param { num_output: 2 kernel_h: 1 kernel_w: 5 stride_h: 1 stride_w: 2 } }\n"
        'layer { name: "pool2" type: "Pooling" bottom: "conv2/h"',
    )
    assert map_geometry(Net.parse(text), "conv5") == MapGeometry(16, 21, 13, 6.5)


def test_a_layer_that_moves_cells_has_no_geometry():
    text = ZF5 + 'layer { name: "flat" type: "Flatten" bottom: "conv5" top: "flat" }'
    with pytest.raises(ModelError, match="no map of the picture"):
        map_geometry(Net.parse(text), "flat")


def test_windows_are_projected_as_the_original_does():
    """By hand, from the formulas of the authors' code: 1-based in, 0-based cells out."""
    geometry = MapGeometry(16, 21, 13, 6.5)
    boxes = np.array([[1, 1, 500, 375], [101, 51, 300, 250], [200, 200, 201, 201]], float)
    cells = geometry.to_cells(boxes, 375, 688, (43, 57))
    # Left of the second: 100·687/374 + 1 = 184.69; (184.69 − 21 + 6.5)/16 + 0.5 = 11.14, so 11.
    # The last one ends (22) before it begins (23, counted from 1): both become 22.
    assert cells.tolist() == [[0, 0, 56, 41], [11, 5, 33, 27], [21, 21, 21, 21]]


def test_a_window_goes_to_the_scale_where_it_is_nearest_to_the_standard_crop():
    geometry = MapGeometry(16, 21, 13, 6.5)
    boxes = np.array([[1, 1, 375, 375], [1, 1, 100, 100], [1, 1, 20, 20], [1, 1, 130, 130]], float)
    scales = (480, 576, 688, 864, 1200)
    # 208·375/side: 208, 780, 3900, 600
    assert geometry.choose_scale(boxes, 375, scales).tolist() == [0, 3, 4, 1]
    tie = MapGeometry(1, 1, 10, 0)
    assert tie.choose_scale(np.array([[1, 1, 1, 1]], float), 1, (5, 15)).tolist() == [0]
