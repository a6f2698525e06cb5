"""What a net loses and costs as groups of channels get smaller, measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from caffe_scnn.calibrate.patches import as_blob, weight_rows
from caffe_scnn.decompose.allocate import Curve
from caffe_scnn.decompose.base import Edit
from caffe_scnn.decompose.channel_groups import ChannelGroup
from caffe_scnn.decompose.channel_order import Order
from caffe_scnn.decompose.channels import column_numbers
from caffe_scnn.decompose.costs import RESOURCES, Meter, Resource
from caffe_scnn.decompose.curves import PROBED, Law, Probe
from caffe_scnn.decompose.fit import Setting
from caffe_scnn.decompose.prune import Chosen, order_of
from caffe_scnn.decompose.sparsify import Array
from caffe_scnn.decompose.write import rewritten
from caffe_scnn.model.net import Layer
from caffe_scnn.passes.channels import Channels


class ChannelCurves:
    """Measures groups of channels of a net as it is.

    Parameters
    ----------
    setting : Setting
        Half of its calibration images fit, the other half judges. Without calibration every
        relative error counts alike.
    channels : Channels
    chosen : sequence of Chosen
    meter : Meter
    """

    def __init__(
        self, setting: Setting, channels: Channels, chosen: Sequence[Chosen], meter: Meter
    ) -> None:
        self._setting = setting
        self._channels = channels
        self._chosen = chosen
        self._meter = meter
        self._halves = None if setting.calibration is None else setting.calibration.halves()
        groups = [one.group for one in chosen]
        made = {layer for group in groups for layer in group.makers}
        read = {layer for group in groups for layers in group.readers for layer in layers}
        self._both = made & read

    def curves(self) -> list[Curve]:
        """Return the curve of every group."""
        return [self._curve(one) for one in self._chosen]

    @cached_property
    def _probe(self) -> Probe | None:
        return None if self._halves is None else Probe(self._channels.net, self._halves[1])

    def _curve(self, one: Chosen) -> Curve:
        self._setting.progress.tell(one.group.name)
        fit = None if self._halves is None else self._halves[0]
        order = order_of(self._setting, self._channels, one, fit)
        law = self._law(one, order)
        # From the most that can go to nothing: the last point is the group as it is.
        gone = np.arange(len(order.channels), -1, -1)
        densities = 1 - gone / one.group.size
        return Curve(
            (one.method,),
            np.zeros(len(gone), np.int64),
            densities,
            law(np.sqrt(order.errors[gone])),
            self._costs(one.group, densities),
        )

    def _law(self, one: Chosen, order: Order) -> Law:
        if self._probe is None:
            return Law()
        key = f"channels lost {one.group.name} {one.method}"
        numbers = self._setting.journal.numbers(key)
        if numbers is None:
            counts = [round((1 - fraction) * len(order.channels)) for fraction in PROBED]
            numbers = {
                "errors": [float(np.sqrt(order.errors[count])) for count in counts],
                "losses": [self._probe.lost(self._trial(one, order, count)) for count in counts],
            }
            self._setting.journal.keep_numbers(key, numbers)
        return Law.through(numbers["errors"], numbers["losses"])

    def _trial(self, one: Chosen, order: Order, count: int) -> list[Edit]:
        """Give channels up in the readers of one group, fitted to the original's inputs."""
        assert self._halves is not None
        net = self._channels.net
        gone = np.zeros(self._channels.count, bool)
        gone[list(order.channels[:count])] = True
        edits = []
        for layers in one.group.readers:
            first = layers[0]
            statistics = self._halves[0].of_pair(net, net, layers)
            kept = np.asarray(~gone[column_numbers(self._channels, first)])
            fitted = one.method.refitted(first, statistics, kept)
            shift = statistics.bias_shift(weight_rows(first), fitted)
            new = rewritten(layers, as_blob(first, fitted), shift)
            edits += [Edit(old, (layer,), 0.0) for old, layer in zip(layers, new, strict=True)]
        return edits

    def _costs(self, group: ChannelGroup, densities: Array) -> dict[Resource, Array]:
        """Return what the layers around a group cost.

        A layer costs what its inputs times its outputs are; where both are to be chosen, half of
        it counts for each, with the square: as if both became smaller alike.
        """
        costs: dict[Resource, Array] = {name: np.zeros(len(densities)) for name in RESOURCES}
        numbers = np.concatenate(list(group.cells))
        for layer in group.makers:
            self._add(costs, layer, self._share(layer, densities))
        for layer in (layer for layers in group.readers for layer in layers):
            theirs = np.isin(self._channels.linear[layer].columns, numbers).mean()
            self._add(costs, layer, theirs * self._share(layer, densities))
        for layer in self._channels.depthwise:
            if np.isin(self._channels.tops(layer)[0], numbers).any():
                self._add(costs, layer, densities)
        return costs

    def _share(self, layer: Layer, densities: Array) -> Array:
        return np.square(densities) / 2 if layer in self._both else densities

    def _add(self, costs: dict[Resource, Array], layer: Layer, share: Array) -> None:
        cost = self._meter.of_chains([(layer, [layer])])
        for name in RESOURCES:
            costs[name] += getattr(cost, name) * share
