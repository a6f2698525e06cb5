"""What a method may know of a layer beside its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from caffe_scnn.calibrate import LayerStatistics, Samples
from caffe_scnn.decompose.reach import Reach
from caffe_scnn.decompose.scales import channel_scales
from caffe_scnn.decompose.sparsify import Array
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.passes.fold_batch_norm import fold_batch_norm


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the net and images say about a layer.

    Attributes
    ----------
    layer : Layer
    output_scales : ndarray of shape (n,)
        What every output is multiplied by before anything nonlinear sees it: errors count so.
    rectified : bool
        A ReLU reads the responses, and nobody else does.
    moments : LayerStatistics, optional
        Of its inputs, where a method asks for them.
    samples : Samples, optional
        Single rows of its inputs, where a method asks for them.
    reach : ndarray of shape (n,), optional
        How much the squared error of every output counts for the layers behind, beside the scales:
        one on average; see :class:`~caffe_scnn.decompose.reach.Reach`.
    """

    layer: Layer
    output_scales: Array
    rectified: bool = False
    moments: LayerStatistics | None = None
    samples: Samples | None = None
    reach: Array | None = None

    @property
    def importance(self) -> Array:
        """How much the squared error of every output counts: (n,)."""
        squared = np.square(self.output_scales)
        return squared if self.reach is None else squared * self.reach

    @property
    def statistics(self) -> LayerStatistics:
        """Moments of the inputs; assumed ones where no images were seen."""
        return self.moments or LayerStatistics.assumed(self.layer)

    def response_error(self, weights: Array, approximation: Array) -> float:
        """Return ``‖Y − Ŷ‖ / ‖Y‖`` with the best bias, outputs weighted by their squared scales.

        Parameters
        ----------
        weights, approximation : ndarray of shape (group, n/group, d)
        """
        counted = np.square(self.output_scales).reshape(weights.shape[:2])
        error = self.statistics.response_error(weights, approximation)
        energy = self.statistics.response_energy(weights)
        return float(np.sqrt((counted * error).sum() / ((counted * energy).sum() or 1.0)))

    @classmethod
    def assumed(cls, layer: Layer) -> Evidence:
        """Know nothing: uncorrelated inputs, outputs scaled to equal size."""
        weights = layer.blobs[0]
        if layer.proto.inner_product_param.transpose:
            weights = weights.T
        return cls(layer, 1 / channel_scales(weights, True))

    def given(self, seen: LayerStatistics | Samples) -> Evidence:
        """Return the same with what images show."""
        if isinstance(seen, Samples):
            return replace(self, samples=seen)
        return replace(self, moments=seen)


def surroundings(net: Net, layers: Sequence[Layer]) -> dict[str, Evidence]:
    """Return what the net by itself says about layers: their output scales, and a ReLU behind.

    BatchNorm and Scale behind a layer are what scales its outputs; the scales are read off the
    net with them folded in.
    """
    reduced = fold_batch_norm(net).net
    folded = {layer.name: layer for layer in reduced}
    reach = Reach(reduced)
    graph = Graph(net)
    found = {}
    for layer in layers:
        scales = _ratio(layer, folded[layer.name])
        found[layer.name] = Evidence(
            layer, scales, _rectified(graph, layer), reach=reach.importance(layer.name)
        )
    return found


def _ratio(layer: Layer, folded: Layer) -> Array:
    ours, theirs = (
        channel_scales(part.blobs[0].T if _transposed(part) else part.blobs[0], True)
        for part in (layer, folded)
    )
    ratio = theirs / ours
    # A channel that is switched off would make the problem singular.
    return np.asarray(np.maximum(ratio, 1e-3 * ratio.max(initial=1e-30)))


def _transposed(layer: Layer) -> bool:
    return layer.type == "InnerProduct" and layer.proto.inner_product_param.transpose


def _rectified(graph: Graph, layer: Layer) -> bool:
    """Tell whether each top is read by one plain ReLU alone, directly."""
    for value in graph.writes[layer]:
        readers = value.consumers
        if len(readers) != 1 or readers[0].type != "ReLU":
            return False
        if readers[0].proto.relu_param.negative_slope:
            return False
    return bool(graph.writes[layer])
