"""Classes of pictures, and how often a net finds them: top-1 and top-5."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.evaluate.arrays import Values
from caffe_scnn.evaluate.labels import check_labels

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Accuracy:
    """How often the right class was among the first ones.

    Attributes
    ----------
    top1, top5 : float
        Percent of the images.
    images : int
    seconds : float
        Wall-clock time of the whole evaluation, reading of the images included.
    net_seconds : float
        The part of it spent in the net.
    """

    top1: float
    top5: float
    images: int
    seconds: float
    net_seconds: float


@dataclass(frozen=True)
class Prediction:
    """One class of one picture: its index, its score, its name where names are known."""

    index: int
    score: float
    label: str | None


class Classifier:
    """A net with one input and one output of class scores.

    Parameters
    ----------
    executor : Executor
    blob : str, optional
        The blob with the scores; None: the net's only output.

    Raises
    ------
    ModelError
        The net has several inputs, or several outputs and no ``blob`` is named.
    """

    def __init__(self, executor: Executor, blob: str | None = None) -> None:
        self.executor = executor
        self.input = only_input(executor.inputs)
        if blob is None and len(executor.outputs) != 1:
            raise ModelError(
                f"the net has the outputs {', '.join(executor.outputs)}; name the one with the "
                "class scores (--blob)"
            )
        self.blob = blob or executor.outputs[0]
        self.net_seconds = 0.0

    def scores(self, batch: Values) -> Scores:
        """Run one batch.

        Parameters
        ----------
        batch : ndarray of shape (N, C, H, W)

        Returns
        -------
        ndarray of shape (N, classes)

        Raises
        ------
        ModelError
            The blob is not one score per class, or holds NaN.
        """
        started = time.perf_counter()
        scores = self.executor.run({self.input: batch}, blobs=[self.blob])[self.blob]
        self.net_seconds += time.perf_counter() - started
        if scores.ndim < 2 or scores.shape[0] != len(batch) or scores[0].size != scores.shape[1]:
            raise ModelError(
                f'blob "{self.blob}" has the shape {scores.shape}; class scores are '
                f"({len(batch)}, classes) or ({len(batch)}, classes, 1, 1)"
            )
        if np.isnan(scores).any():
            raise ModelError(f'blob "{self.blob}" holds NaN: no class is the largest')
        return scores.reshape(len(batch), -1)


def only_input(inputs: Sequence[str]) -> str:
    """Return the one input of a net that classifies.

    Raises
    ------
    ModelError
        The net has several inputs, or none.
    """
    if len(inputs) != 1:
        raise ModelError(
            f"a net that classifies has one input; this one has {len(inputs)}: {', '.join(inputs)}"
        )
    return inputs[0]


def top_classes(scores: Scores, k: int) -> NDArray[np.intp]:
    """Return the ``k`` best classes per row, best first; of equal scores the lower class first.

    Parameters
    ----------
    scores : ndarray of shape (N, classes)

    Returns
    -------
    ndarray of shape (N, min(k, classes))
    """
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def predict(
    classifier: Classifier, batch: Values, top: int, names: Sequence[str] | None = None
) -> list[list[Prediction]]:
    """Return the ``top`` best classes of every image of a batch, best first.

    Raises
    ------
    ModelError
        The number of class names is not the number of classes.
    """
    scores = classifier.scores(batch)
    if names is not None and len(names) != scores.shape[1]:
        raise ModelError(
            f"there are {len(names)} class names, but the net has {scores.shape[1]} classes"
        )
    return [
        [Prediction(int(at), float(row[at]), names[at] if names else None) for at in best]
        for row, best in zip(scores, top_classes(scores, top), strict=True)
    ]


def batches(items: Sequence[Any] | NDArray[Any], size: int) -> Iterator[Any]:
    """Cut a sequence, or an array's first axis, into pieces of ``size`` (the last may be less)."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def evaluate(
    classifier: Classifier,
    images: Iterable[Values],
    labels: NDArray[np.int64],
    on_batch: Callable[[int], None] = lambda images: None,
) -> Accuracy:
    """Count how often the label is the best class, and among the best five.

    Parameters
    ----------
    classifier : Classifier
    images : iterable of ndarray of shape (N, C, H, W)
        Batches that go with ``labels``, in order.
    labels : ndarray of shape (images,)
    on_batch : callable
        Called with the number of images after each batch: progress.

    Raises
    ------
    ModelError
        No labels, labels that the net has no class for, or other numbers of images and labels.
    """
    if len(labels) == 0:
        raise ModelError("there are no images to evaluate")
    started, spent = time.perf_counter(), classifier.net_seconds
    seen = hits1 = hits5 = 0
    for batch in images:
        scores = classifier.scores(batch)
        wanted = labels[seen : seen + len(batch)]
        if not seen:
            check_labels(labels, scores.shape[1])
        if len(wanted) != len(batch):
            raise ModelError(f"there are more images than the {len(labels)} labels")
        hits = top_classes(scores, 5) == wanted[:, None]
        hits1 += int(hits[:, 0].sum())
        hits5 += int(hits.any(axis=1).sum())
        seen += len(batch)
        on_batch(len(batch))
    return Accuracy(
        top1=100 * hits1 / seen,
        top5=100 * hits5 / seen,
        images=seen,
        seconds=time.perf_counter() - started,
        net_seconds=classifier.net_seconds - spent,
    )
