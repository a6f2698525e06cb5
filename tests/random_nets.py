"""Random small nets, each made from its seed alone: every kind of layer that has a kernel."""

from __future__ import annotations

import numpy as np

from caffe_scnn.layers import layer_type
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Net

DENSITIES = (0.0, 0.05, 0.3, 1.0)
NEURONS = (
    'type: "ReLU"',
    'type: "ReLU" relu_param { negative_slope: 0.1 }',
    'type: "ReLU6"',
    'type: "PReLU"',
    'type: "PReLU" prelu_param { channel_shared: true }',
    'type: "Sigmoid"',
    'type: "TanH"',
    'type: "Dropout"',
    'type: "ELU"',
    'type: "BNLL"',
)

KINDS = (
    *["convolution"] * 4, *["deconvolution"] * 2, *["neuron"] * 2, "depthwise", "pooling", "lrn",
    "norm", "eltwise", "concat", "slice", "fork", "softmax", "moved", "resized", "unpooled",
    "gated", "cropped",
)  # fmt: skip


class Builder:
    """Appends layers to a prototxt, and knows the blobs' shapes so far."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.items = self.pick(1, 2, 3, 5)
        self.text = ""
        self.count = 0
        self.blobs: dict[str, tuple[int, int, int]] = {}
        self.read: set[str] = set()  # blobs that can no longer be changed in place
        channels = int(self.rng.integers(1, 20))
        height, width = (int(v) for v in self.rng.integers(1, 41, 2))
        self.text = (
            'layer { name: "data" type: "Input" top: "data" input_param { shape { '
            f"dim: {self.items} dim: {channels} dim: {height} dim: {width} }} }} }}\n"
        )
        self.blobs["data"] = (channels, height, width)

    def pick(self, *values):
        return values[int(self.rng.integers(len(values)))]

    def number(self, low, high):
        """Return a whole number from ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def bottom(self):
        """Return a blob, more often a late one."""
        names = list(self.blobs)
        return names[-1 - int(self.rng.random() ** 2 * len(names))]

    def unread(self, name):
        return name != "data" and name not in self.read

    def add(self, body, bottoms, tops=1, in_place=False):
        self.count += 1
        # Caffe refuses to overwrite a blob that another layer reads too, or the net's input.
        in_place = in_place and self.unread(bottoms[0])
        self.read.update(bottoms)
        names = bottoms if in_place else [f"b{self.count}_{i}" for i in range(tops)]
        self.text += f'layer {{ name: "l{self.count}" {body} '
        self.text += " ".join(f'bottom: "{name}"' for name in bottoms) + " "
        self.text += " ".join(f'top: "{name}"' for name in names) + " }\n"
        return names

    def grow(self):
        """Add one random layer, or a few that belong together."""
        getattr(self, self.pick(*KINDS))()

    def convolution(self, depthwise=False):
        name = self.bottom()
        channels, height, width = self.blobs[name]
        kernel_h, kernel_w = self.pick((1, 1), (3, 3), (5, 5), (1, 3), (4, 2), (height, width))
        dilation = self.pick(1, 1, 1, 2)
        pad_h, pad_w = self.number(0, 2), self.number(0, 2)
        stride_h, stride_w = self.pick((1, 1), (1, 1), (2, 2), (3, 1), (4, 4))
        reach_h, reach_w = dilation * (kernel_h - 1) + 1, dilation * (kernel_w - 1) + 1
        if reach_h > height + 2 * pad_h or reach_w > width + 2 * pad_w or kernel_h > 16:
            return
        groups = [g for g in range(1, channels + 1) if channels % g == 0]
        group = channels if depthwise else self.pick(1, 1, *groups)
        outputs = group * (self.number(1, 3) if depthwise else self.number(1, 1 + 24 // group))
        body = (
            f'type: "Convolution" convolution_param {{ num_output: {outputs} kernel_h: {kernel_h} '
            f"kernel_w: {kernel_w} pad_h: {pad_h} pad_w: {pad_w} stride_h: {stride_h} "
            f"stride_w: {stride_w} dilation: {dilation} group: {group} "
            f"bias_term: {self.pick('true', 'false')} }}"
        )
        (top,) = self.add(body, [name])
        self.blobs[top] = (
            outputs,
            (height + 2 * pad_h - reach_h) // stride_h + 1,
            (width + 2 * pad_w - reach_w) // stride_w + 1,
        )

    def depthwise(self):
        self.convolution(depthwise=True)

    def pooling(self):
        name = self.bottom()
        channels, height, width = self.blobs[name]
        kernel = self.number(1, 4)
        stride = self.number(1, min(3, kernel))  # a window wholly outside is 0/0 in Caffe
        pad = self.number(0, kernel - 1)
        method = self.pick("MAX", "AVE")
        if self.rng.random() < 0.2:
            body, shape = "global_pooling: true", (1, 1)
        elif kernel > min(height, width):
            return
        else:
            body = f"kernel_size: {kernel} stride: {stride} pad: {pad}"
            sizes = []
            for size in (height, width):
                out = -(-(size + 2 * pad - kernel) // stride) + 1
                sizes.append(out - (pad > 0 and (out - 1) * stride >= size + pad))
            shape = tuple(sizes)
        (top,) = self.add(f'type: "Pooling" pooling_param {{ pool: {method} {body} }}', [name])
        self.blobs[top] = (channels, *shape)

    def deconvolution(self):
        name = self.bottom()
        channels, height, width = self.blobs[name]
        if height * width > 400:
            return
        group = self.pick(1, channels)
        outputs = group * self.number(1, 2)
        taps_h, taps_w, dilation = self.number(1, 5), self.number(1, 5), self.pick(1, 1, 2)
        stride_h, stride_w = self.number(1, 4), self.number(1, 3)
        pad_h, pad_w = self.number(0, 3), self.number(0, 1)
        size = (
            stride_h * (height - 1) + dilation * (taps_h - 1) + 1 - 2 * pad_h,
            stride_w * (width - 1) + dilation * (taps_w - 1) + 1 - 2 * pad_w,
        )
        if min(size) < 1:
            return
        body = (
            f'type: "Deconvolution" convolution_param {{ num_output: {outputs} kernel_h: {taps_h} '
            f"kernel_w: {taps_w} pad_h: {pad_h} pad_w: {pad_w} stride_h: {stride_h} "
            f"stride_w: {stride_w} dilation: {dilation} group: {group} }}"
        )
        (top,) = self.add(body, [name])
        self.blobs[top] = (outputs, *size)

    def moved(self):
        name = self.bottom()
        shape = channels, height, width = self.blobs[name]
        if self.rng.random() < 0.5:
            group = self.pick(*[g for g in range(1, channels + 1) if channels % g == 0])
            body = f'type: "ShuffleChannel" shuffle_channel_param {{ group: {group} }}'
        else:
            shape = height, width, channels
            body = 'type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }'
        (top,) = self.add(body, [name])
        self.blobs[top] = shape

    def resized(self):
        name = self.bottom()
        channels, height, width = self.blobs[name]
        if height * width > 400:
            return
        if self.rng.random() < 0.5:
            size = self.number(1, 20), self.number(1, 20)
            body = f'type: "Interp" interp_param {{ height: {size[0]} width: {size[1]} }}'
        else:
            size = 2 * height, 2 * width
            body = 'type: "Upsample" upsample_param { scale: 2 }'
        (top,) = self.add(body, [name])
        self.blobs[top] = (channels, *size)

    def unpooled(self):
        name = self.bottom()
        channels, height, width = self.blobs[name]
        if height % 2 or width % 2:
            return
        pool = 'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }'
        values, mask = self.add(pool, [name], tops=2)
        (top,) = self.add('type: "Upsample" upsample_param { scale: 2 }', [values, mask])
        self.blobs[values] = (channels, height // 2, width // 2)
        self.blobs[top] = (channels, height, width)

    def gated(self):
        name = self.bottom()
        shape = self.blobs[name]
        pool = 'type: "Pooling" pooling_param { pool: AVE global_pooling: true }'
        (gate,) = self.add(pool, [name])
        if self.rng.random() < 0.5:
            (top,) = self.add('type: "Axpy"', [gate, name, name])
        else:
            (flat,) = self.add('type: "Flatten"', [gate])
            (top,) = self.add('type: "Scale" scale_param { axis: 0 }', [name, flat])
        self.blobs[top] = shape
        if shape[0] > 1:  # of one channel only the sign would be left
            (one,) = self.add('type: "Normalize" norm_param { across_spatial: false }', [top])
            self.blobs[one] = shape

    def cropped(self):
        name = self.bottom()
        _, height, width = self.blobs[name]
        larger = [
            other for other, shape in self.blobs.items() if shape[1] >= height and shape[2] >= width
        ]
        other = self.pick(*larger)
        (top,) = self.add('type: "Crop" crop_param { axis: 2 }', [other, name])
        self.blobs[top] = (self.blobs[other][0], height, width)

    def same_shape(self, body, in_place=False):
        name = self.bottom()
        (top,) = self.add(body, [name], in_place=in_place)
        self.blobs[top] = self.blobs[name]

    def neuron(self):
        self.same_shape(self.pick(*NEURONS), in_place=self.rng.random() < 0.5)

    def lrn(self):
        region = self.pick("ACROSS_CHANNELS", "WITHIN_CHANNEL")
        size = self.pick(1, 3, 5)
        body = f"lrn_param {{ local_size: {size} alpha: 0.1 norm_region: {region} }}"
        self.same_shape(f'type: "LRN" {body}')

    def softmax(self):
        self.same_shape('type: "Softmax"')

    def norm(self):
        name, in_place = self.bottom(), self.rng.random() < 0.5
        shape = self.blobs[name]
        (top,) = self.add('type: "BatchNorm"', [name], in_place=in_place)
        (top,) = self.add('type: "Scale" scale_param { bias_term: true }', [top], in_place=in_place)
        self.blobs[top] = shape

    def eltwise(self):
        name = self.bottom()
        alike = [other for other, shape in self.blobs.items() if shape == self.blobs[name]]
        bottoms = [name, *(self.pick(*alike) for _ in range(self.number(1, 2)))]
        body = self.pick("operation: SUM", "operation: SUM", "operation: MAX", "operation: PROD")
        (top,) = self.add(f'type: "Eltwise" eltwise_param {{ {body} }}', bottoms)
        self.blobs[top] = self.blobs[name]

    def concat(self):
        name = self.bottom()
        _, height, width = self.blobs[name]
        alike = [other for other, shape in self.blobs.items() if shape[1:] == (height, width)]
        bottoms = [name, *(self.pick(*alike) for _ in range(self.number(0, 2)))]
        (top,) = self.add('type: "Concat"', bottoms)
        self.blobs[top] = (sum(self.blobs[b][0] for b in bottoms), height, width)

    def slice(self):
        name = self.bottom()
        channels, height, width = self.blobs[name]
        if channels < 2:
            return
        at = self.number(1, channels - 1)
        first, second = self.add(
            f'type: "Slice" slice_param {{ slice_point: {at} }}', [name], tops=2
        )
        self.blobs[first] = (at, height, width)
        self.blobs[second] = (channels - at, height, width)

    def fork(self):
        name = self.bottom()
        for top in self.add('type: "Split"', [name], tops=2):
            self.blobs[top] = self.blobs[name]

    def finish(self):
        if self.rng.random() < 0.5:
            (top,) = self.add(
                f'type: "InnerProduct" inner_product_param {{ num_output: {self.number(1, 70)} }}',
                [self.bottom()],
            )
            self.add('type: "Softmax"', [top])


def random_net(seed: int) -> Net:
    """Build the net of a seed, with weights whose products stay near one."""
    builder = Builder(seed)
    for _ in range(builder.number(1, 9)):
        builder.grow()
    builder.finish()
    net = Net.parse(builder.text)
    rng = builder.rng
    shapes = infer_shapes(net)
    for layer in net.layers:
        density = builder.pick(*DENSITIES)
        for param in layer_type(layer).params(layer, shapes.bottoms[layer]):
            blob = rng.standard_normal(param.shape)
            if blob.ndim > 1:
                blob *= (rng.random(blob.shape) < density) / np.sqrt(max(1, blob[0].size * density))
            if layer.type == "BatchNorm":
                blob = np.abs(blob) + 0.5
            layer.blobs.append(blob.astype(np.float32))
    return net
