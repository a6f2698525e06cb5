"""Old forms of a net brought to the current one, as Caffe itself does on loading."""

from __future__ import annotations

from caffe_scnn.model.net import Layer, Net


def upgrade(net: Net) -> Net:
    """Return the net in Caffe's current form.

    Old-style ``input`` fields become the text of an Input layer, and the learning rates of
    BatchNorm statistics, which files of 2015 set on three ``param`` entries, become 0. A net that
    is current comes back as it is, byte for byte.

    Parameters
    ----------
    net : Net
        Is not changed.
    """
    upgraded = net.copy()
    for layer in upgraded.layers:
        if layer.source is not None and layer.source is layer.source.document.root:
            layer.source = None  # is written as a layer from now on
        _fix_batch_norm(layer)
    return upgraded


def _fix_batch_norm(layer: Layer) -> None:
    """Statistics are not learnt; Caffe repairs exactly the three entries old files have."""
    if layer.type != "BatchNorm" or len(layer.proto.param) != 3:
        return
    for param in layer.proto.param:
        param.lr_mult = 0
        param.decay_mult = 0
