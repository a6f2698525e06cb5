"""Gives a net's images another size.

Learnt blobs stay: layers whose number of weights depends on the size (InnerProduct) refuse it;
:func:`~caffe_scnn.passes.fc_to_conv.fc_to_conv` frees them of that.
"""

from __future__ import annotations

from caffe_scnn.errors import ModelError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Net
from caffe_scnn.passes.base import PassResult


def resize_input(net: Net, height: int, width: int) -> PassResult:
    """Set height and width of every input (N, C, H, W).

    Raises
    ------
    ModelError
        No input has a height and width, a layer cannot take the size, or its weights do not fit.
    """
    result = net.copy()
    notes: list[str] = []
    for layer in result.layers:
        if layer.type != "Input":
            continue
        for shape in layer.proto.input_param.shape:
            if len(shape.dim) == 4:
                before = "x".join(map(str, shape.dim[2:]))
                shape.dim[2:] = [height, width]
                notes.append(f'"{layer.name}": {before} became {height}x{width}')
    if not notes:
        raise ModelError("no input of the net has a height and width (N, C, H, W)")
    shapes = infer_shapes(result)
    for layer in result.layers:
        wanted = [p.shape for p in layer_type(layer).params(layer, shapes.bottoms[layer])]
        found = [blob.shape for blob in layer.blobs]
        if wanted != found:
            raise ModelError(
                f'layer "{layer.name}" ({layer.type}) has weights of {found}; for inputs of '
                f"{height}x{width} it needs {wanted}; fc_to_conv first makes it free of the size"
            )
    return PassResult(result, len(notes), tuple(notes))
