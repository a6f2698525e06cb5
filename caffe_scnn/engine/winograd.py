"""Winograd's minimal filtering for dense 3x3 convolutions: where it pays, and its weights.

Lavin and Gray 2016, "Fast algorithms for convolutional neural networks": a tile of m x m outputs
takes (m + 2)² products for each pair of channels instead of 9 m². What is computed between the
transforms is an ordinary 1x1 convolution with one group for each coefficient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from caffe_scnn.engine.choose import rank_tiles
from caffe_scnn.engine.machine import cache_bytes
from caffe_scnn.engine.nodes import WINOGRAD, Form, Node
from caffe_scnn.engine.tensor import ALIGNMENT, Float32
from caffe_scnn.engine.tile import Shape, Tile
from caffe_scnn.layers.base import ConvolutionSpec
from caffe_scnn.layers.nonzeros import count_nonzeros

# G of the paper: filter taps to coefficients.
FILTERS = {
    2: np.array([[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]]),
    4: np.array(
        [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ]
    ),
}
# The transforms add up numbers that partly cancel. Their rounding stays far inside the bound of the
# plain sum, (K + 2) · 2⁻²⁴ · Σ|w x|, where K, the products of an output, is at least this.
LEAST_PRODUCTS = {2: 9 * 16, 4: 9 * 48}
# Coefficients that are under way at a time: so many bytes, or this share of the filters' own, which
# every band reads again.
BAND_BYTES = 1 << 20
BAND_SHARE = 0.25
# Tiles that are transformed together, in whole rows: so many pixels stay in the first-level cache.
TOGETHER = 160
# Cycles of the transforms of one vector of tiles of a channel, in the measure of ``costs.COSTS``.
SCATTER = {2: 190.0, 4: 460.0}
GATHER = {2: 80.0, 4: 335.0}
NEAR_WEIGHTS = 1 << 19  # bytes of weights that stay in the second-level cache
FAR_BYTES = 10.0  # that come from beyond it, or go there, a cycle


@dataclass(frozen=True)
class Bands:
    """How the tiles of a batch are cut into bands whose coefficients fit a cache.

    Attributes
    ----------
    tiles_y, tiles_x : int
        Tiles of one map.
    rows : int
        Rows of tiles of a batch.
    band : int
        Rows of a band; the last one may have fewer.
    """

    tiles_y: int
    tiles_x: int
    rows: int
    band: int

    @classmethod
    def of(cls, node: Node, m: int) -> Bands:
        """Cut the tiles of a convolution."""
        assert isinstance(node.spec, ConvolutionSpec)
        items, outputs, height, width = node.writes[0].shape
        channels = node.reads[0].shape[1] + outputs
        tiles_y, tiles_x = -(-height // m), -(-width // m)
        rows = items * tiles_y
        each = 4 * (m + 2) ** 2  # bytes of all coefficients of one number
        filters = each * math.prod(node.spec.weights.shape[:2])
        size = max(BAND_BYTES, int(BAND_SHARE * filters))
        fit = max(1, size // (each * channels * tiles_x))
        return cls(tiles_y, tiles_x, rows, -(-rows // -(-rows // fit)))

    @property
    def count(self) -> int:
        """Number of bands."""
        return -(-self.rows // self.band)

    @property
    def width(self) -> int:
        """Tiles of a band."""
        return self.band * self.tiles_x

    @property
    def together(self) -> int:
        """Rows of tiles that are transformed together; a band's last ones may be fewer."""
        return min(self.band, self.tiles_y, max(1, TOGETHER // self.tiles_x))

    @property
    def plane(self) -> int:
        """Distance between two planes of coefficients.

        An odd number of cache lines, as is the number of planes of a coefficient
        (:func:`slots`): what is written together must not compete for the same lines of a cache.
        """
        return (-(-self.width // ALIGNMENT) | 1) * ALIGNMENT


def slots(channels: int) -> int:
    """Planes between two coefficients of one channel."""
    return channels | 1


def filter_coefficients(weights: Float32, m: int) -> Float32:
    """Return the coefficients G w Gᵀ of 3x3 filters.

    Parameters
    ----------
    weights : float32 ndarray of shape (outputs, channels, 3, 3)
    m : int

    Returns
    -------
    float32 ndarray of shape ((m + 2)², outputs, channels)
    """
    both = np.kron(FILTERS[m], FILTERS[m])
    flat = weights.reshape(-1, 9).astype(np.float64)
    return (both @ flat.T).astype(np.float32).reshape(len(both), *weights.shape[:2])


def winograd_cycles(node: Node, isa: str) -> dict[Form, float]:
    """Predict the cycles of a whole layer in each of Winograd's forms that it may take."""
    spec = node.spec
    assert isinstance(spec, ConvolutionSpec)
    if not _takes(spec):
        return {}
    return {form: _cycles(node, spec, m, isa) for form, m in WINOGRAD.items() if _enough(spec, m)}


def _enough(spec: ConvolutionSpec, m: int) -> bool:
    """Whether an output adds up so many products that rounding stays inside its bound."""
    return bool(9 * spec.weights.shape[1] >= LEAST_PRODUCTS[m])


def _takes(spec: ConvolutionSpec) -> bool:
    """Whether a convolution is dense, 3x3 and of stride 1."""
    return (
        spec.weights.shape[2:] == (3, 3)
        and set(spec.stride) == {1}
        and set(spec.dilation) == {1}
        and max(spec.pad) < 3
        and count_nonzeros(spec.weights) > 0.5 * spec.weights.size
    )


def _cycles(node: Node, spec: ConvolutionSpec, m: int, isa: str) -> float:
    """Predict the cycles of a whole layer with tiles of one size."""
    channels = node.reads[0].shape[1]
    outputs, per_group = spec.weights.shape[:2]
    bands = Bands.of(node, m)
    tile = product_tile(spec, bands, isa)
    coefficients = (m + 2) ** 2
    far = max(0, 4 * coefficients * outputs * per_group - NEAR_WEIGHTS)
    band = 4 * coefficients * (channels + outputs) * bands.width
    far += 2 * max(0, band - cache_bytes(2))  # written, and read again
    vectors = bands.rows / bands.together * -(-bands.together * bands.tiles_x // tile.lanes)
    transforms = vectors * (channels * SCATTER[m] + outputs * GATHER[m])
    return float(bands.count * (coefficients * tile.cycles + far / FAR_BYTES) + transforms)


def product_tile(spec: ConvolutionSpec, bands: Bands, isa: str) -> Tile:
    """Choose the tile of the products of one coefficient."""
    used = np.asarray(spec.weights.any(axis=(2, 3)), np.float32)
    shape = Shape(bands.width, spec.weights.shape[1], 0)
    tile = rank_tiles(isa, used, spec.group, shape, None, (1, bands.width))[0]
    return replace(tile, why="")
