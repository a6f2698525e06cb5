"""Net inputs as they were before the Input layer: ``input``, ``input_dim`` and ``input_shape``."""

from __future__ import annotations

from caffe_scnn.model.prototxt import Message
from caffe_scnn.proto import caffe_pb2 as pb

FIELDS = ("input", "input_dim", "input_shape")
_NAME = "input"  # Caffe's own upgrade gives the layer this name


def input_layer(net: pb.NetParameter) -> pb.LayerParameter:
    """Return the Input layer that a net's old input fields mean.

    Inputs without any shape give a layer without shapes; ``input_shape`` is preferred over
    ``input_dim``, as in Caffe.

    Raises
    ------
    ValueError
        The number of shapes does not fit the number of inputs.
    """
    layer = pb.LayerParameter(name=_NAME, type="Input", top=net.input)
    layer.input_param.SetInParent()
    dims = net.input_dim
    shapes = list(net.input_shape) or [
        pb.BlobShape(dim=dims[at : at + 4]) for at in range(0, len(dims), 4)
    ]
    partial = not net.input_shape and len(dims) % 4
    if shapes and (partial or len(shapes) != len(net.input)):
        kind = "input_shape" if net.input_shape else "input_dim"
        given = len(net.input_shape) or len(dims)
        wanted = len(net.input) * (1 if net.input_shape else 4)
        raise ValueError(
            f"{len(net.input)} inputs need {wanted} {kind}"
            f"{'' if net.input_shape else ' (four each)'}, but there are {given}"
        )
    layer.input_param.shape.extend(shapes)
    return layer


def take_inputs(net: pb.NetParameter, root: Message) -> pb.LayerParameter | None:
    """Move the old input fields of a net just read into an Input layer; None if it has none.

    Shapes without any ``input`` mean nothing and stay where they are, as in Caffe.

    Raises
    ------
    FormatError
        The number of shapes does not fit the number of inputs.
    """
    if not net.input:
        return None
    layer = _input_layer_at(net, root, next(root.named("input")).start)
    for name in FIELDS:
        net.ClearField(name)
    return layer


def _input_layer_at(net: pb.NetParameter, root: Message, offset: int) -> pb.LayerParameter:
    try:
        return input_layer(net)
    except ValueError as error:
        raise root.document.error(f"{error}; give one shape per input", offset) from None


def put_inputs(layer: pb.LayerParameter, old: pb.NetParameter, net: pb.NetParameter) -> bool:
    """Write an Input layer back into the old fields, in the form that ``old`` has.

    Returns
    -------
    bool
        False if the old form cannot say what the layer says; ``net`` is unchanged then.
    """
    shapes = layer.input_param.shape
    candidate = pb.NetParameter(input=layer.top)
    if old.input_shape or not old.input_dim:
        candidate.input_shape.extend(shapes)
    else:
        candidate.input_dim.extend(dim for shape in shapes for dim in shape.dim)
    try:
        if input_layer(candidate) != layer:
            return False
    except ValueError:
        return False
    net.MergeFrom(candidate)
    return True
