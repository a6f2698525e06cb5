"""Dense convolutions on the matrix unit (Intel's AMX): floats as sums of bf16 numbers.

The unit multiplies bf16 numbers 16 times as fast as vectors multiply floats. Of three parts each
float is the sum of, to the bit; six products of the parts make one of floats but for 2⁻²⁴ of it
(bf16x6). Two parts and three products leave out 2⁻¹⁵ of it at most (bf16x3), in half the time
(``kernels/f32_bf16_body.h``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import Bf16Convolution
from caffe_scnn.engine.arena import allocate
from caffe_scnn.engine.costs import BF16
from caffe_scnn.engine.nodes import Form
from caffe_scnn.engine.packing import Finish, Float32, Int64, Run, Taps, by_row, place_vectors

LANES = 16  # pixels of a vector, channels of a tile of weights
STEP = 32  # entries of a step
CROSSING = 1.5  # times as long takes splitting what does not begin on cache lines
BAND_BYTES = 768 * 1024  # of split inputs that are under way at a time
CHUNK = 1 << 14  # weights that are split at a time: what comes of them stays in the cache
# bf16 numbers that a float is the sum of.
PARTS: dict[Form, int] = {"bf16x3": 2, "bf16x6": 3}
# What bf16x3 leaves out of each product is 512 · 2⁻²⁴ at most, 55 · 2⁻²⁴ on average, of either
# sign: the bound of a plain sum, (K + 2) · 2⁻²⁴ · Σ|w x|, still holds where an output is a sum of
# so many products. Of a million sums of 96 products of normal numbers the worst uses three quarters
# of it, of 576 products a twentieth.
LEAST_PRODUCTS = 96


@dataclass(frozen=True)
class Columns:
    """The columns of a group's matrix as entries, each read at some shifts.

    Attributes
    ----------
    entry : int64 ndarray of shape (entries,)
        Offsets of the entries of the first group.
    shift : int64 ndarray of shape (taps,)
    place : int64 ndarray of shape (columns,)
        Which of the ``steps · taps · 32`` weights of a row a column is.
    """

    entry: Int64
    shift: Int64
    place: Int64

    @property
    def steps(self) -> int:
        """Steps of 32 entries at each shift."""
        return -(-len(self.entry) // STEP)


def _ways(taps: Taps, plane: int, pitch: int) -> Iterator[Columns]:
    """List the ways to take columns apart.

    Entries are channels (or their phases), read at every tap; or channels at each tap of a row,
    read at every row; or all columns, read as they are. The first way splits the fewest numbers,
    the last one wastes the fewest products where channels are few. The second one is
    left out where an entry of one tap at the row of another is no tap: what lies there may be no
    number, which not even a weight of zero makes one.
    """
    offset = taps.offset[0]
    local = offset % plane
    rows = local - local % pitch
    for shift in (local, rows, np.zeros_like(local)):
        entries, entry = np.unique(offset - shift, return_inverse=True)
        shifts, tap = np.unique(shift, return_inverse=True)
        if shift is rows and len(entries) * len(shifts) != len(offset):
            continue
        place = (entry // STEP * len(shifts) + tap) * STEP + entry % STEP
        yield Columns(entries, shifts, place)


@dataclass(frozen=True)
class Split:
    """How a convolution runs on the matrix unit.

    Attributes
    ----------
    form : Form
    columns : Columns
    groups : int
    band : int
        Vectors of the run whose inputs are split at a time.
    pitch : int
        Positions of a band and its shifts.
    cycles : float
        Predicted for one item.
    """

    form: Form
    columns: Columns
    groups: int
    band: int
    pitch: int
    cycles: float

    @property
    def size(self) -> int:
        """Floats that the parts of a band take."""
        return PARTS[self.form] * self.groups * self.columns.steps * STEP // 2 * self.pitch


def plan_split(form: Form, channels: int, taps: Taps, run: Run, plane: int) -> Split:
    """Choose the cheapest way to take a convolution apart.

    Parameters
    ----------
    form : Form
    channels : int
        Output channels.
    taps : Taps
    run : Run
    plane : int
        Distance between two planes of the input.
    """
    groups, vectors, costs = len(taps.offset), run.vectors(LANES), BF16[form]
    tiles = groups * -(-channels // groups // LANES)
    found = []
    for columns in _ways(taps, plane, run.pitch):
        steps = groups * columns.steps
        span = int(columns.shift.max())
        fit = BAND_BYTES // (2 * PARTS[form] * STEP * steps) - span
        band = max(2, fit // LANES)
        bands = -(-vectors // band)
        band = -(-vectors // bands)
        band += band % 2
        crossing = CROSSING if (columns.entry % LANES).any() else 1.0
        products = columns.steps * len(columns.shift) * tiles
        cycles = (
            steps * (vectors + bands * span / LANES) * costs.split * crossing
            + bands * products * hypot(vectors / bands * costs.product, costs.weights)
            + tiles * vectors * costs.store
        )
        pitch = (band + -(-span // LANES)) * LANES
        found.append(Split(form, columns, groups, band, pitch, cycles))
    return min(found, key=lambda split: split.cycles)


def bf16_convolution(
    split: Split,
    weights: Float32,
    taps: Taps,
    run: Run,
    finish: Finish,
    base: int,
    scratch: int,
) -> tuple[Bf16Convolution, int]:
    """Make the kernel object of a convolution on the matrix unit; return it and its weights' bytes.

    Parameters
    ----------
    split : Split
    weights : float32 ndarray of shape (channels, columns)
        Group after group; columns are those of the group.
    taps : Taps
    run : Run
    finish : Finish
    base : int
    scratch : int
        Where ``split.size`` floats of the arena are free.
    """
    columns, groups = split.columns, split.groups
    channel, row, group = _blocks(len(weights), groups)
    filled = np.zeros((len(channel), len(columns.shift) * columns.steps * STEP), np.float32)
    kept = channel >= 0
    filled[np.flatnonzero(kept)[:, None], columns.place] = weights[channel[kept]]
    parts = split_numbers(filled, PARTS[split.form])
    packed = _pack(parts, row, columns.steps * len(columns.shift))
    entry = _entries(columns, weights.reshape(groups, -1, weights.shape[1]), taps)
    bias = by_row(finish.bias, channel)
    kernel = Bf16Convolution(
        len(parts),
        entry.ravel(),
        columns.shift.astype(np.int32),
        columns.steps,
        packed,
        row,
        (group * columns.steps).astype(np.int32),
        np.zeros(len(channel), np.float32) if bias is None else bias,
        by_row(finish.slope, channel),
        channel,
        place_vectors(run, LANES),
        base,
        split.band,
        split.pitch,
        scratch,
        finish.low,
        finish.high,
    )
    return kernel, packed.nbytes


def _entries(columns: Columns, weights: Float32, taps: Taps) -> NDArray[np.int32]:
    """Return the offsets of all entries; -1 fills up, and stands for what no weight reads.

    The input of such an entry may be a channel that nobody computes: anything lies there.
    """
    count = len(columns.entry)
    entry = np.full((len(weights), columns.steps * STEP), -1, np.int32)
    entry[:, :count] = columns.entry + (taps.offset[:, :1] - taps.offset[0, 0])
    taken = columns.place // (len(columns.shift) * STEP) * STEP + columns.place % STEP
    for of_group, of_rows in zip(entry, weights, strict=True):
        of_group[np.setdiff1d(np.arange(count), taken[of_rows.any(axis=0)])] = -1
    return entry


def _blocks(channels: int, groups: int) -> tuple[NDArray[np.int32], Int64, Int64]:
    """Deal channels into blocks of 32, and 16 for the rest of a group.

    Returns
    -------
    channel : ndarray of shape (rows,)
        -1 fills up.
    row : ndarray of shape (blocks + 1,)
    group : ndarray of shape (blocks,)
    """
    channel, sizes, group = [], [], []
    for number, of_group in enumerate(np.arange(channels, dtype=np.int32).reshape(groups, -1)):
        padded = np.append(of_group, np.full(-len(of_group) % LANES, -1, np.int32))
        channel.append(padded)
        blocks = [2 * LANES] * (len(padded) // (2 * LANES)) + [LANES] * (len(padded) // LANES % 2)
        sizes += blocks
        group += [number] * len(blocks)
    return np.concatenate(channel), np.cumsum([0, *sizes]), np.array(group)


def _pack(parts: NDArray[np.uint16], row: Int64, steps: int) -> NDArray[np.uint16]:
    """Lay the parts of the weights out as the kernel reads them.

    Parameters
    ----------
    parts : uint16 ndarray of shape (parts, rows, steps · 32)
    row : ndarray of shape (blocks + 1,)
    steps : int
        Of all taps.
    """
    count, rows, columns = parts.shape
    floats = parts.size // 2
    packed = allocate(floats)[:floats].view(np.uint16).reshape(rows, count * columns)
    for size in np.unique(np.diff(row)):
        begin = row[:-1][np.diff(row) == size]
        taken = (begin[:, None] + np.arange(size)).ravel()
        shape = (count, len(begin), size // LANES, LANES, steps, STEP // 2, 2)
        # block, step, part, tile of channels, pair of entries, channel, entry of the pair
        laid = parts[:, taken].reshape(shape).transpose(1, 4, 0, 2, 5, 3, 6)
        packed[taken] = laid.reshape(len(taken), -1)
    return packed.ravel()


def split_numbers(values: Float32, parts: int) -> NDArray[np.uint16]:
    """Return floats as sums of ``parts`` bf16 numbers each.

    Parameters
    ----------
    values : float32 ndarray of shape (...)
    parts : int

    Returns
    -------
    uint16 ndarray of shape (parts, ...)
        Their bits: of the nearest number, and of those nearest to what is left.
    """
    found = np.empty((parts, values.size), np.uint16)
    flat = values.reshape(-1)
    for begin in range(0, flat.size, CHUNK):
        left = flat[begin : begin + CHUNK]
        for part in found[:, begin : begin + CHUNK]:
            part[...] = to_bf16(left)
            left = left - from_bf16(part)
    return found.reshape(parts, *values.shape)


def to_bf16(values: Float32) -> NDArray[np.uint16]:
    """Return the nearest bf16 numbers (of two as near, the even one) as their 16 bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    quiet = (bits >> 16) | 0x40  # that a NaN does not become another number
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)


def from_bf16(bits: NDArray[np.uint16]) -> Float32:
    """Return bf16 numbers, given as their 16 bits, as floats."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
