"""Weights of a file bound to the layers of a net, by Caffe's rules."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from caffe_scnn.errors import ModelError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Param, Shape, count, refuse
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.blob import MAX_COUNT, StoredBlob, stored_blob
from caffe_scnn.model.caffemodel import StoredLayer, StoredNet
from caffe_scnn.model.net import Blob, Layer, Net

LOADED, MISSING, IGNORED, MISMATCHED = "loaded", "missing", "ignored", "mismatched"

_LISTED = 10  # rows that an error message shows


@dataclass(frozen=True)
class BindingRow:
    """What happened to one blob.

    Attributes
    ----------
    layer : str
        The layer.
    blob : int
        Which of its blobs.
    wanted : tuple of int or None
        The shape the net has; None if the net has no such blob.
    found : tuple of int or None
        The shape in the file; None if the file has no such blob.
    status : str
        ``loaded``, ``missing``, ``ignored`` (not in the net) or ``mismatched``.
    """

    layer: str
    blob: int
    wanted: Shape | None
    found: Shape | None
    status: str

    def __str__(self) -> str:
        place = f'layer "{self.layer}", blob {self.blob}'
        if self.found is None:
            return f"{place}: the net has {_show(self.wanted)}, the file has none"
        if self.wanted is None:
            return f"{place}: the file has {_show(self.found)}, the net has none"
        text = f"{place}: the net has {_show(self.wanted)}, the file has {_show(self.found)}"
        if self.wanted == self.found:
            return f"{text}, but another number of blobs"
        if count(self.wanted) == count(self.found):
            return f"{text} (as many values, but weights are never reshaped)"
        return text


@dataclass
class Binding:
    """The table of all blobs of a net and of a file: which met, and which did not."""

    rows: list[BindingRow] = field(default_factory=list)

    def with_status(self, *status: str) -> list[BindingRow]:
        """Return the rows of these statuses."""
        return [row for row in self.rows if row.status in status]

    def counts(self) -> dict[str, int]:
        """Return the number of blobs of each status."""
        return {
            status: len(self.with_status(status))
            for status in (LOADED, MISSING, IGNORED, MISMATCHED)
        }


def bind(
    net: Net,
    stored: StoredNet | None,
    *,
    allow_missing: bool = False,
    allow_nonfinite: bool = False,
    inputs: Mapping[str, Shape] | None = None,
) -> Binding:
    """Fill the blobs of a net's layers from a caffemodel, by layer name.

    Weights that stand in the prototxt itself come first, and the caffemodel's over them. Layers
    that share a parameter get the same array; the last one loaded wins. Of layers of one
    name, only the first is filled. What the file does not give keeps its constant filler.

    Parameters
    ----------
    net : Net
        Its ``Layer.blobs`` are set; arrays of ``stored`` are used, not copied.
    stored : StoredNet or None
        The file; None for a net that is asked for its shapes only: constants everywhere.
    allow_missing : bool
        Warn about missing and mismatched blobs instead of refusing.
    allow_nonfinite : bool
        Accept weights that are NaN or infinite.
    inputs : mapping of blob name to shape, optional
        Shapes of net inputs that the prototxt leaves open or that differ from it.

    Returns
    -------
    Binding
        One row per blob.

    Raises
    ------
    ModelError
        Blobs are missing or have another shape, or weights are not finite.
    """
    shapes = infer_shapes(net, inputs)
    slots = _Slots(net, [layer_type(n).params(n, shapes.bottoms[n]) for n in net.layers])
    slots.take_weights()
    binding = Binding()
    if stored is not None:
        for layer in stored.layers:
            binding.rows += slots.load(layer)
        binding.rows += slots.missing()
        _check_complete(binding, stored, allow_missing)
    slots.fill()
    given = stored is not None or any(layer.weights for layer in net.layers)
    if given and not allow_nonfinite:
        _check_finite(net, stored)
    return binding


@dataclass(eq=False)
class _Slot:
    """One learnt blob, shared by all layers that name it."""

    param: Param
    array: Blob | None = None


class _Slots:
    """The learnt blobs of a net, by layer."""

    def __init__(self, net: Net, params: Sequence[Sequence[Param]]) -> None:
        self.net = net
        self.params = params
        self.slots: list[list[_Slot]] = []
        self.first: dict[str, int] = {}
        self.mismatched: set[tuple[int, int]] = set()
        shared: dict[str, _Slot] = {}
        for index, (layer, wanted) in enumerate(zip(net.layers, params, strict=True)):
            self.first.setdefault(layer.name, index)
            self.slots.append([])
            for i, param in enumerate(wanted):
                _check_size(layer, i, param)
                name = layer.proto.param[i].name if i < len(layer.proto.param) else ""
                slot = _Slot(param)
                self.slots[index].append(shared.setdefault(name, slot) if name else slot)

    def take_weights(self) -> None:
        """Take the weights that stand in the prototxt; they must fit, as in Caffe."""
        for layer, slots, params in zip(self.net.layers, self.slots, self.params, strict=True):
            blobs = weights_of(layer)
            if blobs and len(blobs) != len(params):
                raise refuse(
                    layer, f"the prototxt gives it {len(blobs)} blobs, but it has {len(params)}"
                )
            for i, (slot, param, blob) in enumerate(zip(slots, params, blobs, strict=False)):
                if not _same(param.shape, blob):
                    raise refuse(
                        layer,
                        f"blob {i} in the prototxt has the shape {_show(blob.shape)}, "
                        f"but it must have {_show(param.shape)}",
                    )
                slot.array = blob.array.reshape(param.shape)

    def load(self, stored: StoredLayer) -> list[BindingRow]:
        """Take the blobs of one layer of the file; a later layer of the name overwrites them."""
        index = self.first.get(stored.name)
        if index is None:
            return [
                BindingRow(stored.name, i, None, blob.shape, IGNORED)
                for i, blob in enumerate(stored.blobs)
            ]
        params = self.params[index]
        complete = len(params) == len(stored.blobs)
        rows = []
        for i in range(max(len(params), len(stored.blobs))):
            wanted = params[i].shape if i < len(params) else None
            blob = stored.blobs[i] if i < len(stored.blobs) else None
            status = MISMATCHED
            if blob and wanted is not None and complete and _same(wanted, blob):
                self.slots[index][i].array = blob.array.reshape(wanted)
                status = LOADED
            else:
                self.mismatched.add((index, i))
            rows.append(BindingRow(stored.name, i, wanted, blob.shape if blob else None, status))
        return rows

    def missing(self) -> list[BindingRow]:
        """Return the blobs that no layer of the file gave, nor a layer that shares them."""
        return [
            BindingRow(layer.name, i, param.shape, None, MISSING)
            for index, layer in enumerate(self.net.layers)
            for i, param in enumerate(self.params[index])
            if self.slots[index][i].array is None and (index, i) not in self.mismatched
        ]

    def fill(self) -> None:
        """Give every layer its arrays; constants where nothing was loaded."""
        for layer, slots, params in zip(self.net.layers, self.slots, self.params, strict=True):
            layer.blobs = [_array(slot, param) for slot, param in zip(slots, params, strict=True)]


def weights_of(layer: Layer) -> list[StoredBlob]:
    """Return the weights that stand in a layer's text.

    Raises
    ------
    ModelError
        A blob has not as many values as its shape says.
    """
    try:
        return [stored_blob(blob) for blob in layer.weights]
    except ValueError as error:
        raise refuse(layer, f"a blob in the prototxt is damaged: {error}") from None


def _check_size(layer: Layer, index: int, param: Param) -> None:
    if count(param.shape) > MAX_COUNT:
        raise refuse(
            layer, f"blob {index} of shape {_show(param.shape)} has more than {MAX_COUNT} values"
        )


def _array(slot: _Slot, param: Param) -> Blob:
    """Return a slot's array in a layer's own shape; the very same object where shapes agree."""
    if slot.array is None:
        slot.array = np.zeros(slot.param.shape, np.float32)  # takes no memory until it is touched
        if slot.param.fill:
            slot.array.fill(slot.param.fill)
    return slot.array if slot.array.shape == param.shape else slot.array.reshape(param.shape)


def _same(wanted: Shape, blob: StoredBlob) -> bool:
    """Tell whether shapes agree; the old four-axis form is padded with ones on the left."""
    if blob.legacy:
        return len(wanted) <= 4 and (1,) * (4 - len(wanted)) + wanted == blob.shape
    return wanted == blob.shape


def _check_complete(binding: Binding, stored: StoredNet, allow_missing: bool) -> None:
    bad = binding.with_status(MISSING, MISMATCHED)
    if not bad:
        return
    message = f"{stored.path}: the weights do not fit the net: {_list(bad)}"
    if not allow_missing:
        raise ModelError(f"{message}; is this the right caffemodel?")
    warnings.warn(f"{message}; constant fillers are used there", stacklevel=3)


def _check_finite(net: Net, stored: StoredNet | None) -> None:
    bad = [
        f'layer "{layer.name}", blob {i}: {strange} of {blob.size} values'
        for layer in net.layers
        for i, blob in enumerate(layer.blobs)
        if (strange := count_nonfinite(blob))
    ]
    if bad:
        path = stored.path if stored else net.source.path if net.source else None
        raise ModelError(
            f"{path or 'the net'}: weights are NaN or infinite ({_list(bad)}); "
            "the training has diverged or the file is damaged"
        )


def count_nonfinite(blob: Blob) -> int:
    """Return how many values are NaN or infinite.

    A sum is finite only if all its terms are, and needs no memory; values are looked at one by one
    only when it is not (which large finite values can cause, too).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(blob.sum()):
            return 0
    return blob.size - int(np.count_nonzero(np.isfinite(blob)))


def attach(net: Net, stored: StoredNet) -> Binding:
    """Give layers the blobs that the file has under their names, whatever they are.

    For steps that rewrite a net without understanding all its layer types. Blobs in the old
    four-axis form lose the axes that Caffe would add to compare them.

    Returns
    -------
    Binding
        Rows ``loaded`` and ``ignored``; ``wanted`` is what was attached.
    """
    first: dict[str, Layer] = {}
    for layer in net.layers:
        first.setdefault(layer.name, layer)
    binding = Binding()
    for layer in net.layers:
        layer.blobs = [_modern(layer.type, i, b) for i, b in enumerate(weights_of(layer))]
    for source in stored.layers:
        target = first.get(source.name)
        kind = target.type if target is not None else source.type
        arrays = [_modern(kind, i, blob) for i, blob in enumerate(source.blobs)]
        if target is not None:
            target.blobs = arrays
        for i, (blob, array) in enumerate(zip(source.blobs, arrays, strict=True)):
            row = (array.shape, blob.shape, LOADED) if target else (None, blob.shape, IGNORED)
            binding.rows.append(BindingRow(source.name, i, *row))
    return binding


def _modern(kind: str, index: int, blob: StoredBlob) -> Blob:
    """Return a blob in the shape that its layer has had since Caffe dropped the four-axis form.

    Of that time are kernels of four axes, matrices of two, and vectors for everything else.
    """
    if not blob.legacy:
        return blob.array
    axes = 1
    if index == 0 and "Convolution" in kind:
        axes = 4
    elif index == 0 and kind in ("InnerProduct", "Embed"):
        axes = 2
    shape = blob.shape[4 - axes :]
    return blob.array.reshape(shape) if count(shape) == blob.array.size else blob.array


def _list(items: Iterable[object]) -> str:
    texts = [str(item) for item in items]
    more = f"; and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return "; ".join(texts[:_LISTED]) + more


def _show(shape: Shape | None) -> str:
    return "(" + ", ".join(str(dim) for dim in shape or ()) + ")"
