"""Times every tile of the direct convolution, and fits the constants of its cost model to them.

    python benchmarks/tiles.py --isa avx512 [--times FILE]

One thread; some minutes. Prints ``Costs`` for ``caffe_scnn/engine/costs.py``, and by how much the
tile that the model would choose is slower than the best one, on average and at worst.
``caffe-scnn doctor --calibrate`` does the same on fewer layers.
"""

from __future__ import annotations

import argparse
import pickle
from dataclasses import fields
from itertools import product
from pathlib import Path

from caffe_scnn import _kernels
from caffe_scnn.engine.costs import shipped_costs
from caffe_scnn.engine.fit_costs import LAYERS, Layer, fit, measure, regrets

MORE_LAYERS = (
    *LAYERS,
    Layer(128, 48, 5, 27),
    Layer(256, 256, 3, 28),
    Layer(128, 32, 1, 55),
    Layer(48, 24, 1, 112),
    Layer(384, 384, 1, 14),
)
DENSITIES = (0.05, 0.1, 0.2, 0.35, 0.5, 1.0)
SECONDS = 0.008  # for each tile


def main() -> None:
    """Measure, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", default=_kernels.best_isa())
    parser.add_argument("--times", type=Path, help="keep the times here; read them if it exists")
    options = parser.parse_args()
    if options.times and options.times.exists():
        measured = pickle.loads(options.times.read_bytes())
    else:
        cases = product(MORE_LAYERS, DENSITIES)
        measured = [measure(options.isa, *case, seconds=SECONDS) for case in cases]
        if options.times:
            options.times.write_bytes(pickle.dumps(measured))
    for name, costs in (
        ("now", shipped_costs(options.isa)),
        ("fitted", fit(options.isa, measured, trials=12)),
    ):
        regret = regrets(costs, measured)
        values = ", ".join(f"{f.name}={getattr(costs, f.name)}" for f in fields(costs))
        print(f"{name}: mean regret {regret.mean():.3f}, worst {regret.max():.3f}\n  {values}")


if __name__ == "__main__":
    main()
