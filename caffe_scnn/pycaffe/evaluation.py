"""When a net is computed, and which of its blobs are kept: the laziness behind ``Net.forward``.

Two plans serve a net. One gives its outputs only, with everything fused and memory shared. The
other keeps every blob. A run uses the second one where somebody

* asks for other blobs than the outputs, looked at one after the last run, or still holds the
  ``data`` of one;
* holds the ``data`` of a learnt parameter, so that weights may change before blobs are looked at;

and for nets that remember (recurrent layers), which cannot be run again. Otherwise the inputs are
kept, and when a blob is looked at after all, the second plan runs on them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from functools import partial

from caffe_scnn.engine import Executor
from caffe_scnn.engine.plan import Plan
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import LayerType, Shape
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph, is_fed
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.proto import caffe_pb2 as pb
from caffe_scnn.pycaffe.blob import Blob, Values


class Evaluation:
    """Computes the blobs of a net.

    Parameters
    ----------
    net : Net
        Phase selected, weights bound.
    blobs : mapping of str to Blob
        All blobs of the net.
    parameters : iterable of Blob
        On the memory of the learnt blobs.
    """

    def __init__(self, net: Net, blobs: Mapping[str, Blob], parameters: Iterable[Blob]) -> None:
        self.net = net
        self.blobs = blobs
        self.executor = Executor(net)
        self.computed = list(dict.fromkeys(t for n in net if not is_fed(n) for t in n.tops))
        changed_inputs = [name for name in self.executor.inputs if name in self.computed]
        self.always = [n for n in (*self.executor.outputs, *changed_inputs) if n in self.computed]
        self.remembers = any(
            type(layer_type(layer)).advance is not LayerType.advance for layer in net
        )
        self._ranges: dict[tuple[int, int], tuple[Executor, list[str]]] = {}
        self._weights: dict[Blob, int | None] = {}  # handed out → checksum when last packed
        self._pending: dict[str, Values] | None = None  # inputs of a run whose blobs are not kept
        self._kept: Plan | None = None  # a plan whose arena holds all blobs of the last run
        self._stale: set[str] = set()  # blobs whose values are not in their Blob yet
        self._looked = False
        self._shapes: dict[str, Shape] = {}
        for name in self.computed:
            blobs[name].on_access.append(partial(self._look, name))
        for parameter in parameters:
            self.watch(parameter)

    # --- learnt parameters -----------------------------------------------------------------------

    def watch(self, parameter: Blob) -> None:
        """See to it that changes of a learnt parameter are seen."""
        parameter.on_access.append(self._hand_out)

    def _hand_out(self, parameter: Blob) -> None:
        self.settle()
        if parameter not in self._weights:
            self._weights[parameter] = _checksum(parameter)

    def forget_weights(self) -> None:
        """Pack again before the next run: weights were replaced."""
        self.executor.refresh()
        self._ranges.clear()

    def _check_weights(self) -> bool:
        """Pack again if weights have changed; tell whether they may still change unseen."""
        if any(_checksum(parameter) != seen for parameter, seen in self._weights.items()):
            self.forget_weights()
        held = [parameter for parameter in self._weights if parameter.held]
        self._weights = {parameter: _checksum(parameter) for parameter in held}
        return bool(held)

    # --- whole runs ------------------------------------------------------------------------------

    def run(self, asked: Iterable[str] = ()) -> None:
        """Run the whole net on the values of its input blobs."""
        held = self._check_weights()
        wanted = {n for n in self.computed if self.blobs[n].held} | set(asked)
        keep = held or self._looked or self.remembers or not wanted <= set(self.always)
        self.reshape()
        inputs = {name: self.blobs[name].storage() for name in self.executor.inputs}
        if keep:
            self._run_kept(inputs)
            self._stale = set(self.computed)
        else:
            plan = self.executor.plan(_shapes_of(inputs), self.always)
            _run(plan, inputs)
            self._pending = {name: values.copy() for name, values in inputs.items()}
            self._kept, self._stale = None, set(self.computed)
            for name in self.always:
                self._take(name, plan)
        self._looked = False
        for name in wanted | set(self.always):
            self.fill(name)

    def reshape(self) -> None:
        """Give every blob the shape that follows from the inputs' shapes."""
        shapes = {name: self.blobs[name].shape for name in self.executor.inputs}
        if shapes == self._shapes:
            return
        inferred = infer_shapes(self.net, shapes)
        self._forget_run()
        for name, shape in inferred.blobs.items():
            self.blobs[name].reshape(*shape)
        self._shapes = shapes

    def fill(self, name: str) -> None:
        """Bring the values of the last run into a blob."""
        if name not in self._stale:
            return
        if self._kept is None:
            assert self._pending is not None
            self._run_kept(self._pending)
        assert self._kept is not None
        self._take(name, self._kept)

    def settle(self) -> None:
        """Bring all values of the last run into the blobs: weights or blobs are to be changed."""
        for name in sorted(self._stale):
            self.fill(name)
        self._forget_run()

    def _forget_run(self) -> None:
        self._stale.clear()
        self._pending = self._kept = None

    def _look(self, name: str, _: Blob) -> None:
        if name not in self.always:
            self._looked = True
        self.fill(name)

    def _run_kept(self, inputs: dict[str, Values]) -> None:
        plan = self.executor.plan(_shapes_of(inputs), self.computed)
        _run(plan, inputs)
        self._kept, self._pending = plan, None

    def _take(self, name: str, plan: Plan) -> None:
        self.blobs[name].put(plan.output(name))
        self._stale.discard(name)

    # --- a range of layers -----------------------------------------------------------------------

    def run_range(self, first: int, last: int) -> None:
        """Run the layers from one to another on the values that the blobs hold now."""
        self.settle()
        self._check_weights()
        key = first, last
        if key not in self._ranges:
            part = _part(self.net, self.net.layers[first : last + 1])
            tops = dict.fromkeys(t for layer in part if not is_fed(layer) for t in layer.tops)
            self._ranges[key] = Executor(part), list(tops)
        executor, wanted = self._ranges[key]
        if wanted:
            inputs = {name: self.blobs[name].storage() for name in executor.inputs}
            for name, values in executor.run(inputs, wanted).items():
                self.blobs[name].put(values)


def _part(net: Net, layers: list[Layer]) -> Net:
    """Return a net of some layers whose inputs are the blobs that they read from others."""
    computing = [layer for layer in layers if not is_fed(layer)]
    made: set[str] = set()
    read: dict[str, None] = {}
    for layer in computing:
        read.update(dict.fromkeys(name for name in layer.bottoms if name not in made))
        made.update(layer.tops)
    first = [Layer(pb.LayerParameter(name=n, type="Input", top=[n])) for n in read]
    part = Net(net.proto, [*first, *computing])
    Graph(part)
    return part


def _run(plan: Plan, inputs: dict[str, Values]) -> None:
    plan.feed(inputs)
    plan.run()


def _shapes_of(inputs: Mapping[str, Values]) -> dict[str, Shape]:
    return {name: values.shape for name, values in inputs.items()}


def _checksum(parameter: Blob) -> int:
    return zlib.crc32(parameter.storage().data)
