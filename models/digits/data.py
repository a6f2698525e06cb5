"""The digits of scikit-learn as a fixed training and test split (no torch needed).

python models/digits/data.py test.npz unlabelled.npz

test.npz: the held-out digits, x (360, 1, 8, 8) pixels 0…16 and y classes; unlabelled.npz: x
(1437, 1, 8, 8) of the training digits, for methods that look at pictures.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

HELD_OUT = 360  # of 1797


def split() -> tuple[tuple[NDArray[np.float32], NDArray[np.int64]], ...]:
    """Return (pixels, classes) for training and for the held-out digits, in a fixed order."""
    digits = load_digits()
    pixels = digits.images.astype(np.float32)[:, None]
    order = np.random.default_rng(0).permutation(len(pixels))
    held_out, training = order[:HELD_OUT], order[HELD_OUT:]
    classes = digits.target.astype(np.int64)
    return (pixels[training], classes[training]), (pixels[held_out], classes[held_out])


if __name__ == "__main__":
    (seen, _), (x, y) = split()
    np.savez(sys.argv[1], x=x, y=y)
    np.savez(sys.argv[2], x=seen)
