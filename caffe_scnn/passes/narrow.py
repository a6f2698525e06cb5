"""Takes channels out of a net: out of the layers that make them and of all that they go through.

Given a convolution of n filters and a list of them, the result has a convolution without these
filters, and what reads them without the inputs: BatchNorm, Scale, PReLU lose their values for the
channel; depthwise convolutions the filter; convolutions and InnerProducts (behind Flatten too) the
weights of the input; Slice cuts elsewhere; a Concat loses a bottom of which nothing is left; what
was added to the channel goes with it. See :mod:`~caffe_scnn.passes.channels`.

Groups of a convolution stay equally large: a cut that is not the same in all of them is refused,
unless it takes whole groups with their inputs. The result is not what the net computed before,
unless the channels were zero: :func:`~caffe_scnn.passes.remove_zeros.remove_zeros` finds those.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.errors import ModelError, PassError
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Coupling, Shape
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph, place
from caffe_scnn.model.net import Blob, Layer, Net
from caffe_scnn.passes.base import PassResult
from caffe_scnn.passes.channels import Channels, Linear, Numbers, is_transposed
from caffe_scnn.proto import caffe_pb2 as pb

Flags = NDArray[np.bool_]


def narrow(net: Net, outputs: Mapping[str, Collection[int]]) -> PassResult:
    """Take outputs of layers out of a net, with whatever is coupled to them (see the module).

    Parameters
    ----------
    net : Net
        Phase selected and weights bound.
    outputs : mapping of str to collection of int
        Names of layers, and indices along axis 1 of their (first) tops.

    Raises
    ------
    ModelError
        No such layer, or no such output.
    PassError
        A channel cannot go: it is an input or output of the net or meets a layer that it cannot be
        followed through; or groups would become unequal, or a layer that stays would have no input.
    """
    channels = Channels(net)
    gone = numbered(channels, outputs)
    for number in np.flatnonzero(gone):
        if int(number) in channels.fixed:
            raise _cannot(channels, outputs, int(number))
    allowed, reasons = balanced(channels, gone)
    if (allowed != gone).any():
        raise PassError(f"narrow: {reasons[0]}")
    return cut(channels, gone)


def numbered(channels: Channels, outputs: Mapping[str, Collection[int]]) -> Flags:
    """Mark the channels that layers put out at some indices; :func:`narrow` describes it."""
    gone = np.zeros(channels.count, bool)
    for name, indices in outputs.items():
        layer = channels.net.layer(name)
        tops = channels.tops(layer)
        size = len(tops[0]) if tops else 0
        wrong = [i for i in indices if not 0 <= i < size]
        if wrong:
            raise ModelError(f"{place(layer)}: has {size} output channels, and no {wrong[0]}")
        gone[tops[0][sorted(indices)]] = True
    return gone


def balanced(channels: Channels, gone: Flags) -> tuple[Flags, list[str]]:
    """Return the largest part of ``gone`` that can go, and why the rest cannot.

    Parameters
    ----------
    channels : Channels
    gone : bool ndarray of shape (channels.count,)
        By number.

    Returns
    -------
    bool ndarray, list of str
    """
    gone = gone.copy()
    fixed = [number for number in channels.fixed if gone[number]]
    reasons = list(dict.fromkeys(channels.fixed[number] for number in fixed))
    gone[fixed] = False
    while True:
        kept = [
            (layer, number)
            for layer, ends in channels.linear.items()
            for number in _needed(ends, gone)
        ]
        if not kept:
            return gone, list(dict.fromkeys(reasons))
        for layer, number in kept:
            gone[number] = False
            reasons.append(_reason(layer, channels.linear[layer]))


def _reason(layer: Layer, ends: Linear) -> str:
    if ends.group == 1:
        return f'"{layer.name}" ({layer.type}) would have outputs, but no input'
    return f'the {ends.group} groups of "{layer.name}" ({layer.type}) would not stay equally large'


def _needed(ends: Linear, gone: Flags) -> list[int]:
    """Return channels that must stay beside those that do, so that a layer is one."""
    rows, columns = (part.reshape(ends.group, -1) for part in (ends.rows, ends.columns))
    staying = [(~gone[part]).sum(axis=1) for part in (rows, columns)]
    live = (staying[0] > 0) | ((staying[1] > 0) & bool(ends.group > 1))
    if not staying[0].any():
        return []  # the layer goes altogether, its inputs may be read by others
    wanted = [np.where(live, max(1, int(counts.max())), 0) for counts in staying]
    missing = []
    for part, counts, goal in zip((rows, columns), staying, wanted, strict=True):
        for numbers, short in zip(part, goal - counts, strict=True):
            out = np.unique(numbers[gone[numbers]])
            missing += out[: max(0, int(short))].tolist()
    return missing


def cut(channels: Channels, gone: Flags) -> PassResult:
    """Take channels out that :func:`balanced` allows.

    Parameters
    ----------
    channels : Channels
    gone : bool ndarray of shape (channels.count,)
        By number.

    Returns
    -------
    PassResult
        A note for every layer that becomes smaller or goes; their number.
    """
    result = channels.net.copy()
    scissors = _Scissors(channels, gone)
    notes = []
    for old, new in zip(channels.net.layers, list(result.layers), strict=True):
        if scissors.empties(old):
            result.remove(new)
            notes.append(f'removed "{old.name}" ({old.type}): nothing is left of what it makes')
            continue
        before = _size(old)
        scissors.cut(old, new)
        if _size(new) != before:
            notes.append(f'"{old.name}" ({old.type}): {before} became {_size(new)}')
    infer_shapes(result)
    _check_outputs(channels.net, result)
    return PassResult(result, len(notes), tuple(notes))


class _Scissors:
    """Cuts layers; blobs that layers share are cut once and stay shared."""

    def __init__(self, channels: Channels, gone: Flags) -> None:
        self._channels = channels
        self._gone = gone
        self._made: dict[tuple[int, bytes], Blob] = {}

    def empties(self, layer: Layer) -> bool:
        """Tell whether all that a layer makes is gone."""
        tops = self._channels.tops(layer)
        if not tops:  # a Silence
            bottoms = self._channels.bottoms(layer)
            return all(len(numbers) and self._gone[numbers].all() for numbers in bottoms)
        return all(len(numbers) and self._gone[numbers].all() for numbers in tops)

    def cut(self, old: Layer, new: Layer) -> None:
        """Make ``new``, a copy of ``old``, smaller."""
        channels = self._channels
        if not self._gone[np.concatenate([*channels.bottoms(old), *channels.tops(old)])].any():
            return
        if old in channels.linear:
            self._cut_linear(new, channels.linear[old])
        elif old in channels.depthwise:
            self._cut_depthwise(old, new)
        else:
            self._cut_between(old, new)

    def _stay(self, numbers: Numbers) -> Flags:
        return ~self._gone[numbers]

    def _taken(self, blob: Blob, *where: Flags) -> Blob:
        """Cut a blob along its first axes."""
        key = id(blob), b"|".join(flags.tobytes() for flags in where)
        if key not in self._made:
            cut = blob
            for axis, flags in enumerate(where):
                cut = np.compress(flags, cut, axis)
            self._made[key] = np.ascontiguousarray(cut)
        return self._made[key]

    def _cut_linear(self, layer: Layer, ends: Linear) -> None:
        rows, columns = self._stay(ends.rows), self._stay(ends.columns)
        first, second = (columns, rows) if is_transposed(layer) else (rows, columns)
        if layer.blobs:
            layer.blobs[0] = self._grouped(layer.blobs[0], first, second, ends.group)
        layer.blobs[1:] = [self._taken(bias, rows) for bias in layer.blobs[1:]]
        _set_size(layer, int(rows.sum()))
        if ends.group > 1:
            live = int(rows.reshape(ends.group, -1).any(axis=1).sum())
            layer.proto.convolution_param.group = live

    def _grouped(self, weights: Blob, first: Flags, second: Flags, group: int) -> Blob:
        """Cut weights whose second axis is the inside of a group, for both axes."""
        key = id(weights), first.tobytes() + b"|" + second.tobytes()
        if key not in self._made:
            parts = [
                np.compress(inner, np.compress(outer, block, 0), 1)
                for block, outer, inner in zip(
                    np.split(weights, group),
                    first.reshape(group, -1),
                    second.reshape(group, -1),
                    strict=True,
                )
                if outer.any()
            ]
            self._made[key] = np.ascontiguousarray(np.concatenate(parts))
        return self._made[key]

    def _cut_depthwise(self, old: Layer, new: Layer) -> None:
        inputs = self._stay(self._channels.bottoms(old)[0])
        outputs = self._stay(self._channels.tops(old)[0])
        if new.blobs:
            kept = inputs if is_transposed(new) else outputs
            new.blobs[0] = self._taken(new.blobs[0], kept)
        new.blobs[1:] = [self._taken(bias, outputs) for bias in new.blobs[1:]]
        _set_size(new, int(outputs.sum()))
        if new.proto.convolution_param.HasField("group"):
            new.proto.convolution_param.group = int(inputs.sum())

    def _cut_between(self, old: Layer, new: Layer) -> None:
        """Cut a layer that hands channels on: its blobs along the channels, its wires."""
        channels, kind = self._channels, layer_type(old)
        bottoms, tops = channels.bottoms(old), channels.tops(old)
        coupling = kind.coupling(old)
        if coupling is Coupling.CONCATENATES or not tops:
            staying = [
                name
                for name, numbers in zip(old.bottoms, bottoms, strict=True)
                if not len(numbers) or self._stay(numbers).any()
            ]
            new.proto.bottom[:] = staying
        elif coupling is Coupling.SPLITS:
            _cut_slice(new, [int(self._stay(numbers).sum()) for numbers in tops])
        for i, axis in enumerate(_channel_axes(old, channels.shapes.bottoms[old])):
            if axis is not None and i < len(new.blobs):
                everything = [np.ones(n, bool) for n in new.blobs[i].shape[:axis]]
                new.blobs[i] = self._taken(new.blobs[i], *everything, self._stay(bottoms[0]))


def _cut_slice(layer: Layer, sizes: Sequence[int]) -> None:
    param = layer.proto.slice_param
    left = [size for size in sizes if size]
    layer.proto.top[:] = [top for top, size in zip(layer.tops, sizes, strict=True) if size]
    del param.slice_point[:]
    if len(set(left)) > 1:
        param.slice_point.extend(np.cumsum(left)[:-1].tolist())


def _channel_axes(layer: Layer, bottoms: Sequence[Shape]) -> list[int | None]:
    """Return, for every learnt blob, the axis that grows when the bottoms get one more channel."""
    kind = layer_type(layer)
    grown = [(*s[:1], s[1] + 1, *s[2:]) if len(s) > 1 else s for s in bottoms]
    ours, more = (kind.params(layer, shapes) for shapes in (bottoms, grown))
    return [_grown_axis(one.shape, other.shape) for one, other in zip(ours, more, strict=True)]


def _grown_axis(one: Shape, more: Shape) -> int | None:
    return next((i for i, (a, b) in enumerate(zip(one, more, strict=True)) if a != b), None)


def _parameters(layer: Layer) -> pb.ConvolutionParameter | pb.InnerProductParameter:
    proto = layer.proto
    return proto.inner_product_param if layer.type == "InnerProduct" else proto.convolution_param


def _set_size(layer: Layer, outputs: int) -> None:
    if _parameters(layer).num_output != outputs:
        _parameters(layer).num_output = outputs


def _size(layer: Layer) -> str:
    if layer.blobs:
        return "x".join(str(extent) for extent in layer.blobs[0].shape) or "1"
    return f"{len(layer.bottoms)} bottoms, {len(layer.tops)} tops"


def _check_outputs(before: Net, after: Net) -> None:
    old, new = Graph(before).outputs, Graph(after).outputs
    if old != new:
        raise PassError(f"narrow: the net's outputs were {old}, now {new}")


def _cannot(channels: Channels, outputs: Mapping[str, Collection[int]], number: int) -> PassError:
    for name, indices in outputs.items():
        layer = channels.net.layer(name)
        for i in sorted(indices):
            if channels.tops(layer)[0][i] == number:
                reason = channels.fixed[number]
                return PassError(f"{place(layer)}: output channel {i} cannot go: {reason}")
    raise AssertionError(number)
