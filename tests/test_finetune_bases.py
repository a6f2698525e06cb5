"""Bases and coefficients computed as one convolution: the same values and gradients, less work."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net

torch = pytest.importorskip("torch", reason="fine-tuning needs PyTorch (extra: train)")
from caffe_scnn.finetune.bridge import NetModule  # noqa: E402

NET = """
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: 2 dim: {channels} dim: 7 dim: 6 }} }} }}
layer {{ name: "Q" type: "Convolution" bottom: "data" top: "Q" convolution_param {{
  num_output: {bases} kernel_size: 3 pad: 1 {window} group: {channels} bias_term: {bias} }} }}
{between}
layer {{ name: "S" type: "Convolution" bottom: "Q" top: "S" convolution_param {{
  num_output: {outputs} kernel_size: 1 {group} }} }}
layer {{ name: "out" type: "ReLU" bottom: "S" top: "out" }}
{after}
"""
READER = 'layer {{ name: "again" type: "{}" bottom: "Q" top: "{}" }}'


def module_of(channels=4, each=9, outputs=6, window="", group="", bias="false", **more):
    text = NET.format(
        channels=channels,
        bases=channels * each,
        outputs=outputs,
        window=window,
        group=group,
        bias=bias,
        **{"between": "", "after": "", **more},
    )
    net = Net.parse(text)
    bind(net, None)
    rng = np.random.default_rng(0)
    for layer in net:
        for blob in layer.blobs:
            blob[...] = rng.standard_normal(blob.shape)
    return NetModule(net).double(), torch.from_numpy(rng.standard_normal((2, channels, 7, 6)))


def watched(module):
    """Count how often the bases are computed themselves."""
    calls = []
    module.layer("Q").register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"group": "group: 2", "window": "stride: 2 dilation: 2"},
        {"channels": 1, "each": 9},
        {"group": "group: 4", "outputs": 8},
    ],
    ids=["plain", "groups", "one channel", "as many groups as channels"],
)
def test_values_and_gradients_are_those_of_the_two_layers(settings):
    module, x = module_of(**settings)
    calls, found = watched(module), []
    for wanted in (["out"], ["out", "Q"]):  # a blob that is asked for is computed
        module.zero_grad()
        data = x.clone().requires_grad_()
        out = module({"data": data}, wanted)["out"]
        out.square().sum().backward()
        grads = [own.grad for own in module.parameters()]
        found.append([out.detach(), data.grad, *grads])
        assert len(calls) == ("Q" in wanted)
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "settings",
    [
        {"bias": "true"},
        {"after": READER.format("TanH", "again")},
        {"between": READER.format("ReLU", "Q")},
        {"each": 1, "outputs": 80},  # one convolution would be more work than the two
    ],
    ids=["bias", "another reader", "not linear", "few bases"],
)
def test_other_pairs_are_left_as_they_are(settings):
    module, x = module_of(**settings)
    calls = watched(module)
    module({"data": x}, ["out"])
    assert calls


def test_bases_that_are_given_are_used():
    module, x = module_of()
    bases = module({"data": x}, ["Q"])["Q"]
    got = module({"Q": 2 * bases}, ["S"])["S"]
    want = module.layer("S")(2 * bases)[0]
    torch.testing.assert_close(got, want)
