"""The demo: compress the digits net in three ways, and show what it costs and what it brings.

Every line that begins with ``$`` is the command as a user would type it, and is really run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path("models/digits")  # the demo is run from the top of the repository
OUT = Path("demo-output")
MODEL = [f"{HERE}/deploy.prototxt", f"{HERE}/weights.caffemodel"]
# method: what to say about it, and its options
METHODS = {
    "magnitude": ("Small weights cut off:", "--density", "0.15", "--global"),
    "scnn": ("As many non-zeros, in bases of each channel:", "--density", "0.15", "--global"),
    "obs": (
        "Weights cut by what they do to responses on digits without labels, the rest refitted:",
        "--macs", "0.1", "--input", "SEEN",
    ),
}  # fmt: skip


def shell(*words: str) -> None:
    """Echo a command and run it with this interpreter."""
    print(f"\n$ {' '.join(words)}", flush=True)
    program = [sys.executable, "-m", "caffe_scnn"] if words[0] == "caffe-scnn" else [sys.executable]
    status = subprocess.run([*program, *words[1:]], check=False).returncode
    if status:
        sys.exit(status)


def main() -> None:
    """Run the session."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    digits, seen = f"{OUT}/held_out.npz", f"{OUT}/unlabelled.npz"
    print("A small net that reads digits, trained beforehand; 360 digits it has never seen.")
    shell("python", f"{HERE}/data.py", digits, seen)
    shell("caffe-scnn", "info", *MODEL)
    shell("caffe-scnn", "evaluate", "classify", *MODEL, "--input", digits)
    for method, how in METHODS.items():
        print(f"\n{how[0]}")
        folder = f"{OUT}/{method}"
        sparse = [f"{folder}/deploy.prototxt", f"{folder}/weights.caffemodel"]
        options = [seen if option == "SEEN" else option for option in how[1:]]
        cut = ["--method", method, *options, "--threads", "1"]
        shell("caffe-scnn", "compress", *MODEL, "-o", folder, *cut)
        shell("caffe-scnn", "evaluate", "classify", *sparse, "--input", digits)
    shell("caffe-scnn", "run", *sparse, "--random-input", "-o", f"{OUT}/blobs.npz")
    shell("caffe-scnn", "bench", *sparse, "--against", *MODEL, "--threads", "1", "--repeat", "50")


if __name__ == "__main__":
    main()
