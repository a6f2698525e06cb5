"""The regions of Faster R-CNN against a plain program, and a whole net that uses them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError, UnsupportedLayer
from caffe_scnn.evaluate.benchmark import fill_randomly
from caffe_scnn.layers import reference
from caffe_scnn.layers.binding import bind
from caffe_scnn.layers.proposal import Proposals
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.loading import open_net
from caffe_scnn.model.net import Net


def proposals(param, anchors=9, size=(5, 6), tops=("rois", "scores"), module="rpn.proposal_layer"):
    height, width = size
    return Net.parse(
        f"""
layer {{ name: "s" type: "Input" top: "s"
  input_param {{ shape {{ dim: 1 dim: {2 * anchors} dim: {height} dim: {width} }} }} }}
layer {{ name: "d" type: "Input" top: "d"
  input_param {{ shape {{ dim: 1 dim: {4 * anchors} dim: {height} dim: {width} }} }} }}
layer {{ name: "i" type: "Input" top: "i" input_param {{ shape {{ dim: 1 dim: 3 }} }} }}
layer {{ name: "p" type: "Python" bottom: "s" bottom: "d" bottom: "i"
  {" ".join(f'top: "{top}"' for top in tops)}
  python_param {{ module: "{module}" layer: "ProposalLayer" param_str: "{param}" }} }}
"""
    )


def plain(scores, deltas, info, stride=16, scales=(8, 16, 32)):
    """Box by box, in plain Python, from the description in py-faster-rcnn's comments."""
    shapes = []
    for ratio in (0.5, 1, 2):
        w = round(math.sqrt(256 / ratio))
        h = round(w * ratio)
        shapes += [(w * scale, h * scale) for scale in scales]
    found = []
    for y in range(scores.shape[2]):
        for x in range(scores.shape[3]):
            for a, (w, h) in enumerate(shapes):
                dx, dy, dw, dh = (float(v) for v in deltas[0, 4 * a : 4 * a + 4, y, x])
                left, top = 7.5 + x * stride - (w - 1) / 2, 7.5 + y * stride - (h - 1) / 2
                cx, cy = left + 0.5 * w + dx * w, top + 0.5 * h + dy * h
                nw, nh = math.exp(dw) * w, math.exp(dh) * h
                box = [cx - nw / 2, cy - nh / 2, cx + nw / 2, cy + nh / 2]
                box = [min(max(v, 0), info[0][(n + 1) % 2] - 1) for n, v in enumerate(box)]
                if min(box[2] - box[0], box[3] - box[1]) + 1 >= 16 * info[0][2]:
                    found.append((float(scores[0, len(shapes) + a, y, x]), box))
    found.sort(key=lambda f: -f[0])
    kept = []
    for score, box in found[:6000]:
        if all(overlap(box, other) <= 0.7 for _, other in kept):
            kept.append((score, box))
    return kept[:300]


def overlap(a, b):
    def area(v):
        return max(v[2] - v[0] + 1, 0) * max(v[3] - v[1] + 1, 0)

    low, high = map(max, a[:2], b[:2]), map(min, a[2:], b[2:])
    box = [*low, *high]
    if box[2] - box[0] + 1 <= 0 or box[3] - box[1] + 1 <= 0:
        return 0
    return area(box) / (area(a) + area(b) - area(box))


@pytest.mark.parametrize(
    ("param", "stride", "scales", "size"),
    [
        ("'feat_stride': 16", 16, (8, 16, 32), (5, 6)),
        ("'feat_stride': 16\\n'scales': !!python/tuple [4, 8, 16]", 16, (4, 8, 16), (5, 6)),
        ("{'feat_stride': 8, 'scales': (2, 4)}", 8, (2, 4), (10, 12)),
    ],
)  # fmt: skip
def test_regions_are_those_of_a_plain_program(param, stride, scales, size):
    rng = np.random.default_rng(0)
    anchors = 3 * len(scales)
    net = proposals(param, anchors, size)
    inputs = {
        "s": rng.random((1, 2 * anchors, *size)).astype(np.float32),
        "d": rng.normal(0, 0.3, (1, 4 * anchors, *size)).astype(np.float32),
        "i": np.array([[stride * size[0], stride * size[1], 1.3]], np.float32),
    }
    want = plain(inputs["s"], inputs["d"], inputs["i"], stride, scales)
    assert 5 < len(want) <= 300
    for got in (Executor(net).run(inputs), reference.run(net, inputs)):
        assert got["rois"].shape == (len(want), 5)
        assert got["scores"].shape == (len(want), 1)
        assert np.allclose(got["scores"][:, 0], [score for score, _ in want])
        assert not got["rois"][:, 0].any()
        assert np.abs(got["rois"][:, 1:] - [box for _, box in want]).max() < 1e-3


def test_the_anchors_are_those_of_the_comment_in_the_original():
    anchors = Proposals(16)._anchors(1, 1)
    assert anchors[0].tolist() == [-84, -40, 99, 55]
    assert anchors[4].tolist() == [-120, -120, 135, 135]
    assert anchors[8].tolist() == [-168, -344, 183, 359]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"param": "'stride': 16"}, "gives no feat_stride"),
        ({"param": "'feat_stride': 16", "anchors": 12}, "9 anchors a pixel do not fit"),
        ({"param": "'feat_stride': 16", "tops": ("a", "b", "c")}, "gives regions, scores"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ModelError, match=rf'layer "p" \(Python, line 7\).*{message}'):
        infer_shapes(proposals(**options))


def test_other_python_layers_have_no_code_here():
    net = proposals("")
    net.layer("p").proto.python_param.layer = "AnchorTargetLayer"
    with pytest.raises(UnsupportedLayer, match=r"rpn\.proposal_layer\.AnchorTargetLayer"):
        infer_shapes(net)


def test_a_faster_rcnn_runs_from_image_to_classes(data_dir):
    """ZF on a small image, weights at random: regions come out, and a score for each class."""
    path = data_dir / "prototxts/rbgirshick+py-faster-rcnn"
    path /= "models__pascal_voc__ZF__faster_rcnn_end2end__test.prototxt"
    shapes = {"data": (1, 3, 160, 224), "im_info": (1, 3)}
    net = open_net(path)
    for name in ("fc6", "fc7"):
        net.layer(name).proto.inner_product_param.num_output = 32
    bind(net, None, inputs=shapes)
    fill_randomly(net, 0)
    image = np.random.default_rng(0).normal(0, 50, shapes["data"]).astype(np.float32)
    inputs = {"data": image, "im_info": np.array([[160, 224, 1]], np.float32)}
    got = Executor(net, shapes).run(inputs, ["rois", "cls_prob", "bbox_pred"])
    regions = len(got["rois"])
    assert 0 < regions <= 300
    assert got["cls_prob"].shape[:2] == (regions, 21)
    assert np.allclose(got["cls_prob"].sum(axis=1), 1, atol=1e-5)
    assert got["bbox_pred"].shape[:2] == (regions, 84)
    assert (got["rois"][:, 3:] <= [223, 159]).all()
