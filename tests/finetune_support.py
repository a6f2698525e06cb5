"""A tiny net with everything that training treats specially, and data it can learn."""

from __future__ import annotations

import numpy as np

from caffe_scnn.finetune.data import Arrays
from caffe_scnn.finetune.recipe import FinetuneRecipe
from caffe_scnn.finetune.trainer import Data, Trainer
from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Preprocess, Transformer

LEARNER = """
name: "learner"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 4 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 16 kernel_size: 1 } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "drop" type: "Dropout" bottom: "conv2" top: "conv2"
  dropout_param { dropout_ratio: 0.1 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc"
  inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
TRANSFORMER = Transformer(Preprocess(resize="none"), "data", (1, 3, 6, 6))


def learner(seed: int = 0, text: str = LEARNER) -> Net:
    """The net with weights of sensible size."""
    net = Net.parse(text)
    bind(net, None)
    rng = np.random.default_rng(seed)
    for layer in net:
        for index, blob in enumerate(layer.blobs):
            if layer.type == "BatchNorm":
                blob[...] = (0.0, 1.0, 1.0)[index]
            elif layer.type == "Scale":
                blob[...] = (1.0, 0.0)[index]
            else:
                width = np.sqrt(2 / max(1, blob[0].size)) if blob.ndim > 1 else 0.0
                blob[...] = width * rng.standard_normal(blob.shape)
    return net


def images(count: int = 24, labelled: bool = True, seed: int = 0) -> Arrays:
    """Noise with a bright channel: which one is the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    pixels = rng.standard_normal((count, 3, 6, 6)).astype(np.float32)
    pixels[np.arange(count), labels] += 1.5
    return Arrays(pixels, labels if labelled else None)


def trainer_of(recipe: str, net: Net | None = None, labelled: bool = True, **options) -> Trainer:
    """A trainer on 24 images, 12 others held back."""
    data = Data(
        images(labelled=labelled),
        TRANSFORMER,
        images(12, labelled, seed=1),
        workers=options.pop("workers", 0),
    )
    return Trainer(net or learner(), FinetuneRecipe.parse(recipe), data, **options)
