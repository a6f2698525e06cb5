"""Calls the command line in this process, and makes tiny models for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli import main
from caffe_scnn.evaluate.benchmark import fill_randomly
from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net
from caffe_scnn.save import save

TINY = """
name: "tiny"
# a comment that stays
input: "data"
input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 6 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv2" top: "fc"
  inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""

# The class of a picture is its brightest channel: (blue, green, red) when channels are BGR.
BRIGHTEST = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
layer { name: "mean" type: "Pooling" bottom: "data" top: "mean"
  pooling_param { pool: AVE global_pooling: true } }
"""


def call(*arguments: object) -> Result:
    """Run ``caffe-scnn``; an exception that the command line did not catch is raised here."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(*arguments: object) -> Any:
    """Run ``caffe-scnn … --json`` and return what it printed."""
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def refusal(*arguments: object) -> str:
    """Run ``caffe-scnn``, which must refuse with exit code 2 and one line; return that line."""
    result = call(*arguments)
    assert result.exit_code == 2, (result.exit_code, result.output)
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    return errors[0]


def make_model(folder: Path, text: str = TINY, seed: int = 0) -> ModelFiles:
    """Write a net with random weights: ``deploy.prototxt`` and ``weights.caffemodel``."""
    net = Net.parse(text)
    bind(net, None)
    fill_randomly(net, seed)
    rng = np.random.default_rng(seed)
    for layer in net:
        for blob in layer.blobs:
            blob *= rng.choice([-1.0, 1.0], blob.shape)
    folder.mkdir(parents=True, exist_ok=True)
    save(net, folder)
    return ModelFiles("tiny", folder / "deploy.prototxt", folder / "weights.caffemodel")
