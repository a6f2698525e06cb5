"""Old forms of a net brought to the current one, as Caffe itself does on loading."""

from __future__ import annotations

from caffe_scnn.model.net import Layer, Net
from caffe_scnn.model.net_writer import write_net


def upgrade(net: Net) -> Net:
    """Return the net in Caffe's current form.

    ``layers`` of the old generations (V0 and V1) become ``layer``, old-style ``input`` fields
    become an Input layer, and the learning rates of BatchNorm statistics, which files of 2015 set
    on three ``param`` entries, become 0. The text keeps its comments, and a net that is current
    comes back as it is, byte for byte.

    Parameters
    ----------
    net : Net
        Is not changed.
    """
    changed = net.copy()
    for layer in changed.layers:
        _fix_batch_norm(layer)
    path = net.source.path if net.source else None
    text = write_net(changed.source, changed.proto, changed.layers, current=True)
    upgraded = Net.parse(text, path)
    for layer, old in zip(upgraded.layers, net.layers, strict=True):
        layer.blobs = list(old.blobs)
    return upgraded


def _fix_batch_norm(layer: Layer) -> None:
    """Statistics are not learnt; Caffe repairs exactly the three entries old files have."""
    if layer.type != "BatchNorm" or len(layer.proto.param) != 3:
        return
    for param in layer.proto.param:
        param.lr_mult = 0
        param.decay_mult = 0
