"""A net as an ONNX file, so that other engines run the same weights.

Made from what the engine is asked to compute (:mod:`caffe_scnn.layers.base`), after BatchNorm and
Scale are folded into the layers before them: no engine has to find that by itself. Caffe's windows
are kept exactly: ONNX gets the padding at the lower and right edge that gives Caffe's sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from caffe_scnn import Executor
from caffe_scnn.engine.nodes import Node, Value, lower_net
from caffe_scnn.layers.base import (
    ActivationSpec,
    AffineSpec,
    ConcatSpec,
    ConvolutionSpec,
    EltwiseSpec,
    InnerProductSpec,
    LRNSpec,
    PoolingSpec,
    SoftmaxSpec,
    ViewSpec,
)
from caffe_scnn.model.net import Net
from caffe_scnn.passes.fold_batch_norm import fold_batch_norm

OPSET = 17


class Writer:
    """Collects ONNX nodes and constants; values have the names of their place in the net."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.names: dict[Value, str] = {}

    def name(self, value: Value) -> str:
        """Return the one name of a value; blobs changed in place have several values."""
        return self.names.setdefault(value, f"{value.name}_{len(self.names)}")

    def constant(self, array: np.ndarray) -> str:
        """Add an array and return its name."""
        self.constants.append(numpy_helper.from_array(array, f"constant_{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, op: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        """Add a node and return its output."""
        output = output or f"between_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output


def export(net: Net, path: str | Path) -> None:
    """Write a net with one input and one output.

    Raises
    ------
    NotImplementedError
        A layer has no counterpart here.
    """
    net = fold_batch_norm(net).net
    executor = Executor(net)
    program = lower_net(net, executor.shapes, list(executor.outputs))
    writer = Writer()
    for node in program.nodes:
        if type(node.spec) not in EXPORTERS:
            raise NotImplementedError(f"{node.name}: no ONNX for {type(node.spec).__name__}")
        EXPORTERS[type(node.spec)](writer, node, *map(writer.name, (*node.reads, *node.writes)))
    inputs, outputs = (
        [helper.make_tensor_value_info(writer.name(v), TensorProto.FLOAT, v.shape) for v in values]
        for values in (program.inputs.values(), program.wanted.values())
    )
    graph = helper.make_graph(writer.nodes, net.name, inputs, outputs, writer.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _convolution(writer: Writer, node: Node, x: str, y: str) -> None:
    spec = node.spec
    arrays = [spec.weights, *([] if spec.bias is None else [spec.bias])]
    writer.add(
        "Conv",
        [x, *map(writer.constant, arrays)],
        y,
        kernel_shape=spec.weights.shape[2:],
        strides=spec.stride,
        pads=[*spec.pad, *spec.pad],
        dilations=spec.dilation,
        group=spec.group,
    )


def _inner_product(writer: Writer, node: Node, x: str, y: str) -> None:
    spec = node.spec
    if node.reads[0].shape[0] != spec.rows:
        raise NotImplementedError(f"{node.name}: InnerProduct of another axis than 1")
    if len(node.reads[0].shape) != 2:
        x = writer.add("Flatten", [x], axis=1)
    arrays = [spec.weights, *([] if spec.bias is None else [spec.bias])]
    writer.add("Gemm", [x, *map(writer.constant, arrays)], y, transB=1)


def _pooling(writer: Writer, node: Node, x: str, y: str) -> None:
    """Pad averages beforehand: Caffe divides by the window clipped to its padding, not ONNX's."""
    spec = node.spec
    size, output = node.reads[0].shape[2:], node.writes[0].shape[2:]
    if spec.kernel == size and not any(spec.pad):
        writer.add("GlobalMaxPool" if spec.method == "max" else "GlobalAveragePool", [x], y)
        return
    reach = [(o - 1) * s + k for o, s, k in zip(output, spec.stride, spec.kernel, strict=True)]
    pad, window = spec.pad, {"kernel_shape": spec.kernel, "strides": spec.stride}
    if spec.method == "ave" and any(pad):
        x = writer.add("Pad", [x, writer.constant(np.array([0, 0, *pad] * 2, np.int64))])
        size, pad = tuple(n + 2 * p for n, p in zip(size, pad, strict=True)), (0, 0)
    end = [max(0, r - p - n) for r, p, n in zip(reach, pad, size, strict=True)]
    writer.add(
        "MaxPool" if spec.method == "max" else "AveragePool", [x], y, pads=[*pad, *end], **window
    )


def _activation(writer: Writer, node: Node, x: str, y: str) -> None:
    spec = node.spec
    if spec.kind == "relu":
        slope = spec.args[0]
        if slope:
            writer.add("LeakyRelu", [x], y, alpha=slope)
        else:
            writer.add("Relu", [x], y)
    elif spec.kind == "clip":
        limits = [writer.constant(np.array(limit, np.float32)) for limit in spec.args]
        writer.add("Clip", [x, *limits], y)
    elif spec.kind == "prelu":
        ones = (1,) * (len(node.reads[0].shape) - 2)
        writer.add("PRelu", [x, writer.constant(spec.slopes.reshape(-1, *ones))], y)
    else:
        writer.add({"sigmoid": "Sigmoid", "tanh": "Tanh"}[spec.kind], [x], y)


def _affine(writer: Writer, node: Node, x: str, y: str) -> None:
    ones = (1,) * (len(node.reads[0].shape) - 2)
    scale, shift = (a.reshape(-1, *ones) for a in (node.spec.scale, node.spec.shift))
    writer.add("Add", [writer.add("Mul", [x, writer.constant(scale)]), writer.constant(shift)], y)


def _lrn(writer: Writer, node: Node, x: str, y: str) -> None:
    spec = node.spec
    writer.add("LRN", [x], y, size=spec.local_size, alpha=spec.alpha, beta=spec.beta, bias=spec.k)


def _eltwise(writer: Writer, node: Node, *names: str) -> None:
    spec = node.spec
    if any(c != 1 for c in spec.coefficients):
        raise NotImplementedError(f"{node.name}: Eltwise with coefficients")
    *inputs, y = names
    op = {"sum": "Add", "prod": "Mul", "max": "Max"}[spec.operation]
    for right in inputs[1:-1]:
        inputs[0] = writer.add(op, [inputs[0], right])
    writer.add(op, [inputs[0], inputs[-1]], y)


def _concat(writer: Writer, node: Node, *names: str) -> None:
    writer.add("Concat", list(names[:-1]), names[-1], axis=node.spec.axis)


def _softmax(writer: Writer, node: Node, x: str, y: str) -> None:
    writer.add("Softmax", [x], y, axis=node.spec.axis)


def _view(writer: Writer, node: Node, x: str, *tops: str) -> None:
    for top, value in zip(tops, node.writes, strict=True):
        writer.add("Reshape", [x, writer.constant(np.array(value.shape, np.int64))], top)


EXPORTERS: dict[type, Callable[..., None]] = {
    ConvolutionSpec: _convolution,
    InnerProductSpec: _inner_product,
    PoolingSpec: _pooling,
    ActivationSpec: _activation,
    AffineSpec: _affine,
    LRNSpec: _lrn,
    EltwiseSpec: _eltwise,
    ConcatSpec: _concat,
    SoftmaxSpec: _softmax,
    ViewSpec: _view,
}
