"""What a fine-tuning method is: it looks on while a net is trained, and keeps it in shape.

A method (:class:`Method`) is a frozen dataclass; its fields are its parameters, their ``help``
their documentation. To train, it attaches itself to a module: the :class:`Constraint` that comes
of it adds a penalty to the loss, changes weights after a step (proximal steps, projections,
masks), and at the end rewrites the net, say without the channels that have become zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from caffe_scnn.finetune.bridge import NetModule
from caffe_scnn.model.net import Net


@dataclass(frozen=True)
class Step:
    """Where a training is.

    Attributes
    ----------
    number : int
        This step, from 1.
    total : int
        Steps that are planned.
    optimizer : Optimizer
        Its parameter groups hold the learning rates of this step.
    """

    number: int
    total: int
    optimizer: Optimizer

    @property
    def progress(self) -> float:
        """The share of the training that is done after this step, up to 1."""
        return self.number / self.total

    def rate(self, parameter: nn.Parameter) -> float:
        """Return the learning rate of a parameter; 0 if it is not trained."""
        for group in self.optimizer.param_groups:
            if any(parameter is member for member in group["params"]):
                return float(group["lr"])
        return 0.0


class Constraint:
    """A method at work on one module; the base does nothing.

    All methods but :meth:`penalty` are called without gradients being recorded.
    """

    def penalty(self) -> Tensor | None:
        """Return what is added to the loss of a step, or None."""
        return None

    def before_step(self, step: Step) -> None:
        """Gradients are there, and the optimiser has not moved yet."""

    def after_step(self, step: Step) -> None:
        """Change weights after the optimiser has moved them."""

    @property
    def settled(self) -> bool:
        """The net is by now as small as it is to become: it may be judged by its accuracy."""
        return True

    def finish(self, net: Net) -> Net:
        """Return the net that is written, made of the one with the trained blobs."""
        return net

    def describe(self) -> dict[str, float]:
        """Return numbers for the log, say the share of non-zeros."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold: tensors and plain values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""


class Method(Protocol):
    """A method with its parameters."""

    name: ClassVar[str]

    def prepare(self, net: Net, layers: Sequence[str] | None = None) -> Net:
        """Return the net to train: the one that is given, or say a decomposed one.

        Parameters
        ----------
        net : Net
        layers : sequence of str, optional
            As for :meth:`attach`: names of layers of this net.
        """
        ...

    def attach(self, module: NetModule, layers: Sequence[str] | None) -> Constraint:
        """Begin to work on a module.

        Parameters
        ----------
        module : NetModule
            Of the net that :meth:`prepare` returned.
        layers : sequence of str, optional
            Names or globs of the layers to work on; the method's own choice by default.

        Raises
        ------
        ModelError
            A name or glob fits no layer that the method works on.
        """
        ...
