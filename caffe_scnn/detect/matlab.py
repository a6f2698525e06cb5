"""Models of MATLAB's SPP_net: ``spp_model.mat``, and its order of pooled features.

SPP_net (He, Zhang, Ren and Sun, ECCV 2014) pools windows in MATLAB. There a window's features are
ordered by level (``spm_divs``, usually 6, 3, 2, 1), bin row, bin column, channel: the channels of a
bin stand together. Caffe flattens each level by channel, bin row, bin column, and its nets join the
levels as 1, 2, 3, 6. Whatever multiplies pooled features in MATLAB has its columns in the former
order; :func:`read_spp_model` brings them into the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.mat import MatFile
from caffe_scnn.errors import FormatError, ModelError
from caffe_scnn.model.net import Net

Floats = NDArray[np.float32]

FEATURE_NORM = 20.0
"""SPP_net scales features to this mean norm before its classifiers see them."""


@dataclass(frozen=True)
class FullyConnected:
    """A fully connected layer.

    Attributes
    ----------
    name : str
    weights : float32 ndarray of shape (outputs, inputs)
    bias : float32 ndarray of shape (outputs,)
    """

    name: str
    weights: Floats
    bias: Floats


@dataclass(frozen=True)
class SppModel:
    """What ``spp_model.mat`` holds, with everything in Caffe's order of features.

    Attributes
    ----------
    definition, binary : str
        The files of the convolutions' prototxt and caffemodel, as MATLAB names them.
    classes : tuple of str
    levels : tuple of int
        Bins a side of each level, smallest first.
    step, offset, rounding : float
        Pixels from one cell of the feature map to the next, of the first cell's centre from the
        picture's border, and of SPP-net's rounding of windows (``step_standard``, ``offset0``,
        ``offset``).
    fc : tuple of FullyConnected
        The layers from ``first_fc_idx`` up to the one that is classified; the first takes pooled
        features. Empty where pooled features themselves are classified.
    weights : float32 ndarray of shape (classes, values)
        Of the SVMs; SPP_net's scaling of features is part of them.
    bias : float32 ndarray of shape (classes,)
    """

    definition: str
    binary: str
    classes: tuple[str, ...]
    levels: tuple[int, ...]
    step: float
    offset: float
    rounding: float
    fc: tuple[FullyConnected, ...]
    weights: Floats
    bias: Floats


def feature_order(levels: Sequence[int], channels: int) -> NDArray[np.intp]:
    """Return where Caffe's pooled features stand in MATLAB's.

    Parameters
    ----------
    levels : sequence of int
        Bins a side of each level in MATLAB's order (``spm_divs``).
    channels : int

    Returns
    -------
    ndarray of shape (channels * bins,)
        ``matlab[feature_order(…)]`` are the features in Caffe's order: levels from the smallest,
        each by channel, bin row, bin column.

    Raises
    ------
    ModelError
        A level below 1, or twice.
    """
    if not levels or min(levels) < 1 or len(set(levels)) < len(levels):
        raise ModelError(f"pyramid levels {list(levels)} must be different numbers, from 1")
    places, start = {}, 0
    for level in levels:
        size = level * level * channels
        block = np.arange(start, start + size).reshape(level, level, channels)
        places[level] = block.transpose(2, 0, 1).ravel()
        start += size
    return np.concatenate([places[level] for level in sorted(levels)])


def read_spp_model(path: Path) -> SppModel:
    """Read ``spp_model.mat``, which SPP_net saves as version 7.3 (needs h5py).

    Raises
    ------
    FormatError
        Not such a file, a field is missing, or arrays that do not fit together.
    OSError
        The file cannot be opened.
    """
    with MatFile(path) as file:
        reader = _Reader(file.read("spp_model"), path)
    levels = [int(level) for level in reader.numbers("spp_pooler.spm_divs")]
    classes = tuple(reader.texts("classes"))
    layer = reader.number("training_opts.layer")
    order = _order_for(reader, levels)
    fc = _fully_connected(reader, order, _count_of_fc(layer, path))
    weights = reader.matrix("detectors.W", rows=len(classes))
    if not fc:
        weights = weights[:, order(weights.shape[1])]
    elif weights.shape[1] != len(fc[-1].bias):
        raise FormatError(
            f"the detectors take {weights.shape[1]} values, but {fc[-1].name} gives "
            f"{len(fc[-1].bias)}",
            str(path),
        )
    bias = reader.numbers("detectors.B")
    if len(bias) != len(classes):
        raise FormatError(f"{len(classes)} classes, but {len(bias)} biases", str(path))
    norm = reader.number("training_opts.feat_norm_mean")
    if not norm > 0:
        raise FormatError(f"the mean norm of features is {norm:g}; it must be positive", str(path))
    return SppModel(
        reader.text("cnn.definition_file"),
        reader.text("cnn.binary_file"),
        classes,
        tuple(sorted(levels)),
        reader.number("spp_pooler.step_standard"),
        reader.number("spp_pooler.offset0"),
        reader.number("spp_pooler.offset"),
        fc,
        (weights * (FEATURE_NORM / norm)).astype(np.float32),
        bias.astype(np.float32),
    )


def fc_net(model: SppModel) -> Net | None:
    """Build the net of the fully connected layers: from pooled features to those classified.

    Returns
    -------
    Net or None
        Input ``pooled`` of shape (1, values); each layer is followed by a ReLU. None where pooled
        features themselves are classified.
    """
    if not model.fc:
        return None
    values = model.fc[0].weights.shape[1]
    lines = [
        'name: "fc"',
        'layer { name: "pooled" type: "Input" top: "pooled"',
        f"  input_param {{ shape {{ dim: 1 dim: {values} }} }} }}",
    ]
    bottom = "pooled"
    for layer in model.fc:
        name = layer.name
        lines += [
            f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}"',
            f"  inner_product_param {{ num_output: {len(layer.bias)} }} }}",
            f'layer {{ name: "{name}/relu" type: "ReLU" bottom: "{name}" top: "{name}" }}',
        ]
        bottom = name
    net = Net.parse("\n".join(lines) + "\n")
    for layer in model.fc:
        net.layer(layer.name).blobs = [layer.weights, layer.bias]
    return net


def _count_of_fc(layer: float, path: Path) -> int:
    """Return how many fully connected layers come before the SVMs: layer 5 is pool5, 7 is fc7."""
    if layer not in (5, 6, 7):
        raise FormatError(f"training_opts.layer is {layer:g}; known are 5, 6 and 7", str(path))
    return int(layer) - 5


def _order_for(reader: _Reader, levels: Sequence[int]) -> Callable[[int], NDArray[np.intp]]:
    bins = sum(level * level for level in levels)

    def order(values: int) -> NDArray[np.intp]:
        if not bins or values % bins:
            raise FormatError(
                f"{values} pooled values are no multiple of the {bins} bins of the levels "
                f"{list(levels)}",
                str(reader.path),
            )
        return feature_order(levels, values // bins)

    return order


def _fully_connected(
    reader: _Reader, order: Callable[[int], NDArray[np.intp]], wanted: int
) -> tuple[FullyConnected, ...]:
    layers = reader.structs("cnn.layers")
    first = int(reader.number("cnn.first_fc_idx")) - 1
    if not 0 <= first <= len(layers) - wanted:
        raise FormatError(
            f"cnn.first_fc_idx is {first + 1} of {len(layers)} layers, and {wanted} fully "
            "connected ones are wanted",
            str(reader.path),
        )
    found: list[FullyConnected] = []
    for index, layer in enumerate(layers[first : first + wanted], start=first + 1):
        inner = _Reader(layer, reader.path, f"cnn.layers({index}).")
        blobs = inner.cell("weights")
        if len(blobs) != 2:
            raise FormatError(
                f"cnn.layers({index}) has {len(blobs)} arrays, not 2", str(inner.path)
            )
        bias = np.asarray(blobs[1], np.float32).ravel()
        weights = inner.as_matrix(blobs[0], "weights{1}", rows=len(bias))
        before = len(found[-1].bias) if found else weights.shape[1]
        if weights.shape[1] != before:
            raise FormatError(
                f"cnn.layers({index}) takes {weights.shape[1]} values, but {before} come",
                str(inner.path),
            )
        if not found:
            weights = np.ascontiguousarray(weights[:, order(weights.shape[1])])
        found.append(FullyConnected(inner.text("layer_names"), weights, bias))
    return tuple(found)


class _Reader:
    """Fields of a struct by dotted names; what is missing or of another kind is refused."""

    def __init__(self, struct: Any, path: Path, prefix: str = "spp_model.") -> None:
        self.path, self.prefix = path, prefix
        if not isinstance(struct, dict):
            raise FormatError(f"{prefix.rstrip('.')} is no struct", str(path))
        self.struct = struct

    def field(self, name: str) -> Any:
        value: Any = self.struct
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                raise FormatError(f"no field {self.prefix}{name}", str(self.path))
            value = value[part]
        return value

    def text(self, name: str) -> str:
        value = self.field(name)
        return value if isinstance(value, str) else self._refuse(name, "text")

    def texts(self, name: str) -> list[str]:
        value = self.cell(name)
        fine = bool(value) and all(isinstance(text, str) for text in value)
        return value if fine else self._refuse(name, "a cell of texts")

    def cell(self, name: str) -> list[Any]:
        value = self.field(name)
        return value if isinstance(value, list) else self._refuse(name, "a cell")

    def structs(self, name: str) -> list[Any]:
        value = self.field(name)
        if isinstance(value, dict):  # an array of one struct
            return [value]
        return value if isinstance(value, list) else self._refuse(name, "an array of structs")

    def numbers(self, name: str) -> NDArray[np.float64]:
        value = self.field(name)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iuf":
            self._refuse(name, "numbers")
        found = np.asarray(value, np.float64).ravel(order="F")
        return found if np.isfinite(found).all() else self._refuse(name, "finite numbers")

    def number(self, name: str) -> float:
        value = self.numbers(name)
        return float(value[0]) if len(value) == 1 else self._refuse(name, "one number")

    def matrix(self, name: str, rows: int) -> Floats:
        return self.as_matrix(self.field(name), name, rows)

    def as_matrix(self, value: Any, name: str, rows: int) -> Floats:
        """Return a matrix of that many rows; MATLAB code keeps some of them transposed."""
        matrix = np.asarray(value)
        if matrix.dtype.kind not in "iuf" or matrix.ndim != 2 or rows not in matrix.shape:
            self._refuse(name, f"a matrix of {rows} rows")
        return np.ascontiguousarray(matrix if len(matrix) == rows else matrix.T, np.float32)

    def _refuse(self, name: str, wanted: str) -> Any:
        raise FormatError(f"{self.prefix}{name} is not {wanted}", str(self.path))
