"""The digits net at a twentieth of its weights: methods compared, without labels, several seeds.

Usage: ``python benchmarks/experiments/digits_methods.py WORK [--seeds 3]``

The original of `models/digits` is the teacher. Pruning at once means: magnitude over all layers
together, then training with the zeros kept. Every result is a JSON file in WORK; what is there
already is not done again. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from caffe_scnn.decompose import Goal, Magnitude, Recipe, compress
from caffe_scnn.engine import Executor
from caffe_scnn.finetune.data import Arrays
from caffe_scnn.finetune.recipe import FinetuneRecipe
from caffe_scnn.finetune.trainer import Data, Trainer
from caffe_scnn.loading import load
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Preprocess, Transformer

DIGITS = Path(__file__).parents[2] / "models" / "digits"
sys.path.insert(0, str(DIGITS))
from data import split  # noqa: E402

DENSITY = 0.05
LAYERS = 'layers = ["conv*", "ip"]\n'
METHODS = {
    "at once": 'method = "keep"\n',
    "gradual": f'method = "gradual"\ndensity = {DENSITY}\n{LAYERS}',
    "gradual, 4x1 blocks": f'method = "gradual"\ndensity = {DENSITY}\npattern = "4x1"\n{LAYERS}',
    "RigL": f'method = "rigl"\ndensity = {DENSITY}\nevery = 20\n{LAYERS}',
}
TRAIN = """
[train]
epochs = 20
optimizer = "adam"
learning_rate = 0.002
evaluate = 1000.0
"""


def right(net: Net, pixels: np.ndarray, classes: np.ndarray, transformer: Transformer) -> float:
    """Return the percent of the held-out digits that are read."""
    scores = Executor(net, threads=1).run({"data": transformer.pixels(pixels)})["prob"]
    return 100 * float((scores.argmax(axis=1) == classes).mean())


def measure(name: str, seed: int) -> dict[str, float]:
    """Train with one method."""
    (seen, _), (pixels, classes) = split()
    net = load(DIGITS / "deploy.prototxt", DIGITS / "weights.caffemodel")
    transformer = Transformer(Preprocess.beside(DIGITS), "data", (1, 1, 8, 8))
    start = net
    if name == "at once":
        recipe = Recipe(Goal(Magnitude(), density=DENSITY), across_layers=True, layers=("*",))
        start = compress(net, recipe).net
    recipe = FinetuneRecipe.parse(f"seed = {seed}\n{METHODS[name]}{TRAIN}")
    trainer = Trainer(start, recipe, Data(Arrays(seen), transformer), teacher=net)
    trainer.run()
    after = trainer.result()
    weights = [layer.blobs[0] for layer in after if layer.blobs]
    return {
        "before": right(start, pixels, classes, transformer),
        "after": right(after, pixels, classes, transformer),
        "density": sum(np.count_nonzero(w) for w in weights) / sum(w.size for w in weights),
    }


def main() -> None:
    """Do what is not there yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    print("| method | density | read before training | after, by seed | mean |")
    print("|---|--:|--:|---|--:|")
    for name in METHODS:
        results = []
        for seed in range(options.seeds):
            path = options.work / f"digits-{name}-{seed}.json"
            if not path.exists():
                path.write_text(json.dumps(measure(name, seed)))
            results.append(json.loads(path.read_text()))
        after = [result["after"] for result in results]
        print(
            f"| {name} | {results[0]['density']:.3f} | {results[0]['before']:.1f} | "
            f"{', '.join(f'{value:.1f}' for value in after)} | {np.mean(after):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
