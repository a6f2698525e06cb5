"""Decomposed nets against the numbers of real Caffe, and BatchNorm folding before pruning."""

import numpy as np
import pytest

from caffe_scnn.decompose import Goal, Magnitude, Recipe, Scnn, compress
from caffe_scnn.decompose.sparsify import for_budget
from caffe_scnn.engine import Executor
from caffe_scnn.layers.reference import run
from caffe_scnn.loading import load
from caffe_scnn.model.net import Layer
from caffe_scnn.passes import fold_batch_norm
from caffe_scnn.proto import caffe_pb2 as pb

NETS = ("alexnet", "googlenet", "mobilenet", "resnet", "separable", "shared_params", "vgg")


def golden(folder, name):
    """The net, what it is fed and what Caffe made of it."""
    net = load(folder / f"{name}.prototxt", folder / f"{name}.caffemodel")
    arrays = np.load(folder / f"{name}.npz")
    parts = {
        kind: {k.removeprefix(kind): arrays[k] for k in arrays if k.startswith(kind)}
        for kind in ("in/", "out/")
    }
    return net, parts["in/"], parts["out/"]


@pytest.mark.parametrize("method", [Scnn(), Scnn("dictionary", "pca", iterations=2)], ids=str)
@pytest.mark.parametrize("name", NETS)
def test_a_full_rank_net_agrees_with_caffe_on_the_original(golden_dir, name, method):
    net, inputs, outputs = golden(golden_dir / "nets", name)
    everything = tuple(layer.name for layer in net if layer.type == "Convolution")
    small = compress(net, Recipe(Goal(method), layers=everything)).net
    assert len(small.layers) > len(net.layers)
    found = run(small, inputs, list(outputs))
    for blob, wanted in outputs.items():
        assert np.abs(found[blob] - wanted).max() <= 2e-5 * np.abs(wanted).max(), blob


def test_the_written_form_is_that_of_the_golden_net(golden_dir):
    """The golden net is a 4 → 10 convolution, decomposed and run by real Caffe."""
    wanted, _, _ = golden(golden_dir / "nets", "scnn")
    original = wanted.copy()
    p, q, s = (original.layer(name) for name in ("conv_p", "conv_s", "conv"))
    s.proto.bottom[0] = "data"
    s.proto.convolution_param.kernel_size[0] = 3
    s.proto.convolution_param.pad.append(1)
    rng = np.random.default_rng(0)
    s.blobs[0] = rng.standard_normal((10, 4, 3, 3)).astype(np.float32)
    for layer in (p, q):
        original.remove(layer)
    found = compress(original, Recipe(Goal(Scnn(p="pca", q=3)), layers=("conv",))).net
    written = [layer for layer in found if layer.type == "Convolution"]
    for layer, like in zip(written, wanted.layers[1:4], strict=True):
        assert [blob.shape for blob in layer.blobs] == [blob.shape for blob in like.blobs]
        assert _canonical(layer) == _canonical(like)


def _canonical(layer):
    """Parameters with group given, without names."""
    parameters = type(layer.proto.convolution_param)()
    parameters.CopyFrom(layer.proto.convolution_param)
    parameters.group = parameters.group
    return parameters


@pytest.mark.parametrize("across_layers", [False, True])
def test_pruning_keeps_the_same_weights_before_and_after_folding(golden_dir, across_layers):
    net, _, _ = golden(golden_dir / "nets", "mobilenet")
    recipe = Recipe(Goal(Magnitude(), 0.4), across_layers=across_layers)
    masks = [
        {r.layer: small.net.layer(r.layer).blobs[0] != 0 for r in small.reports}
        for small in (compress(net, recipe), compress(fold_batch_norm(net).net, recipe))
    ]
    assert masks[0].keys() == masks[1].keys()
    for name, mask in masks[0].items():
        assert np.array_equal(mask, masks[1][name]), name


@pytest.mark.parametrize("name", ["alexnet", "squeezenet"])
def test_the_engine_runs_a_sparse_decomposed_net_as_its_reference(golden_dir, name):
    net, inputs, outputs = golden(golden_dir / "nets", name)
    small = compress(net, Recipe(Goal(Scnn(p="pca"), 0.9))).net
    blobs = list(outputs)
    wanted, found = run(small, inputs, blobs), Executor(small, threads=1).run(inputs, blobs)
    for blob in outputs:
        difference = np.abs(found[blob] - wanted[blob]).max()
        assert difference <= 2e-5 * np.abs(wanted[blob]).max(), blob


def test_the_real_squeezenet_at_full_rank_agrees_with_caffe(data_dir, real_golden_dir):
    folder = data_dir / "squeezenet"
    net = load(folder / "deploy.prototxt", folder / "squeezenet.caffemodel")
    arrays = np.load(real_golden_dir / "squeezenet.npz")
    pixels = arrays["u8/data"] - arrays["mean/data"][:, None, None]
    small = compress(net, Recipe(Goal(Scnn(p="pca")))).net
    (found,) = Executor(small).run({"data": pixels * arrays["scale/data"]}).values()
    wanted = arrays["out/pool_final"]
    assert np.abs(found - wanted).max() <= 2e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(("name", "group"), [("conv3", 1), ("conv4", 2), ("conv5", 2)])
def test_pca_keeps_more_of_real_filters_than_pruning_at_equal_non_zeros(data_dir, name, group):
    weights = np.load(data_dir / "caffenet_conv" / "top1_0.56318_dense.npz")[name]
    proto = pb.LayerParameter(name=name, type="Convolution", bottom=["x"], top=["y"])
    proto.convolution_param.group = group
    layer = Layer(proto, [weights])
    budget = round(0.05 * weights.size)
    errors = []
    for method in (Scnn(), Magnitude()):
        candidate = method.prepare([layer], 0)
        (edit,) = candidate.edits(for_budget([candidate.offer], budget)[0])
        assert sum(np.count_nonzero(part.blobs[0]) for part in edit.chain) == budget
        errors.append(edit.weight_error)
    assert errors[0] < errors[1]
