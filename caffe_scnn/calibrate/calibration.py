"""Images through a net, or through an original and a compressed one side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.calibrate.images import Images, Values
from caffe_scnn.calibrate.patches import Patches, Rows, weight_rows
from caffe_scnn.calibrate.statistics import LayerStatistics, Moments
from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Layer, Net

IMAGES, POSITIONS = 3000, 10

# Moments of several layers are summed up in one pass as long as they fit into this.
MOMENT_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class Calibration:
    """Where statistics come from.

    Attributes
    ----------
    images : Images
        More than 3000 are reduced to 3000 by the seed.
    seed : int
        Of the images and positions that are sampled.
    rows : int
        Rows a layer's statistics are made of, at most (rounded up to a whole number per image):
        3000 images × 10 positions as in Zhang et al., more positions for fewer images.
    threads : int, optional
        Threads of the engine.

    Notes
    -----
    The same images, seed and rows give the same numbers; batch size and threads do not matter
    for which rows are taken. Memory: the activations of one batch, the moments (3 d² float64 a
    group; many layers at once are limited to 1 GiB), and 512 MiB of prepared images.
    """

    images: Images
    seed: int = 0
    rows: int = IMAGES * POSITIONS
    threads: int | None = None
    _picked: Images = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_picked", self.images.pick(IMAGES, self.seed))

    def halves(self) -> tuple[Calibration, Calibration]:
        """Return two of the same kind with half the images each: to fit, and to judge the fit."""
        first, second = self._picked.halves()
        return replace(self, images=first), replace(self, images=second)

    def of_layers(self, net: Net, layers: Sequence[Layer]) -> dict[str, LayerStatistics]:
        """Return statistics of layers of a net, as it is.

        Parameters
        ----------
        net : Net
        layers : sequence of Layer
            Layers of the net.

        Returns
        -------
        dict of layer name to LayerStatistics
        """
        found: dict[str, LayerStatistics] = {}
        for part in _within(layers, MOMENT_BYTES):
            moments = {layer.name: Moments() for layer in part}
            bottoms = list(dict.fromkeys(b for layer in part for b in layer.bottoms))
            for start, blobs in self._run(net, bottoms):
                for layer in part:
                    for rows in self._sample(layer, start, blobs):
                        moments[layer.name].add(rows, rows)
            found |= {name: total.finish() for name, total in moments.items()}
        return found

    def of_pair(
        self, original: Net, compressed: Net, layers: Sequence[Layer], keep: bool = False
    ) -> LayerStatistics:
        """Return statistics of a layer (and its sharers) in two nets side by side.

        Parameters
        ----------
        original, compressed : Net
            Both have the layers' bottoms.
        layers : sequence of Layer
            The layer, and those that share its weights.
        keep : bool
            Keep the responses of single rows.
        """
        moments = Moments(weight_rows(layers[0]) if keep else None)
        bottoms = list(dict.fromkeys(b for layer in layers for b in layer.bottoms))
        pair = zip(self._run(original, bottoms), self._run(compressed, bottoms), strict=True)
        for (start, ours), (_, theirs) in pair:
            for layer in layers:
                exact = self._sample(layer, start, ours)
                for x, x_hat in zip(exact, self._sample(layer, start, theirs), strict=True):
                    moments.add(x, x_hat)
        return moments.finish()

    def outputs(self, net: Net, blob: str, count: int) -> Values:
        """Return a blob on the first ``count`` images: (count, …)."""
        results, seen = [], 0
        for _, blobs in self._run(net, [blob], count):
            results.append(blobs[blob])
            seen += len(blobs[blob])
        return np.concatenate(results)[:count]

    def _run(
        self, net: Net, blobs: Sequence[str], count: int | None = None
    ) -> Iterator[tuple[int, Mapping[str, Values]]]:
        executor = Executor(_needed(net, blobs), threads=self.threads)
        if len(executor.inputs) != 1:
            raise ModelError(
                f"calibration feeds nets of one input; this one has {len(executor.inputs)}: "
                f"{', '.join(executor.inputs)}"
            )
        (name,) = executor.inputs
        wanted = [blob for blob in blobs if blob != name]
        for start, values in self._picked.batches():
            if count is not None and start >= count:
                return
            found = executor.run({name: values}, wanted) if wanted else {}
            yield start, {**found, name: values}

    def _sample(self, layer: Layer, start: int, blobs: Mapping[str, Values]) -> list[Rows]:
        patches = Patches.of(layer)
        per_image = -(-self.rows // len(self._picked))
        sampled = []
        for bottom in layer.bottoms:
            values = blobs[bottom]
            available = patches.positions(values.shape)
            positions = [
                self._positions(layer.name, start + i, available, per_image)
                for i in range(len(values))
            ]
            sampled.append(patches.rows(values, positions))
        return sampled

    def _positions(self, name: str, image: int, available: int, count: int) -> NDArray[np.int64]:
        if count >= available:
            return np.arange(available)
        generator = np.random.default_rng((self.seed, crc32(name.encode()), image))
        return np.sort(generator.choice(available, count, replace=False, shuffle=False))


def _needed(net: Net, blobs: Sequence[str]) -> Net:
    """Return the part of a net that makes the blobs, and its inputs."""
    wanted, layers = set(blobs), []
    for layer in reversed(net.layers):
        if layer.type == "Input" or wanted.intersection(layer.tops):
            wanted.update(layer.bottoms)
            layers.append(layer)
    return Net(net.proto, layers[::-1])


def _within(layers: Sequence[Layer], limit: int) -> list[list[Layer]]:
    """Part layers so that the moments of each part take at most ``limit`` bytes (or one layer)."""
    parts: list[list[Layer]] = []
    used = limit + 1
    for layer in layers:
        group, _, size = weight_rows(layer).shape
        need = 3 * 8 * group * size * size
        if used + need > limit:
            parts.append([])
            used = 0
        parts[-1].append(layer)
        used += need
    return parts
