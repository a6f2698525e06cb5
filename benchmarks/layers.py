"""Single layers against the libraries a user could call instead; one thread, one process.

    make bench
    CAFFE_SCNN_DATA=… python benchmarks/layers.py [--json FILE]

* CaffeNet conv2 … conv5 with 5 % of the weights (the real pruned weights where CAFFE_SCNN_DATA is
  set, random ones elsewhere): the whole layer in our engine, from the producer's activations to the
  padded planes of the next layer, against only the matrix product in OpenBLAS (NumPy), MKL (dense
  and sparse) and SciPy on a matrix that im2col made beforehand and that is not counted.
* ``spmm`` on the shapes of MobileNet's 1x1 layers at 80, 90 and 95 % zeros.

Results are checked against a float64 product before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import scipy.sparse
from gate import Gate
from mkl_peer import MklDense, MklSparse, load_mkl

import caffe_scnn
from caffe_scnn import _kernels
from caffe_scnn.engine import Executor, pack, spmm
from caffe_scnn.model.net import Net

DENSITY = 0.05
# name: input channels, outputs, kernel, pad, group, input size
CAFFENET = {
    "conv2": (96, 256, 5, 2, 2, 27),
    "conv3": (256, 384, 3, 1, 1, 13),
    "conv4": (384, 384, 3, 1, 2, 13),
    "conv5": (384, 256, 3, 1, 2, 13),
}
ONE_BY_ONE = ((128, 128, 3136), (256, 256, 784), (512, 512, 196), (1024, 1024, 49))
SPARSITIES = (0.8, 0.9, 0.95)


def prune(weights: np.ndarray, density: float) -> np.ndarray:
    """Keep exactly round(density · size) weights, the largest."""
    keep = round(density * weights.size)
    order = np.argsort(-np.abs(weights.ravel()), kind="stable")
    result = np.zeros(weights.size, np.float32)
    result[order[:keep]] = weights.ravel()[order[:keep]]
    return result.reshape(weights.shape)


def real_weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the pruned weights of a CaffeNet layer; random ones without the data."""
    data = os.environ.get("CAFFE_SCNN_DATA")
    path = Path(data or "/") / "data" / "caffenet_conv" / "top1_0.56256_L1.npz"
    if data and path.exists():
        return prune(np.load(path)[name].astype(np.float32), DENSITY)
    return prune(np.random.default_rng(0).standard_normal(shape).astype(np.float32), DENSITY)


def layer_net(name: str, weights: np.ndarray) -> Net:
    """Return a net whose convolution stands between two others, as in CaffeNet."""
    channels, outputs, kernel, pad, group, size = CAFFENET[name]
    net = Net.parse(
        f'layer {{ name: "in" type: "Input" top: "in" input_param {{ shape '
        f"{{ dim: 1 dim: {channels} dim: {size} dim: {size} }} }} }}\n"
        f'layer {{ name: "c" type: "Convolution" bottom: "in" top: "c" convolution_param '
        f"{{ num_output: {outputs} kernel_size: {kernel} pad: {pad} group: {group} }} }}\n"
        f'layer {{ name: "r" type: "ReLU" bottom: "c" top: "c" }}\n'
        f'layer {{ name: "next" type: "Convolution" bottom: "c" top: "next" '
        f"convolution_param {{ num_output: 1 kernel_size: 3 pad: 1 }} }}\n"
    )
    net.layer("c").blobs = [weights, np.zeros(outputs, np.float32)]
    net.layer("next").blobs = [np.ones((1, outputs, 3, 3), np.float32), np.zeros(1, np.float32)]
    return net


def im2col(x: np.ndarray, kernel: int, pad: int) -> np.ndarray:
    """Return the (channels · k², pixels) matrix that Caffe would multiply by."""
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (1, 2))
    return np.ascontiguousarray(patches.transpose(0, 3, 4, 1, 2)).reshape(
        -1, patches.shape[1] * patches.shape[2]
    )


def matrix_products(
    parts: list[tuple[np.ndarray, np.ndarray]], mkl: object | None
) -> dict[str, Callable[[], object]]:
    """Return the peers for a list of (weights, columns) products, one for each group."""
    sparse = [scipy.sparse.csr_matrix(w) for w, _ in parts]
    outputs = [np.empty((len(w), x.shape[1]), np.float32) for w, x in parts]
    peers: dict[str, Callable[[], object]] = {
        "OpenBLAS": lambda: [
            np.matmul(w, x, out=y) for (w, x), y in zip(parts, outputs, strict=True)
        ],
        "SciPy CSR": lambda: [w @ x for w, (_, x) in zip(sparse, parts, strict=True)],
    }
    if mkl is not None:
        dense = [MklDense(mkl, w, x) for w, x in parts]
        csr = [MklSparse(mkl, w, x) for w, (_, x) in zip(sparse, parts, strict=True)]
        peers["MKL"] = lambda: [product.run() for product in dense]
        peers["MKL sparse"] = lambda: [product.run() for product in csr]
        for product, (w, x) in zip([*dense, *csr], [*parts, *parts], strict=True):
            product.run()
            np.testing.assert_allclose(product.result, w @ x, rtol=1e-3, atol=1e-3)
    return peers


def convolution_rows(gate: Gate, mkl: object | None) -> list[dict[str, object]]:
    """Time the CaffeNet layers."""
    rows = []
    rng = np.random.default_rng(1)
    for name, (channels, outputs, kernel, pad, group, size) in CAFFENET.items():
        weights = real_weights(name, (outputs, channels // group, kernel, kernel))
        x = np.maximum(rng.standard_normal((1, channels, size, size)), 0).astype(np.float32)
        executor = Executor(layer_net(name, weights), threads=1)
        plan = executor.plan()
        plan.feed({"in": x})
        step = plan.steps[0]
        parts = [
            (w.reshape(len(w), -1), im2col(part, kernel, pad))
            for w, part in zip(np.split(weights, group), np.split(x[0], group), strict=True)
        ]
        want = np.maximum(np.concatenate([w.astype(np.float64) @ c for w, c in parts]), 0)
        got = executor.run({"in": x}, ["c"])["c"].reshape(want.shape)
        assert np.abs(got - want).max() <= 2e-5 * want.max()
        with plan.flushed():
            times = gate.in_turns(
                {
                    "caffe_scnn": plan.calls[0],
                    **matrix_products(parts, mkl),
                }
            )
        rows.append(
            {"layer": name, "kernel": step.kernel, "macs": step.macs,
             "nonzero_macs": step.nonzero_macs, "ms": times}
        )  # fmt: skip
    return rows


def spmm_rows(gate: Gate, mkl: object | None) -> list[dict[str, object]]:
    """Time ``spmm`` on MobileNet's 1x1 shapes."""
    rows = []
    rng = np.random.default_rng(2)
    for m, k, n in ONE_BY_ONE:
        x = rng.standard_normal((k, n)).astype(np.float32)
        for sparsity in SPARSITIES:
            w = prune(rng.standard_normal((m, k)).astype(np.float32), 1 - sparsity)
            packed, y = pack(w), np.empty((m, n), np.float32)
            np.testing.assert_allclose(spmm(packed, x, threads=1), w @ x, rtol=1e-3, atol=1e-3)
            times = gate.in_turns(
                {
                    "caffe_scnn": lambda p=packed, x=x, y=y: spmm(p, x, out=y, threads=1),
                    **matrix_products([(w, x)], mkl),
                }
            )
            rows.append(
                {"layer": f"{m}x{k}x{n}", "kernel": f"{sparsity:.0%} zero",
                 "macs": m * k * n, "nonzero_macs": packed.nonzeros * n, "ms": times}
            )  # fmt: skip
    return rows


def show(title: str, rows: list[dict[str, object]]) -> None:
    """Print one table: milliseconds, and how many times slower than ours each peer is."""
    print(f"\n{title}\n")
    names = list(rows[0]["ms"])  # type: ignore[call-overload]
    print("| layer | | GFLOP/s real | effective | " + " | ".join(f"{n} ms" for n in names) + " |")
    print("|---" * (4 + len(names)) + "|")
    for row in rows:
        times: dict[str, float] = row["ms"]  # type: ignore[assignment]
        ours = times["caffe_scnn"]
        effective, real = (2 * row[key] / ours / 1e6 for key in ("macs", "nonzero_macs"))  # type: ignore[operator]
        cells = [f"{times[n]:.3f} ({times[n] / ours:.1f}x)" if n != "caffe_scnn" else f"{ours:.3f}"
                 for n in names]  # fmt: skip
        print(
            f"| {row['layer']} | {row['kernel']} | {real:.0f} | {effective:.0f} | "
            + " | ".join(cells)
            + " |"
        )


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the results here too")
    options = parser.parse_args()
    gate, mkl = Gate(), load_mkl()
    results = {
        "version": caffe_scnn.__version__,
        "isa": _kernels.best_isa(),
        "convolutions": convolution_rows(gate, mkl),
        "spmm": spmm_rows(gate, mkl),
        "rejected_samples": gate.rejected,
    }
    print(f"one thread, {results['isa']}; medians of gated samples, {gate.rejected} rejected")
    show(
        "CaffeNet layers, 5 % non-zero: whole layer against the matrix product alone",
        results["convolutions"],
    )
    show("spmm", results["spmm"])
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
