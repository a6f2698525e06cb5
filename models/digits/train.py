"""Trains the digits net with PyTorch and writes weights.caffemodel (needs the extra ``train``).

    python models/digits/train.py

Adam with a cosine schedule, pictures shifted by up to one pixel; one seed, one thread, so that the
same versions give the same file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from data import split
from torch import nn

from caffe_scnn import load, write_caffemodel

HERE = Path(__file__).parent
EPOCHS, BATCH = 120, 64


def make_net() -> nn.Sequential:
    """Return the net of deploy.prototxt, with Dropout while it is trained."""
    return nn.Sequential(
        nn.Conv2d(1, 64, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.2),
        nn.Conv2d(64, 128, 3, padding=1), nn.ReLU(), nn.Dropout(0.3),
        nn.MaxPool2d(2),
        nn.Conv2d(128, 128, 3, padding=1), nn.ReLU(), nn.Dropout(0.3),
        nn.AvgPool2d(4), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def shifted(x: torch.Tensor) -> torch.Tensor:
    """Move every picture by -1, 0 or 1 pixel in both directions."""
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    row, column = torch.randint(0, 3, (2, len(x)))
    return torch.stack(
        [p[:, r : r + 8, c : c + 8] for p, r, c in zip(padded, row, column, strict=True)]
    )


def train() -> nn.Sequential:
    """Train, and print the accuracy on the held-out digits."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    (x, y), (x_test, y_test) = [
        (torch.from_numpy(pixels) / 16, torch.from_numpy(classes)) for pixels, classes in split()
    ]
    net = make_net()
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(EPOCHS):
        net.train()
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(net(shifted(x[batch])), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        net.eval()
        if (epoch + 1) % 20 == 0:
            with torch.no_grad():
                right = (net(x_test).argmax(1) == y_test).float().mean().item()
            print(f"epoch {epoch + 1}: held-out accuracy {100 * right:.2f} %")
    return net


def main() -> None:
    """Train and write the weights beside this file."""
    trained = train()
    net = load(HERE / "deploy.prototxt")
    layers = [layer for layer in net.layers if layer.blobs]
    modules = [module for module in trained if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer, module in zip(layers, modules, strict=True):
        assert module.bias is not None
        values = [module.weight, module.bias]
        layer.blobs = [v.detach().numpy().astype(np.float32) for v in values]
    write_caffemodel(net, HERE / "weights.caffemodel")


if __name__ == "__main__":
    main()
