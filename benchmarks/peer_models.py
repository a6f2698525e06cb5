"""The nets that peers.py measures: real ones, and published architectures with random weights."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from caffe_scnn import Executor, load
from caffe_scnn.layers.binding import bind
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Layer, Net

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
# Single convolutions: outputs, inputs, kernel, rows of the (square) output, groups; conv1 has a
# stride of 4 and no padding.
LAYERS = {
    "layer/conv1": (96, 3, 11, 55, 1),
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
# Of the layers of an AlexNet in Liu et al. 2015, table 1: density, and what it implies of bases a
# channel (the mean, rounded) and of non-zeros of S.
TABLE_1 = {
    "layer/conv1": (0.073, 30, 2_544),
    "layer/conv2": (0.050, 12, 15_360),
    "layer/conv3": (0.049, 5, 43_352),
    "layer/conv4": (0.058, 4, 38_486),
    "layer/conv5": (0.062, 4, 27_427),
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
    if name in TABLE_1:
        yield "bases", bases_and_coefficients(name)


def _net(name: str) -> Net:
    if name in REAL:
        return load(*(_data() / file for file in REAL[name]))
    return random_layer(name) if name in LAYERS else random_net(name)


def random_layer(name: str) -> Net:
    """Return a net of one convolution, with a ReLU behind it."""
    outputs, _, kernel, _, group = LAYERS[name]
    net = _layer_net(name, [("conv", outputs, kernel, group)])
    (weights,) = _weights(net)
    _randomize(weights, weights[0].size)
    return net


def bases_and_coefficients(name: str) -> Net:
    """Return a layer of the table in the form Q, S, with as many bases and non-zeros as it had."""
    outputs, inputs, kernel, _, group = LAYERS[name]
    _, bases, nonzeros = TABLE_1[name]
    net = _layer_net(name, [("Q", inputs * bases, kernel, inputs), ("S", outputs, 1, group)])
    q, s = _weights(net)
    _randomize(q, q[0].size)
    _randomize(s, max(1, nonzeros // outputs))
    s *= _mask(s.shape, nonzeros)
    return net


def _mask(shape: tuple[int, ...], nonzeros: int) -> np.ndarray:
    mask = np.zeros(int(np.prod(shape)), np.float32)
    mask[np.random.default_rng(0).permutation(mask.size)[:nonzeros]] = 1
    return mask.reshape(shape)


def _weights(net: Net) -> list[np.ndarray]:
    return [layer.blobs[0] for layer in net if layer.blobs]


def _randomize(weights: np.ndarray, fan_in: int) -> None:
    generator = np.random.default_rng(0)
    weights[...] = np.sqrt(2 / fan_in) * generator.standard_normal(weights.shape, np.float32)


def _layer_net(name: str, convolutions: Sequence[tuple[str, int, int, int]]) -> Net:
    """Chain convolutions (name, outputs, kernel, groups) on the input of a layer."""
    _, inputs, _, size, _ = LAYERS[name]
    stride = 4 if name == "layer/conv1" else 1
    side = 227 if stride == 4 else size
    text = f"""name: "layer" layer {{ name: "data" type: "Input" top: "data"
      input_param {{ shape {{ dim: 1 dim: {inputs} dim: {side} dim: {side} }} }} }}"""
    bottom = "data"
    for top, outputs, kernel, group in convolutions:
        step, pad = (stride, 0) if stride == 4 and kernel > 1 else (1, kernel // 2)
        text += f"""layer {{ name: "{top}" type: "Convolution" bottom: "{bottom}" top: "{top}"
          convolution_param {{ num_output: {outputs} kernel_size: {kernel} group: {group}
            pad: {pad} stride: {step} }} }}"""
        bottom = top
    text += f"""layer {{ name: "relu" type: "ReLU" bottom: "{bottom}" top: "{bottom}" }}"""
    net = Net.parse(text)
    bind(net, None)
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
    first = True
    for layer in net:
        if layer.type not in ("Convolution", "InnerProduct"):
            continue
        wanted = _density(name, layer, first)
        first = False
        if wanted < 1:
            layer.blobs[0] = _pruned(layer.blobs[0], density or wanted)
    _level_logits(net)


def _density(name: str, layer: Layer, first: bool) -> float:
    if name in ("alexnet", "caffenet"):
        return ALEXNET[layer.name]
    if name in LAYERS:
        return TABLE_1[name][0] if name in TABLE_1 else DENSITY
    if name == "vgg16":
        return 1.0 if first else DENSITY
    depthwise = layer.blobs[0].ndim == 4 and layer.blobs[0].shape[1] == 1
    return 1.0 if first or depthwise or layer.type == "InnerProduct" else DENSITY


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
