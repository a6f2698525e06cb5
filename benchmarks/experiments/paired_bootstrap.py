"""How sure a difference in mAP is: a paired bootstrap over the pictures of a test set.

    python benchmarks/experiments/paired_bootstrap.py VOCDEVKIT RUN_A RUN_B [SET]

Pictures are drawn with replacement, the same for both runs, and the mAP of each draw is computed
(11 points, the devkit's rules). Detections are matched once: an object belongs to one picture. A
class that no drawn picture shows is left out of that draw's mean, for both runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from caffe_scnn.evaluate.voc import VOC_CLASSES, Devkit, ImageSet, evaluate, read_results

DRAWS = 1000


def matches_of(image_set: ImageSet, run: Path, name: str, year: int):
    """Return, for each class, detections by falling score and positives a picture."""
    results = read_results(run, name, VOC_CLASSES, year)
    return {one.name: one.matches for one in evaluate(image_set, results).classes}


def drawn_ap(matches, positives: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision of one class for each draw; weights (draws, pictures) count pictures."""
    objects = weights @ positives
    counts = weights[:, matches.images]
    hits = np.cumsum(counts * matches.hits, axis=1)
    alarms = np.cumsum(counts * matches.false_alarms, axis=1)
    precision = hits / np.maximum(hits + alarms, 1)
    recall = hits / np.maximum(objects, 1)[:, None]
    # The best precision at or beyond each place; a level's is that at the first place reaching it.
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = np.zeros(len(weights))
    for level in range(11):
        reached = recall * 10 >= level - 1e-9
        first = reached.argmax(axis=1)
        total += np.where(reached.any(axis=1), best[np.arange(len(weights)), first], 0)
    return np.where(objects > 0, total / 11, np.nan)


def compare(devkit: Path, first: Path, second: Path, name: str = "test", seed: int = 0) -> dict:
    """Return the difference of mAP, second − first, with its 95 % interval, in points."""
    kit = Devkit.open(devkit)
    image_set = ImageSet.of(kit.annotations(name), VOC_CLASSES)
    pictures = len(image_set.images)
    random = np.random.default_rng(seed)
    weights = random.multinomial(pictures, np.full(pictures, 1 / pictures), DRAWS)
    weights = np.vstack([np.ones(pictures, int), weights])  # the first "draw" is the set itself
    means = []
    for run in (first, second):
        found = matches_of(image_set, run, name, kit.year)
        aps = []
        for label in VOC_CLASSES:
            truths = image_set.truths[label]
            positives = np.bincount(truths.images[~truths.difficult], minlength=pictures)
            aps.append(drawn_ap(found[label], positives, weights))
        means.append(100 * np.nanmean(aps, axis=0))
    difference = means[1] - means[0]
    low, high = np.percentile(difference[1:], [2.5, 97.5])
    return {
        "first": float(means[0][0]),
        "second": float(means[1][0]),
        "difference": float(difference[0]),
        "low": float(low),
        "high": float(high),
    }


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    devkit, first, second = map(Path, sys.argv[1:4])
    found = compare(devkit, first, second, *sys.argv[4:5])
    print(
        f"mAP {found['first']:.2f} and {found['second']:.2f} %: {found['difference']:+.2f} points, "
        f"95 % interval {found['low']:+.2f} … {found['high']:+.2f}"
    )
