"""A tiny VOCdevkit of red, green and blue squares, and a net that can tell them apart."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net
from caffe_scnn.save import save

CLASSES = ("blue", "green", "red")
SIZE = (96, 128)

# Every output is the mean of one channel or its opposite around a pixel, at stride 4.
COLOURS = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 12 dim: 12 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 6 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "fc6" type: "InnerProduct" bottom: "pool" top: "fc6" inner_product_param { num_output: 8 } }
layer { name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }
"""  # noqa: E501


def colour_net() -> Net:
    """Return the net; its fc layer takes the 54 values of a pyramid of one level, 3 x 3 bins."""
    net = Net.parse(COLOURS)
    rng = np.random.default_rng(0)
    bind(net, None)
    for layer in net:
        if layer.name == "conv":
            layer.blobs[0][:] = 0
            for channel in range(3):
                layer.blobs[0][2 * channel, channel] = 1 / 9 / 64
                layer.blobs[0][2 * channel + 1, channel] = -1 / 9 / 64
        if layer.name == "fc6":
            layer.blobs[0][:] = 0.1 * rng.standard_normal(layer.blobs[0].shape)
    return net


def write_net(folder: Path) -> None:
    """Write the net as a model with its preprocessing."""
    folder.mkdir(parents=True)
    save(colour_net(), folder)
    (folder / "preprocess.toml").write_text("mean = [128.0]\n")


def write_devkit(folder: Path, pictures: int, seed: int = 0) -> Path:
    """Write a VOCdevkit: one or two squares a picture, on grey noise, and their windows as npz."""
    rng = np.random.default_rng(seed)
    year = folder / "VOC2007"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (year / name).mkdir(parents=True)
    windows, names = {}, []
    for number in range(pictures):
        name = f"{number:06d}"
        names.append(name)
        pixels = rng.integers(90, 166, (*SIZE, 3)).astype(np.uint8)
        objects, found = [], []
        for left in (4, 68)[: 1 + number % 2]:
            side = int(rng.integers(24, 48))
            x, y = left + int(rng.integers(0, 8)), 4 + int(rng.integers(0, 92 - side))
            label = int(rng.integers(3))
            colour = np.full(3, 40)
            colour[label] = 230
            pixels[y : y + side, x : x + side] = colour
            box = (x + 1, y + 1, x + side, y + side)
            objects.append((CLASSES[label], box))
            found += [np.array(box) + rng.integers(-5, 6, 4) for _ in range(6)]
        for _ in range(20):
            side = int(rng.integers(20, 60))
            x, y = int(rng.integers(0, SIZE[1] - side)), int(rng.integers(0, SIZE[0] - side))
            found.append(np.array([x + 1, y + 1, x + side, y + side]))
        limit = np.array([SIZE[1], SIZE[0]] * 2)
        windows[name] = np.clip(np.array(found), 1, limit).astype(np.float32)
        cv2.imwrite(str(year / "JPEGImages" / f"{name}.png"), pixels)
        boxes = "".join(
            f"<object><name>{c}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
            f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
            for c, b in objects
        )
        (year / "Annotations" / f"{name}.xml").write_text(f"<annotation>{boxes}</annotation>")
    half = pictures // 2
    sets = year / "ImageSets" / "Main"
    (sets / "trainval.txt").write_text("".join(f"{name}\n" for name in names[:half]))
    (sets / "test.txt").write_text("".join(f"{name}\n" for name in names[half:]))
    np.savez(folder / "windows.npz", **windows)
    return folder
