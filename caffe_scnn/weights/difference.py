"""What differs between the weights of two files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe_scnn.layers.base import Shape
from caffe_scnn.model.caffemodel import StoredNet
from caffe_scnn.model.net import Blob

SAME, CHANGED, RESHAPED, ADDED, REMOVED = "same", "changed", "reshaped", "added", "removed"


@dataclass(frozen=True)
class BlobChange:
    """One blob in both files.

    Attributes
    ----------
    layer : str
    blob : int
        Which of the layer's blobs.
    status : str
        ``same``, ``changed`` (beyond the tolerance), ``reshaped``, ``added`` or ``removed``.
    shape, other_shape : tuple of int or None
        In the first and in the second file.
    difference : float or None
        Largest absolute difference; infinite where one of them is not finite and the other is.
    magnitude : float or None
        Largest magnitude in the first file.
    changed_values : int or None
        Number of values that are not equal.
    """

    layer: str
    blob: int
    status: str
    shape: Shape | None
    other_shape: Shape | None
    difference: float | None = None
    magnitude: float | None = None
    changed_values: int | None = None


@dataclass(frozen=True)
class WeightDifference:
    """All blobs of two files.

    Attributes
    ----------
    blobs : tuple of BlobChange
        In the order of the first file, then what only the second one has.
    added, removed : tuple of str
        Layers with blobs that only the second, only the first file has.
    """

    blobs: tuple[BlobChange, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return all(blob.status == SAME for blob in self.blobs)


def diff_weights(first: StoredNet, second: StoredNet, tolerance: float = 0.0) -> WeightDifference:
    """Compare two caffemodels blob by blob, by layer name.

    Parameters
    ----------
    first, second : StoredNet
        See :func:`~caffe_scnn.model.caffemodel.read_caffemodel`.
    tolerance : float
        Differences up to this part of a blob's largest value are no change.
    """
    old, new = _layers(first), _layers(second)
    changes = []
    for name in [*old, *(name for name in new if name not in old)]:
        before, after = old.get(name, []), new.get(name, [])
        for i in range(max(len(before), len(after))):
            one = before[i] if i < len(before) else None
            other = after[i] if i < len(after) else None
            changes.append(_compare(name, i, one, other, tolerance))
    return WeightDifference(
        tuple(changes),
        tuple(name for name in new if name not in old),
        tuple(name for name in old if name not in new),
    )


def _layers(stored: StoredNet) -> dict[str, list[Blob]]:
    """Layers with blobs; the last of a name counts, as when Caffe loads the file."""
    return {n.name: [blob.array for blob in n.blobs] for n in stored.layers if n.blobs}


def _compare(
    layer: str, index: int, one: Blob | None, other: Blob | None, tolerance: float
) -> BlobChange:
    if one is None or other is None:
        status = ADDED if one is None else REMOVED
        before, after = (None if blob is None else blob.shape for blob in (one, other))
        return BlobChange(layer, index, status, before, after)
    if _trimmed(one.shape) != _trimmed(other.shape):
        return BlobChange(layer, index, RESHAPED, one.shape, other.shape)
    a, b = one.ravel(), other.ravel()
    unequal = (a != b) & ~(np.isnan(a) & np.isnan(b))
    count = int(np.count_nonzero(unequal))
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.abs(a[unequal].astype(np.float64) - b[unequal])
    gap = float(np.max(np.where(np.isnan(gaps), np.inf, gaps), initial=0.0))
    finite = a[np.isfinite(a)]
    magnitude = max(float(finite.max(initial=0)), -float(finite.min(initial=0)))
    status = CHANGED if gap > tolerance * magnitude else SAME
    return BlobChange(layer, index, status, one.shape, other.shape, gap, magnitude, count)


def _trimmed(shape: Shape) -> Shape:
    """Return a shape without leading ones: the old form pads to four axes with them."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape
