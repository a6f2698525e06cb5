"""What layers cost: multiply-accumulates, measured milliseconds, bytes of packed weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import numpy as np

from caffe_scnn.engine import Executor
from caffe_scnn.engine.timing import alternate
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import Shape
from caffe_scnn.layers.shapes import Shapes, infer_shapes
from caffe_scnn.layers.summary import summarize
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.proto import caffe_pb2 as pb

Resource = Literal["macs", "time", "size"]
RESOURCES: tuple[Resource, ...] = ("macs", "time", "size")

# Runs of a layer alone and of a net, of which the fastest counts.
RUNS = 12
NET_RUNS = 15


@dataclass(frozen=True)
class Cost:
    """What a layer, a chain of layers or a net costs; one forward pass.

    Attributes
    ----------
    macs : float
        Multiply-accumulates on non-zero weights.
    time : float
        Milliseconds, the least of several runs; 0 where nothing is timed.
    size : float
        Bytes of the blobs, packed: see :func:`packed_bytes`.
    """

    macs: float
    time: float = 0.0
    size: float = 0.0


def packed_bytes(layers: Iterable[Layer]) -> int:
    """Return what the blobs of layers need where zeros cost next to nothing.

    For every blob the smaller of 4 bytes a number, and 4 bytes a non-zero with one bit a number
    that says where they are; blobs that layers share count once. (A caffemodel stores zeros like
    any number; compressed by any archiver it comes near this size.)
    """
    blobs = {id(blob): blob for layer in layers for blob in layer.blobs}.values()
    return sum(
        min(4 * blob.size, 4 * int(np.count_nonzero(blob)) + -(-blob.size // 8)) for blob in blobs
    )


class Meter:
    """Measures layers of a net by themselves, and whole nets.

    Parameters
    ----------
    net : Net
        Where the layers stand: their inputs have the shapes they have there.
    timed : bool
        Measure time: layers are run.
    threads : int, optional
        Threads of the engine; by default what the net runs on by itself.
    """

    def __init__(self, net: Net, timed: bool, threads: int | None = None) -> None:
        self._shapes: Shapes = infer_shapes(net)
        self._timed = timed
        self._net, self._threads_asked_for = net, threads

    @cached_property
    def _threads(self) -> int:
        """What the whole net runs on, for its layers and for what becomes of it, too."""
        return Executor(self._net, threads=self._threads_asked_for).plan().threads

    def of_chains(self, chains: Sequence[tuple[Layer, Sequence[Layer]]]) -> Cost:
        """Measure chains, each in the place of a layer of the net; shared blobs count once."""
        macs, time = 0.0, 0.0
        for original, chain in chains:
            shapes = self._shapes.bottoms[original]
            alone = _alone(dict(zip(original.bottoms, shapes, strict=True)), chain)
            inferred = infer_shapes(alone)
            macs += sum(layer_type(p).nonzero_macs(p, inferred.bottoms[p]) for p in chain)
            time += self._time(alone, RUNS)
        return Cost(macs, time, packed_bytes(part for _, chain in chains for part in chain))

    def of_net(self, net: Net) -> Cost:
        """Measure a whole net."""
        macs = summarize(net).total.nonzero_macs
        return Cost(macs, self._time(net, NET_RUNS), packed_bytes(net))

    def speedup(self, before: Net, after: Net) -> float:
        """Run two nets in turns; return how many times as fast the second is.

        The least disturbed run of each counts, as for layers: other programs must not decide what
        a net is made of.
        """
        nets = {"before": before, "after": after}
        executors = {name: Executor(net, threads=self._threads) for name, net in nets.items()}
        inputs = random_values(executors["before"].shapes)
        runs = {name: partial(each.run, inputs) for name, each in executors.items()}
        timings = alternate(runs, NET_RUNS)
        return timings["before"].min_ms / timings["after"].min_ms

    def _time(self, net: Net, runs: int) -> float:
        """Add up the fastest runs of every step; 0 where time is not asked for."""
        if not self._timed:
            return 0.0
        executor = Executor(net, threads=self._threads)
        steps = executor.profile(random_values(executor.shapes), repeat=runs)
        return sum(step.min_ms for step in steps)


def random_values(shapes: Mapping[str, Shape]) -> dict[str, np.ndarray]:
    """Return what a net is timed on: half-normal values, as behind a ReLU; always the same."""
    generator = np.random.default_rng(0)
    return {
        name: np.abs(generator.standard_normal(shape, np.float32)) for name, shape in shapes.items()
    }


def _alone(bottoms: Mapping[str, Shape], chain: Sequence[Layer]) -> Net:
    inputs = []
    for name, shape in bottoms.items():
        proto = pb.LayerParameter(name=f"{name} ", type="Input", top=[name])
        proto.input_param.shape.add().dim.extend(shape)
        inputs.append(Layer(proto))
    return Net(pb.NetParameter(), [*inputs, *chain])
