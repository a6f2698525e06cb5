"""The method of every layer is chosen by what it buys: auto, for a target of the whole net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from caffe_scnn.decompose.base import Candidate, Decomposition
from caffe_scnn.decompose.costs import Resource
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.fc_svd import FcSvd
from caffe_scnn.decompose.low_rank import LowRank
from caffe_scnn.decompose.obs import Obs
from caffe_scnn.decompose.scnn import Scnn
from caffe_scnn.decompose.sparse_low_rank import SparseLowRank
from caffe_scnn.decompose.spatial import Spatial
from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Layer

# Tried on every layer whose type they take; answers are probed at more sizes of the first one.
TRIED: tuple[Decomposition, ...] = (
    Obs(),
    LowRank(),
    Spatial(),
    FcSvd(),
    Scnn(),
    SparseLowRank(),
)
# Blocks of weights count like single ones, but run faster: worth trying where time counts.
BLOCKS: tuple[Decomposition, ...] = (Obs(pattern="4x1"), Obs(pattern="16x1"))


@dataclass(frozen=True)
class Auto:
    """Try several methods on every layer, and take for each the one that pays."""

    name: ClassVar[str] = "auto"
    types: ClassVar[tuple[str, ...]] = Obs.types
    calibrated: ClassVar[bool] = True
    sampled: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False

    def objection(self, layer: Layer) -> str | None:
        """Take every layer."""
        return None

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> Candidate:
        """Refuse: which method is best depends on what the whole net is to reach.

        Raises
        ------
        ModelError
            Always.
        """
        raise ModelError(
            f'layer "{layers[0].name}": auto weighs methods against each other for the whole net; '
            "give it a target (--macs, --speedup, --size or --max-drop) instead of a density"
        )


def alternatives(method: Decomposition, layer: Layer, resource: Resource) -> list[Decomposition]:
    """Return the methods to try on a layer: the one that was asked for, or what auto tries."""
    if not isinstance(method, Auto):
        return [method]
    tried = (*TRIED, *BLOCKS) if resource == "time" else TRIED
    return [
        other
        for other in tried
        if layer.type in other.types and not other.objection(layer) and _fits(other, layer)
    ]


def _fits(method: Decomposition, layer: Layer) -> bool:
    """Tell whether a method can do more with a layer than pruning can."""
    weights = layer.blobs[0]
    taps = prod(weights.shape[2:])
    if isinstance(method, Scnn):
        return bool(taps > 1 and weights.shape[1] > 1)
    if isinstance(method, LowRank):
        return bool(weights.shape[1] > 1)
    return True
