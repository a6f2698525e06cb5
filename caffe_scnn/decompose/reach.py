"""How much every output of a layer matters to the layers that read it, by their weights.

Behind BatchNorm, ReLU and a depthwise layer, a channel's error arrives at the next convolution,
and is multiplied there by the weights that read the channel: where these are small, the error is
harmless. The amplification is read off the weights with BatchNorm and Scale folded in; it is only
a rule of thumb (errors of channels that are read together may cancel or add up), and so a
power of it counts.
"""

from __future__ import annotations

import numpy as np

from caffe_scnn.calibrate.patches import groups
from caffe_scnn.decompose.sparsify import Array
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.channels import Channels, Numbers, is_transposed

# Of the squared amplification: 0 is no difference between outputs, 1 would be all of it. Found on
# MobileNet v1 (see docs/decisions/obs-support.md).
POWER = 0.4
# An output that nobody listens to still counts this much of the mean.
LEAST = 0.05


class Reach:
    """The amplification of every channel of a net.

    Parameters
    ----------
    net : Net
        With blobs, BatchNorm and Scale folded.
    """

    def __init__(self, net: Net) -> None:
        channels = Channels(net)
        self._channels = channels
        self._by_name = {layer.name: layer for layer in net}
        handed_on = np.ones(channels.count)
        for layer in channels.depthwise:
            (numbers,) = channels.bottoms(layer)
            sums = np.abs(layer.blobs[0]).reshape(len(numbers), -1).sum(axis=1, dtype=np.float64)
            handed_on[numbers] *= np.square(sums)
        read = np.zeros(channels.count)
        for layer, linear in channels.linear.items():
            if layer.blobs:
                np.add.at(read, linear.columns, _column_norms(layer, linear.columns))
        self._squared = handed_on * read

    def importance(self, name: str) -> Array:
        """Return how much the errors of a layer's outputs count: (n,), one on average."""
        layer = self._by_name[name]
        squared = self._squared[self._channels.tops(layer)[0]]
        known = squared > 0
        if not known.any() or len(squared) != _outputs(layer):
            return np.ones(_outputs(layer))
        mean = squared[known].mean()
        relative = np.where(known, np.maximum(squared / mean, LEAST), 1.0) ** POWER
        return np.asarray(relative / relative.mean())


def _outputs(layer: Layer) -> int:
    transposed = layer.type == "InnerProduct" and is_transposed(layer)
    return int(layer.blobs[0].shape[1 if transposed else 0])


def _column_norms(layer: Layer, columns: Numbers) -> Array:
    """Return the squared norm of the weights that read each column."""
    weights = layer.blobs[0].astype(np.float64)
    if layer.type == "InnerProduct":
        rows = weights.T if is_transposed(layer) else weights
        return np.asarray(np.square(rows).sum(axis=0))
    if is_transposed(layer):
        return np.asarray(np.square(weights).reshape(len(columns), -1).sum(axis=1))
    count = groups(layer)
    by_group = np.square(weights).reshape(count, len(weights) // count, weights.shape[1], -1)
    return np.asarray(by_group.sum(axis=(1, 3)).reshape(len(columns)))
