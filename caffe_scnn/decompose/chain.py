"""The plain Caffe layers that a decomposed convolution is written as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caffe_scnn.layers.geometry import convolution_window
from caffe_scnn.model.net import Blob, Layer
from caffe_scnn.proto import caffe_pb2 as pb

GEOMETRY = (
    *("kernel_size", "kernel_h", "kernel_w"),
    *("pad", "pad_h", "pad_w"),
    *("stride", "stride_h", "stride_w"),
    "dilation",
)


def convolution_chain(
    layer: Layer,
    parts: Sequence[tuple[str, Blob, int]],
    spatial: str | Mapping[str, int],
    biases: Sequence[Blob] | None = None,
) -> tuple[Layer, ...]:
    """Return convolutions in a row that take a convolution's place.

    The last one carries the bias and the original tops, and the comments of the original's text;
    blobs in between are named after their layers.

    Parameters
    ----------
    layer : Layer
        The original convolution.
    parts : sequence of (suffix, weights, group)
        In order of execution; a layer is named ``<name>/<suffix>``.
    spatial : str, or mapping of str to int
        Suffix of the part that takes the original's kernel, stride, pad and dilation; or the
        parts that take it along one axis each, and that axis (0: vertical). Other parts are 1×1.
    biases : sequence of ndarray, optional
        The last layer's; the original's by default.
    """
    biases = layer.blobs[1:] if biases is None else biases
    chain: list[Layer] = []
    bottoms = layer.bottoms
    for suffix, weights, group in parts:
        last = suffix == parts[-1][0]
        proto = _part(layer, suffix, weights, group)
        if isinstance(spatial, Mapping) and suffix in spatial:
            _keep_axis(layer, proto.convolution_param, spatial[suffix])
        elif suffix != spatial:
            _make_pointwise(proto.convolution_param)
        if chain:
            del proto.propagate_down[:]
        del proto.bottom[:]
        proto.bottom.extend(bottoms)
        if not last:
            _make_inner(proto)
        elif biases and not proto.convolution_param.bias_term:
            proto.convolution_param.bias_term = True
        bottoms = list(proto.top)
        own = biases if last else []
        chain.append(Layer(proto, [weights, *own], layer.source if last else None))
    return tuple(chain)


def inner_product_chain(
    layer: Layer, down: Blob, up: Blob, biases: Sequence[Blob]
) -> tuple[Layer, Layer]:
    """Return two InnerProducts ``/a`` and ``/b`` in the place of one.

    Parameters
    ----------
    layer : Layer
    down : ndarray of shape (r, K)
    up : ndarray of shape (n, r)
    biases : sequence of ndarray
        None or one, of the second.
    """
    first, second = layer.copy(), layer.copy()
    first.proto.name, second.proto.name = f"{layer.name}/a", f"{layer.name}/b"
    first.proto.top[0] = second.proto.bottom[0] = first.proto.name
    axis = layer.proto.inner_product_param.axis
    for part, weights in ((first, down), (second, up)):
        param = part.proto.inner_product_param
        param.num_output = len(weights)
        param.transpose = False
        param.bias_term = part is second and bool(biases)
        param.ClearField("weight_filler")
        if part.proto.param and part.proto.param[0].name:
            part.proto.param[0].name += part.proto.name.removeprefix(layer.name)
        part.blobs = [weights]
    # The first one has flattened everything from this axis on into one.
    second.proto.inner_product_param.axis = axis if axis >= 0 else -1
    first.source, first.unknown = None, []
    first.proto.inner_product_param.ClearField("bias_filler")
    del first.proto.param[1:], first.proto.loss_weight[:], second.proto.propagate_down[:]
    second.blobs.extend(biases)
    return first, second


def _part(layer: Layer, suffix: str, weights: Blob, group: int) -> pb.LayerParameter:
    """Return a copy of the layer's parameters under a new name, with new sizes."""
    proto = layer.copy().proto
    proto.name = f"{layer.name}/{suffix}"
    convolution = proto.convolution_param
    convolution.num_output = len(weights)
    # Fillers speak of weights that no longer exist; the blobs always come from the file.
    convolution.ClearField("weight_filler")
    if group != convolution.group:
        convolution.group = group
    for spec in proto.param[:1]:
        if spec.name:
            spec.name = f"{spec.name}/{suffix}"
    return proto


def _make_pointwise(convolution: pb.ConvolutionParameter) -> None:
    for name in GEOMETRY:
        convolution.ClearField(name)
    convolution.kernel_size.append(1)


def _keep_axis(layer: Layer, convolution: pb.ConvolutionParameter, axis: int) -> None:
    """Slide along one of two spatial axes only."""
    window = convolution_window(layer, 2)
    for name in GEOMETRY:
        convolution.ClearField(name)
    fields = (("kernel", window.kernel, 1), ("pad", window.pad, 0), ("stride", window.stride, 1))
    for prefix, values, default in fields:
        if prefix == "kernel" or values[axis] != default:
            pair = [values[i] if i == axis else default for i in range(2)]
            setattr(convolution, f"{prefix}_h", pair[0])
            setattr(convolution, f"{prefix}_w", pair[1])
    if window.dilation[axis] != 1:
        convolution.dilation.extend(window.dilation[i] if i == axis else 1 for i in range(2))


def _make_inner(proto: pb.LayerParameter) -> None:
    """Give a part before the last its own tops and no bias."""
    tops = (
        [proto.name]
        if len(proto.top) == 1
        else [f"{proto.name}/{i}" for i in range(len(proto.top))]
    )
    del proto.top[:]
    proto.top.extend(tops)
    del proto.loss_weight[:]
    del proto.param[1:]
    proto.convolution_param.bias_term = False
    proto.convolution_param.ClearField("bias_filler")
