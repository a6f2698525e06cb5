"""How near to the machine's limits a net runs, layer by layer.

Usage: ``python benchmarks/roofline.py NET/WEIGHTS … [--layers]``; names are those of
``peer_models.py``, for instance ``vgg16/pruned`` or ``"vgg16/95% zero"`` (one thread; nothing else
should run)

For every layer the time is estimated that it cannot go below: of its multiply-adds on non-zero
weights at the speed of the loads that they need, or of its weights and maps at the speed of the
memory they come from, whichever is longer. Zeros anywhere need a load for each multiply-add, from
the second-level cache where the first does not hold what a tile reads, across two cache lines where
kernels are larger than 1x1, unless they run on panels; and they compute whole vectors, of which the
ends of rows fill a part, on panels whole blocks, which overlap. Dense layers and depthwise ones
need no loads; Winograd's form multiplies 2.25 or 4 times less. Weights count as read from wherever
so many bytes are kept as one pass of the whole net touches; those of a layer that happens to lie
nearer come faster. Limits are measured first (``limits.py``).
"""

from __future__ import annotations

import argparse
import ctypes
from collections import defaultdict

import numpy as np
from gate import Gate
from limits import limits, probes, read_speed
from peer_models import LAYERS, names, picture, variants

from caffe_scnn import Executor, _kernels
from caffe_scnn.engine.machine import cache_bytes
from caffe_scnn.engine.ops import Op
from caffe_scnn.engine.ops.bands import BandsOp
from caffe_scnn.engine.ops.convolution import ConvolutionOp
from caffe_scnn.engine.ops.slices import SlicesOp
from caffe_scnn.engine.tile import block_size
from caffe_scnn.model.net import Net

BYTES_PER_FLOP = 2  # a float is read for a product and a sum
FEWER = {"winograd2": 2.25, "winograd4": 4.0}
REPEAT = 40


class Roofline:
    """The least times of layers of one net.

    Parameters
    ----------
    net : Net
    roofs : dict of str to float
        GFLOP/s and GB/s, of ``limits.limits``.
    weights : float
        GB/s at which weights come.
    """

    def __init__(self, net: Net, roofs: dict[str, float], weights: float) -> None:
        self._net, self._roofs, self._weights = net, roofs, weights

    def kind(self, step: Op) -> str:
        """Name what a step's time goes into."""
        kernel = step.kernel
        if "gemv" in kernel or "spmv" in kernel:
            return "fully connected"
        if "dwconv" in kernel:
            return "depthwise"
        if "winograd" in kernel:
            return "Winograd"
        if "panel" in kernel:
            return "zeros anywhere, panels"
        if "sconv_1x" in kernel or "program" in kernel:
            return "zeros anywhere, k×k" if self._taps(step) > 1 else "zeros anywhere, 1×1"
        return "dense" if "dense" in kernel or "sconv" in kernel else "other"

    def _taps(self, step: Op) -> int:
        return int(np.prod(self._net.layer(step.layers[0]).blobs[0].shape[2:]))

    def milliseconds(self, step: Op, flops: int) -> float:
        """Return the least time of a step of so much arithmetic."""
        roof = self._roofs["FMA, registers"]
        if self.kind(step) in ("zeros anywhere, 1×1", "zeros anywhere, panels"):
            roof = self._roofs["FMA, operand in L1"]
        if self.kind(step) == "zeros anywhere, k×k":
            roof = self._roofs["FMA, operand across lines of L1"]
        if isinstance(step, ConvolutionOp) and "zeros anywhere" in self.kind(step):
            if bytes_read_again(step) > cache_bytes(1) and "panel" not in step.kernel:
                roof = min(roof, self._roofs["read L2"] / BYTES_PER_FLOP)
            roof *= step.target.height * step.target.width / pixels_computed(step)
        fewer = next((f for name, f in FEWER.items() if name in step.kernel), 1.0)
        maps = step.bytes - step.weight_bytes
        near = self._roofs["read L2" if maps <= cache_bytes(2) else "read L3"]
        moved = maps / near + step.weight_bytes / self._weights
        return max(flops / fewer / roof, moved) / 1e6


def pixels_computed(step: ConvolutionOp) -> int:
    """Return the pixels of an output channel that are computed: gaps and overlaps among them."""
    tile, target = step.tile, step.target
    if tile.op == "panel":
        tall, wide = block_size(target.height, target.width, tile.bands, tile.lanes)
        return tall * -(-wide // tile.columns) * tile.columns * tile.lanes
    return -(-step.shape.run // tile.lanes) * tile.lanes


def bytes_read_again(step: ConvolutionOp) -> int:
    """Return the bytes of the input that a sparse tile reads for every output channel."""
    shape, tile = step.shape, step.tile
    return 4 * (tile.vectors * tile.lanes + shape.span) * shape.channels // tile.parts


def parts(step: Op) -> list[tuple[Op, int]]:
    """Return the layers of a step with their arithmetic: several where they run part by part."""
    if isinstance(step, SlicesOp):
        return [(part, part.flops) for part in step.parts()]
    if not isinstance(step, BandsOp):
        return [(step, step.flops)]
    so_far = [0, *(stage.flops for stage in step.stages)]  # each counts those before it, too
    return [
        (stage, after - before)
        for stage, before, after in zip(step.stages, so_far[:-1], so_far[1:], strict=True)
    ]


def named(name: str) -> Net:
    """Return ``NET/WEIGHTS``; what there is not ends the program with the names that there are."""
    net, _, weights = name.rpartition("/")
    zeros = weights.removesuffix("% zero")
    densities = [1 - int(zeros) / 100] if zeros.isdigit() else None
    known = [*names(), *LAYERS]
    if net not in known:
        raise SystemExit(f"no net {net!r}; there are: {', '.join(known)}")
    found = dict(variants(net, densities))
    if weights not in found:
        raise SystemExit(f"no weights {weights!r} of {net}; there are: {', '.join(found)}")
    return found[weights]


def measured(
    name: str, gate: Gate, roofs: dict[str, float], probe: ctypes.CDLL, layers: bool
) -> None:
    """Print a table of one net."""
    net = named(name)
    given = picture(net)
    executor = Executor(net, threads=1)
    executor.run(given)
    plan = executor.plan({blob: x.shape for blob, x in given.items()})
    # read as often as the net runs, from wherever as much as one pass touches is kept
    weights_roof = read_speed(gate, probe, plan.nbytes)
    line = Roofline(net, roofs, weights_roof)
    rows: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for time in executor.profile(given, repeat=REPEAT):
        stages = parts(time.step)
        kind = " and ".join(dict.fromkeys(line.kind(stage) for stage, _ in stages))
        least = sum(line.milliseconds(stage, flops) for stage, flops in stages)
        for row in (kind, "whole net"):
            rows[row][0] += time.min_ms
            rows[row][1] += least
        if layers:
            print(f"{time.step.layers[0]:28s} {kind:24s} {time.min_ms:8.3f} {least:8.3f}")
    print(f"\n| {name} | ms | at the roof | |\n|---|--:|--:|--:|")
    for row, (took, least) in sorted(rows.items(), key=lambda item: item[1][0]):
        print(f"| {row} | {took:.3g} | {least:.3g} | {least / took:.0%} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("nets", nargs="+", metavar="NET/WEIGHTS")
    parser.add_argument("--layers", action="store_true", help="a line for every layer, too")
    options = parser.parse_args()
    gate, isa = Gate(), _kernels.best_isa()
    roofs, probe = limits(gate, isa), probes(isa)
    print(", ".join(f"{name} {value:.0f}" for name, value in roofs.items()))
    for name in options.nets:
        measured(name, gate, roofs, probe, options.layers)


if __name__ == "__main__":
    main()
