"""How much a net loses when one layer alone gets smaller: every layer, at several sizes.

Each point is a net that was really compressed (for channels: with everything that is coupled to the
layer) and really run; nothing is predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from caffe_scnn.calibrate import Calibration
from caffe_scnn.decompose.base import Decomposition
from caffe_scnn.decompose.carry_out import targets_of
from caffe_scnn.decompose.compress import compress
from caffe_scnn.decompose.recipe import Goal, Recipe
from caffe_scnn.errors import ModelError
from caffe_scnn.layers.summary import summarize
from caffe_scnn.model.net import Net


@dataclass(frozen=True)
class Answer:
    """How a net answers, against the original.

    Attributes
    ----------
    agreement : float
        Percent of the images for which both find the same class.
    divergence : float
        Of the answers: Kullback and Leibler's of probabilities, else the relative squared
        difference.
    top1 : float, optional
        Percent right, where labels are known.
    """

    agreement: float
    divergence: float
    top1: float | None = None


@dataclass(frozen=True)
class Point:
    """One layer at one size, everything else as it was.

    Attributes
    ----------
    layer : str
        The layer, or the first of those whose channels go together.
    density : float
        What was asked of it.
    macs : float, optional
        Multiply-accumulates on non-zero weights of the whole net, over what they were; None: the
        method cannot make the layer this small.
    response_error : float, optional
        The largest of the layers that were fitted.
    answer : Answer, optional
    note : str
        Why there is no net.
    """

    layer: str
    density: float
    macs: float | None = None
    response_error: float | None = None
    answer: Answer | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Scan:
    """What is scanned.

    Attributes
    ----------
    net : Net
    method : Decomposition
    densities : sequence of float
    layers : tuple of str, optional
        Names or globs; None: what the method takes by itself.
    seed : int
    calibration : Calibration, optional
    """

    net: Net
    method: Decomposition
    densities: Sequence[float]
    layers: tuple[str, ...] | None = None
    seed: int = 0
    calibration: Calibration | None = None

    def targets(self) -> dict[str, tuple[str, ...]]:
        """Return the layers, each with those that can only become smaller with it.

        Raises
        ------
        ModelError
            As compression refuses layers.
        """
        recipe = Recipe(Goal(self.method, self.densities[0]), layers=self.layers, seed=self.seed)
        return {
            target.name: tuple(layer.name for layer in target.layers)
            for target in targets_of(self.net, recipe)
        }

    def points(
        self, answer: Callable[[Net], Answer], known: Collection[tuple[str, float]] = ()
    ) -> Iterator[Point]:
        """Compress and run one net after the other, layers in file order.

        Parameters
        ----------
        answer : callable
            Runs a net.
        known : collection of (str, float)
            Layers and densities to pass over.
        """
        for name, together in self.targets().items():
            for density in self.densities:
                if (name, density) not in known:
                    yield self._point(name, together, density, answer)

    def _point(
        self,
        name: str,
        together: tuple[str, ...],
        density: float,
        answer: Callable[[Net], Answer],
    ) -> Point:
        recipe = Recipe(Goal(self.method, density), layers=together, seed=self.seed)
        try:
            made = compress(self.net, recipe, calibration=self.calibration)
        except ModelError as error:
            return Point(name, density, note=str(error))
        before, after = (summarize(net).total.nonzero_macs for net in (self.net, made.net))
        errors = [r.response_error for r in made.reports if r.response_error is not None]
        return Point(name, density, after / before, max(errors, default=None), answer(made.net))
