"""Writes the deploy prototxts in this folder: published architectures, in our own text.

    python models/generate.py

Each net is a function that adds layers one after the other; docs/models.md names the sources.
Activations and BatchNorm work in place, as is usual in Caffe.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent


class Writer:
    """Collects layers; ``last`` is the blob that the next layer reads."""

    def __init__(self, name: str, channels: int, size: int) -> None:
        self.text = f'name: "{name}"\n'
        self.channels = channels
        self.last = "data"
        shape = f"shape {{ dim: 1 dim: {channels} dim: {size} dim: {size} }}"
        self.add("data", "Input", [], f"input_param {{ {shape} }}")

    def add(self, name: str, kind: str, bottoms: list[str], param: str = "", top: str = "") -> str:
        """Add one layer and return its top."""
        top = top or name
        lines = [f'  name: "{name}"', f'  type: "{kind}"']
        lines += [f'  bottom: "{bottom}"' for bottom in bottoms]
        lines += [f'  top: "{top}"', *([f"  {param}"] if param else [])]
        self.text += "layer {\n" + "\n".join(lines) + "\n}\n"
        self.last = top
        return top

    def on(self, name: str, kind: str, param: str = "") -> str:
        """Add a layer that works in place on the last blob."""
        return self.add(name, kind, [self.last], param, self.last)

    def conv(
        self,
        name: str,
        outputs: int,
        kernel: int,
        stride: int = 1,
        pad: int = 0,
        group: int = 1,
        bias: bool = True,
        bottom: str = "",
    ) -> str:
        """Add a convolution."""
        parts = [f"num_output: {outputs}", f"kernel_size: {kernel}"]
        parts += [f"stride: {stride}"] if stride > 1 else []
        parts += [f"pad: {pad}"] if pad else []
        parts += [f"group: {group}"] if group > 1 else []
        parts += [] if bias else ["bias_term: false"]
        param = f"convolution_param {{ {' '.join(parts)} }}"
        return self.add(name, "Convolution", [bottom or self.last], param)

    def pool(self, name: str, method: str, kernel: int, stride: int, pad: int = 0) -> str:
        """Add a pooling."""
        padding = f" pad: {pad}" if pad else ""
        param = (
            f"pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride}{padding} }}"
        )
        return self.add(name, "Pooling", [self.last], param)

    def global_pool(self, name: str) -> str:
        """Add an average over the whole plane."""
        param = "pooling_param { pool: AVE global_pooling: true }"
        return self.add(name, "Pooling", [self.last], param)

    def ip(self, name: str, outputs: int) -> str:
        """Add a fully connected layer."""
        param = f"inner_product_param {{ num_output: {outputs} }}"
        return self.add(name, "InnerProduct", [self.last], param)

    def bn(self, name: str) -> None:
        """Add BatchNorm and Scale."""
        self.on(f"{name}/bn", "BatchNorm")
        self.on(f"{name}/scale", "Scale", "scale_param { bias_term: true }")

    def relu6(self, name: str) -> None:
        """Add ReLU6 in the form that stock Caffe has."""
        self.on(name, "Clip", "clip_param { min: 0 max: 6 }")


def classifier(net: Writer, layers: list[tuple[str, int]]) -> None:
    """Add fully connected layers with ReLU and Dropout between them, then Softmax."""
    for name, outputs in layers[:-1]:
        net.ip(name, outputs)
        net.on(f"relu_{name}", "ReLU")
        net.on(f"drop_{name}", "Dropout")
    net.ip(*layers[-1])
    net.add("prob", "Softmax", [net.last])


def lenet() -> Writer:
    """LeNet for MNIST, as in BVLC Caffe's examples."""
    net = Writer("LeNet", 1, 28)
    net.conv("conv1", 20, 5)
    net.pool("pool1", "MAX", 2, 2)
    net.conv("conv2", 50, 5)
    net.pool("pool2", "MAX", 2, 2)
    net.ip("ip1", 500)
    net.on("relu1", "ReLU")
    net.ip("ip2", 10)
    net.add("prob", "Softmax", [net.last])
    return net


def cifar10_quick() -> Writer:
    """CIFAR-10 quick, as in BVLC Caffe's examples."""
    net = Writer("CIFAR10_quick", 3, 32)
    net.conv("conv1", 32, 5, pad=2)
    net.pool("pool1", "MAX", 3, 2)
    net.on("relu1", "ReLU")
    for name, outputs in (("2", 32), ("3", 64)):
        net.conv(f"conv{name}", outputs, 5, pad=2)
        net.on(f"relu{name}", "ReLU")
        net.pool(f"pool{name}", "AVE", 3, 2)
    net.ip("ip1", 64)
    net.ip("ip2", 10)
    net.add("prob", "Softmax", [net.last])
    return net


def alexnet(name: str = "AlexNet", norm_first: bool = True) -> Writer:
    """AlexNet; CaffeNet is the same with pooling before normalisation."""
    net = Writer(name, 3, 227)

    def squash(index: str) -> None:
        steps: list[Callable[[], object]] = [
            lambda: net.add(
                f"norm{index}",
                "LRN",
                [net.last],
                "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }",
            ),
            lambda: net.pool(f"pool{index}", "MAX", 3, 2),
        ]
        for step in steps if norm_first else steps[::-1]:
            step()

    net.conv("conv1", 96, 11, stride=4)
    net.on("relu1", "ReLU")
    squash("1")
    net.conv("conv2", 256, 5, pad=2, group=2)
    net.on("relu2", "ReLU")
    squash("2")
    for name, outputs, group in (("3", 384, 1), ("4", 384, 2), ("5", 256, 2)):
        net.conv(f"conv{name}", outputs, 3, pad=1, group=group)
        net.on(f"relu{name}", "ReLU")
    net.pool("pool5", "MAX", 3, 2)
    classifier(net, [("fc6", 4096), ("fc7", 4096), ("fc8", 1000)])
    return net


def caffenet() -> Writer:
    """CaffeNet, BVLC's variant of AlexNet."""
    return alexnet("CaffeNet", norm_first=False)


def zf5_spp() -> Writer:
    """ZF-5 with spatial pyramid pooling (He et al. 2014), the net of the SPP-net detector.

    The pyramid of a 13 x 13 map in plain Caffe: poolings whose bins overlap as SPP-net's.
    """
    net = Writer("ZF5_SPP", 3, 224)

    def squash(index: int) -> None:
        lrn = "lrn_param { local_size: 3 alpha: 5e-05 beta: 0.75 norm_region: WITHIN_CHANNEL }"
        net.on(f"relu{index}", "ReLU")
        net.add(f"norm{index}", "LRN", [net.last], lrn)
        net.pool(f"pool{index}", "MAX", 3, 2)

    net.conv("conv1", 96, 7, stride=2, pad=1)
    squash(1)
    net.conv("conv2", 256, 5, stride=2)
    squash(2)
    for index, outputs in ((3, 384), (4, 384), (5, 256)):
        net.conv(f"conv{index}", outputs, 3, pad=1)
        net.on(f"relu{index}", "ReLU")
    maps, tops = net.last, []
    for bins, kernel, stride in ((1, 13, 1), (2, 7, 6), (3, 5, 4), (6, 3, 2)):
        net.last = maps
        net.pool(f"spp{bins}", "MAX", kernel, stride)
        tops.append(net.add(f"spp{bins}/flat", "Flatten", [net.last]))
    net.add("spp", "Concat", tops)
    classifier(net, [("fc6", 4096), ("fc7", 4096), ("fc8", 1000)])
    return net


def vgg16() -> Writer:
    """VGG-16 (configuration D)."""
    net = Writer("VGG16", 3, 224)
    for block, (outputs, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for index in range(1, depth + 1):
            net.conv(f"conv{block}_{index}", outputs, 3, pad=1)
            net.on(f"relu{block}_{index}", "ReLU")
        net.pool(f"pool{block}", "MAX", 2, 2)
    classifier(net, [("fc6", 4096), ("fc7", 4096), ("fc8", 1000)])
    return net


def squeezenet() -> Writer:
    """SqueezeNet 1.1."""
    net = Writer("SqueezeNet_v1.1", 3, 227)
    net.conv("conv1", 64, 3, stride=2)
    net.on("relu_conv1", "ReLU")
    net.pool("pool1", "MAX", 3, 2)
    for index, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64), 2):
        if index in (4, 6):
            net.pool(f"pool{index - 1}", "MAX", 3, 2)
        name = f"fire{index}"
        squeezed = net.conv(f"{name}/squeeze1x1", squeeze, 1)
        net.on(f"{name}/relu_squeeze1x1", "ReLU")
        expanded = []
        for kernel in (1, 3):
            expand = f"expand{kernel}x{kernel}"
            expanded.append(
                net.conv(f"{name}/{expand}", 4 * squeeze, kernel, pad=kernel // 2, bottom=squeezed)
            )
            net.on(f"{name}/relu_{expand}", "ReLU")
        net.add(f"{name}/concat", "Concat", expanded)
    net.on("drop9", "Dropout")
    net.conv("conv10", 1000, 1)
    net.on("relu_conv10", "ReLU")
    net.global_pool("pool10")
    net.add("prob", "Softmax", [net.last])
    return net


def mobilenet_v1() -> Writer:
    """MobileNet v1, width 1.0."""
    net = Writer("MobileNet_v1", 3, 224)

    def layer(name: str, outputs: int, kernel: int, stride: int, group: int = 1) -> None:
        net.conv(name, outputs, kernel, stride, kernel // 2, group, bias=False)
        net.bn(name)
        net.relu6(f"{name}/relu6")

    layer("conv1", 32, 3, 2)
    channels = 32
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    plan += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    for index, (outputs, stride) in enumerate(plan, 2):
        layer(f"conv{index}/dw", channels, 3, stride, channels)
        layer(f"conv{index}/pw", outputs, 1, 1)
        channels = outputs
    net.global_pool("pool")
    net.ip("fc", 1000)
    net.add("prob", "Softmax", [net.last])
    return net


def mobilenet_v2() -> Writer:
    """MobileNet v2, width 1.0."""
    net = Writer("MobileNet_v2", 3, 224)

    def layer(name: str, outputs: int, kernel: int, stride: int, group: int, active: bool) -> None:
        net.conv(name, outputs, kernel, stride, kernel // 2, group, bias=False)
        net.bn(name)
        if active:
            net.relu6(f"{name}/relu6")

    layer("conv1", 32, 3, 2, 1, True)
    channels, index = 32, 1
    for expand, outputs, repeat, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for stride in [first] + [1] * (repeat - 1):
            index += 1
            source, inner = net.last, channels * expand
            if expand > 1:
                layer(f"block{index}/expand", inner, 1, 1, 1, True)
            layer(f"block{index}/dw", inner, 3, stride, inner, True)
            layer(f"block{index}/project", outputs, 1, 1, 1, False)
            if stride == 1 and channels == outputs:
                net.add(f"block{index}/sum", "Eltwise", [source, net.last])
            channels = outputs
    layer("conv_last", 1280, 1, 1, 1, True)
    net.global_pool("pool")
    net.ip("fc", 1000)
    net.add("prob", "Softmax", [net.last])
    return net


def googlenet() -> Writer:
    """GoogLeNet (Inception v1) without the auxiliary classifiers."""
    net = Writer("GoogLeNet", 3, 224)
    lrn = "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"

    def conv(name: str, outputs: int, kernel: int, stride: int = 1, bottom: str = "") -> str:
        top = net.conv(name, outputs, kernel, stride, kernel // 2, bottom=bottom)
        net.on(f"{name}/relu", "ReLU")
        return top

    conv("conv1/7x7_s2", 64, 7, 2)
    net.pool("pool1/3x3_s2", "MAX", 3, 2)
    net.add("pool1/norm1", "LRN", [net.last], lrn)
    conv("conv2/3x3_reduce", 64, 1)
    conv("conv2/3x3", 192, 3)
    net.add("conv2/norm2", "LRN", [net.last], lrn)
    net.pool("pool2/3x3_s2", "MAX", 3, 2)
    table = {
        "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    }  # fmt: skip
    for block, (one, reduce3, three, reduce5, five, projected) in table.items():
        name, source = f"inception_{block}", net.last
        tops = [conv(f"{name}/1x1", one, 1, bottom=source)]
        conv(f"{name}/3x3_reduce", reduce3, 1, bottom=source)
        tops.append(conv(f"{name}/3x3", three, 3))
        conv(f"{name}/5x5_reduce", reduce5, 1, bottom=source)
        tops.append(conv(f"{name}/5x5", five, 5))
        net.last = source
        net.pool(f"{name}/pool", "MAX", 3, 1, 1)
        tops.append(conv(f"{name}/pool_proj", projected, 1))
        net.add(f"{name}/output", "Concat", tops)
        if block in ("3b", "4e"):
            net.pool(f"pool{block[0]}/3x3_s2", "MAX", 3, 2)
    net.global_pool("pool5")
    net.on("pool5/drop", "Dropout", "dropout_param { dropout_ratio: 0.4 }")
    net.ip("classifier", 1000)
    net.add("prob", "Softmax", [net.last])
    return net


def resnet50() -> Writer:
    """ResNet-50 with the stride in the first 1x1 of a block."""
    net = Writer("ResNet-50", 3, 224)

    def conv(name: str, outputs: int, kernel: int, stride: int = 1, bottom: str = "") -> str:
        top = net.conv(name, outputs, kernel, stride, kernel // 2, bias=False, bottom=bottom)
        net.bn(name)
        return top

    conv("conv1", 64, 7, 2)
    net.on("conv1/relu", "ReLU")
    net.pool("pool1", "MAX", 3, 2)
    for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 2):
        for block in range(depth):
            name, source = f"res{stage}{'abcdef'[block]}", net.last
            stride = 2 if block == 0 and stage > 2 else 1
            shortcut = conv(f"{name}/shortcut", 4 * width, 1, stride) if block == 0 else source
            conv(f"{name}/a", width, 1, stride, bottom=source)
            net.on(f"{name}/a/relu", "ReLU")
            conv(f"{name}/b", width, 3)
            net.on(f"{name}/b/relu", "ReLU")
            conv(f"{name}/c", 4 * width, 1)
            net.add(name, "Eltwise", [shortcut, net.last])
            net.on(f"{name}/relu", "ReLU")
    net.global_pool("pool5")
    net.ip("fc1000", 1000)
    net.add("prob", "Softmax", [net.last])
    return net


NETS: dict[str, Callable[[], Writer]] = {
    "lenet": lenet,
    "cifar10_quick": cifar10_quick,
    "alexnet": alexnet,
    "caffenet": caffenet,
    "zf5_spp": zf5_spp,
    "vgg16": vgg16,
    "squeezenet_v1.1": squeezenet,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "googlenet": googlenet,
    "resnet50": resnet50,
}


def main() -> None:
    """Write every net."""
    for name, make in NETS.items():
        (HERE / f"{name}.prototxt").write_text(make().text, encoding="utf-8")


if __name__ == "__main__":
    main()
