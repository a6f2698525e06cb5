"""VGG-16 to a quarter of its work by low rank, on 300 pictures, in 8 GB: how long, how much memory.

Usage: ``python benchmarks/vgg16_low_rank.py [METHOD [IMAGES [THREADS]]]``

The weights are random: of low rank, a different one for every layer, with noise. They say nothing
about accuracy, but time and memory do not depend on what weights say. Methods: ``low-rank-3d`` (the
default), ``spatial``, ``low-rank``. The address space of the process is limited to 8 GiB, so that
memory beyond it is an error. Prints one line per layer, and the multiply-accumulates kept, seconds
of wall clock and of processor, and the largest resident size.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.decompose import Goal, Recipe, compress, method_type
from caffe_scnn.layers.summary import summarize
from caffe_scnn.loading import load
from caffe_scnn.model.net import Net

VGG16 = Path(__file__).parent.parent / "models" / "vgg16.prototxt"
MEMORY = 8 * 2**30
MACS = 0.25
NOISE = 0.1


def main(method: str = "low-rank-3d", images: str = "300", threads: str = "2") -> None:
    """Compress and report."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    net = vgg16()
    goal = Goal(method_type(method)(ranks="energies"))  # type: ignore[call-arg]
    calibration = Calibration(Images(pictures(int(images)), batch=4), threads=int(threads))
    started, busy = time.perf_counter(), time.process_time()
    done = compress(
        net,
        Recipe(goal, macs=MACS),
        calibration=calibration,
        on_layer=lambda at, total, name: print(f"{at}/{total} {name}", file=sys.stderr),
    )
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    for report in done.reports:
        sizes = [part.blobs[0].shape[0] for part in done.net if part.name in report.written]
        kept = report.after.macs / report.before.macs
        print(f"{report.layer}: ranks {sizes[:-1]}, {100 * kept:.0f} % of its work, ", end="")
        print(f"response error {report.response_error:.3f}")
    kept = summarize(done.net).total.macs / summarize(net).total.macs
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{method}: {1 / kept:.2f}x fewer multiply-accumulates, {images} pictures, ", end="")
    print(f"{seconds:.0f} s ({busy:.0f} s of processor), {peak:.2f} GiB resident at most")


def vgg16() -> Net:
    """Return VGG-16 with weights of low rank and noise; its activations keep their size."""
    net = load(VGG16, allow_missing=True)
    rng = np.random.default_rng(0)
    for layer in net:
        if layer.blobs:
            shape = layer.blobs[0].shape
            fan = int(np.prod(shape[1:]))
            layer.blobs = [
                weights(rng, shape[0], fan).reshape(shape),
                np.zeros_like(layer.blobs[1]),
            ]
    return net


def weights(rng: np.random.Generator, outputs: int, inputs: int) -> NDArray[np.float32]:
    """Return weights of half to an eighth of the full rank, with noise."""
    rank = max(3, round(min(outputs, inputs) * rng.uniform(1 / 8, 1 / 2)))
    if outputs * inputs > 2**24:
        rank = 16  # a fully connected layer: nothing is done to it
    left = rng.standard_normal((outputs, rank), np.float32)
    right = rng.standard_normal((rank, inputs), np.float32)
    found = left @ right / np.float32(np.sqrt(rank))
    if outputs * inputs <= 2**24:
        found += NOISE * rng.standard_normal((outputs, inputs), np.float32)
    return found * np.float32(np.sqrt(2 / inputs))


def pictures(count: int) -> NDArray[np.float32]:
    """Return blurred noise, which neighbouring pixels share."""
    rng = np.random.default_rng(1)
    found = np.empty((count, 3, 224, 224), np.float32)
    for image in found:
        image[:] = rng.standard_normal((3, 28, 28), np.float32).repeat(8, 1).repeat(8, 2)
        image += rng.standard_normal((3, 112, 112), np.float32).repeat(2, 1).repeat(2, 2) / 3
    return found


if __name__ == "__main__":
    arguments: Any = sys.argv[1:]
    main(*arguments)
