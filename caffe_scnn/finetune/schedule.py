"""How long a net is trained, by which optimiser, at which learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from caffe_scnn.decompose.base import require
from caffe_scnn.finetune.bridge import LayerModule, NetModule


@dataclass(frozen=True)
class Training:
    """Length, optimiser and learning rates.

    Attributes
    ----------
    epochs : float
        Passes over the data.
    steps : int, optional
        Instead: steps of the optimiser.
    batch : int
        Images of a step, of all processes together.
    optimizer : {"sgd", "adam"}
    learning_rate, momentum, weight_decay : float
        As Caffe's solver has them: ``lr_mult`` and ``decay_mult`` of the prototxt count.
    schedule : {"cosine", "constant", "step"}
        Cosine falls to 0; step divides by ten after one and after two thirds.
    warmup : float
        Share of the training in which the rate rises from 0.
    clip : float
        Largest norm of all gradients together; 0: any.
    batch_norm : {"stored", "batch"}
        What BatchNorm layers normalise with while training; see
        :class:`~caffe_scnn.finetune.bridge.normalization.BatchNorm`.
    dropout : bool, optional
        Do Dropout layers drop while training? By default where labels count: a student with gaps
        cannot answer as its teacher does.
    precision : {"auto", "float32", "bfloat16", "float16"}
        Of activations; weights are float32 always. ``auto``: bfloat16 on a GPU that has it, or else
        float16, and float32 on a CPU.
    evaluate : float
        Epochs from one evaluation on the images held back to the next.
    patience : int
        Stop after so many evaluations without improvement, and take the best; 0: never.
    """

    epochs: float = field(default=10.0, metadata={"help": "passes over the data"})
    steps: int | None = field(default=None, metadata={"help": "instead: steps"})
    batch: int = field(default=32, metadata={"help": "images of a step"})
    optimizer: Literal["sgd", "adam"] = field(default="sgd", metadata={"help": "the optimiser"})
    learning_rate: float = field(default=1e-3, metadata={"help": "at its highest"})
    momentum: float = field(default=0.9, metadata={"help": "of sgd"})
    weight_decay: float = field(default=0.0, metadata={"help": "times decay_mult"})
    schedule: Literal["cosine", "constant", "step"] = field(
        default="cosine", metadata={"help": "how the rate falls"}
    )
    warmup: float = field(default=0.0, metadata={"help": "share in which the rate rises"})
    clip: float = field(default=0.0, metadata={"help": "largest norm of the gradients"})
    batch_norm: Literal["stored", "batch"] = field(
        default="stored", metadata={"help": "statistics BatchNorm trains with"}
    )
    dropout: bool | None = field(default=None, metadata={"help": "do Dropout layers drop"})
    precision: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto", metadata={"help": "of activations"}
    )
    evaluate: float = field(default=1.0, metadata={"help": "epochs between evaluations"})
    patience: int = field(default=0, metadata={"help": "evaluations without improvement"})

    def __post_init__(self) -> None:
        for name in ("epochs", "learning_rate", "evaluate"):
            value = getattr(self, name)
            require(value > 0 and math.isfinite(value), f"{name} must be positive, not {value}")
        for name in ("momentum", "weight_decay", "clip", "patience"):
            value = getattr(self, name)
            require(value >= 0, f"{name} must not be negative, is {value}")
        require(self.batch >= 1, f"batch must be at least 1, not {self.batch}")
        require(self.steps is None or self.steps >= 1, f"steps must be positive, not {self.steps}")
        require(0 <= self.warmup < 1, f"warmup must be in [0, 1), not {self.warmup}")

    def total(self, batches: int) -> int:
        """Return the number of steps, for so many batches an epoch."""
        return self.steps or max(1, round(self.epochs * batches))

    def factor(self, step: int, total: int) -> float:
        """Return what the learning rate is multiplied by in a step, counted from 0."""
        warm = self.warmup * total
        if step < warm:
            return (step + 1) / (math.floor(warm) + 1)
        time = (step - warm) / (total - warm)
        if self.schedule == "cosine":
            return (1 + math.cos(math.pi * time)) / 2
        return 1.0 if self.schedule == "constant" else float(0.1 ** math.floor(3 * time))

    def make_optimizer(self, module: NetModule, trained: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimiser; ``lr_mult`` and ``decay_mult`` make groups of parameters."""
        wanted = {id(parameter) for parameter in trained}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter, rate, decay in multipliers(module):
            if id(parameter) in wanted:
                groups.setdefault((rate, decay), []).append(parameter)
        settings = [
            {
                "params": members,
                "lr": self.learning_rate * rate,
                "weight_decay": self.weight_decay * decay,
                "base": self.learning_rate * rate,
            }
            for (rate, decay), members in groups.items()
        ]
        if self.optimizer == "adam":
            return torch.optim.Adam(settings)
        return torch.optim.SGD(settings, lr=self.learning_rate, momentum=self.momentum)

    def set_rate(self, optimizer: Optimizer, step: int, total: int) -> float:
        """Set the rates of a step, counted from 0; return the one of an ``lr_mult`` of 1."""
        factor = self.factor(step, total)
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * factor
        return self.learning_rate * factor


def multipliers(module: NetModule) -> list[tuple[nn.Parameter, float, float]]:
    """Return the parameters of a net, each once, with their ``lr_mult`` and ``decay_mult``."""
    found: dict[int, tuple[nn.Parameter, float, float]] = {}
    for own in module.layers:
        assert isinstance(own, LayerModule)
        for index, parameter in enumerate(own.blobs):
            specs: Any = own.layer.proto.param
            rate, decay = 1.0, 1.0
            if index < len(specs):
                rate, decay = float(specs[index].lr_mult), float(specs[index].decay_mult)
            found.setdefault(id(parameter), (parameter, rate, decay))
    return list(found.values())
