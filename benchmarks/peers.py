"""Whole nets against the engines that a user could pick instead, on the same weights.

    make peers
    python benchmarks/peers.py --python .venv-peers/bin/python [--nets caffenet …] [--json FILE]

Every engine runs in a process of its own and answers over a pipe, one at a time, in turns, batch 1.
Its result is compared with ours before anything is timed. A sample is taken between two probes of
the machine that must reach their calm speed (gate.py); the table holds medians. Pruned nets are run
by every engine with the zeros in place: what the engine makes of them is its own affair.
``--nets layer/conv3 …`` are single layers. Some engines run only when they are asked for
(``--engines``), from an environment that has them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import numpy as np
import peer_models
from gate import TRIES, Gate
from onnx_export import export
from peer_worker import ENGINES, ON_REQUEST

from caffe_scnn.model.net import Net
from caffe_scnn.save import save

OURS = "caffe_scnn"
ROUNDS = 7
ENOUGH_CALM = 3  # samples; with fewer the table marks the time
REST_SECONDS = 0.02  # lets the threads of the engine before go to sleep
SETTLE_SECONDS = 0.05  # a probe after the sample that takes longer to be calm rejects it
LARGEST_DIFFERENCE = 1e-3  # relative to the largest value; more is another net, not rounding
WORKER = Path(__file__).with_name("peer_worker.py")


class Peer:
    """The process of one engine."""

    def __init__(self, engine: str, python: str, threads: int, folder: str) -> None:
        self.engine, self.threads = engine, threads
        self.calm: list[float] = []
        self.disturbed: list[float] = []
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [python, str(WORKER), engine, str(threads), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.file = Path(folder) / f"{engine}.npy"

    def wait(self) -> None:
        """Wait for the first result; ``error`` tells why there is none."""
        answer = self._read()
        self.version, self.error = answer.get("version", ""), answer.get("error", "")
        self.result = np.load(self.file) if not self.error else None

    def sample(self, gate: Gate, patience: float) -> None:
        """Take the milliseconds of a pass, again while the machine is disturbed."""
        assert self.process.stdin
        for _ in range(TRIES):
            time.sleep(REST_SECONDS)
            calm = gate.wait(self.threads, patience)
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            took = float(self._read()["ms"])
            time.sleep(REST_SECONDS)
            if not calm or gate.wait(self.threads, SETTLE_SECONDS):
                break
            calm = False
        (self.calm if calm else self.disturbed).append(took)

    def summary(self) -> dict[str, object]:
        """Return the median of the calm samples, or of all where too few were calm."""
        calm = len(self.calm) >= ENOUGH_CALM
        times = self.calm if calm else self.calm + self.disturbed
        return {
            "ms": median(times) if times else None,
            "calm": calm,
            "calm_ms": self.calm,
            "disturbed_ms": self.disturbed,
        }

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _read(self) -> dict[str, str]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}


def measure(
    net: Net, engines: Iterable[str], options: argparse.Namespace, gate: Gate
) -> dict[str, object]:
    """Compare and time one net with every number of threads."""
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        save(net, folder)
        export(net, Path(folder) / "net.onnx")
        (x,) = peer_models.picture(net).values()
        np.save(Path(folder) / "x.npy", x)
        for threads in options.threads:
            found[str(threads)] = in_turns(
                engines, options.python, threads, folder, gate, options.patience
            )
    return found


def in_turns(
    engines: Iterable[str], python: str, threads: int, folder: str, gate: Gate, patience: float
) -> dict[str, dict[str, object]]:
    """Return the median milliseconds and the difference from our result of each engine."""
    peers = [Peer(e, sys.executable if e == OURS else python, threads, folder) for e in engines]
    try:
        for peer in peers:
            peer.wait()
        good = [peer for peer in peers if not peer.error]
        ours = next(peer for peer in good if peer.engine == OURS).result
        differences = {p.engine: difference(p.result, ours) for p in good}
        good = [peer for peer in good if differences[peer.engine] <= LARGEST_DIFFERENCE]
        for _ in range(ROUNDS):
            for peer in good:
                peer.sample(gate, patience)
    finally:
        for peer in peers:
            peer.close()
    return {
        peer.engine: {
            "version": peer.version,
            "error": peer.error,
            "difference": differences.get(peer.engine),
            **peer.summary(),
        }
        for peer in peers
    }


def difference(result: np.ndarray, ours: np.ndarray) -> float:
    """Return the largest difference relative to the largest value; not a number is infinite."""
    found = np.abs(result.reshape(ours.shape) - ours).max() / np.abs(ours).max()
    return float(found) if np.isfinite(found) else np.inf


def table(rows: list[dict[str, object]], engines: Iterable[str]) -> str:
    """Make the markdown table: milliseconds, and how many times longer the best peer takes."""
    engines = list(engines)
    lines = [
        f"| net | weights | threads | {' | '.join(engines)} | best peer / ours |",
        f"|---|---|{'--:|' * (len(engines) + 2)}",
    ]
    for row in rows:
        for threads, found in row["threads"].items():
            times = {e: found[e]["ms"] for e in engines if found[e]["ms"]}
            best = min((ms for e, ms in times.items() if e != OURS), default=None)
            calm = best is not None and all(found[e]["calm"] for e in times)
            cells = [cell(found[engine]) for engine in engines]
            ratio = f"{best / times[OURS]:.2f}x" if calm else "–"
            start = f"| {row['net']} | {row['weights']} | {threads} |"
            lines.append(f"{start} {' | '.join(cells)} | {ratio} |")
    return "\n".join(lines)


def cell(found: dict[str, object]) -> str:
    """Write the milliseconds; ~ marks a time that others on the machine disturbed."""
    return "–" if found["ms"] is None else f"{'' if found['calm'] else '~'}{found['ms']:.3g}"


def say(row: dict[str, object]) -> None:
    """Print the differences, and what went wrong, as they come."""
    for threads, engines in row["threads"].items():
        for engine, found in engines.items():
            what = found["error"] or (
                f"{found['ms']} ms, difference {found['difference']:.1e}, "
                f"{len(found['calm_ms'])} of {ROUNDS} samples calm"
            )
            print(f"{row['net']}, {row['weights']}, {threads}: {engine}: {what}", file=sys.stderr)


def main() -> None:
    """Measure every net, as it is and pruned."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="of the environment with the peers")
    parser.add_argument("--nets", nargs="+", default=peer_models.names())
    parser.add_argument(
        "--engines", nargs="+", default=list(ENGINES), choices=[*ENGINES, *ON_REQUEST]
    )
    parser.add_argument(
        "--densities", type=float, nargs="+", help="of pruned weights, instead of published ones"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="where to keep all results")
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds to wait for a calm machine, per sample"
    )
    options = parser.parse_args()
    engines = [OURS, *(engine for engine in options.engines if engine != OURS)]
    gate, rows = Gate(), []
    for name in options.nets:
        for weights, net in peer_models.variants(name, options.densities):
            measured = measure(net, engines, options, gate)
            rows.append({"net": name, "weights": weights, "threads": measured})
            say(rows[-1])
            if options.json:
                options.json.write_text(json.dumps(rows, indent=1))
    print(table(rows, engines))


if __name__ == "__main__":
    main()
