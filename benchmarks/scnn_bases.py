"""PCA against dictionary learning as bases of SCNN, on real weights: error at equal non-zeros.

Usage: ``CAFFE_SCNN_DATA=… OPENBLAS_NUM_THREADS=1 python benchmarks/scnn_bases.py``

Prints one Markdown table: per model the relative weight error over all its k×k convolutions but
the first at several densities (Q and S counted), and the time to find the bases and their gains.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from caffe_scnn.decompose.base import Decomposition
from caffe_scnn.decompose.magnitude import Magnitude
from caffe_scnn.decompose.scnn import Scnn
from caffe_scnn.decompose.sparsify import for_budget
from caffe_scnn.model.caffemodel import read_caffemodel
from caffe_scnn.model.net import Blob, Layer
from caffe_scnn.proto import caffe_pb2 as pb

DENSITIES = (0.5, 0.3, 0.2, 0.1, 0.05)
METHODS: dict[str, Decomposition] = {
    "magnitude (no bases)": Magnitude(scaled=False),
    "PCA": Scnn(scaled=False),
    **{f"dictionary, alpha {a:g}": Scnn("dictionary", scaled=False, alpha=a) for a in (0.1, 0.3)},
}


def convolution(weights: Blob, group: int) -> Layer:
    """Return a convolution layer around weights."""
    proto = pb.LayerParameter(name="c", type="Convolution", bottom=["x"], top=["y"])
    parameters = proto.convolution_param
    parameters.num_output = len(weights)
    parameters.kernel_size.extend(weights.shape[2:])
    parameters.group = group
    parameters.bias_term = False
    return Layer(proto, [weights])


def caffenet(data: Path, name: str) -> list[Layer]:
    """Return conv2 … conv5 of a CaffeNet; conv2, conv4 and conv5 have two groups."""
    arrays = np.load(data / "caffenet_conv" / f"{name}.npz")
    return [convolution(arrays[f"conv{i}"], 1 if i == 3 else 2) for i in (2, 3, 4, 5)]


def squeezenet(data: Path) -> list[Layer]:
    """Return the 3×3 convolutions of the fire modules."""
    net = read_caffemodel(data / "squeezenet" / "squeezenet.caffemodel")
    blobs = [layer.blobs[0].array for layer in net.layers if "conv3x3" in layer.name]
    return [convolution(blob, 1) for blob in blobs]


def measure(layers: Iterable[Layer], method: Decomposition) -> tuple[list[float], float]:
    """Return the relative weight error at each density, and the seconds to prepare."""
    squares, norm, seconds = np.zeros(len(DENSITIES)), 0.0, 0.0
    for layer in layers:
        weights = layer.blobs[0]
        start = time.perf_counter()
        candidate = method.prepare([layer], 0)
        offer = candidate.offer
        seconds += time.perf_counter() - start
        power = float(np.square(weights, dtype=np.float64).sum())
        for i, density in enumerate(DENSITIES):
            keep = for_budget([offer], round(density * weights.size))[0]
            squares[i] += power * candidate.edits(keep)[0].weight_error ** 2
        norm += power
    return [float(error) for error in np.sqrt(squares / norm)], seconds


def main() -> None:
    """Print the table."""
    root = os.environ.get("CAFFE_SCNN_DATA")
    if root is None:
        sys.exit("set CAFFE_SCNN_DATA to the folder that holds data/")
    data = Path(root) / "data"
    random = np.random.default_rng(0).standard_normal((128, 64, 3, 3)).astype(np.float32)
    models = {
        "SqueezeNet 3×3": squeezenet(data),
        "random 128×64×3×3": [convolution(random, 1)],
        "CaffeNet conv2-5": caffenet(data, "top1_0.56318_dense"),
    }
    print("| model | bases |", " | ".join(f"{d:g}" for d in DENSITIES), "| seconds |")
    print("|---|---|" + "--:|" * (len(DENSITIES) + 1))
    for model, layers in models.items():
        for name, method in METHODS.items():
            errors, seconds = measure(layers, method)
            cells = " | ".join(f"{error:.4f}" for error in errors)
            print(f"| {model} | {name} | {cells} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
