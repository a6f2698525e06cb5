"""What a net costs: shapes, multiply-accumulates, parameters and density of every layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Shape
from caffe_scnn.layers.nonzeros import count_nonzeros
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Net


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
    rows: list[LayerSummary] = []
    distinct: dict[int, tuple[int, int]] = {}
    for layer in net.layers:
        kind, bottoms, tops = layer_type(layer), shapes.bottoms[layer], shapes.tops[layer]
        sizes = [(blob.size, count_nonzeros(blob)) for blob in layer.blobs]
        distinct.update({id(blob): size for blob, size in zip(layer.blobs, sizes, strict=True)})
        rows.append(
            LayerSummary(
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
        )
    total = LayerSummary(
        "total",
        "",
        (),
        (),
        (),
        sum(row.macs for row in rows),
        sum(row.nonzero_macs for row in rows),
        sum(size for size, _ in distinct.values()),
        sum(nonzeros for _, nonzeros in distinct.values()),
    )
    return NetSummary(rows, total)
