"""Rewrites of the program that save passes over memory; each keeps the values it must.

1. A convolution whose kernel is as large as its input: a fully connected layer.
2. Affine after affine: one affine (BatchNorm followed by Scale).
3. Affine after a convolution or fully connected layer: into its weights and bias.
4. A sum with a convolution's result: the convolution adds the other operand while it stores.
5. A ReLU-like activation: into whatever produced its input, also through a max pooling.

A value that somebody asked for, or that has a second reader, is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from caffe_scnn.engine.nodes import Node, Program, Value
from caffe_scnn.layers.base import (
    ActivationSpec,
    AffineSpec,
    ConvolutionSpec,
    EltwiseSpec,
    InnerProductSpec,
    PoolingSpec,
)

CLAMPS = ("relu", "clip", "prelu")


def fuse(program: Program) -> None:
    """Apply all rewrites, in place, until none applies."""
    rules: list[Callable[[Program, Node, dict[Value, Node]], bool]] = [
        _affine_into_producer,
        _sum_into_convolution,
        _activation_into_producer,
        _activation_before_max_pooling,
    ]
    _whole_image_as_inner_product(program)
    changed = True
    while changed:
        changed = False
        producers = {value: node for node in program.nodes for value in node.writes}
        for node in program.nodes:
            if any(rule(program, node, producers) for rule in rules):
                changed = True
                break


def _whole_image_as_inner_product(program: Program) -> None:
    """Make a convolution whose kernel is as large as its input a fully connected layer."""
    for node in program.nodes:
        spec = node.spec
        if (
            isinstance(spec, ConvolutionSpec)
            and spec.group == 1
            and not any(spec.pad)
            and spec.weights.shape[1:] == node.reads[0].shape[1:]
        ):
            weights = spec.weights.reshape(len(spec.weights), -1)
            node.spec = InnerProductSpec(weights, spec.bias, node.reads[0].shape[0])


def _absorb(program: Program, producer: Node, node: Node) -> None:
    """Let ``producer`` write what ``node`` wrote, and at its place in the order."""
    producer.layers = [*producer.layers, *node.layers]
    producer.writes = node.writes
    producer.macs += node.macs
    producer.nonzero_macs += node.nonzero_macs
    program.nodes.remove(producer)
    program.nodes[program.nodes.index(node)] = producer


def _plain_producer(program: Program, value: Value, producers: dict[Value, Node]) -> Node | None:
    """Return the producer of a value whose result may still be changed."""
    producer = producers.get(value)
    if producer is None or not program.private(value) or producer.finish or producer.residual:
        return None
    return producer


def _affine_into_producer(program: Program, node: Node, producers: dict[Value, Node]) -> bool:
    if not isinstance(node.spec, AffineSpec):
        return False
    producer = _plain_producer(program, node.reads[0], producers)
    if producer is None or node.finish:
        return False
    scale, shift = node.spec.scale.astype(np.float64), node.spec.shift.astype(np.float64)
    spec = producer.spec
    if isinstance(spec, AffineSpec):
        producer.spec = AffineSpec(
            (spec.scale * scale).astype(np.float32),
            (spec.shift * scale + shift).astype(np.float32),
        )
    elif isinstance(spec, ConvolutionSpec | InnerProductSpec) and len(scale) == len(spec.weights):
        weights = spec.weights * scale.reshape(-1, *[1] * (spec.weights.ndim - 1))
        bias = shift if spec.bias is None else spec.bias * scale + shift
        producer.spec = replace(
            spec, weights=weights.astype(np.float32), bias=bias.astype(np.float32)
        )
    else:
        return False
    _absorb(program, producer, node)
    return True


def _sum_into_convolution(program: Program, node: Node, producers: dict[Value, Node]) -> bool:
    spec = node.spec
    if not isinstance(spec, EltwiseSpec) or spec.operation != "sum":
        return False
    if len(node.reads) != 2 or node.reads[0] is node.reads[1] or set(spec.coefficients) - {1.0}:
        return False
    for value, other in (node.reads, node.reads[::-1]):
        producer = _plain_producer(program, value, producers)
        if producer is not None and isinstance(producer.spec, ConvolutionSpec):
            producer.residual = other
            producer.finish = node.finish
            _absorb(program, producer, node)
            return True
    return False


def _activation_into_producer(program: Program, node: Node, producers: dict[Value, Node]) -> bool:
    spec = node.spec
    if not isinstance(spec, ActivationSpec) or spec.kind not in CLAMPS:
        return False
    producer = producers.get(node.reads[0])
    if producer is None or not _takes(program, producer, spec):
        return False
    producer.finish = spec
    _absorb(program, producer, node)
    return True


def _takes(program: Program, producer: Node, spec: ActivationSpec) -> bool:
    """Whether a node can apply an activation to its result, which only one other reads."""
    if producer.finish or not program.private(producer.writes[0]):
        return False
    takes_slopes = isinstance(producer.spec, ConvolutionSpec | AffineSpec | InnerProductSpec)
    takes_clamp = takes_slopes or isinstance(producer.spec, EltwiseSpec)
    leaky = spec.kind == "prelu" or (spec.kind == "relu" and spec.args[0] != 0)
    return takes_slopes if leaky else takes_clamp


def _activation_before_max_pooling(
    program: Program, node: Node, producers: dict[Value, Node]
) -> bool:
    """Let the layer before the pooling apply what comes behind it: the maximum is the same."""
    spec, pooling = node.spec, producers.get(node.reads[0]) if node.reads else None
    if not isinstance(spec, ActivationSpec) or spec.kind not in CLAMPS or not _rises(spec):
        return False
    if pooling is None or not isinstance(pooling.spec, PoolingSpec) or pooling.spec.method != "max":
        return False
    producer = producers.get(pooling.reads[0])
    if producer is None or not program.private(node.reads[0]):
        return False
    if not _takes(program, producer, spec):
        return False
    producer.finish = spec
    producer.layers = [*producer.layers, *node.layers]
    pooling.writes = node.writes
    program.nodes.remove(node)
    return True


def _rises(spec: ActivationSpec) -> bool:
    """Whether larger values never become smaller ones."""
    if spec.slopes is not None:
        return bool((spec.slopes >= 0).all())
    return spec.kind == "clip" or spec.args[0] >= 0
