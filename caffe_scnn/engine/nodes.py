"""The net as a list of nodes on values: what is to be computed, before layouts and memory.

Names of blobs are resolved here: an in-place layer makes a new value under an old name, and a
layer that only renames (Dropout, Split) makes none at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.engine.threads import MOVED, MULTIPLY_ADD, STREAMED
from caffe_scnn.errors import ModelError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import (
    ActivationSpec,
    ConvolutionSpec,
    OpSpec,
    Shape,
    Step,
    StepsSpec,
    ViewSpec,
    refuse,
)
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import is_fed
from caffe_scnn.model.net import Layer, Net


@dataclass(eq=False)
class Value:
    """An array that flows between nodes; ``name`` is the blob it was last known by."""

    name: str
    shape: Shape


# How a convolution is computed: directly, with Winograd tiles of so many outputs a side, or on the
# matrix unit.
Form = Literal["direct", "winograd2", "winograd4", "bf16x3", "bf16x6"]
WINOGRAD: dict[Form, int] = {"winograd2": 2, "winograd4": 4}


@dataclass(eq=False)
class Node:
    """One thing to compute.

    Attributes
    ----------
    layers : list of Layer
        The layers it stands for; the first names it.
    spec : OpSpec
    reads, writes : list of Value
    finish : ActivationSpec, optional
        Fused behind the result.
    residual : Value, optional
        Added before ``finish``.
    form : Form
        In which a convolution runs.
    before : list of Node
        Layers of which each reads only the one before it, and this one the last of them: they run
        part by part.
    sliced : bool
        The parts are some channels each, instead of some rows.
    macs, nonzero_macs : int
        Multiply-accumulates with all weights and with the non-zero ones.
    """

    layers: list[Layer]
    spec: OpSpec
    reads: list[Value]
    writes: list[Value]
    finish: ActivationSpec | None = None
    residual: Value | None = None
    form: Form = "direct"
    before: list[Node] = field(default_factory=list)
    sliced: bool = False
    macs: int = 0
    nonzero_macs: int = 0

    @property
    def name(self) -> str:
        """Name of its first layer."""
        return self.layers[0].name

    @property
    def cycles(self) -> float:
        """Roughly what one thread takes: to multiply, to read weights once, to write values."""
        weights = sum(layer.blobs[0].size for layer in self.layers if layer.blobs)
        written = sum(math.prod(value.shape) for value in self.writes)
        return (
            MULTIPLY_ADD * self.nonzero_macs
            + STREAMED * min(weights, self.nonzero_macs)
            + MOVED * written
        )

    def inputs(self) -> list[Value]:
        """Everything it reads."""
        return [*self.reads, *([self.residual] if self.residual else [])]


@dataclass
class Program:
    """The nodes in order, and which value each blob name stands for at the end."""

    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, Value] = field(default_factory=dict)
    blobs: dict[str, Value] = field(default_factory=dict)
    wanted: dict[str, Value] = field(default_factory=dict)

    def readers(self, value: Value) -> list[Node]:
        """Nodes that read a value, once for each time they do."""
        return [node for node in self.nodes for read in node.inputs() if read is value]

    def private(self, value: Value) -> bool:
        """Whether exactly one node reads the value and nobody asked for it."""
        return value not in self.wanted.values() and len(self.readers(value)) == 1

    def join(self, before: Node, chain: list[Node], node: Node) -> None:
        """Let a chain of nodes run with the one that reads it; its last one was ``before``."""
        node.before, node.reads = chain, before.reads
        node.layers = [*before.layers, *node.layers]
        node.macs += before.macs
        node.nonzero_macs += before.nonzero_macs
        self.nodes.remove(before)


def lower_net(net: Net, shapes: Mapping[str, Shape], wanted: list[str]) -> Program:
    """Turn a net into nodes.

    Parameters
    ----------
    net : Net
        Phase selected, weights bound.
    shapes : mapping of str to shape
        Of the inputs.
    wanted : list of str
        Blobs whose values are to be returned.

    Raises
    ------
    ModelError
        A wanted blob does not exist, or the net has no layers.
    """
    inferred = infer_shapes(net, shapes)
    program = Program()
    for layer in net.layers:
        tops = inferred.tops[layer]
        if is_fed(layer):
            for top, shape in zip(layer.tops, tops, strict=True):
                program.inputs[top] = program.blobs[top] = Value(top, shape)
            continue
        if tops:  # Silence computes nothing
            _add(program, layer, [program.blobs[bottom] for bottom in layer.bottoms], tops)
    if not program.blobs:
        raise ModelError("the net has no layers: there is nothing to run")
    for name in wanted:
        if name not in program.blobs:
            raise ModelError(f'the net has no blob "{name}"; it has {", ".join(program.blobs)}')
        program.wanted[name] = program.blobs[name]
    return program


def _check_weights(layer: Layer, wanted: list[Shape]) -> None:
    """Refuse inputs for which the weights that were bound are not the right ones."""
    found = [blob.shape for blob in layer.blobs]
    if found != wanted:
        raise refuse(
            layer,
            f"its weights have the shapes {found}, but inputs of this size need {wanted}; feed the "
            "size that the prototxt gives, or load the net for this one",
        )


def _add(program: Program, layer: Layer, reads: list[Value], tops: list[Shape]) -> None:
    """Append the nodes of a layer; the first one counts its work."""
    kind = layer_type(layer)
    bottoms = [value.shape for value in reads]
    _check_weights(layer, [param.shape for param in kind.params(layer, bottoms)])
    spec = kind.lower(layer, bottoms)
    if isinstance(spec, ViewSpec) and all(shape == reads[0].shape for shape in tops):
        program.blobs.update((top, reads[0]) for top in layer.tops)  # only renamed
        return
    steps = [Step(spec, tuple(range(len(reads))), tuple(tops))]
    if isinstance(spec, StepsSpec):
        steps = list(spec.steps)
    macs, nonzero_macs = kind.macs(layer, bottoms), kind.nonzero_macs(layer, bottoms)
    values = list(reads)
    for step in steps:
        names = layer.tops if step is steps[-1] else [layer.name] * len(step.shapes)
        writes = [Value(name, shape) for name, shape in zip(names, step.shapes, strict=True)]
        inputs = [values[i] for i in step.reads]
        program.nodes.append(
            Node([layer], step.spec, inputs, writes, macs=macs, nonzero_macs=nonzero_macs)
        )
        values += writes
        macs = nonzero_macs = 0
    program.blobs.update(zip(layer.tops, writes, strict=True))


def unread_channels(spec: ConvolutionSpec) -> NDArray[np.bool_] | None:
    """Find input channels that a convolution multiplies by zero; None where all or none are.

    These are the bases that a decomposition left empty: they need not be computed. A depthwise
    convolution reads every channel, whatever its weights.
    """
    if spec.depthwise:
        return None
    by_group = spec.weights.reshape(spec.group, -1, *spec.weights.shape[1:])
    unread: NDArray[np.bool_] = ~by_group.any(axis=(1, 3, 4)).ravel()
    return unread if unread.any() and not unread.all() else None
