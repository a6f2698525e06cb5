"""``caffe.Net`` without Caffe: pycaffe's interface on this library's engine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from caffe_scnn.errors import ModelError
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.loading import open_net
from caffe_scnn.model.caffemodel import write_caffemodel
from caffe_scnn.model.hdf5 import write_hdf5
from caffe_scnn.pycaffe.blob import Blob, Values
from caffe_scnn.pycaffe.evaluation import Evaluation
from caffe_scnn.pycaffe.layer import Layer
from caffe_scnn.pycaffe.training import refuse_training
from caffe_scnn.pycaffe.weights import copy_weights, load_weights

TRAIN, TEST = 0, 1


class Net:
    """A net to run, look into and change.

    Parameters
    ----------
    network_file : str
        The prototxt.
    arguments
        Caffe's orders: ``(weights, phase)`` as of 2014, or ``(phase, level, stages, weights)``.
    phase : {TEST, TRAIN}
        Which layers exist.
    level, stages, weights
        State of the net, and its caffemodel.

    Attributes
    ----------
    blobs : OrderedDict of str to Blob
        Every blob by name. ``blobs[name].data`` holds what the last forward gave (see
        :mod:`caffe_scnn.pycaffe.evaluation` for when it is computed).
    params : OrderedDict of str to list of Blob
        Learnt blobs by layer; the next forward sees every change made to their ``data``.
    inputs, outputs : list of str
        Names of blobs.
    layers : list of Layer
        In order, with ``type`` and ``blobs``.
    layer_dict : OrderedDict of str to Layer
    bottom_names, top_names : OrderedDict of str to list of str
        Blobs that a layer reads and writes.

    Raises
    ------
    FormatError, ModelError
        Caffe would abort: a file that is none, a net or weights that do not fit.
    """

    def __init__(
        self,
        network_file: str,
        *arguments: Any,
        phase: int | None = None,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: str | None = None,
    ) -> None:
        given = _sorted(arguments)
        phase = given.get("phase", TEST if phase is None else phase)
        level, stages = given.get("level", level), given.get("stages", stages)
        weights = given.get("weights", weights)
        if phase not in (TRAIN, TEST):
            raise ValueError(f"phase must be caffe.TEST or caffe.TRAIN, not {phase!r}")
        name = "TEST" if phase == TEST else "TRAIN"
        self._net = open_net(str(network_file), phase=name, level=level, stages=tuple(stages or ()))
        load_weights(self._net, weights)
        self._name_parts()
        self._evaluation = Evaluation(
            self._net, self.blobs, [blob for blobs in self.params.values() for blob in blobs]
        )

    def _name_parts(self) -> None:
        net = self._net
        self.blobs: OrderedDict[str, Blob] = OrderedDict(
            (name, Blob(shape)) for name, shape in infer_shapes(net).blobs.items()
        )
        self.layers = [
            Layer(one.name, one.type, [Blob(b.shape, b) for b in one.blobs]) for one in net
        ]
        self._layer_names = [layer.name for layer in net]
        self._blob_names = list(self.blobs)
        self.layer_dict = OrderedDict(zip(self._layer_names, self.layers, strict=True))
        self.params = OrderedDict((n, one.blobs) for n, one in self.layer_dict.items() if one.blobs)
        self.bottom_names = OrderedDict((layer.name, layer.bottoms) for layer in net)
        self.top_names = OrderedDict((layer.name, layer.tops) for layer in net)

    @property
    def name(self) -> str:
        """The net's name."""
        return self._net.name

    @property
    def inputs(self) -> list[str]:
        """Blobs that a script fills."""
        return list(self._evaluation.executor.inputs)

    @property
    def outputs(self) -> list[str]:
        """Blobs that no layer reads, in alphabetical order."""
        return list(self._evaluation.executor.outputs)

    # --- running ---------------------------------------------------------------------------------

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **inputs: ArrayLike,
    ) -> dict[str, Values]:
        """Run the net, or a part of it.

        Parameters
        ----------
        blobs : sequence of str, optional
            Blobs to return besides the outputs.
        start, end : str, optional
            First and last layer to run, on the values that the blobs hold.
        inputs
            Values of all input blobs; without any, the blobs hold them already.

        Returns
        -------
        dict of str to ndarray
            ``data`` of the net's outputs, or of the tops of ``end``, and of ``blobs``.
        """
        if inputs:
            self._feed(inputs)
        names = [*(self.outputs if end is None else self.top_names[self._known(end)])]
        names += [self._known_blob(name) for name in blobs or ()]
        if start is None and end is None:
            self._evaluation.run(names)
        else:
            first = self._index(start) if start is not None else 0
            last = self._index(end) if end is not None else len(self.layers) - 1
            self._evaluation.run_range(first, last)
        return {name: self.blobs[name].data for name in names}

    def forward_all(
        self, blobs: Sequence[str] | None = None, **inputs: ArrayLike
    ) -> dict[str, Values]:
        """Run on any number of items, as many at a time as the input blobs hold.

        Parameters
        ----------
        blobs : sequence of str, optional
            Blobs to return besides the outputs.
        inputs
            Values of all input blobs.

        Returns
        -------
        dict of str to ndarray
            Results for all items; the rest of the last batch is run on zeros and left out.
        """
        arrays = {name: np.asarray(values, np.float32) for name, values in inputs.items()}
        self._check_names(arrays)
        counts = {len(values) for values in arrays.values()}
        if len(counts) != 1:
            raise ValueError(f"the inputs have different numbers of items: {sorted(counts)}")
        total = counts.pop()
        results: dict[str, list[Values]] = {}
        for batch in self._batches(arrays):
            for name, values in self._forward_batch(blobs, batch).items():
                results.setdefault(name, []).append(values.copy())
        return {name: np.concatenate(parts)[:total] for name, parts in results.items()}

    def _forward_batch(
        self, blobs: Sequence[str] | None, batch: Mapping[str, Values]
    ) -> dict[str, Values]:
        self._feed(batch)
        return self.forward(blobs)

    def _batches(self, arrays: Mapping[str, Values]) -> Iterator[dict[str, Values]]:
        size = self.blobs[self.inputs[0]].num
        total = len(next(iter(arrays.values())))
        for begin in range(0, total, size):
            batch = {}
            for name, values in arrays.items():
                part = values[begin : begin + size]
                padding = np.zeros((size - len(part), *part.shape[1:]), np.float32)
                batch[name] = np.concatenate([part, padding])
            yield batch

    def _check_names(self, inputs: Mapping[str, Any]) -> None:
        if set(inputs) != set(self.inputs):
            raise ModelError(
                f"forward was given {', '.join(inputs)}; the net's inputs are "
                f"{', '.join(self.inputs) or 'none'}"
            )

    def _feed(self, inputs: Mapping[str, ArrayLike]) -> None:
        self._check_names(inputs)
        for name, values in inputs.items():
            array, blob = np.asarray(values, np.float32), self.blobs[name]
            if array.shape[:1] != blob.shape[:1]:
                raise ModelError(
                    f'input "{name}" has {array.shape[:1]} items, the blob {blob.shape[:1]}; '
                    f'use net.blobs["{name}"].reshape'
                )
            if array.shape != blob.shape and array.size != blob.count:
                raise ModelError(
                    f'input "{name}" has the shape {array.shape}, the blob {blob.shape}; '
                    f'use net.blobs["{name}"].reshape'
                )
            blob.data[...] = array.reshape(blob.shape)

    def _index(self, layer: str) -> int:
        return self._layer_names.index(self._known(layer))

    def _known(self, layer: str) -> str:
        self._net.layer(layer)
        return layer

    def _known_blob(self, name: str) -> str:
        if name not in self.blobs:
            raise ModelError(f'the net has no blob "{name}"; it has {", ".join(self.blobs)}')
        return name

    # --- changing --------------------------------------------------------------------------------

    def reshape(self) -> None:
        """Let all blobs follow the shapes that the input blobs were given."""
        self._evaluation.reshape()

    def copy_from(self, weights: str) -> None:
        """Copy the weights of a caffemodel into layers of the same names."""
        self._evaluation.settle()
        copy_weights(self._net, weights)
        self._evaluation.forget_weights()

    def share_with(self, other: Net) -> None:
        """Use the very weights of another net in layers of the same names.

        Raises
        ------
        ModelError
            Layers of one name differ in their blobs' shapes.
        """
        own, others = ({layer.name: layer for layer in net._net} for net in (self, other))
        common = [name for name in others if name in own]
        for name in common:
            shapes = [[blob.shape for blob in net[name].blobs] for net in (own, others)]
            if shapes[0] != shapes[1]:
                raise ModelError(f'layer "{name}" has blobs of {shapes[0]} here, {shapes[1]} there')
        self._evaluation.settle()
        for name in common:
            own[name].blobs = list(others[name].blobs)
            self.layer_dict[name].blobs[:] = other.layer_dict[name].blobs
            for blob in self.layer_dict[name].blobs:
                self._evaluation.watch(blob)
        self._evaluation.forget_weights()

    def save(self, filename: str) -> None:
        """Write the weights: HDF5 where the name ends in ``.h5``, else a caffemodel."""
        write_caffemodel(self._net, filename)

    def save_hdf5(self, filename: str) -> None:
        """Write the weights as HDF5, whatever the name."""
        write_hdf5(self._net, filename)

    def load_hdf5(self, filename: str) -> None:
        """Copy the weights of an HDF5 file; :meth:`copy_from` takes both forms."""
        self.copy_from(filename)

    # --- what there is not -----------------------------------------------------------------------

    def backward(self, *arguments: Any, **options: Any) -> NoReturn:
        """Refuse: there are no gradients."""
        raise refuse_training("Net.backward")

    def forward_backward_all(self, *arguments: Any, **options: Any) -> NoReturn:
        """Refuse: there are no gradients."""
        raise refuse_training("Net.forward_backward_all")

    def clear_param_diffs(self) -> NoReturn:
        """Refuse: there are no gradients."""
        raise refuse_training("Net.clear_param_diffs")

    def set_input_arrays(self, data: ArrayLike, labels: ArrayLike) -> NoReturn:
        """Refuse: MemoryData layers do not run."""
        raise NotImplementedError(
            "Net.set_input_arrays is for MemoryData layers; use an Input layer and net.forward"
        )


def _sorted(arguments: Sequence[Any]) -> dict[str, Any]:
    """Name positional arguments: a string is the old form's caffemodel."""
    old = bool(arguments) and not isinstance(arguments[0], int)
    names = ("weights", "phase") if old else ("phase", "level", "stages", "weights")
    if len(arguments) > len(names):
        raise TypeError(f"Net takes a prototxt and {', '.join(names)}, not {len(arguments)} more")
    return dict(zip(names, arguments, strict=False))
