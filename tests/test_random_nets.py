"""Random nets: whatever the order of layers, the engine agrees with its float64 twin.

``CAFFE_SCNN_RANDOM_NETS=from:to`` runs other seeds than the default ones.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from random_nets import random_net

from caffe_scnn import _kernels
from caffe_scnn.engine import Executor
from caffe_scnn.layers import reference

FIRST, LAST = map(int, os.environ.get("CAFFE_SCNN_RANDOM_NETS", "0:60").split(":"))
TOLERANCE = 2e-5  # of a blob's largest value; see tests/golden/README.md


def inputs_of(executor, seed, items=None):
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal((items or shape[0], *shape[1:])).astype(np.float32)
        for name, shape in executor.shapes.items()
    }


def assert_close(got, want):
    for name, value in want.items():
        assert got[name].shape == value.shape, name
        largest = np.abs(value).max()
        error = np.abs(got[name].astype(np.float64) - value).max()
        assert error <= TOLERANCE * max(largest, 1e-6), f"{name}: {error} of {largest}"


@pytest.mark.parametrize("seed", range(FIRST, LAST))
def test_a_random_net_runs_like_its_reference(seed, request):
    if seed % 5:
        request.getfixturevalue("nothing_copied")
    net = random_net(seed)
    isas = [*_kernels.isas(), *(["amx"] if _kernels.has_amx() else [])]
    executor = Executor(net, threads=1 + seed % 2, isa=isas[seed % len(isas)])
    inputs = inputs_of(executor, seed)
    names = list(dict.fromkeys(top for layer in net.layers for top in layer.tops))
    want = reference.run(net, inputs, names)
    outputs = executor.run(inputs)
    assert_close(outputs, {name: want[name] for name in outputs})
    assert_close(executor.run(inputs, names), want)

    # another batch size makes another plan, and leaves the first one's answer as it was
    other = inputs_of(executor, seed + 1, items=1 + seed % 4)
    got = executor.run(other)
    assert_close(got, reference.run(net, other, list(got)))
    again = executor.run(inputs)
    assert all(np.array_equal(again[name], outputs[name]) for name in outputs)
