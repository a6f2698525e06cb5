"""Passes: the rewritten net computes what the old one did, and the old one is untouched."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from caffe_scnn.errors import PassError
from caffe_scnn.layers import layer_type, reference
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.loading import load
from caffe_scnn.model.net import Net
from caffe_scnn.passes import PASSES

INPUT = (
    'layer { name: "data" type: "Input" top: "data" '
    "input_param { shape { dim: 2 dim: 4 dim: 6 dim: 5 } } }\n"
)


def net_of(text, factor=1.0):
    net = Net.parse(INPUT + text)
    shapes = infer_shapes(net)
    rng = np.random.default_rng(3)
    for layer in net.layers:
        for param in layer_type(layer).params(layer, shapes.bottoms[layer]):
            layer.blobs.append(rng.standard_normal(param.shape).astype(np.float32))
        if layer.type == "BN" and len(layer.blobs) == 4:
            layer.blobs[3] = np.abs(layer.blobs[3])
        if layer.type == "BatchNorm":
            layer.blobs[1] = np.abs(layer.blobs[1]) * np.float32(factor or 1)
            layer.blobs[2][:] = factor
    return net


def same_results(net, other):
    rng = np.random.default_rng(4)
    shape = infer_shapes(net).blobs["data"]
    data = {"data": rng.standard_normal(shape)}
    want, got = reference.run(net, data), reference.run(other, data)
    assert want.keys() == got.keys()
    for name in want:
        assert np.abs(got[name] - want[name]).max() <= 1e-6 * np.abs(want[name]).max()


def layer(name, kind, bottom, top, rest=""):
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {rest} }}\n'


CONV = "convolution_param { num_output: 6 kernel_size: 3 %s }"
SCALE = "scale_param { bias_term: true }"


@pytest.mark.parametrize("factor", [1.0, 0.0, 999.98])
@pytest.mark.parametrize("top", ["c", "other"])
@pytest.mark.parametrize("bias", ["bias_term: false", "", "group: 2"])
def test_fold_into_a_convolution(factor, top, bias):
    net = net_of(
        layer("c", "Convolution", "data", "c", CONV % bias)
        + layer("bn", "BatchNorm", "c", top)
        + layer("sc", "Scale", top, top, SCALE)
        + layer("r", "ReLU", top, top),
        factor,
    )
    blobs = [[blob.copy() for blob in one.blobs] for one in net.layers]
    text = net.text()
    result = PASSES["fold_batch_norm"](net)
    assert result.changed == 2 and [one.name for one in result.net.layers] == ["data", "c", "r"]
    same_results(net, result.net)
    assert net.text() == text
    for one, old in zip(net.layers, blobs, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.blobs, old, strict=True))


@pytest.mark.parametrize("transpose", ["", "transpose: true"])
def test_fold_into_a_fully_connected_layer(transpose):
    param = f"inner_product_param {{ num_output: 7 bias_term: false {transpose} }}"
    net = net_of(
        layer("ip", "InnerProduct", "data", "ip", param)
        + layer("bn", "BatchNorm", "ip", "ip")
        + layer("b", "Bias", "ip", "ip")
    )
    result = PASSES["fold_batch_norm"](net)
    assert [one.name for one in result.net.layers] == ["data", "ip"]
    same_results(net, result.net)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (layer("bn", "BatchNorm", "data", "x"), "no weights"),
        (
            layer("c", "Convolution", "data", "c", CONV % "")
            + layer("bn", "BatchNorm", "c", "x")
            + layer("r", "ReLU", "c", "y"),
            "other readers",
        ),
        (
            layer("c", "Convolution", "data", "c", CONV % "")
            + layer("bn", "BatchNorm", "c", "x", "batch_norm_param { use_global_stats: false }"),
            "fixed scale",
        ),
        (
            layer("c", "Convolution", "data", "c", 'param { name: "w" }' + CONV % "")
            + layer("bn", "BatchNorm", "c", "x"),
            "shared",
        ),
        (
            layer("c", "Convolution", "data", "c", CONV % "")
            + layer("s", "Scale", "c", "x", "scale_param { axis: 2 num_axes: 2 }"),
            "fixed scale",
        ),
    ],
)
def test_what_cannot_be_folded_is_left_with_the_reason(text, reason):
    net = net_of(text)
    result = PASSES["fold_batch_norm"](net)
    assert result.changed == 0 and reason in result.notes[0]
    assert result.net.text() == net.text()


def test_a_wrong_fold_is_caught(monkeypatch):
    net = net_of(
        layer("c", "Convolution", "data", "c", CONV % "") + layer("bn", "BatchNorm", "c", "c")
    )
    module = sys.modules["caffe_scnn.passes.fold_batch_norm"]
    check = module._check

    def off_by_a_little(linear, *rest):
        linear.blobs[0][0] *= np.float32(1 + 1e-5)
        check(linear, *rest)

    monkeypatch.setattr(module, "_check", off_by_a_little)
    with pytest.raises(PassError, match='"c" does not compute'):
        PASSES["fold_batch_norm"](net)


@pytest.mark.parametrize("case", ["nets/resnet", "nets/mobilenet", "layers/bn_scale_inplace"])
def test_folded_golden_nets_keep_real_caffes_numbers(golden_dir, case):
    files = golden_dir / case
    net = load(files.with_suffix(".prototxt"), files.with_suffix(".caffemodel"))
    result = PASSES["fold_batch_norm"](net)
    assert result.changed
    arrays = np.load(files.with_suffix(".npz"))
    inputs = {key[3:]: arrays[key] for key in arrays.files if key.startswith("in/")}
    for name, got in reference.run(result.net, inputs).items():
        want = arrays[f"out/{name}"]
        assert np.abs(got - want).max() <= 2e-5 * np.abs(want).max()


BNS = ("bn_param { bn_mode: INFERENCE }", "bn_param { frozen: true }")


@pytest.mark.parametrize("bn", BNS)
def test_bn_of_two_forks_is_folded(bn):
    text = layer("c", "Convolution", "data", "c", CONV % "") + layer("b", "BN", "c", "b", bn)
    net = net_of(text)
    result = PASSES["fold_batch_norm"](net)
    assert [one.type for one in result.net.layers] == ["Input", "Convolution"]
    same_results(net, result.net)


def test_bn_with_statistics_of_the_batch_is_left():
    text = layer("c", "Convolution", "data", "c", CONV % "")
    net = net_of(text + layer("b", "BN", "c", "c", "bn_param { bn_mode: LEARN }"))
    for name, reason in (("fold_batch_norm", "fixed scale"), ("to_stock", "of the batch")):
        result = PASSES[name](net)
        assert result.changed == 0
        assert reason in result.notes[0]


@pytest.mark.parametrize("bn", BNS)
@pytest.mark.parametrize("kind", ["DepthwiseConvolution", "ConvolutionDepthwise"])
def test_fork_types_become_stock_ones(kind, bn):
    net = net_of(
        layer("d", kind, "data", "d", "convolution_param { num_output: 8 kernel_size: 3 }")
        + layer("b", "BN", "d", "d", f"param {{ lr_mult: 0 }} {bn}")
        + layer("r", "ReLU6", "d", "d")
    )
    result = PASSES["to_stock"](net)
    assert [one.type for one in result.net.layers] == ["Input", "Convolution", "Scale", "Clip"]
    assert Net.parse(result.net.text()).layer("b").proto == result.net.layer("b").proto
    assert result.net.layer("d").proto.convolution_param.group == 4
    same_results(net, result.net)
