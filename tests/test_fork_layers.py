"""Layers of forks against OpenCV 4 and PyTorch; fixtures/make_fork_layers.py made the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.layers import reference
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Net

ARRAYS = np.load(Path(__file__).parent / "fixtures" / "fork_layers.npz")
CASES = sorted({name.split("/")[0] for name in ARRAYS.files})
TOLERANCE = 3e-6  # of the largest value: both compute in float32


@pytest.mark.parametrize("case", CASES)
def test_an_independent_implementation_agrees(case):
    net = Net.parse(str(ARRAYS[f"{case}/prototxt"]))
    blobs = sorted(name for name in ARRAYS.files if name.startswith(f"{case}/blob/"))
    net.layer("x").blobs = [ARRAYS[name] for name in blobs]
    inputs = {
        name.split("/")[-1]: ARRAYS[name] for name in ARRAYS.files if name.startswith(f"{case}/in/")
    }
    want = ARRAYS[f"{case}/out"]
    if case.startswith("detection"):  # OpenCV orders by confidence, Caffe by label first
        rows = want[0, 0]
        want = rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))][None, None]
    for got in (Executor(net).run(inputs)["x"], reference.run(net, inputs)["x"]):
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= TOLERANCE * np.abs(want).max()


def one(kind, body, *shapes):
    text = ""
    for n, shape in enumerate(shapes):
        dims = " ".join(f"dim: {d}" for d in shape)
        text += f'layer {{ name: "b{n}" type: "Input" top: "b{n}" '
        text += f"input_param {{ shape {{ {dims} }} }} }}\n"
    bottoms = " ".join(f'bottom: "b{n}"' for n in range(len(shapes)))
    return Net.parse(text + f'layer {{ name: "x" type: "{kind}" {bottoms} top: "x" {body} }}')


def test_no_detection_gives_a_row_of_minus_one_for_each_image():
    net = one(
        "DetectionOutput",
        "detection_output_param { num_classes: 2 confidence_threshold: 0.9 keep_top_k: 5 }",
        (3, 8), (3, 4), (1, 2, 8),
    )  # fmt: skip
    inputs = {"b0": np.zeros((3, 8)), "b1": np.full((3, 4), 0.5), "b2": np.ones((1, 2, 8))}
    want = [[[[image, *[-1] * 6] for image in range(3)]]]
    assert np.array_equal(Executor(net).run(inputs)["x"], want)
    found = dict(inputs, b1=np.array([[0, 1, 0, 0]] * 3, float))
    assert Executor(net).run(found)["x"].shape == (1, 1, 3, 7)


def test_position_sensitive_pooling_reads_each_bin_from_its_own_channels():
    """Channel (c·g + i)·g + j holds its own number, so bin (i, j) of output c must give it."""
    net = one(
        "PSROIPooling",
        "psroi_pooling_param { spatial_scale: 0.5 output_dim: 2 group_size: 3 }",
        (1, 18, 8, 8), (1, 5),
    )  # fmt: skip
    x = np.broadcast_to(np.arange(18.0)[:, None, None], (18, 8, 8))[None]
    got = reference.run(net, {"b0": x, "b1": np.array([[0, 1, 1, 12, 12]])})["x"]
    assert np.array_equal(got, np.arange(18.0).reshape(1, 2, 3, 3))
    ramp = np.broadcast_to(np.arange(8.0), (1, 18, 8, 8))
    got = reference.run(net, {"b0": ramp, "b1": np.array([[0, 2, 0, 7, 15]])})["x"]
    # start 1, end 4 on the map: three bins of one column each.
    assert np.array_equal(got[0, 0], [[1, 2, 3]] * 3)


def test_an_unpooling_mask_must_fit():
    net = one("Upsample", "upsample_param { scale: 2 }", (1, 1, 2, 2), (1, 1, 2, 2))
    with pytest.raises(ModelError, match=r'layer "x".*points to 16, outside of 4x4'):
        reference.run(net, {"b0": np.ones((1, 1, 2, 2)), "b1": np.full((1, 1, 2, 2), 16)})


def test_rounding_of_a_pooling_by_the_fork_field():
    shapes = (1, 1, 6, 6)
    for body, size in (("", 3), ("ceil_mode: true", 3), ("ceil_mode: false", 2)):
        net = one("Pooling", f"pooling_param {{ kernel_size: 3 stride: 2 {body} }}", shapes)
        assert infer_shapes(net).blobs["x"] == (1, 1, size, size)


@pytest.mark.parametrize(
    ("kind", "body", "shapes", "message"),
    [
        ("Permute", "permute_param { order: 1 order: 1 }", [(2, 3)], r"order \[1, 1\]"),
        ("Permute", "permute_param { order: 2 }", [(2, 3)], "2 axes"),
        ("PriorBox", "", [(1, 1, 2, 2)] * 2, "min_size"),
        ("PriorBox", "prior_box_param { min_size: 4 max_size: 3 }", [(1, 1, 2, 2)] * 2, "exceed"),
        ("DetectionOutput", "detection_output_param { num_classes: 2 }",
         [(1, 8), (1, 6), (1, 2, 8)], "2 priors do not fit"),
        ("ROIPooling", "", [(1, 1, 2, 2), (1, 5)], "pooled_h"),
        ("ROIPooling", "roi_pooling_param { pooled_h: 1 pooled_w: 1 }",
         [(1, 1, 2, 2), (1, 4)], "regions"),
        ("PSROIPooling", "psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }",
         [(1, 7, 2, 2), (1, 5)], "7 channels"),
        ("Interp", "", [(1, 1, 2, 2)], "zoom_factor"),
        ("Interp", "interp_param { zoom_factor: 2 pad_beg: 1 }", [(1, 1, 2, 2)], "positive"),
        ("Upsample", "upsample_param { scale: 3 pad_out_h: true }", [(1, 1, 2, 2)], "scale of 2"),
        ("ShuffleChannel", "shuffle_channel_param { group: 4 }", [(1, 6, 2, 2)], "4 groups"),
        ("Axpy", "", [(1, 2, 1, 1), (1, 3, 2, 2), (1, 3, 2, 2)], "takes a"),
        ("Normalize", 'softmax_param { normalize_type: "L1" }', [(1, 3)], "L1"),
    ],
)  # fmt: skip
def test_what_a_fork_would_refuse_is_refused(kind, body, shapes, message):
    with pytest.raises(ModelError, match=rf'layer "x" \({kind}.*{message}'):
        infer_shapes(one(kind, body, *shapes))


@pytest.mark.parametrize(("threshold", "eta", "kept"), [(0.45, 1, 1), (0.65, 1, 2), (0.65, 0.9, 1)])
def test_detections_that_overlap_too_much_fall(threshold, eta, kept):
    """Two boxes share 0.6 of their union; eta lowers a threshold above one half by each kept."""
    net = one(
        "DetectionOutput",
        "detection_output_param { num_classes: 2 keep_top_k: 5 confidence_threshold: 0.1 "
        f"nms_param {{ nms_threshold: {threshold} eta: {eta} }} }}",
        (1, 8), (1, 4), (1, 2, 8),
    )  # fmt: skip
    priors = np.array([[[0, 0, 0.8, 1, 0.2, 0, 1, 1], [0.1] * 8]])
    inputs = {"b0": np.zeros((1, 8)), "b1": np.array([[0.1, 0.9, 0.2, 0.8]]), "b2": priors}
    got = Executor(net).run(inputs)["x"]
    assert np.allclose(got[0, 0, :, 2], [0.9, 0.8][:kept])


@pytest.mark.parametrize("eta", [1, 0.97])
def test_many_detections_fall_as_in_a_plain_program(eta):
    """Box after box against all that are kept, several blocks of them."""
    rng = np.random.default_rng(0)
    count = 500
    net = one(
        "DetectionOutput",
        "detection_output_param { num_classes: 2 keep_top_k: 999 "
        f"nms_param {{ nms_threshold: 0.6 eta: {eta} }} }}",
        (1, 4 * count), (1, 2 * count), (1, 2, 4 * count),
    )  # fmt: skip
    low = rng.random((count, 2)).astype(np.float32)
    boxes = np.hstack([low, low + rng.uniform(0.2, 0.6, (count, 2)).astype(np.float32)])
    scores = rng.random((count, 2)).astype(np.float32)
    priors = np.stack([boxes.ravel(), np.full(4 * count, 0.1)])[None]
    inputs = {"b0": np.zeros((1, 4 * count)), "b1": scores.reshape(1, -1), "b2": priors}
    kept, threshold = [], 0.6
    for at in np.argsort(-scores[:, 1]):
        if all(intersection_over_union(boxes[at], boxes[k]) <= threshold for k in kept):
            kept.append(at)
            threshold *= eta if threshold > 0.5 else 1
    assert 130 < len(kept) < count
    got = Executor(net).run(inputs)["x"][0, 0]
    assert np.allclose(got[:, 2], scores[kept, 1])
    assert np.allclose(got[:, 3:], boxes[kept])


def intersection_over_union(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (both - width * height)
