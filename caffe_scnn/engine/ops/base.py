"""What a step of a plan is, and what it is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import Planes
from caffe_scnn.engine.nodes import Node, Value
from caffe_scnn.engine.tensor import Border, Float32, Tensor
from caffe_scnn.engine.tune import Tuner

State = dict[str, list[NDArray[np.float64]]]


@dataclass(frozen=True)
class Context:
    """Everything an op may ask while it is built.

    Attributes
    ----------
    isa : str
    threads : int
    tensors : mapping of Value to Tensor
    scratch : list of Tensor
        What the op asked for through :meth:`Op.scratch`.
    state : dict of str to list of ndarray
        What recurrent layers, by name, keep from run to run.
    unread : bool ndarray, optional
        Channels of the result that nobody reads.
    tuner : Tuner, optional
        Times the tiles of a convolution; without it they are predicted.
    codegen : bool
        Programs made for the weights of a layer are among what is timed.
    """

    isa: str
    threads: int
    tensors: Mapping[Value, Tensor]
    scratch: list[Tensor]
    state: State
    unread: NDArray[np.bool_] | None = None
    tuner: Tuner | None = None
    codegen: bool = False


@dataclass(frozen=True)
class Rows:
    """Some rows of one item, for an op that computes no more of it at a time.

    Attributes
    ----------
    source : Tensor
        The input, or a part of it in which rows outside the image are zero.
    item : int
    row : int
        Row of ``source`` that the first tap of the first row falls on, but for the padding.
    target : Planes
        Where the rows go.
    residual : Planes, optional
        What is added to them.
    outside : (int, int)
        Of the rows of the input that are needed, those above and below the image.
    """

    source: Tensor
    item: int
    row: int
    target: Planes
    residual: Planes | None
    outside: tuple[int, int]


class Op:
    """One step of a plan.

    A class defines ``run``, or ``bind`` where much can be known before a run.

    Attributes
    ----------
    layers : tuple of str
        Names of the layers it computes, the first one first.
    kernel, why : str
        What runs, and the reason for the choice.
    macs, nonzero_macs : int
        Multiply-accumulates with every weight, and with the non-zero ones.
    weight_bytes : int
        Weights as packed.
    threads : int
        That share its work: one, unless an op says otherwise.
    """

    name: ClassVar[str]

    def __init__(self, node: Node, context: Context) -> None:
        self.layers = tuple(layer.name for layer in node.layers)
        self.kernel, self.why = self.name, ""
        self.macs, self.nonzero_macs = node.macs, node.nonzero_macs
        self.threads = 1
        self.reads = [context.tensors[value] for value in node.inputs()]
        self.writes = [context.tensors[value] for value in node.writes]
        self.weight_bytes = 0

    @classmethod
    def border(cls, node: Node, value: Value) -> Border:
        """Return the halo the op needs around a value it reads."""
        return Border()

    @classmethod
    def scratch(cls, node: Node, tensors: Mapping[Value, Tensor], isa: str) -> list[Tensor]:
        """Return tensors that the op needs for itself while it runs."""
        return []

    @property
    def bytes(self) -> int:
        """Weights and activations that one run touches."""
        touched = sum(int(np.prod(t.shape)) for t in [*self.reads, *self.writes])
        return 4 * touched + self.weight_bytes

    @property
    def flops(self) -> int:
        """Arithmetic on non-zero weights: one multiply and one add each."""
        return 2 * self.nonzero_macs

    @property
    def effective_flops(self) -> int:
        """Arithmetic that a dense layer would need."""
        return 2 * self.macs

    def bind(self, arena: Float32) -> Callable[[], object]:
        """Return a call that computes the written tensors from the read ones."""
        return partial(self.run, arena)

    def run(self, arena: Float32) -> None:
        """Compute the written tensors from the read ones."""
        raise NotImplementedError


def in_turn(*calls: Callable[[], object]) -> Callable[[], object]:
    """Return a call that makes some calls one after the other."""
    if len(calls) == 1:
        return calls[0]

    def run() -> None:
        for call in calls:
            call()

    return run


def clear(tensor: Tensor, arena: Float32) -> None:
    """Set a tensor's planes to zero, halo included, before its pixels are written by NumPy."""
    if not tensor.contiguous:
        for item in range(tensor.items):
            at = tensor.at + item * tensor.item
            arena[at : at + tensor.channels * tensor.plane] = 0
