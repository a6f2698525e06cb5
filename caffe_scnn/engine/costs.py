"""What the cost model of tiles counts with: constants, shipped or fitted to this machine."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from caffe_scnn.engine.machine import cache_folder, timed_on, vendor
from caffe_scnn.model.atomic import atomic_write

# Input and output of a layer that the last-level cache keeps.
CACHED_BYTES = 16 << 20
# Cycles that the end of a part of a row takes longer where it is not foreseen. Whole rows come by
# their length; parts do not, and only the same layer run over and over teaches their lengths.
SURPRISE = 13.0


@dataclass(frozen=True)
class PanelCosts:
    """Cycles of each thing that tiles on panels do (``engine/panels.py``).

    Those of AVX-512 on AMD's processors are an estimate, from Intel's and from how much faster
    loads are there that cross no cache line.
    """

    multiply_add: float  # of a vector, with its load
    entry: float  # its weight and its offset
    fill: float  # a vector of a panel put together
    line: float  # a cache line of the map that this or storing touches
    far_line: float  # extra where it comes from memory
    store: float  # a vector of sums taken apart
    partial: float  # one stored and loaded between two parts
    end: float  # of the sums of a channel and part, for each tile


@dataclass(frozen=True)
class DenseCosts:
    """Cycles of each thing that a tile of the dense convolution along channels does.

    Rows that half a tile can hold are computed two at a time.
    """

    multiply_add: float
    entry: float  # its offset and the loads of its weights
    store: float  # transposing and storing one vector of channels of all pixels


@dataclass(frozen=True)
class Costs:
    """Cycles of each thing a tile does.

    Fitted to the times of all tiles on nine layers at 5 to 100 % of their weights, and on four of
    them in 4x1 blocks (two cores of an AMD EPYC 9005, AVX-512 at full width): what the model
    chooses takes 1.02 times as long as the best tile on average, 1.10 at most. Those of Intel's
    processors (two cores of a Xeon with AMX, 2 MB of second-level cache each) are fitted to cold
    layers (:func:`~caffe_scnn.engine.timing.cold`): 1.02 and 1.12. Those of AVX2 come from a
    processor that has nothing wider (two cores of an AMD EPYC 7003), likewise cold. What is fitted
    is what is chosen, not single constants: some trade places. A cycle is 1/4100 µs on any machine.
    ``doctor --calibrate`` fits them to another one.
    """

    broadcast: float
    multiply_add: float
    latency: float  # of a dependent multiply-add
    entry: float  # stream bookkeeping
    block: float  # the end of a stream, for each block and part
    store: float  # bias, clamp and store of one vector
    partial: float  # one vector of sums stored and loaded between two parts
    near: float  # a load of pixels
    middle: float  # their transfer from the second-level cache, if the first keeps half of them
    far: float  # or none
    crossing: float  # extra for a near load that is not aligned
    overlap: float  # how well loads and multiply-adds hide each other; infinity: perfectly
    panel: PanelCosts | None = None  # of tiles on panels
    dense: DenseCosts | None = None  # of the tiles along channels, where the ISA has such


@dataclass(frozen=True)
class Bf16Costs:
    """Cycles of each thing that a convolution on the matrix unit does (``engine/bf16.py``)."""

    split: float  # taking a vector of 32 entries apart
    product: float  # of 16 channels, 32 entries and a vector of pixels
    store: float  # of 16 channels and a vector of pixels
    # Weights of 16 channels and 32 entries, once a band: in a net they come from memory, which the
    # products of a band hide in part.
    weights: float


BF16 = {
    "bf16x3": Bf16Costs(split=600.0, product=90.0, store=360.0, weights=1000.0),
    "bf16x6": Bf16Costs(split=971.0, product=175.0, store=360.0, weights=1500.0),
}

COSTS = {
    "avx512": Costs(
        broadcast=0.56,
        multiply_add=0.46,
        latency=2.77,
        entry=0.4,
        block=4.6,
        store=3.22,
        partial=1.93,
        near=0.46,
        middle=0.77,
        far=1.06,
        crossing=0.51,
        overlap=3.27,
        panel=PanelCosts(0.63, 1.3, 2.4, 5.7, 7.8, 11.9, 1.94, 27.3),
        dense=DenseCosts(multiply_add=0.475, entry=0.75, store=92),
    ),
    "avx2": Costs(
        broadcast=0.8,
        multiply_add=0.62,
        latency=4.11,
        entry=0.7,
        block=9.17,
        store=5.09,
        partial=1.26,
        near=0.68,
        middle=0.95,
        far=1.37,
        crossing=0.28,
        overlap=6.18,
        panel=PanelCosts(0.57, 2.4, 5.45, 0.99, 3.0, 9.55, 2.02, 11.4),
    ),
    "scalar": Costs(1, 2, 4, 1, 10, 8, 4, 1, 1, 1, 0, 8, PanelCosts(2, 3, 6, 4, 5, 16, 8, 20)),
}


# Those of other makers' processors.
COSTS_OF = {
    "GenuineIntel": {
        "avx512": Costs(
            broadcast=0.51,
            multiply_add=0.63,
            latency=3.53,
            entry=0.63,
            block=3.13,
            store=6.82,
            partial=2.17,
            near=0.94,
            middle=0.42,
            far=0.88,
            crossing=0.2,
            overlap=1.48,
            panel=PanelCosts(1.0, 1.12, 1.8, 3.8, 5.4, 11.5, 1.52, 18.6),
            dense=DenseCosts(multiply_add=0.725, entry=1.145, store=247.0),
        ),
    },
}


def shipped_costs(isa: str) -> Costs:
    """Return the constants for an instruction set that suit processors like this one."""
    return COSTS_OF.get(vendor(), {}).get(isa, COSTS[isa])


def costs_path() -> Path:
    """Return the file of the constants that were fitted on this machine."""
    return cache_folder() / "costs.json"


@cache
def costs_for(isa: str) -> Costs:
    """Return the constants for an instruction set: fitted on this machine, or else as shipped."""
    try:
        fitted = json.loads(costs_path().read_text())[timed_on()][isa]
        panel, dense = fitted.pop("panel"), fitted.pop("dense")
        shipped = shipped_costs(isa)
        if (panel is None, dense is None) != (shipped.panel is None, shipped.dense is None):
            raise ValueError("costs of tiles that there are not, or none of tiles that there are")
        return Costs(
            **_positive(fitted),
            panel=None if panel is None else PanelCosts(**_positive(panel)),
            dense=None if dense is None else DenseCosts(**_positive(dense)),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return shipped_costs(isa)


def _positive(values: dict[str, float]) -> dict[str, float]:
    """Check numbers from a file.

    Raises
    ------
    ValueError
        One of them is not a cost.
    """
    found = {name: float(value) for name, value in values.items()}
    if not all(0 < value < math.inf for value in found.values()):
        raise ValueError(f"not costs: {found}")
    return found


def keep_costs(isa: str, costs: Costs) -> None:
    """Let this machine use these constants from now on.

    Raises
    ------
    OutputError
        The cache folder cannot be written.
    """
    path = costs_path()
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError):
        read = {}
    known = read if isinstance(read, dict) else {}
    of_this = known.get(timed_on())
    known[timed_on()] = {**(of_this if isinstance(of_this, dict) else {}), isa: asdict(costs)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(json.dumps(known, indent=1, sort_keys=True).encode())
    costs_for.cache_clear()
