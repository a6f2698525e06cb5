"""Sets of channels of which some can be taken out: who makes them, who reads them.

The outputs of one layer are a group; layers whose outputs are added to each other make one group
together. Readers are the convolutions and InnerProducts that read channels of the group, with other
groups' channels beside them where a Concat stands in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe_scnn.model.net import Layer
from caffe_scnn.passes.channels import Channels, Numbers

CALIBRATED = ("Convolution", "InnerProduct")


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Channels that are chosen among.

    Attributes
    ----------
    makers : tuple of Layer
        Convolutions and InnerProducts whose outputs they are, in file order.
    readers : tuple of tuple of Layer
        Who reads them, in file order; layers that share their weights stand together.
    cells : tuple of int ndarray
        The channels' numbers, apart where a group of a convolution begins: of every cell the same
        fraction goes, so that groups stay equally large.
    """

    makers: tuple[Layer, ...]
    readers: tuple[tuple[Layer, ...], ...]
    cells: tuple[Numbers, ...]

    @property
    def name(self) -> str:
        """Name of the first maker."""
        return self.makers[0].name

    @property
    def size(self) -> int:
        """Number of channels."""
        return sum(len(cell) for cell in self.cells)


def channel_groups(channels: Channels) -> tuple[list[ChannelGroup], dict[str, str]]:
    """Return the groups of a net, in file order, and for other makers why they are none."""
    groups: list[ChannelGroup] = []
    refused: dict[str, str] = {}
    for makers in _made_together(channels):
        numbers = np.unique(np.concatenate([channels.linear[layer].rows for layer in makers]))
        readers = _readers(channels, numbers)
        reason = _refusal(channels, numbers, makers, readers)
        if reason:
            refused |= dict.fromkeys([layer.name for layer in makers], reason)
            continue
        cells = _cells(channels, numbers, [*makers, *(layer for part in readers for layer in part)])
        groups.append(ChannelGroup(tuple(makers), tuple(readers), cells))
    return groups, refused


def _made_together(channels: Channels) -> list[list[Layer]]:
    """Return the makers in sets that have channels in common."""
    sets: list[tuple[list[Layer], set[int]]] = []
    for layer, ends in channels.linear.items():
        layers, numbers = [layer], set(ends.rows.tolist())
        apart = []
        for others, theirs in sets:
            if numbers & theirs:
                layers, numbers = others + layers, numbers | theirs
            else:
                apart.append((others, theirs))
        sets = [*apart, (layers, numbers)]
    at = {layer: i for i, layer in enumerate(channels.net.layers)}
    found = [sorted(layers, key=at.__getitem__) for layers, _ in sets]
    return sorted(found, key=lambda layers: at[layers[0]])


def _readers(channels: Channels, numbers: Numbers) -> list[tuple[Layer, ...]]:
    by_weights: dict[int, list[Layer]] = {}
    for layer, ends in channels.linear.items():
        if layer.blobs and np.isin(ends.columns, numbers).any():
            by_weights.setdefault(id(layer.blobs[0]), []).append(layer)
    return [tuple(layers) for layers in by_weights.values()]


def _refusal(
    channels: Channels,
    numbers: Numbers,
    makers: list[Layer],
    readers: list[tuple[Layer, ...]],
) -> str | None:
    fixed = [channels.fixed[int(number)] for number in numbers if int(number) in channels.fixed]
    if fixed:
        return fixed[0]
    for layer in makers:
        if layer.type not in CALIBRATED:
            return f"it is a {layer.type}"
    for layer in (layer for part in readers for layer in part):
        if layer.type not in CALIBRATED:
            return f'"{layer.name}" ({layer.type}) reads them: its weights cannot be fitted anew'
    return None if readers else "nobody reads them"


def _cells(channels: Channels, numbers: Numbers, layers: list[Layer]) -> tuple[Numbers, ...]:
    """Part channels by the groups of the convolutions that make or read them."""
    places: dict[int, tuple[int, ...]] = dict.fromkeys(numbers.tolist(), ())
    for layer in layers:
        ends = channels.linear[layer]
        if ends.group == 1:
            continue
        for end in (ends.rows, ends.columns):
            for i, part in enumerate(end.reshape(ends.group, -1)):
                for number in set(part.tolist()) & places.keys():
                    places[number] += (i,)
    cells: dict[tuple[int, ...], list[int]] = {}
    for number, place in places.items():
        cells.setdefault(place, []).append(number)
    return tuple(np.array(cell) for cell in cells.values())
