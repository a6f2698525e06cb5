"""SCNN: a convolution as channel mixing, a few bases per channel, and one sparse matrix.

Liu, Wang, Foroosh, Tappen, Pensky, "Sparse Convolutional Neural Networks", CVPR 2015. With the
kernel K(u,v,i,j) from channel i to output j::

    K(u,v,i,j) ≈ Σ_k R(u,v,k,j) P(k,i)              P mixes channels; the identity by default
    R(u,v,i,j) ≈ Σ_k S_i(k,j) Q_i(u,v,k)            Q_i: q_i bases of channel i;  S_i is sparse

Given:  bottom → [k×k, m → n, group g] → top
Result: bottom → [1×1 P, group g] → [k×k Q, m → m·q, group m] → [1×1 S, m·q → n, group g] → top

The bases have unit norm, q is the largest q_i, and missing bases are zero. A group is decomposed
by itself. A 1×1 convolution has one tap per channel, hence one basis, the number 1: its weights
are S already, and only become sparse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from caffe_scnn.decompose.base import Candidate, require
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.factors import Factors
from caffe_scnn.decompose.magnitude import PrunedWeights
from caffe_scnn.decompose.obs import Obs, SparseResponses
from caffe_scnn.decompose.scnn_responses import FactorResponses
from caffe_scnn.model.net import Layer


@dataclass(frozen=True)
class Scnn:
    """Sparse decomposition of k×k convolutions.

    Attributes
    ----------
    bases : {"pca", "dictionary"}
        How the bases of a channel are found: principal components, or sparse dictionary
        learning (scikit-learn's MiniBatchDictionaryLearning).
    p : {"identity", "pca"}
        Mixing of the channels before the bases; "pca" adds a dense 1×1 layer.
    q : int or "energy"
        Most bases a channel may have; at least 1.
    energy : float
        With ``q`` "energy": a channel gets the fewest bases that hold this fraction of its squared
        weights; 1 is full rank. A density or error leaves out more, where that pays.
    scaled : bool
        Weigh errors relative to the norm of the output channel.
    alpha : float
        Dictionary learning: strength of the l1 penalty.
    iterations : int
        Dictionary learning: passes over a channel's filters.
    refit : bool
        With images: where S is non-zero, and its values, are those that answer best; biases keep
        mean responses. Without, and without images, weights are approximated.
    """

    name: ClassVar[str] = "scnn"
    types: ClassVar[tuple[str, ...]] = ("Convolution",)
    sampled: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False

    bases: Literal["pca", "dictionary"] = field(
        default="pca", metadata={"help": "how the bases of a channel are found"}
    )
    p: Literal["identity", "pca"] = field(
        default="identity", metadata={"help": "mixing of the channels before the bases"}
    )
    q: int | Literal["energy"] = field(
        default="energy", metadata={"help": "most bases a channel may have"}
    )
    energy: float = field(
        default=1.0,
        metadata={
            "help": "fraction of a channel's squared weights its bases hold, if q is not given"
        },
    )
    scaled: bool = field(
        default=True,
        metadata={"help": "weigh errors relative to the norm of the output channel"},
    )
    alpha: float = field(
        default=0.1, metadata={"help": "dictionary learning: strength of the l1 penalty"}
    )
    iterations: int = field(
        default=10, metadata={"help": "dictionary learning: passes over a channel's filters"}
    )

    refit: bool = field(
        default=True, metadata={"help": "with images: fit what is kept to responses"}
    )

    @property
    def calibrated(self) -> bool:
        """Responses are looked at unless S is left as the weights give it."""
        return self.refit

    def __post_init__(self) -> None:
        require(
            self.bases in ("pca", "dictionary"),
            f'bases must be "pca" or "dictionary", not "{self.bases}"',
        )
        require(self.p in ("identity", "pca"), f'p must be "identity" or "pca", not "{self.p}"')
        require(self.q == "energy" or self.q >= 1, f"q must be at least 1, not {self.q}")
        require(0 < self.energy <= 1, f"energy must be in (0, 1], not {self.energy}")
        require(self.alpha > 0, f"alpha must be positive, not {self.alpha}")
        require(self.iterations >= 1, f"iterations must be at least 1, not {self.iterations}")

    def objection(self, layer: Layer) -> str | None:
        """Take every layer."""
        return None

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> Candidate:
        """Find P and the bases; a 1×1 convolution offers its weights themselves."""
        pointwise = np.prod(layers[0].blobs[0].shape[2:]) == 1
        if evidence is not None and self.refit:
            if pointwise:
                return SparseResponses(layers, Obs(), evidence)
            return FactorResponses(layers, self, seed, evidence)
        return PrunedWeights(layers, self.scaled) if pointwise else Factors(layers, self, seed)
