"""The one source of random numbers behind fillers: ``caffe.set_random_seed`` sets it."""

from __future__ import annotations

import numpy as np

_state = {"generator": np.random.default_rng()}


def set_random_seed(seed: int) -> None:
    """Make what fillers draw repeatable; the values are not those of Caffe's generator."""
    _state["generator"] = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """Return the generator in use."""
    return _state["generator"]
