"""What a decomposition is: a method offers what could be kept of a layer, and writes an edit.

A method (:class:`Decomposition`) is a frozen dataclass; its fields are its parameters. It takes a
layer apart into a :class:`Candidate`, which offers coefficients with their gains and costs.
:mod:`~caffe_scnn.decompose.sparsify` chooses among them (for one layer, or for many at a common
budget), and the candidate turns the choice into an :class:`Edit`: plain Caffe layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.decompose.sparsify import Mask, Offer
from caffe_scnn.errors import CaffeScnnError, PassError
from caffe_scnn.model.net import Layer, Net

if TYPE_CHECKING:
    from caffe_scnn.decompose.evidence import Evidence


# Layers whose weights may become zero one by one, whatever connects them.
ALL_TYPES = ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "InnerProduct")


class Decomposition(Protocol):
    """A method with its parameters."""

    name: ClassVar[str]
    types: ClassVar[tuple[str, ...]]  # layer types it can take apart
    sampled: ClassVar[bool]  # single rows of the inputs and responses, rather than their moments?

    @property
    def calibrated(self) -> bool:
        """Look at responses on images."""
        ...

    @property
    def symmetric(self) -> bool:
        """Look at the original net's inputs, not at what the layers compressed before it leave."""
        ...

    def objection(self, layer: Layer) -> str | None:
        """Return why a layer of a right type cannot be taken apart; None: it can."""
        ...

    def prepare(
        self, layers: Sequence[Layer], seed: int, evidence: Evidence | None = None
    ) -> Candidate:
        """Take a layer apart.

        Parameters
        ----------
        layers : sequence of Layer
            The layer, and those that share its weights.
        seed : int
            Of every random choice.
        evidence : Evidence, optional
            What images and the net say about the layer; None: nothing, weights are all.
        """
        ...


class Candidate(Protocol):
    """A layer taken apart."""

    @property
    def offer(self) -> Offer:
        """What could be kept."""
        ...

    @property
    def priced(self) -> bool:
        """The best choice of any size follows from the prices of the offer."""
        ...

    @property
    def fixed(self) -> int:
        """Non-zeros that are written whatever is kept."""
        ...

    def choose(self, budget: int) -> Mask:
        """Choose what to keep of this layer with ``budget`` non-zeros beside the fixed ones."""
        ...

    def size(self, keep: Mask) -> int:
        """Count the non-zeros that are written for a choice, the fixed ones included."""
        ...

    def error(self, keep: Mask) -> float:
        """Relative error of a choice: of the weights, or of the responses if calibrated."""
        ...

    def edits(self, keep: Mask | None) -> list[Edit]:
        """Write the choice (None: keep everything) as layers, one edit per sharer."""
        ...

    def outline(self, keep: Mask) -> Sequence[tuple[Layer, tuple[Layer, ...]]]:
        """Return every sharer with layers of the sizes that a choice writes, to see what they cost.

        They need not hold the weights, where these take long to find.
        """
        return [(edit.layer, edit.chain) for edit in self.edits(keep)]


@dataclass(frozen=True, eq=False)
class Edit:
    """A layer and the chain of plain layers that takes its place.

    Attributes
    ----------
    layer : Layer
        The original.
    chain : tuple of Layer
        Its replacement, in order of execution; may be one layer of the same name.
    weight_error : float
        ``‖W − Ŵ‖ / ‖W‖`` of the weights as written, in float32.
    response_error : float, optional
        ``‖Y − Ŷ‖ / ‖Y‖`` of the responses, where the method looked at them.

    Raises
    ------
    PassError
        The chain does not read what the layer read, write what it wrote, or hang together.
    """

    layer: Layer
    chain: tuple[Layer, ...]
    weight_error: float
    response_error: float | None = None

    def __post_init__(self) -> None:
        reads = self.layer.bottoms
        for part in self.chain:
            if part.bottoms != reads:
                raise self._broken(f'"{part.name}" reads {part.bottoms}, not {reads}')
            reads = part.tops
            if not all(np.isfinite(blob).all() for blob in part.blobs):
                raise self._broken(f'"{part.name}" has values beyond the range of float32')
        if reads != self.layer.tops:
            raise self._broken(f"the chain writes {reads}, not {self.layer.tops}")

    def _broken(self, reason: str) -> PassError:
        return PassError(f'layer "{self.layer.name}": the edit is broken: {reason}')

    def apply(self, net: Net) -> None:
        """Put the chain in the layer's place."""
        net.replace(self.layer, *self.chain)


@dataclass(frozen=True)
class Counts:
    """Sizes of a layer, or of the chain that replaced it.

    Attributes
    ----------
    macs : int
        Multiply-accumulates of one forward pass on non-zero weights.
    dense_macs : int
        The same with the zeros, as a dense program computes them.
    nonzeros : int
        Non-zero weights; biases are not counted.
    parameters : int
        Weights, zeros included; biases are not counted.
    """

    macs: int
    dense_macs: int
    nonzeros: int
    parameters: int


@dataclass(frozen=True)
class LayerReport:
    """What happened to one layer.

    Attributes
    ----------
    layer : str
        Its name in the original net.
    method : str
        Name of the decomposition.
    written : tuple of str
        Names of the layers that stand in its place.
    before, after : Counts
        Sizes of the original and of what was written.
    weight_error : float
        ``‖W − Ŵ‖ / ‖W‖``.
    response_error : float, optional
        ``‖Y − Ŷ‖ / ‖Y‖`` on the images, where the method looked at them: Y the responses of the
        original net, Ŷ those of the net compressed up to this layer.
    """

    layer: str
    method: str
    written: tuple[str, ...]
    before: Counts
    after: Counts
    weight_error: float
    response_error: float | None = None

    @property
    def density(self) -> float:
        """Non-zeros written, over the weights of the original layer."""
        return self.after.nonzeros / self.before.parameters

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {**asdict(self), "density": self.density}


def relative_error(exact: NDArray[Any], approximation: NDArray[Any]) -> float:
    """Return ``‖W − Ŵ‖ / ‖W‖``; 0 where both are zero."""
    norm = np.linalg.norm(exact.astype(np.float64))
    return float(np.linalg.norm(exact - approximation.astype(np.float64)) / (norm or 1.0))


def require(condition: bool, message: str) -> None:
    """Refuse a parameter that is out of range."""
    if not condition:
        raise CaffeScnnError(message)
