from __future__ import annotations

import numpy as np
import pytest

from caffe_scnn.layers.nonzeros import CHUNK, count_nonzeros


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_every_weight_is_counted_once(size):
    weights = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    weights[::3] = 0
    weights[1::7] = -0.0
    weights[2::11] = np.nan
    assert count_nonzeros(weights) == np.count_nonzero(weights)


def test_weights_of_any_shape_and_kind():
    weights = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert count_nonzeros(weights) == 23
    assert count_nonzeros(weights[:, ::2, 1:]) == 12
    assert count_nonzeros(weights > 20) == 3
    assert count_nonzeros(np.float32(2)[None]) == 1
