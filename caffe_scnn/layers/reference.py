"""The slow twin of the engine: a whole net in float64, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from caffe_scnn.errors import ModelError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Array
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph, is_fed
from caffe_scnn.model.net import Net


def run(
    net: Net,
    inputs: Mapping[str, ArrayLike],
    blobs: Sequence[str] | None = None,
    state: dict[str, list[Array]] | None = None,
) -> dict[str, Array]:
    """Compute a net with the layers' references.

    Parameters
    ----------
    net : Net
        Phase selected and weights bound.
    inputs : mapping of str to array
        One array for each net input.
    blobs : sequence of str, optional
        Blobs to return; the net's outputs by default, in alphabetical order.
    state : dict, optional
        What recurrent layers kept from the last run; it is changed to what they keep from this one.

    Returns
    -------
    dict of str to float64 ndarray
        A blob that is changed in place has its last value.

    Raises
    ------
    ModelError
        The net cannot be built on these inputs, or has no such blob.
    """
    values = {name: np.asarray(array, np.float64) for name, array in inputs.items()}
    infer_shapes(net, {name: array.shape for name, array in values.items()})
    state = {} if state is None else state
    for layer in net.layers:
        if is_fed(layer):
            continue
        bottoms = [values[name] for name in layer.bottoms]
        before = state.get(layer.name, [])
        tops, state[layer.name] = layer_type(layer).advance(layer, bottoms, before)
        values.update(zip(layer.tops, tops, strict=True))
    wanted = Graph(net).outputs if blobs is None else blobs
    missing = [name for name in wanted if name not in values]
    if missing:
        raise ModelError(f'the net has no blob "{missing[0]}"; it has {", ".join(values)}')
    return {name: values[name] for name in wanted}
