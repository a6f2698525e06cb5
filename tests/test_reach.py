"""How much an output matters, by the weights that read it."""

import numpy as np
import pytest
from test_decompose_compress import INPUT, layer, net_of

from caffe_scnn.decompose.reach import LEAST, POWER, Reach

RESHAPE = (
    'layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param { kernel_size: 2 } }'
)


def relative(net, name="c"):
    found = Reach(net).importance(name)
    assert found.mean() == pytest.approx(1.0)
    return found ** (1 / POWER)


def test_a_channel_counts_by_the_weights_that_read_it():
    net = net_of(
        INPUT,
        layer("c", "data", "num_output: 4 kernel_size: 3"),
        RESHAPE,
        layer("d", "p", "num_output: 5 kernel_size: 1"),
    )
    norms = np.square(net.layer("d").blobs[0]).sum(axis=(0, 2, 3))
    found = relative(net)
    np.testing.assert_allclose(found / found[0], norms / norms[0], rtol=1e-5)


def test_depthwise_layers_hand_on_and_several_readers_add_up():
    net = net_of(
        INPUT,
        layer("c", "data", "num_output: 4 kernel_size: 3 pad: 1"),
        layer("w", "c", "num_output: 4 kernel_size: 3 group: 4"),
        layer("d", "w", "num_output: 6 kernel_size: 3 group: 2"),
        layer("fc", "w", "num_output: 3", "InnerProduct"),
    )
    w, d, fc = (net.layer(name).blobs[0].astype(np.float64) for name in ("w", "d", "fc"))
    by_conv = np.concatenate([np.square(part).sum(axis=(0, 2, 3)) for part in (d[:3], d[3:])])
    by_fc = np.square(fc).reshape(3, 4, -1).sum(axis=(0, 2))
    wanted = np.square(np.abs(w).sum(axis=(1, 2, 3))) * (by_conv + by_fc)
    found = relative(net)
    np.testing.assert_allclose(found / found[0], wanted / wanted[0], rtol=1e-5)


def test_outputs_of_the_net_count_alike_and_a_channel_that_is_hardly_read_counts_a_little():
    net = net_of(
        INPUT,
        layer("c", "data", "num_output: 4 kernel_size: 3"),
        layer("d", "c", "num_output: 5 kernel_size: 1"),
    )
    assert Reach(net).importance("d").tolist() == [1] * 5
    net.layer("d").blobs[0][:, 0] *= np.float32(1e-6)
    found = Reach(net).importance("c")
    assert found[0] < found[1:].min()
    norms = np.square(net.layer("d").blobs[0].astype(np.float64)).sum(axis=(0, 2, 3))
    assert found[0] / found[1] == pytest.approx((LEAST * norms.mean() / norms[1]) ** POWER)
