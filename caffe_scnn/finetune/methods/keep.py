"""Keep zeros: weights that are zero stay zero, the others are trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from caffe_scnn.finetune.bridge import NetModule
from caffe_scnn.finetune.methods.base import Constraint
from caffe_scnn.finetune.methods.masks import Masks
from caffe_scnn.finetune.methods.weights import choose
from caffe_scnn.model.net import Net


@dataclass(frozen=True)
class Keep:
    """Train what is not zero, for nets that are sparse already; in a dense net that is all."""

    name: ClassVar[str] = "keep"

    def prepare(self, net: Net, layers: Sequence[str] | None = None) -> Net:
        """Train the net as it is."""
        return net

    def attach(self, module: NetModule, layers: Sequence[str] | None) -> Constraint:
        """Remember the zeros; by default those of all layers with weights."""
        return Masks(choose(module, layers, lambda layer: True))
