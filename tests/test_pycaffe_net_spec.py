"""NetSpec, layers and params write the prototxt that was meant; draw shows it."""

from __future__ import annotations

import doctest
import shutil

import pytest
from google.protobuf import text_format

from caffe_scnn import pycaffe as caffe
from caffe_scnn.errors import OutputError
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Net
from caffe_scnn.pycaffe import draw, net_spec
from caffe_scnn.pycaffe import layers as L
from caffe_scnn.pycaffe import params as P


def lenet():
    n = caffe.NetSpec()
    n.data = L.Input(shape=[{"dim": [2, 1, 28, 28]}])
    weights = {"weight_filler": {"type": "xavier"}, "param": [{"lr_mult": 1}, {"lr_mult": 2}]}
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, **weights)
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.fc1 = L.InnerProduct(n.pool1, num_output=10, weight_filler={"type": "xavier"})
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.Softmax(n.relu1)
    return n


def test_the_example_of_the_module():
    assert doctest.testmod(net_spec).failed == 0
    assert doctest.testmod(net_spec).attempted == 6


def test_a_net_is_written_and_runs(tmp_path):
    text = str(lenet().to_proto())
    shapes = infer_shapes(Net.parse(text)).blobs
    assert shapes["conv1"] == (2, 20, 24, 24) and shapes["score"] == (2, 10)
    proto = text_format.Parse(text, caffe.proto.caffe_pb2.NetParameter())
    assert [layer.name for layer in proto.layer] == [
        "data", "conv1", "pool1", "fc1", "relu1", "score",
    ]  # fmt: skip
    assert list(proto.layer[4].top) == ["fc1"] and list(proto.layer[5].bottom) == ["fc1"]
    assert [spec.lr_mult for spec in proto.layer[1].param] == [1, 2]
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    assert caffe.Net(str(path), caffe.TEST).forward()["score"].shape == (2, 10)


def test_tops_without_a_name_are_numbered():
    data, label = L.Data(ntop=2, source="db", batch_size=3)
    proto = caffe.to_proto(L.SoftmaxWithLoss(L.InnerProduct(data, num_output=2), label))
    assert [layer.name for layer in proto.layer][1:] == ["InnerProduct1", "SoftmaxWithLoss1"]
    assert len(set(proto.layer[0].top)) == 2
    assert list(proto.layer[2].bottom) == [*proto.layer[1].top, proto.layer[0].top[1]]
    assert proto.layer[0].data_param.batch_size == 3


def test_fields_go_to_the_type_or_the_layer():
    top = L.Data(ntop=1, include={"phase": caffe.TRAIN}, transform_param={"scale": 0.5})
    layer = caffe.to_proto(top).layer[0]
    assert layer.include[0].phase == caffe.TRAIN and layer.transform_param.scale == 0.5
    up = L.Deconvolution(L.Input(), num_output=2, convolution_param={"kernel_size": 4})
    assert list(caffe.to_proto(up).layer[1].convolution_param.kernel_size) == [4]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: caffe.to_proto(L.Convolution(L.Input(), kernel=3)), AttributeError),
        (lambda: caffe.to_proto(L.Convolution(L.Input(), weight_filler={"x": 1})), AttributeError),
        (lambda: L.ReLU("data"), TypeError),
        (lambda: L.Concat(L.Input(), L.Input(), in_place=True), ValueError),
        (lambda: P.NoSuchThing.MAX, AttributeError),
        (lambda: caffe.NetSpec().nothing, AttributeError),
    ],
)
def test_mistakes_are_told(make, error):
    with pytest.raises(error):
        make()


def test_a_deep_net_is_no_deep_recursion():
    top = L.Input()
    for _ in range(3000):
        top = L.ReLU(top)
    assert len(caffe.to_proto(top).layer) == 3001


def test_a_net_as_a_graph(tmp_path):
    text = draw.dot(lenet().to_proto(), "TB")
    assert text.startswith("digraph") and "rankdir=TB" in text
    assert '"blob data" -> layer1;' in text and 'layer1 -> "blob conv1";' in text
    assert '"blob fc1" -> layer4 [dir=both];' in text
    assert "20 outputs" in text
    caffe.draw.draw_net_to_file(lenet().to_proto(), tmp_path / "net.dot", "TB")
    assert (tmp_path / "net.dot").read_text() == text


def test_drawing_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(OutputError, match="needs Graphviz"):
        draw.draw_net_to_file(lenet().to_proto(), tmp_path / "net.svg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not shutil.which("dot"), reason="Graphviz is not installed")
def test_graphviz_draws_it(tmp_path):
    draw.draw_net_to_file(lenet().to_proto(), tmp_path / "net.svg")
    assert "<svg" in (tmp_path / "net.svg").read_text()


def test_layers_of_the_other_phase_are_left_out():
    top = L.Data(ntop=1, name="d", include={"phase": caffe.TRAIN})
    net = caffe.to_proto(L.ReLU(top))
    assert "(Data)" in draw.dot(net) and "(Data)" not in draw.dot(net, phase=caffe.TEST)
