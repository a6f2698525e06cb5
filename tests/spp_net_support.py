"""A synthetic ``spp_model.mat``, and what SPP_net computes with it in MATLAB."""

from __future__ import annotations

import math

import numpy as np
from mat73 import write_mat73

CHANNELS, LEVELS, BINS = 4, (6, 3, 2, 1), 50

# The dialect of SPP_net: V0's layers in layers, with V1's parameter messages.
DEFINITION = """
name: "Zeiler_conv5"
input: "data" input_dim: 1 input_dim: 3 input_dim: 40 input_dim: 40
layers { layer { name: "conv1" type: "conv" num_output: 4 kernelsize: 3 stride: 2 pad: 1 }
  bottom: "data" top: "conv1" }
layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
"""


def a_model(seed=0):
    rng = np.random.default_rng(seed)

    def array(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    layers = (
        {"layer_names": "conv1", "weights": [array(3, 3, 3, CHANNELS), array(CHANNELS, 1)]},
        {"layer_names": "fc6", "weights": [array(16, CHANNELS * BINS), array(16, 1)]},
        {"layer_names": "fc7", "weights": [array(8, 16), array(1, 8)]},
    )
    return {
        "cnn": {
            "definition_file": "model-defs/Zeiler_conv5.prototxt",
            "binary_file": "data/cnn_model/Zeiler_conv5",
            "layers": layers,
            "first_fc_idx": np.array([[2.0]]),
        },
        "spp_pooler": {
            "spm_divs": np.array([LEVELS], float),
            "offset0": np.array([[21.0]]),
            "offset": np.array([[6.5]]),
            "step_standard": np.array([[16.0]]),
            "sz_conv_standard": np.array([[13.0]]),
        },
        "detectors": {"W": array(3, 8), "B": array(1, 3)},
        "classes": ["aeroplane", "bicycle", "bird"],
        "training_opts": {"layer": np.array([[7.0]]), "feat_norm_mean": np.array([[12.5]])},
    }


def write(path, model):
    return write_mat73(path, {"spp_model": model})


def pooled_by_matlab(window):
    """SPP_net's pooling of a window (channels, h, w) word by word; channel fastest."""
    features = []
    _, height, width = window.shape
    for level in LEVELS:
        for y in range(level):
            rows = slice(math.floor(y / level * height), math.ceil((y + 1) / level * height))
            for x in range(level):
                columns = slice(math.floor(x / level * width), math.ceil((x + 1) / level * width))
                features += [max(0.0, channel[rows, columns].max()) for channel in window]
    return np.array(features)


def matlab_scores(model, features):
    """What SPP_net computes in MATLAB for one window."""
    wanted = int(model["training_opts"]["layer"].item())
    for layer in model["cnn"]["layers"][1 : wanted - 4]:
        weights, bias = (blob.astype(np.float64) for blob in layer["weights"])
        features = np.maximum(weights @ features + bias.ravel(), 0)
    scaled = features * (20 / model["training_opts"]["feat_norm_mean"].item())
    detectors = model["detectors"]
    return detectors["W"].astype(np.float64) @ scaled + detectors["B"].ravel()
