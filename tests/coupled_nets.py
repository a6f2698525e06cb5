"""Small nets with every way that channels are coupled."""

from __future__ import annotations

import numpy as np

from caffe_scnn.evaluate.benchmark import fill_randomly
from caffe_scnn.layers import reference
from caffe_scnn.layers.binding import bind
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Net


def layer(name, kind, bottoms, rest="", tops=None):
    wires = "".join(f' bottom: "{b}"' for b in bottoms.split())
    wires += "".join(f' top: "{t}"' for t in (tops or name).split())
    return f'layer {{ name: "{name}" type: "{kind}"{wires} {rest} }}\n'


def conv(
    name, bottom, outputs, rest="kernel_size: 3 pad: 1", more="", kind="Convolution", tops=None
):
    body = f"convolution_param {{ num_output: {outputs} {rest} }} {more}"
    return layer(name, kind, bottom, body, tops)


def fc(name, bottom, outputs, rest="", more=""):
    return layer(
        name,
        "InnerProduct",
        bottom,
        f"inner_product_param {{ num_output: {outputs} {rest} }} {more}",
    )


DATA = layer("data", "Input", "", "input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } }")
END = fc("end", "x", 3)
FIRST = DATA + conv("a", "data", 6)
NORM = layer("n", "BatchNorm", "a") + layer("s", "Scale", "n", "scale_param { bias_term: true }")
GLOBAL = "pooling_param { pool: AVE global_pooling: true }"
MAXIMUM = "eltwise_param { operation: MAX }"
SHARED = 'param { name: "w" } param { name: "b" }'

# A net whose layer "a" has six outputs, and every way that they may go from there to "x".
COUPLINGS = {
    "convolution": conv("x", "a", 4),
    "transposed fc": fc("x", "a", 4, "transpose: true"),
    "neurons": layer("r", "ReLU", "a", tops="a") + layer("x", "PReLU", "a"),
    "shared slope": layer("x", "PReLU", "a", "prelu_param { channel_shared: true }"),
    "pooling": layer("x", "Pooling", "a", "pooling_param { kernel_size: 2 stride: 2 }"),
    "norm": NORM + layer("x", "Bias", "s"),
    "scale of maps": layer("x", "Scale", "a", "scale_param { num_axes: -1 bias_term: true }"),
    "fork's norm": layer("x", "BN", "a"),
    "flatten": layer("f", "Flatten", "a") + layer("x", "Scale", "f"),
    "reshape": layer("x", "Reshape", "a", "reshape_param { shape { dim: 0 dim: -1 } }"),
    "depthwise": conv("x", "a", 6, "kernel_size: 3 group: 6"),
    "depthwise, two each": conv("x", "a", 12, "kernel_size: 3 group: 6"),
    "fork's depthwise": conv("x", "a", 6, kind="DepthwiseConvolution"),
    "deconvolution": conv("x", "a", 4, "kernel_size: 2 stride: 2", kind="Deconvolution"),
    "upsampling": conv("x", "a", 6, "kernel_size: 2 stride: 2 group: 6", kind="Deconvolution"),
    "residual": conv("b", "a", 6) + layer("x", "Eltwise", "a b"),
    "maximum": conv("b", "data", 6) + layer("x", "Eltwise", "a b", MAXIMUM),
    "concat": conv("b", "data", 4) + layer("x", "Concat", "b a"),
    "twice": layer("x", "Concat", "a a"),
    "slice": layer("p", "Slice", "a", "slice_param { slice_point: 2 }", tops="p q")
    + conv("u", "p", 4) + conv("v", "q", 4) + layer("x", "Eltwise", "u v"),
    "equal slices": layer("p", "Slice", "a", tops="p q") + layer("x", "Concat", "q p"),
    "shared input": conv("u", "a", 4) + conv("v", "a", 4, "kernel_size: 1")
    + layer("x", "Concat", "u v"),
    "shared weights": conv("u", "a", 6, more=SHARED) + conv("v", "u", 6, more=SHARED)
    + layer("x", "Concat", "u v"),
    "two bottoms": conv("b", "data", 6) + conv("u", "a b", 4, tops="u v")
    + layer("x", "Concat", "u v"),
    "squeeze and excitation": layer("g", "Pooling", "a", GLOBAL)
    + conv("b", "data", 6) + layer("x", "Axpy", "g b a"),
    "split": layer("p", "Split", "a", tops="p q") + layer("r", "ReLU", "q")
    + layer("x", "Eltwise", "p r"),
    "silence": layer("z", "Silence", "a", tops=" ") + conv("x", "a", 4),
}  # fmt: skip


def net_of(text):
    net = Net.parse(text)
    bind(net, None)
    fill_randomly(net, 1)
    return net


def outputs_of(net, seed=4):
    rng = np.random.default_rng(seed)
    shapes = infer_shapes(net)
    data = {name: rng.standard_normal(shapes.blobs[name]) for name in Graph(net).inputs}
    return reference.run(net, data)
