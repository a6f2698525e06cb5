"""Fewer channels: whole filters go, with the inputs of the layers that read them.

Which channels go is decided by the layers that read them (He, Zhang, Sun, "Channel Pruning for
Accelerating Very Deep Neural Networks", ICCV 2017): those whose absence the remaining weights can
make good best. Those weights are then fitted to the original net's responses on the inputs that the
smaller net feeds them. What is written is the same net with smaller layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import scipy.linalg

from caffe_scnn.calibrate import LayerStatistics
from caffe_scnn.calibrate.patches import weight_rows
from caffe_scnn.calibrate.statistics import ridge_of
from caffe_scnn.decompose.base import Candidate, require
from caffe_scnn.decompose.channel_groups import ChannelGroup
from caffe_scnn.decompose.channel_order import Order, Reader, giving_up
from caffe_scnn.decompose.evidence import Evidence
from caffe_scnn.decompose.sparsify import Array, Mask
from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Layer
from caffe_scnn.passes.channels import Channels, Numbers


@dataclass(frozen=True)
class ChannelSelection:
    """Take channels out, and fit what reads the others anew.

    Attributes
    ----------
    criterion : {"response", "magnitude"}
        Give up the channels that cost their readers' responses least, or those whose filters have
        the smallest norm (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017).
    damping : float
        Added to the diagonal of the inputs' covariance, relative to its mean; the weights are
        drawn towards the original ones by as much.
    """

    name: ClassVar[str] = "channels"
    types: ClassVar[tuple[str, ...]] = ("Convolution", "InnerProduct")
    calibrated: ClassVar[bool] = True
    sampled: ClassVar[bool] = False
    symmetric: ClassVar[bool] = False

    criterion: Literal["response", "magnitude"] = field(
        default="response", metadata={"help": "what tells which channels go"}
    )
    damping: float = field(
        default=0.01, metadata={"help": "ridge towards the original weights, relative"}
    )

    def __post_init__(self) -> None:
        require(self.damping > 0, f"damping must be positive, not {self.damping}")

    def objection(self, layer: Layer) -> str | None:
        """Take every layer: whether its channels can go depends on the net around it."""
        return None

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> Candidate:
        """Refuse: a channel is a matter of several layers.

        Raises
        ------
        ModelError
            Always; :func:`~caffe_scnn.decompose.prune.prune` takes channels out.
        """
        raise ModelError(
            f'layer "{layers[0].name}": channels cannot stand beside other methods in one recipe; '
            "compress twice"
        )

    def order(
        self, channels: Channels, group: ChannelGroup, evidence: dict[str, Evidence]
    ) -> Order:
        """Return in which order the channels of a group are given up.

        Parameters
        ----------
        channels : Channels
        group : ChannelGroup
        evidence : dict of layer name to Evidence
            Of the first of every set of readers.
        """
        readers = [
            problem
            for layers in group.readers
            for problem in self._problems(channels, layers[0], evidence[layers[0].name])
        ]
        ranks = _norms(channels, group) if self.criterion == "magnitude" else None
        return giving_up(readers, group.cells, ranks)

    def _problems(self, channels: Channels, layer: Layer, evidence: Evidence) -> list[Reader]:
        weights, statistics = weight_rows(layer), evidence.statistics
        importance = np.square(evidence.output_scales).reshape(weights.shape[:2])
        energy = float((importance * statistics.response_energy(weights)).sum()) or 1.0
        numbers = column_numbers(channels, layer)
        return [
            Reader(self._damped(moment), rows, weight / energy, columns)
            for moment, rows, weight, columns in zip(
                statistics.inputs, weights, importance, numbers, strict=True
            )
        ]

    def _damped(self, moment: Array) -> Array:
        return np.asarray(moment + ridge_of(moment, self.damping) * np.eye(len(moment)))

    def refitted(self, layer: Layer, statistics: LayerStatistics, columns: Mask) -> Array:
        """Fit the weights of some columns anew, the others being zero.

        Parameters
        ----------
        layer : Layer
            The original.
        statistics : LayerStatistics
        columns : bool ndarray of shape (group, d)

        Returns
        -------
        ndarray of shape (group, n/group, d)
        """
        weights = weight_rows(layer)
        fitted = np.zeros_like(weights)
        targets = statistics.wanted(weights, np.ones(weights.shape[:2]), self.damping)
        for new, old, moment, target, kept in zip(
            fitted, weights, statistics.inputs, targets, columns, strict=True
        ):
            full, ridge = self._damped(moment), ridge_of(moment, self.damping)
            wanted = (old @ target + ridge * old)[:, kept]
            new[:, kept] = scipy.linalg.solve(full[np.ix_(kept, kept)], wanted.T, assume_a="pos").T
        return fitted


def column_numbers(channels: Channels, layer: Layer) -> Numbers:
    """Return the channel that every weight of a row reads: (group, d)."""
    ends = channels.linear[layer]
    taps = weight_rows(layer).shape[2] * ends.group // len(ends.columns)
    return np.repeat(ends.columns, taps).reshape(ends.group, -1)


def _norms(channels: Channels, group: ChannelGroup) -> dict[int, float]:
    """Return the squared norms of the filters that make every channel."""
    norms: dict[int, float] = {}
    for layer in group.makers:
        rows = np.square(weight_rows(layer)).sum(axis=2).ravel()
        for number, norm in zip(channels.linear[layer].rows.tolist(), rows.tolist(), strict=True):
            norms[number] = norms.get(number, 0.0) + norm
    return norms
