"""The front door of the library: reads a prototxt and its weights as a net to run or rewrite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from caffe_scnn.errors import ModelError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Shape
from caffe_scnn.layers.binding import Binding, bind
from caffe_scnn.model.caffemodel import read_caffemodel
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Net, refuse_fields, refuse_unknown
from caffe_scnn.passes.select_phase import select_phase


def load(
    prototxt: str | Path,
    caffemodel: str | Path | None = None,
    *,
    phase: str = "TEST",
    level: int = 0,
    stages: Sequence[str] = (),
    allow_missing: bool = False,
    inputs: Mapping[str, Shape] | None = None,
) -> Net:
    """Read a net for one phase, check it, and bind its weights.

    Parameters
    ----------
    prototxt : str or Path
        The net.
    caffemodel : str or Path, optional
        Its weights. Without them blobs hold their constant fillers: for questions about shapes.
    phase, level, stages
        Which layers exist; see :func:`caffe_scnn.passes.select_phase.select_phase`.
    allow_missing : bool
        Warn about missing and mismatched weights instead of refusing.
    inputs : mapping of blob name to shape, optional
        Shapes of net inputs that the prototxt leaves open or that differ from it.

    Returns
    -------
    Net
        The layers of that phase with their blobs.

    Raises
    ------
    FormatError
        A file is not what it should be, or has a field that stock Caffe does not know.
    ModelError
        Caffe would refuse the net, or the weights do not fit it.
    """
    net = open_net(prototxt, phase=phase, level=level, stages=stages)
    net.input_shapes.update(inputs or {})
    load_weights(net, caffemodel, allow_missing=allow_missing)
    return net


def open_net(
    prototxt: str | Path, *, phase: str = "TEST", level: int = 0, stages: Sequence[str] = ()
) -> Net:
    """Read a net without weights and check its wiring; see :func:`load`."""
    net = select_phase(Net.read(prototxt), phase, level, stages)
    check_wiring(net, prototxt, phase)
    return net


def check_wiring(net: Net, prototxt: str | Path, phase: str) -> None:
    """Refuse a net that Caffe would refuse, before any shape is known; see :func:`load`."""
    refuse_fields(net.unknown)
    for layer in net.layers:
        layer_type(layer)  # an unknown type says more than its unknown parameters
        refuse_unknown(layer)
    if not net.layers:
        raise ModelError(f"{prototxt}: the net has no layers in phase {phase}")
    Graph(net)


def load_weights(
    net: Net,
    caffemodel: str | Path | None,
    *,
    allow_missing: bool = False,
    inputs: Mapping[str, Shape] | None = None,
) -> Binding:
    """Bind the weights of a file to an open net and return the table; see :func:`load`."""
    stored = read_caffemodel(caffemodel) if caffemodel is not None else None
    return bind(net, stored, allow_missing=allow_missing, inputs=inputs)
