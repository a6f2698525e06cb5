"""The nets that peers.py measures: real ones, and published architectures with random weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from caffe_scnn import Executor, load
from caffe_scnn.layers.binding import bind
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Net

MODELS = Path(__file__).resolve().parent.parent / "models"
REAL = {
    "squeezenet_v1.0": ("squeezenet/deploy.prototxt", "squeezenet/squeezenet.caffemodel"),
    "mobilenet_v1_0.75": (
        "mobilenet_v1_075/deploy.prototxt",
        "mobilenet_v1_075/weights.caffemodel",
    ),
}
RANDOM = (
    "caffenet",
    "vgg16",
    "googlenet",
    "resnet50",
    "squeezenet_v1.1",
    "mobilenet_v1",
    "mobilenet_v2",
)
ALEXNET = {  # densities of published pruned AlexNets
    **dict(zip([f"conv{i}" for i in range(1, 6)], (0.073, 0.05, 0.049, 0.058, 0.062), strict=True)),
    **{"fc6": 0.10, "fc7": 0.16, "fc8": 0.26},
}
# Single convolutions: outputs, inputs, kernel, rows of the (square) output, groups.
LAYERS = {
    "layer/conv2": (256, 96, 5, 27, 2),
    "layer/conv3": (384, 256, 3, 13, 1),
    "layer/conv4": (384, 384, 3, 13, 2),
    "layer/conv5": (256, 384, 3, 13, 2),
    "layer/vgg_conv3_2": (256, 256, 3, 56, 1),
    "layer/vgg_conv4_2": (512, 512, 3, 28, 1),
    "layer/vgg_conv5_2": (512, 512, 3, 14, 1),
    "layer/1x1_128": (128, 128, 1, 56, 1),
    "layer/1x1_256": (256, 256, 1, 28, 1),
    "layer/1x1_512": (512, 512, 1, 14, 1),
    "layer/1x1_1024": (1024, 1024, 1, 7, 1),
}
DENSITY = 0.1  # of all other nets' convolutions, but for the first and the depthwise ones


def names() -> list[str]:
    """List the nets that can be measured here: real ones only where their files are."""
    real = [name for name, (prototxt, _) in REAL.items() if (_data() / prototxt).exists()]
    return [*real, *RANDOM]


def variants(name: str, densities: Sequence[float] | None = None) -> Iterator[tuple[str, Net]]:
    """Yield the net as it is, and pruned: to published densities, or to each of those given."""
    yield ("as published" if name in REAL else "dense"), _net(name)
    for density in densities or [None]:
        net = _net(name)
        prune_net(net, name, density)
        yield ("pruned" if density is None else f"{1 - density:.0%} zero"), net


def _net(name: str) -> Net:
    if name in REAL:
        return load(*(_data() / file for file in REAL[name]))
    return random_layer(name) if name in LAYERS else random_net(name)


def random_layer(name: str) -> Net:
    """Return a net of one convolution, with a ReLU behind it."""
    outputs, inputs, kernel, size, group = LAYERS[name]
    net = Net.parse(
        f"""name: "layer" layer {{ name: "data" type: "Input" top: "data"
          input_param {{ shape {{ dim: 1 dim: {inputs} dim: {size} dim: {size} }} }} }}
        layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
          convolution_param {{ num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2}
            group: {group} }} }}
        layer {{ name: "relu" type: "ReLU" bottom: "conv" top: "conv" }}"""
    )
    bind(net, None)
    weights = next(layer for layer in net if layer.name == "conv").blobs[0]
    deviation = np.sqrt(2 / weights[0].size)
    weights[...] = deviation * np.random.default_rng(0).standard_normal(weights.shape, np.float32)
    return net


def random_net(name: str, seed: int = 0) -> Net:
    """Fill a net so that values keep their size from layer to layer, and logits are a few units.

    Convolutions and fully connected layers: normal with variance 2 / fan-in. BatchNorm: what a
    Caffe file holds after training, sums that are close to 0 and 1 with a factor of 1.
    """
    net = load(MODELS / f"{name}.prototxt")
    generator = np.random.default_rng(seed)
    for layer in net:
        for index, blob in enumerate(layer.blobs):
            if layer.type == "BatchNorm":
                low, high = ((-0.1, 0.1), (0.8, 1.2), (1.0, 1.0))[index]
                blob[...] = generator.uniform(low, high, blob.shape)
            elif blob.ndim > 1:
                deviation = np.sqrt(2 / blob[0].size)
                blob[...] = deviation * generator.standard_normal(blob.shape, np.float32)
            elif layer.type == "Scale" and index == 0:
                blob[...] = generator.uniform(0.6, 1.0, blob.shape)
            else:
                blob[...] = generator.uniform(-0.1, 0.1, blob.shape)
    _level_logits(net)
    return net


def prune_net(net: Net, name: str, density: float | None = None) -> None:
    """Zero the smallest weights of every layer, and scale the others to keep its energy.

    ``density`` goes before the published ones of layers that are pruned at all.
    """
    first = name not in LAYERS
    for layer in net:
        if layer.type not in ("Convolution", "InnerProduct"):
            continue
        wanted = _density(name, layer.name, layer.type, first, layer.blobs[0].shape)
        first = False
        if wanted < 1:
            layer.blobs[0] = _pruned(layer.blobs[0], density or wanted)
    _level_logits(net)


def _density(name: str, layer: str, kind: str, first: bool, shape: tuple[int, ...]) -> float:
    if name in ("alexnet", "caffenet"):
        return ALEXNET[layer]
    if name == "vgg16":
        return 1.0 if first else DENSITY
    depthwise = len(shape) == 4 and shape[1] == 1
    return 1.0 if first or depthwise or kind == "InnerProduct" else DENSITY


def _pruned(weights: np.ndarray, density: float) -> np.ndarray:
    magnitudes = np.abs(weights)
    keep = max(1, round(density * weights.size))
    threshold = np.partition(magnitudes.ravel(), weights.size - keep)[weights.size - keep]
    kept = np.where(magnitudes >= threshold, weights, np.float32(0))
    scale = np.linalg.norm(weights) / np.linalg.norm(kept)
    return kept * np.float32(scale)


def _level_logits(net: Net) -> None:
    """Scale the last learnt layer so that the softmax neither saturates nor is flat."""
    executor = Executor(net, threads=2)
    end = [layer.bottoms[0] for layer in net if layer.type == "Softmax"] or executor.outputs
    logits = executor.run(picture(net), end[-1:])[end[-1]]
    last = next(layer for layer in reversed(net.layers) if layer.blobs)
    last.blobs[0] = last.blobs[0] * np.float32(2 / max(logits.std(), 1e-6))


def picture(net: Net) -> dict[str, np.ndarray]:
    """Make the input: one picture of noise."""
    shapes = infer_shapes(net).blobs
    source = next(top for layer in net if layer.type == "Input" for top in layer.tops)
    shape = (1, *shapes[source][1:])
    return {source: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}


def _data() -> Path:
    return Path(os.environ.get("CAFFE_SCNN_DATA") or "/nowhere") / "data"
