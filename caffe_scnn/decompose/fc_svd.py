"""A fully connected layer as two thin ones (Denton et al. 2014; Girshick, Fast R-CNN, 2015).

Given:  bottom → [K → n] → top
Result: bottom → [K → r] → [r → n, bias] → top

Without images the truncated singular value decomposition of the weights. With images the pair whose
responses are nearest to the original's, of all of rank r: inputs as the net compressed so far
makes them, and where a ReLU follows, only what passes it counts. A layer has many more inputs than
there are images; what few rows do not show is filled in by the weights (see
:meth:`~caffe_scnn.calibrate.Samples.prior`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.low_rank import PrincipalResponses
from caffe_scnn.decompose.ranked import RankedMethod
from caffe_scnn.model.net import Layer


@dataclass(frozen=True)
class FcSvd(RankedMethod):
    """Low-rank approximation of an InnerProduct's responses, or of its weights."""

    name: ClassVar[str] = "fc-svd"
    types: ClassVar[tuple[str, ...]] = ("InnerProduct",)

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> PrincipalResponses:
        """Find the principal directions; nothing is random here."""
        return PrincipalResponses(layers, self, evidence or Evidence.assumed(layers[0]))
