"""The digits of scikit-learn as a fixed training and test split (no torch needed).

python models/digits/data.py test.npz     # x: (360, 1, 8, 8) pixels 0…16, y: classes
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
    x, y = split()[1]
    np.savez(sys.argv[1], x=x, y=y)
