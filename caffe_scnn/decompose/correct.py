"""What a smaller net's channels lost in mean and scale is given back, by biases and BatchNorm.

From the bottom up, on the same images in both nets, for every channel that what changed can reach:

* A convolution or InnerProduct with a bias gains ``m₀ − m₁``, the difference of its mean responses
  in the original and in the smaller net (Nagel et al., "Data-Free Quantization Through Weight
  Equalization and Bias Correction", ICCV 2019, on images).
* A BatchNorm gets statistics that make its output what it was, in mean and variance: with those it
  stores, μ₀ and σ₀, and those of its input in both nets, (m₀, v₀) and (m₁, v₁),

      σ₁ = σ₀ √(v₁/v₀),    μ₁ = m₁ − (m₀ − μ₀) σ₁/σ₀.

  Plain re-estimation would take μ₁ = m₁ and σ₁² = v₁, and bring in what the few images have of
  their own; so corrected, a net that was not changed stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from caffe_scnn.calibrate import Calibration
from caffe_scnn.decompose.sparsify import Array
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import AffineSpec, Shape
from caffe_scnn.layers.batch_norm import BatchNorm
from caffe_scnn.layers.convolution import Convolution
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Blob, Layer, Net

IMAGES = 128

Moments = tuple[Array, Array]


def correct(
    original: Net, smaller: Net, calibration: Calibration, fitted: Collection[str] = ()
) -> None:
    """Correct biases and BatchNorm of the smaller net in place (see the module).

    Parameters
    ----------
    original, smaller : Net
        Blobs of one name have the same channels in both.
    calibration : Calibration
        At most 128 of its images, by its seed, are looked at.
    fitted : collection of str
        Layers whose biases are right already.
    """
    before, after = _apart(original), _apart(smaller)
    theirs = {top for layer in before for top in layer.tops}
    shapes, graph = infer_shapes(after), Graph(after)
    pairs = [
        (layer, blob)
        for layer in _reached(before, after)
        if layer.name not in fitted
        and (blob := _looked_at(graph, layer, shapes.bottoms[layer])) in theirs
        and blob is not None
    ]
    if not pairs:
        return
    some = calibration.few(IMAGES)
    wanted = some.channel_moments(before, [blob for _, blob in pairs])
    by_name, way = {layer.name: layer for layer in smaller}, some.walk(after)
    for layer, blob in pairs:
        if blob in layer.bottoms:
            found = some.channel_moments_before(way, layer)
        else:
            found = some.channel_moments(after, [blob])[blob]
        if len(found[0]) == len(wanted[blob][0]):
            layer.blobs = _corrected(layer, wanted[blob], found)
            by_name[layer.name].blobs = layer.blobs


def _apart(net: Net) -> Net:
    """Return a copy in which every layer writes to a blob of its own."""
    result = net.copy()
    now: dict[str, str] = {}
    for layer in result:
        bottoms = [now.get(name, name) for name in layer.bottoms]
        for i, top in enumerate(layer.tops):
            if top in layer.bottoms:
                now[top] = layer.proto.top[i] = f"{top} {layer.name}"
        layer.proto.bottom[:] = bottoms
    return result


def _looked_at(graph: Graph, layer: Layer, bottoms: list[Shape]) -> str | None:
    """Return the blob whose channels a layer can correct, if there is one."""
    if any(spec.name for spec in layer.proto.param) or len(layer.tops) != 1:
        return None
    kind = layer_type(layer)
    if isinstance(kind, BatchNorm):
        stored = isinstance(kind.lower(layer, bottoms), AffineSpec)
        return layer.bottoms[0] if stored else None
    convolution = isinstance(kind, Convolution) and layer.proto.convolution_param.axis == 1
    if len(layer.blobs) < 2 or not (convolution or _is_plain_fc(layer, bottoms)):
        return None
    (value,) = graph.writes[layer]
    normalised = any(reader.type == "BatchNorm" for reader in value.consumers)
    return None if normalised else layer.tops[0]


def _is_plain_fc(layer: Layer, bottoms: list[Shape]) -> bool:
    if layer.type != "InnerProduct":
        return False
    return layer.proto.inner_product_param.axis in (1, 1 - len(bottoms[0]))


def _reached(before: Net, after: Net) -> list[Layer]:
    """Return the layers that are not what they were, or read from one that is not."""
    old = {layer.name: layer for layer in before}
    changed: set[str] = set()
    reached = []
    for layer in after:
        twin = old.get(layer.name)
        same = (
            twin is not None
            and twin.proto == layer.proto
            and len(twin.blobs) == len(layer.blobs)
            and all(a is b for a, b in zip(twin.blobs, layer.blobs, strict=True))
        )
        if not same or changed.intersection(layer.bottoms):
            changed.update(layer.tops)
            reached.append(layer)
    return reached


def _corrected(layer: Layer, wanted: Moments, found: Moments) -> list[Blob]:
    if layer.type != "BatchNorm":
        shift = wanted[0] - found[0]
        return [layer.blobs[0], (layer.blobs[1] + shift).astype(np.float32), *layer.blobs[2:]]
    kind = layer_type(layer)
    assert isinstance(kind, BatchNorm)
    mean, deviation = kind.statistics(layer)
    alive = (wanted[1] > 0) & (found[1] > 0)
    ratio = np.sqrt(np.divide(found[1], wanted[1], out=np.ones_like(found[1]), where=alive))
    new_mean = found[0] - (wanted[0] - mean) * ratio
    variance = np.square(deviation * ratio) - layer.proto.batch_norm_param.eps
    values = (new_mean, np.maximum(variance, 0.0), np.ones(1))
    return [value.astype(np.float32) for value in values]
