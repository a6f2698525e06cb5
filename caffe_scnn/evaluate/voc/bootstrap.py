"""How far the difference of two detectors may be chance: a paired bootstrap over the images.

Images are drawn with replacement, the same for both (Efron and Tibshirani, "An Introduction to the
Bootstrap", 1993, percentile interval); an image drawn twice counts twice, objects and detections.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe_scnn.evaluate.voc.average_precision import Curve
from caffe_scnn.evaluate.voc.evaluation import Evaluation, ImageSet
from caffe_scnn.evaluate.voc.match import Indices


@dataclass(frozen=True)
class Difference:
    """The second detector's mean average precision less the first's.

    Attributes
    ----------
    mean : float
        On the images as they are.
    low, high : float
        Ends of the interval that holds 95 % of the resampled differences.
    """

    mean: float
    low: float
    high: float


def bootstrap_difference(
    image_set: ImageSet,
    first: Evaluation,
    second: Evaluation,
    resamples: int = 1000,
    seed: int = 0,
) -> Difference:
    """Compare two evaluations of the same images by the same measure.

    Parameters
    ----------
    image_set : ImageSet
        What both were evaluated on.
    first, second : Evaluation
    resamples : int
        Times that the images are drawn.
    seed : int
        The same seed, the same interval.
    """
    generator = np.random.default_rng(seed)
    count = len(image_set.images)
    differences = []
    for _ in range(resamples):
        weights = np.bincount(generator.integers(count, size=count), minlength=count)
        differences.append(
            resampled_mean(image_set, second, weights) - resampled_mean(image_set, first, weights)
        )
    low, high = np.nanpercentile(differences, [2.5, 97.5])
    return Difference(second.mean - first.mean, float(low), float(high))


def resampled_mean(image_set: ImageSet, evaluation: Evaluation, weights: Indices) -> float:
    """Return the mean average precision where an image counts ``weights`` times.

    Parameters
    ----------
    image_set : ImageSet
    evaluation : Evaluation
    weights : ndarray of shape (images,)

    Returns
    -------
    float
        Over the classes that have an object among the images drawn; NaN if none has.
    """
    found = []
    for result in evaluation.classes:
        truths = image_set.truths[result.name]
        objects = int(weights[truths.images[~truths.difficult]].sum())
        if objects:
            drawn = weights[result.matches.images]
            curve = Curve.of(
                result.matches.hits * drawn, result.matches.false_alarms * drawn, objects
            )
            found.append(evaluation.measure.average_precision(curve))
    return float(np.mean(found)) if found else float("nan")
