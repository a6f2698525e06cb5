"""What a net costs: shapes, multiply-accumulates, parameters and density of every layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Shape
from caffe_scnn.layers.nonzeros import count_nonzeros
from caffe_scnn.layers.shapes import Shapes, infer_known, infer_shapes
from caffe_scnn.model.net import Blob, Layer, Net


@dataclass(frozen=True)
class LayerSummary:
    """One layer of the table.

    Attributes
    ----------
    name, type : str
    bottoms, tops : tuple of str
    shape : shape
        Of the first top; empty for a layer without tops.
    macs, nonzero_macs : int
        Multiply-accumulates of one forward pass, with all weights and with the non-zero ones.
    params, nonzeros : int
        Learnt values (all blobs), and how many of them are not zero.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shape: Shape
    macs: int
    nonzero_macs: int
    params: int
    nonzeros: int

    @property
    def density(self) -> float:
        """Non-zeros over parameters; 1 for a layer without parameters."""
        return self.nonzeros / self.params if self.params else 1.0


@dataclass(frozen=True)
class NetSummary:
    """The table of a net; ``total`` counts a shared blob once."""

    layers: list[LayerSummary]
    total: LayerSummary


def summarize(net: Net, inputs: Mapping[str, Shape] | None = None) -> NetSummary:
    """Count what a net costs.

    Parameters
    ----------
    net : Net
        Phase selected; without weights every parameter counts as given by its filler.
    inputs : mapping of str to shape, optional
        As in :func:`caffe_scnn.layers.shapes.infer_shapes`.

    Raises
    ------
    ModelError
        The net cannot be built.
    """
    shapes = infer_shapes(net, inputs)
    rows = [_row(layer, shapes) for layer in net.layers]
    blobs = {id(blob): blob for layer in net.layers for blob in layer.blobs}.values()
    return NetSummary(rows, _total(rows, [_size(blob) for blob in blobs]))


@dataclass(frozen=True)
class PartSummary:
    """What is known of a net with layers that are not understood.

    Attributes
    ----------
    rows : dict of Layer to LayerSummary
        Without those layers, and those that read what they make.
    total : LayerSummary
        Of these rows.
    reasons : dict of Layer to str
        Why a layer is not understood.
    """

    rows: dict[Layer, LayerSummary]
    total: LayerSummary
    reasons: dict[Layer, str]


def summarize_known(net: Net, inputs: Mapping[str, Shape] | None = None) -> PartSummary:
    """Count what the layers cost that are understood.

    Parameters
    ----------
    net : Net
        Phase selected. Layers without blobs get those that their type has, of ones.
    inputs : mapping of str to shape, optional

    Raises
    ------
    ModelError
        The net cannot be built.
    """
    shapes, reasons = infer_known(net, inputs)
    for layer in shapes.tops:
        if not layer.blobs:
            params = layer_type(layer).params(layer, shapes.bottoms[layer])
            layer.blobs = [np.ones(param.shape, np.float32) for param in params]
    rows = {layer: _row(layer, shapes) for layer in shapes.tops}
    sizes = [_size(blob) for layer in rows for blob in layer.blobs]
    return PartSummary(rows, _total(list(rows.values()), sizes), reasons)


def _row(layer: Layer, shapes: Shapes) -> LayerSummary:
    kind, bottoms, tops = layer_type(layer), shapes.bottoms[layer], shapes.tops[layer]
    sizes = [_size(blob) for blob in layer.blobs]
    return LayerSummary(
        layer.name,
        layer.type,
        tuple(layer.bottoms),
        tuple(layer.tops),
        tops[0] if tops else (),
        kind.macs(layer, bottoms),
        kind.nonzero_macs(layer, bottoms),
        sum(size for size, _ in sizes),
        sum(nonzeros for _, nonzeros in sizes),
    )


def _size(blob: Blob) -> tuple[int, int]:
    """Return values and non-zeros."""
    return blob.size, count_nonzeros(blob)


def _total(rows: list[LayerSummary], sizes: list[tuple[int, int]]) -> LayerSummary:
    return LayerSummary(
        "total",
        "",
        (),
        (),
        (),
        sum(row.macs for row in rows),
        sum(row.nonzero_macs for row in rows),
        sum(size for size, _ in sizes),
        sum(nonzeros for _, nonzeros in sizes),
    )
