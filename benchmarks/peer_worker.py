"""One engine, one net, one number of threads: the far side of peers.py.

    python peer_worker.py ENGINE THREADS FOLDER

FOLDER holds ``x.npy`` and the net, as ``net.onnx`` and as Caffe's two files. Writes
``ENGINE.npy``, the result, and answers with its version; then, for each line, with the
milliseconds of an undisturbed pass: the median of a few after one that warms the caches.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]
ENOUGH_SECONDS, LEAST_PASSES = 0.03, 3


def caffe_scnn(folder: Path, threads: int) -> tuple[Run, str]:
    """Our engine, on the Caffe files as they are."""
    import caffe_scnn

    net = caffe_scnn.load(folder / "deploy.prototxt", folder / "weights.caffemodel")
    executor = caffe_scnn.Executor(net, threads=threads)
    (name,) = executor.inputs
    return (lambda x: next(iter(executor.run({name: x}).values()))), caffe_scnn.__version__


def onnxruntime(folder: Path, threads: int) -> tuple[Run, str]:
    """ONNX Runtime with its CPU provider and all graph optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(folder / "net.onnx"), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return (lambda x: session.run(None, {name: x})[0]), onnxruntime.__version__


def openvino(folder: Path, threads: int) -> tuple[Run, str]:
    """OpenVINO for latency; in float32, as its default would be bfloat16 where the CPU has it."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(str(folder / "net.onnx"), "CPU", settings)
    request = compiled.create_infer_request()
    return (lambda x: request.infer({0: x})[0]), openvino.__version__.split("-")[0]


def opencv(folder: Path, threads: int) -> tuple[Run, str]:
    """OpenCV's dnn module."""
    import cv2

    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromONNX(str(folder / "net.onnx"))

    def run(x: np.ndarray) -> np.ndarray:
        net.setInput(x)
        return net.forward()

    return run, cv2.__version__


def torch(folder: Path, threads: int) -> tuple[Run, str]:
    """PyTorch, operator by operator (oneDNN)."""
    import torch
    from peer_torch import OnnxModule

    torch.set_num_threads(threads)
    module = OnnxModule(str(folder / "net.onnx")).eval().requires_grad_(False)

    @torch.inference_mode()
    def run(x: np.ndarray) -> np.ndarray:
        return module(torch.from_numpy(x)).numpy()

    return run, torch.__version__


def torch_compile(folder: Path, threads: int) -> tuple[Run, str]:
    """PyTorch compiled by Inductor, weights frozen so that it may pack them."""
    import torch
    import torch._inductor.config
    from peer_torch import OnnxModule

    torch.set_num_threads(threads)
    torch._inductor.config.freezing = True
    module = torch.compile(OnnxModule(str(folder / "net.onnx")).eval().requires_grad_(False))

    def run(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(x)).numpy()

    return run, torch.__version__


def deepsparse(folder: Path, threads: int) -> tuple[Run, str]:
    """DeepSparse, which makes use of zeros; its licence forbids publishing what it reaches."""
    os.environ["NM_DISABLE_ANALYTICS"] = "True"
    import deepsparse

    model = deepsparse.compile_model(str(folder / "net.onnx"), batch_size=1, num_cores=threads)
    return (lambda x: model.run([x])[0]), deepsparse.__version__


ENGINES = {
    "caffe_scnn": caffe_scnn,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "opencv": opencv,
    "torch": torch,
    "torch.compile": torch_compile,
}
ON_REQUEST = {"deepsparse": deepsparse}


def sample(run: Run, x: np.ndarray) -> float:
    """Return the median milliseconds of a few passes; the one before them brings the caches."""
    run(x)
    times: list[float] = []
    while len(times) < LEAST_PASSES or sum(times) < ENOUGH_SECONDS:
        begin = time.perf_counter()
        run(x)
        times.append(time.perf_counter() - begin)
    return 1e3 * median(times)


def main() -> None:
    """Serve until the input ends; whatever an engine prints itself goes to standard error."""
    engine, threads, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    x = np.load(folder / "x.npy")
    try:
        run, version = {**ENGINES, **ON_REQUEST}[engine](folder, threads)
        np.save(folder / f"{engine}.npy", np.array(run(x)))
        run(x)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}), file=answers)
        return
    print(json.dumps({"version": version}), file=answers)
    for _ in sys.stdin:
        print(json.dumps({"ms": sample(run, x)}), file=answers)


if __name__ == "__main__":
    main()
