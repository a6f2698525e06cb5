"""What methods look at on images: moments of a layer's inputs for some, single rows for others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from caffe_scnn.calibrate import Calibration, LayerStatistics, Samples
from caffe_scnn.calibrate.patches import Rows
from caffe_scnn.decompose.select import Target
from caffe_scnn.model.net import Net

Seen = LayerStatistics | Samples


class Observer:
    """Looks at the original net, and at it beside the net compressed so far.

    Parameters
    ----------
    original, smaller : Net
        The second one becomes smaller from the bottom up.
    targets : sequence of Target
        All that will be looked at.
    calibration : Calibration
    """

    def __init__(
        self, original: Net, smaller: Net, targets: Sequence[Target], calibration: Calibration
    ) -> None:
        self._original = original
        self._sampled = [t.layers for t in targets if t.goal.method.sampled]
        self._calibration = calibration
        self._ours, self._theirs = calibration.walk(original), calibration.walk(smaller)

    @cached_property
    def _responses(self) -> dict[str, Rows]:
        """Answers of the original net's layers that methods want rows of: one pass for all."""
        return self._calibration.responses(self._original, self._sampled)

    def beside(self, target: Target) -> Seen:
        """Look at a target's inputs in the net compressed up to it, and the original's answers."""
        method, layers = target.goal.method, target.layers
        given = self._original if method.symmetric else self._theirs
        if not method.sampled:
            return self._calibration.of_pair(self._ours, given, layers)
        return self._calibration.samples(given, [layers], self._responses)[target.name]

    def pass_by(self, target: Target) -> None:
        """Take note of a target that need not be looked at: it is known what becomes of it."""
        self._ours.halt(target.layers)
        self._theirs.halt(target.layers)


def alone(net: Net, targets: Sequence[Target], calibration: Calibration) -> Iterator[Seen]:
    """Look at the targets of a net as it is, in their order."""
    sampled = [target.layers for target in targets if target.goal.method.sampled]
    others = [target.layers[0] for target in targets if not target.goal.method.sampled]
    seen: dict[str, Seen] = dict(calibration.of_layers(net, others)) if others else {}
    if sampled:
        few = calibration.sketch(len(sampled))
        seen |= few.samples(net, sampled)
    for target in targets:
        yield seen.pop(target.name)
