"""An ONNX file of onnx_export.py as a torch module; runs in the environment of the peers."""

from __future__ import annotations

import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper


class OnnxModule(torch.nn.Module):
    """Runs the nodes of the file in order; weights are parameters, as in any torch model."""

    def __init__(self, path: str) -> None:
        super().__init__()
        graph = onnx.load(path).graph
        self.constants: dict[str, torch.Tensor] = {}
        for tensor in graph.initializer:
            value = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            if value.dtype == torch.float32 and value.ndim:
                self.register_parameter(tensor.name, torch.nn.Parameter(value))
            else:
                self.constants[tensor.name] = value.tolist()
        self.steps = []
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            self.steps.append((node.op_type, list(node.input), node.output[0], attributes))
        self.source, self.result = graph.input[0].name, graph.output[0].name

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the output."""
        values = {self.source: x}
        for op, names, output, attributes in self.steps:
            inputs = [self._value(values, name) for name in names]
            values[output] = OPERATORS[op](*inputs, **attributes)
        return values[self.result]

    def _value(self, values: dict[str, torch.Tensor], name: str) -> object:
        if name in values:
            return values[name]
        return self.constants[name] if name in self.constants else getattr(self, name)


def _convolution(x, weight, bias=None, *, kernel_shape, strides, pads, dilations, group):
    return F.conv2d(x, weight, bias, strides, pads[:2], dilations, group)


def _max_pool(x, *, kernel_shape, strides, pads):
    """Leave the trailing padding that differs from the leading one to ceil_mode."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return F.max_pool2d(x, kernel_shape, strides, (top, left))
    return F.max_pool2d(x, kernel_shape, strides, (top, left), ceil_mode=True)


def _average_pool(x, *, kernel_shape, strides, pads):
    return F.avg_pool2d(x, kernel_shape, strides, ceil_mode=any(pads), count_include_pad=False)


def _pad(x, pads):
    top, left, bottom, right = pads[2], pads[3], pads[6], pads[7]
    return F.pad(x, (left, right, top, bottom))


OPERATORS = {
    "Conv": _convolution,
    "Gemm": lambda x, weight, bias=None, transB=1: F.linear(x, weight, bias),
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalMaxPool": lambda x: F.adaptive_max_pool2d(x, 1),
    "GlobalAveragePool": lambda x: F.adaptive_avg_pool2d(x, 1),
    "Pad": _pad,
    "Relu": torch.relu,
    "LeakyRelu": lambda x, alpha: F.leaky_relu(x, alpha),
    "Clip": torch.clamp,
    "PRelu": lambda x, slope: F.prelu(x, slope.flatten()),
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Add": torch.add,
    "Mul": torch.mul,
    "Max": torch.maximum,
    "LRN": lambda x, size, alpha, beta, bias: F.local_response_norm(x, size, alpha, beta, bias),
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Softmax": lambda x, axis: torch.softmax(x, axis),
    "Flatten": lambda x, axis: torch.flatten(x, axis),
    "Reshape": lambda x, shape: x.reshape(shape),
}
