"""Images through a net, or through an original and a compressed one side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.calibrate.images import Images, Values
from caffe_scnn.calibrate.patches import Patches, Rows, rows_shape, weight_rows
from caffe_scnn.calibrate.samples import Samples
from caffe_scnn.calibrate.statistics import Array, LayerStatistics, Moments
from caffe_scnn.calibrate.walk import Batch, Walk, needed, one_input
from caffe_scnn.engine import Executor
from caffe_scnn.model.net import Layer, Net

IMAGES, POSITIONS = 3000, 10

# Moments of several layers are summed up in one pass as long as they fit into this.
MOMENT_BYTES = 2**30

# Single rows of a layer, with their responses, take up to this.
SAMPLE_BYTES = 2**29
# Those of all layers together, where all are looked at once.
SAMPLES_BYTES = 2**30


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
    sample_bytes : int
        Memory that single rows of one layer may take; fewer rows are kept of large ones.

    Notes
    -----
    The same images, seed and rows give the same numbers; batch size and threads do not matter
    for which rows are taken. Memory: the activations of one batch, the moments (3 d² float64 a
    group; many layers at once are limited to 1 GiB), 512 MiB of single rows of a layer (1 GiB of
    all together, beside what all layers answer), 512 MiB of prepared images, and for each net that
    images walk up 512 MiB of what they have come to (twice that on the way to the next layer).
    """

    images: Images
    seed: int = 0
    rows: int = IMAGES * POSITIONS
    threads: int | None = None
    sample_bytes: int = SAMPLE_BYTES
    _picked: Images = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_picked", self.images.pick(IMAGES, self.seed))

    def halves(self) -> tuple[Calibration, Calibration]:
        """Return two of the same kind with half the images each: to fit, and to judge the fit."""
        first, second = self._picked.halves()
        return replace(self, images=first), replace(self, images=second)

    def few(self, count: int) -> Calibration:
        """Return the same with at most ``count`` of the images, from all over them."""
        return replace(self, images=self._picked.pick(count, self.seed))

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

    def walk(self, net: Net) -> Walk:
        """Let the images go up a net; for many layers of a net that changes on the way.

        Raises
        ------
        ModelError
            The net has not one input.
        """
        return Walk(self._picked, net, self.threads)

    def of_pair(
        self, original: Net | Walk, compressed: Net | Walk, layers: Sequence[Layer]
    ) -> LayerStatistics:
        """Return statistics of a layer (and its sharers) in two nets side by side.

        Parameters
        ----------
        original, compressed : Net or Walk
            Both have the layers' bottoms.
        layers : sequence of Layer
            The layer, and those that share its weights.
        """
        halves = Moments(), Moments()
        pair = zip(self._read(original, layers), self._read(compressed, layers), strict=True)
        for (start, ours), (_, theirs) in pair:
            for layer in layers:
                exact = self._sample(layer, start, ours)
                for x, x_hat in zip(exact, self._sample(layer, start, theirs), strict=True):
                    images = len(ours[layer.bottoms[0]])
                    for first, half in enumerate(halves):
                        odd = (start + first) % 2
                        half.add(*(_every_other(rows, images, odd) for rows in (x, x_hat)))
        return Moments.of_halves(*halves)

    def responses(self, net: Net, targets: Sequence[Sequence[Layer]]) -> dict[str, Rows]:
        """Return what layers answer at the positions that :meth:`samples` takes rows of.

        Parameters
        ----------
        net : Net
        targets : sequence of sequences of Layer
            Layers, each with those that share its weights.

        Returns
        -------
        dict of name of a target's first layer to float32 ndarray (group, rows, n/group)
            ``W x``, without bias.
        """
        found: dict[str, list[Rows]] = {layers[0].name: [] for layers in targets}
        weights = {layers[0].name: _factor(layers[0]) for layers in targets}
        for name, rows in self._rows(net, targets):
            found[name].append(rows @ weights[name])
        return {name: np.concatenate(parts, axis=1) for name, parts in found.items()}

    def samples(
        self,
        net: Net | Walk,
        targets: Sequence[Sequence[Layer]],
        responses: Mapping[str, Rows] | None = None,
    ) -> dict[str, Samples]:
        """Return single rows of what layers read in a net, beside responses.

        Parameters
        ----------
        net : Net or Walk
            It has the targets' bottoms.
        targets : sequence of sequences of Layer
        responses : mapping of str to ndarray, optional
            What :meth:`responses` returned for the same targets; None: to the rows themselves.
        """
        found: dict[str, list[Rows]] = {layers[0].name: [] for layers in targets}
        for name, rows in self._rows(net, targets):
            found[name].append(rows)
        seen = {}
        for layers in targets:
            name = layers[0].name
            rows = np.concatenate(found.pop(name), axis=1)
            answers = rows @ _factor(layers[0]) if responses is None else responses[name]
            seen[name] = Samples(rows, answers)
        return seen

    def sketch(self, count: int) -> Calibration:
        """Return the same with as few rows as it takes to keep samples of ``count`` layers."""
        return replace(self, sample_bytes=min(self.sample_bytes, SAMPLES_BYTES // max(1, count)))

    def _rows(
        self, net: Net | Walk, targets: Sequence[Sequence[Layer]]
    ) -> Iterator[tuple[str, Rows]]:
        """Yield rows of the targets' inputs, as many as a target may keep."""
        per_image = [self._kept_per_image(layers) for layers in targets]
        for start, blobs in self._read(net, [layer for part in targets for layer in part]):
            for layers, count in zip(targets, per_image, strict=True):
                for layer in layers:
                    for rows in self._sample(layer, start, blobs, count):
                        yield layers[0].name, rows

    def _kept_per_image(self, layers: Sequence[Layer]) -> int:
        group, outputs, size = rows_shape(layers[0])
        bottoms = sum(len(layer.bottoms) for layer in layers)
        row = 4 * group * (size + 2 * outputs) * bottoms
        return max(1, min(self._per_image, self.sample_bytes // row // len(self._picked)))

    def outputs(self, net: Net, blob: str, count: int) -> Values:
        """Return a blob on the first ``count`` images: (count, …)."""
        results, seen = [], 0
        for _, blobs in self._run(net, [blob], count):
            results.append(blobs[blob])
            seen += len(blobs[blob])
        return np.concatenate(results)[:count]

    def channel_moments(self, net: Net, blobs: Sequence[str]) -> dict[str, tuple[Array, Array]]:
        """Return mean and variance of every channel of blobs.

        Parameters
        ----------
        net : Net
        blobs : sequence of str
            Of two axes or more; the channels are on axis 1.

        Returns
        -------
        dict of str to (float64 ndarray of shape (C,), float64 ndarray of shape (C,))
        """
        return _channel_moments(self._run(net, blobs), blobs)

    def channel_moments_before(self, net: Net | Walk, layer: Layer) -> tuple[Array, Array]:
        """Return mean and variance of every channel of the first blob that a layer reads."""
        (found,) = _channel_moments(self._read(net, [layer]), layer.bottoms[:1]).values()
        return found

    def _read(self, net: Net | Walk, layers: Sequence[Layer]) -> Iterator[Batch]:
        """Yield what layers read."""
        if isinstance(net, Walk):
            return net.blobs(layers)
        return self._run(net, list(dict.fromkeys(b for layer in layers for b in layer.bottoms)))

    def _run(self, net: Net, blobs: Sequence[str], count: int | None = None) -> Iterator[Batch]:
        # exact: what is found must not depend on the kernels that this machine prefers
        part = Net(net.proto, needed(net.layers, blobs))
        executor = Executor(part, threads=self.threads, exact=True)
        name = one_input(executor.inputs)
        wanted = [blob for blob in blobs if blob != name]
        for start, values in self._picked.batches():
            if count is not None and start >= count:
                return
            found = executor.run({name: values}, wanted) if wanted else {}
            yield start, {**found, name: values}

    @property
    def _per_image(self) -> int:
        return -(-self.rows // len(self._picked))

    def _sample(
        self, layer: Layer, start: int, blobs: Mapping[str, Values], per_image: int | None = None
    ) -> list[Rows]:
        patches = Patches.of(layer)
        per_image = self._per_image if per_image is None else per_image
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


def _channel_moments(
    batches: Iterable[Batch], blobs: Sequence[str]
) -> dict[str, tuple[Array, Array]]:
    sums: dict[str, Array] = {}
    for _, found in batches:
        for blob in blobs:
            values = found[blob].swapaxes(0, 1).reshape(found[blob].shape[1], -1)
            wide = values.astype(np.float64)
            new = np.array([np.full(len(wide), wide.shape[1]), wide.sum(1), (wide**2).sum(1)])
            sums[blob] = sums[blob] + new if blob in sums else new
    means = {blob: (total / n, squares / n) for blob, (n, total, squares) in sums.items()}
    return {
        blob: (mean, np.maximum(square - mean**2, 0.0)) for blob, (mean, square) in means.items()
    }


def _every_other(rows: Rows, images: int, first: int) -> Rows:
    """Return the rows (group, n, d) of every other image, from ``first`` on."""
    group, _, size = rows.shape
    return rows.reshape(group, images, -1, size)[:, first::2].reshape(group, -1, size)


def _factor(layer: Layer) -> Rows:
    """Return weights to multiply rows with: float32 (group, d, n/group)."""
    return np.ascontiguousarray(weight_rows(layer).swapaxes(1, 2), np.float32)


def _within(layers: Sequence[Layer], limit: int) -> list[list[Layer]]:
    """Part layers so that the moments of each part take at most ``limit`` bytes (or one layer)."""
    parts: list[list[Layer]] = []
    used = limit + 1
    for layer in layers:
        group, _, size = rows_shape(layer)
        need = 3 * 8 * group * size * size
        if used + need > limit:
            parts.append([])
            used = 0
        parts[-1].append(layer)
        used += need
    return parts
