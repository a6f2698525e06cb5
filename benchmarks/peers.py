"""Whole nets against OpenCV 4's dnn, which runs in an environment of its own.

    python -m venv opencv4 && opencv4/bin/pip install 'opencv-python-headless<5' numpy
    python benchmarks/peers.py --opencv-python opencv4/bin/python PROTOTXT CAFFEMODEL [...]

Both engines run on the same input, in turns: one round of each, again and again. Prints the medians
for one and for two threads, and the largest difference of the results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from caffe_scnn import Executor, load

ROUNDS, PASSES = 12, 5

# The other side: reads a command a line, answers with the milliseconds of the fastest pass.
OPENCV = """
import sys, time, cv2, numpy as np
prototxt, caffemodel, folder, passes = sys.argv[1:]
net = cv2.dnn.readNetFromCaffe(prototxt, caffemodel)
for line in sys.stdin:
    cv2.setNumThreads(int(line))
    times = []
    for _ in range(int(passes)):
        net.setInput(np.load(folder + "/x.npy"))
        begin = time.perf_counter()
        y = net.forward()
        times.append(time.perf_counter() - begin)
    np.save(folder + "/y.npy", y)
    print(1e3 * min(times), cv2.__version__, flush=True)
"""


class OpenCV:
    """The peer process of one model."""

    def __init__(self, python: str, prototxt: str, caffemodel: str, folder: str) -> None:
        self.folder = folder
        command = [python, "-c", OPENCV, prototxt, caffemodel, folder, str(PASSES)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = ""

    def run(self, threads: int) -> float:
        """Return the milliseconds of the fastest of a few passes."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{threads}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        if not answer:
            sys.exit("peers.py: the OpenCV process stopped")
        self.version = answer[1]
        return float(answer[0])

    def result(self) -> np.ndarray:
        """Return the output of the last pass."""
        return np.load(f"{self.folder}/y.npy")


def ours(executor: Executor, x: dict[str, np.ndarray]) -> float:
    """Return the milliseconds of the fastest of a few passes, input and output copied."""
    times = []
    for _ in range(PASSES):
        begin = time.perf_counter()
        executor.run(x)
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


def compare(python: str, prototxt: str, caffemodel: str) -> dict[str, object]:
    """Measure one model in turns."""
    net = load(prototxt, caffemodel)
    shapes = Executor(net).shapes
    x = {
        k: np.random.default_rng(0).standard_normal(s).astype(np.float32) for k, s in shapes.items()
    }
    row: dict[str, object] = {"model": Path(prototxt).parent.name}
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", next(iter(x.values())))
        peer = OpenCV(python, prototxt, caffemodel, folder)
        for threads in (1, 2):
            executor = Executor(net, threads=threads)
            times = [(ours(executor, x), peer.run(threads)) for _ in range(ROUNDS)]
            mine, theirs = (median(column) for column in zip(*times, strict=True))
            row[f"{threads} threads"] = {
                "caffe_scnn_ms": mine,
                "opencv_ms": theirs,
                "ratio": theirs / mine,
            }
        (got,) = executor.run(x).values()
        want = peer.result().reshape(got.shape)
        row["difference"] = float(np.abs(got - want).max() / np.abs(want).max())
        row["opencv"] = peer.version
    return row


def main() -> None:
    """Measure every model and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--opencv-python", required=True, help="python of an environment with OpenCV 4"
    )
    parser.add_argument("files", nargs="+", help="pairs of prototxt and caffemodel")
    options = parser.parse_args()
    pairs = zip(options.files[::2], options.files[1::2], strict=True)
    print(json.dumps([compare(options.opencv_python, *pair) for pair in pairs], indent=1))


if __name__ == "__main__":
    main()
