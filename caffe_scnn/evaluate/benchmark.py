"""Times of a net, layer by layer and whole, alone or in turns with another one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

from caffe_scnn.engine import Executor
from caffe_scnn.engine.timing import Timing, alternate
from caffe_scnn.evaluate.arrays import Values
from caffe_scnn.model.net import Net


@dataclass(frozen=True)
class LayerTime:
    """One step of a plan: a layer, with the layers that were fused into it.

    Attributes
    ----------
    name : str
        The layers, joined by ``+``.
    ms, min_ms : float
        Median and minimum over the repetitions.
    kernel, why : str
        What ran, and why it was chosen.
    macs, nonzero_macs : int
        Multiply-accumulates, with every weight counted, and on non-zero weights.
    """

    name: str
    ms: float
    min_ms: float
    kernel: str
    why: str
    macs: int
    nonzero_macs: int

    @property
    def gflops(self) -> float:
        """Effective GFLOP/s: 2 · macs / median, zeros counted as if they were computed."""
        return 2e-6 * self.macs / self.ms if self.ms else 0.0


@dataclass(frozen=True)
class Benchmark:
    """Times of one net, and of the net it was measured against.

    Attributes
    ----------
    layers : tuple of LayerTime
    total, against : Timing
        Whole forward passes, taken in turns; ``against`` is None when there is no other net.
    threads : int
    activation_bytes, weight_bytes : int
        Memory of the plan: the most activations that live at once, and all packed weights.
    """

    layers: tuple[LayerTime, ...]
    total: Timing
    against: Timing | None
    threads: int
    activation_bytes: int
    weight_bytes: int

    @property
    def ratio(self) -> float | None:
        """How many times faster than the other net: its median / ours."""
        return self.against.median_ms / self.total.median_ms if self.against else None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one pass with every weight counted."""
        return sum(layer.macs for layer in self.layers)

    @property
    def gflops(self) -> float:
        """Effective GFLOP/s of the whole net."""
        return 2e-6 * self.macs / self.total.median_ms


def benchmark(
    net: Net,
    inputs: Mapping[str, Values],
    against: Net | None = None,
    *,
    threads: int | None = None,
    repeat: int = 10,
    tune: bool = False,
    exact: bool = False,
    bf16x3: bool = False,
    codegen: bool = False,
) -> Benchmark:
    """Measure a net.

    Parameters
    ----------
    net, against : Net
        Loaded, phase-selected nets that take the same inputs.
    inputs : mapping
        Blob name → float32 array.
    threads : int, optional
        Of both nets; by default what the net to compare with runs on by itself.
    repeat : int
        Timed passes of each net; two more warm up.
    tune, exact, bf16x3, codegen : bool
        As :class:`caffe_scnn.engine.Executor` takes them.

    Raises
    ------
    ModelError
        A net does not take the inputs.
    """
    shapes = {name: array.shape for name, array in inputs.items()}
    executor = partial(
        Executor, inputs=shapes, tune=tune, exact=exact, bf16x3=bf16x3, codegen=codegen
    )
    executors = {}
    if against is not None:
        executors["against"] = executor(against, threads=threads)
        threads = executors["against"].plan().threads
    executors["net"] = executor(net, threads=threads)
    timings = race(executors, inputs, repeat)
    layers = tuple(
        LayerTime(
            name="+".join(time.step.layers),
            ms=time.median_ms,
            min_ms=time.min_ms,
            kernel=time.step.kernel,
            why=time.step.why,
            macs=time.step.macs,
            nonzero_macs=time.step.nonzero_macs,
        )
        for time in executors["net"].profile(inputs, repeat=repeat)
    )
    plan = executors["net"].plan(shapes)
    return Benchmark(
        layers,
        timings["net"],
        timings.get("against"),
        plan.threads,
        plan.activation_bytes,
        plan.weight_bytes,
    )


def race(
    executors: Mapping[str, Executor], inputs: Mapping[str, Values], repeat: int = 10
) -> dict[str, Timing]:
    """Time whole forward passes of several nets in turns.

    Parameters
    ----------
    executors : mapping
        Name → a net that takes ``inputs``.
    """
    return alternate({name: _forward(each, inputs) for name, each in executors.items()}, repeat)


@dataclass(frozen=True)
class Comparison:
    """Two nets timed in turns.

    Attributes
    ----------
    before, after : Timing
        Of whole forward passes.
    steps_before, steps_after : mapping of layer names to float
        For every step the names of the layers that are computed in it, and its median
        milliseconds.
    threads : int
    """

    before: Timing
    after: Timing
    steps_before: Mapping[tuple[str, ...], float]
    steps_after: Mapping[tuple[str, ...], float]
    threads: int

    @property
    def ratio(self) -> float:
        """How many times as fast the second net is."""
        return self.before.median_ms / self.after.median_ms

    def of_layers(self, before: str, after: Collection[str]) -> tuple[float, float]:
        """Return the milliseconds of the steps with a layer, and with those in its place.

        Where either net computes it in one step with other layers, both times are with these.
        """
        names, seen = {before, *after}, 0
        while len(names) > seen:
            seen = len(names)
            for layers in (*self.steps_before, *self.steps_after):
                if names.intersection(layers):
                    names.update(layers)
        first, second = (
            sum(ms for layers, ms in steps.items() if names.intersection(layers))
            for steps in (self.steps_before, self.steps_after)
        )
        return first, second


def compare_speed(
    before: Net,
    after: Net,
    inputs: Mapping[str, Values],
    *,
    threads: int | None = None,
    repeat: int = 10,
) -> Comparison:
    """Time two nets of the same inputs in turns, whole and step by step.

    Both run on as many threads; by default on those that the first runs on by itself.
    """
    shapes = {name: array.shape for name, array in inputs.items()}
    executors = {"before": Executor(before, shapes, threads=threads)}
    threads = executors["before"].plan().threads
    executors["after"] = Executor(after, shapes, threads=threads)
    whole = race(executors, inputs, repeat)
    samples: dict[str, dict[tuple[str, ...], list[float]]] = {name: {} for name in executors}
    for _ in range(repeat):
        for name, executor in executors.items():
            for step in executor.profile(inputs, repeat=1):
                samples[name].setdefault(tuple(step.step.layers), []).append(step.median_ms)
    steps = {
        name: {layers: median(times) for layers, times in found.items()}
        for name, found in samples.items()
    }
    return Comparison(whole["before"], whole["after"], steps["before"], steps["after"], threads)


def fill_randomly(net: Net, seed: int) -> None:
    """Give a net without weights dense random ones: a time measured on zeros would say nothing.

    Values are positive (a variance must be) and shrink with the fan-in, so that no blob overflows.
    """
    generator = np.random.default_rng(seed)
    for blob in {id(blob): blob for layer in net for blob in layer.blobs}.values():
        fan_in = blob[0].size if blob.ndim > 1 else 1
        blob[...] = generator.uniform(0.5, 1.5, blob.shape) / fan_in


def _forward(executor: Executor, inputs: Mapping[str, Values]) -> Callable[[], object]:
    return lambda: executor.run(inputs)
