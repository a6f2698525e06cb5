"""Runs a net: compiles a plan for each set of input shapes, and keeps it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_scnn._kernels import best_isa, has_amx
from caffe_scnn.engine.nodes import Form, Program, lower_net
from caffe_scnn.engine.ops import Op, State
from caffe_scnn.engine.plan import Plan, build_plan
from caffe_scnn.engine.tensor import Float32, Shape
from caffe_scnn.engine.threads import resolve_threads, threads_by_default
from caffe_scnn.engine.tune import Tuner
from caffe_scnn.errors import KernelError, ModelError
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Net


@dataclass(frozen=True)
class StepTime:
    """Time of one step of a plan, in milliseconds."""

    step: Op
    median_ms: float
    min_ms: float


def _forms(isa: str, bf16x3: bool) -> tuple[Form, ...]:
    """Return the forms of convolutions on the matrix unit that may be used."""
    if isa != "amx":
        return ()
    return ("bf16x6", "bf16x3") if bf16x3 else ("bf16x6",)


class Executor:
    """Runs a net on a CPU.

    Parameters
    ----------
    net : Net
        Phase selected and weights bound (see :func:`caffe_scnn.load`). Weights are packed when a
        plan is made; later changes are seen after :meth:`refresh`.
    inputs : mapping of str to shape, optional
        Shapes of inputs, where they differ from the prototxt's; ``run`` takes any batch size.
    threads : int, optional
        Threads to use; by default all available ones, and one for nets of less than some 0.2 ms.
        Results do not depend on it.
    isa : str, optional
        Instruction set to use: ``amx`` (the matrix unit beside ``avx512``), ``avx512``, ``avx2`` or
        ``scalar``; the best one by default.
    tune : bool
        Time the promising kernels of each convolution when a plan is made, instead of predicting
        which is the fastest; what was found is kept in the user's cache folder. With ``exact``
        results are the same to the bit.
    exact : bool
        Add up every product as Caffe does. Otherwise dense 3x3 convolutions may run in Winograd's
        form, whose rounding is somewhat larger where inputs differ much in size, and with AMX dense
        ones as six products of 16-bit parts each, which are as exact as one, but spoil infinite
        numbers. Denormal numbers count as zero either way.
    bf16x3 : bool
        With AMX, let three products of such parts make one: it is 2⁻¹⁵ off at most (2⁻¹⁸ on
        average), and dense layers take half the time. Without AMX nothing changes.
    codegen : bool
        Make a program for the pattern of each sparse convolution, and use it where it is faster
        (``tune`` is implied). Needs a C compiler; programs are kept in the user's cache folder.
    plan_bytes : int, optional
        Memory that plans for different shapes may take together: of those that exceed it the ones
        that were not used for longest are dropped. By default all are kept.

    Raises
    ------
    ModelError
        The net cannot be built.
    KernelError
        The ISA is unknown or not there, the number of threads is below one, or ``exact`` and
        ``bf16x3`` contradict each other.
    """

    def __init__(
        self,
        net: Net,
        inputs: Mapping[str, Shape] | None = None,
        *,
        threads: int | None = None,
        isa: str | None = None,
        tune: bool = False,
        exact: bool = False,
        bf16x3: bool = False,
        codegen: bool = False,
        plan_bytes: int | None = None,
    ) -> None:
        if exact and bf16x3:
            raise KernelError("bf16x3 rounds more than exact allows: choose one of them")
        self.net = net
        self._vectors = best_isa(isa)
        self.isa = "amx" if has_amx(isa) and not exact else self._vectors
        self._bf16 = _forms(self.isa, bf16x3)
        self._threads = resolve_threads(threads)
        self._threads_asked_for = threads is not None
        self.exact, self.codegen, self.plan_bytes = exact, codegen, plan_bytes
        graph = Graph(net)
        self.inputs: tuple[str, ...] = tuple(graph.inputs)
        self.outputs: tuple[str, ...] = tuple(graph.outputs)
        self._given = dict(inputs or {})
        self._shapes: dict[str, Shape] | None = None
        self._plans: dict[tuple[object, ...], Plan] = {}  # the last used ones last
        self._state: State = {}
        self.tuner = Tuner() if tune or codegen else None

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of the inputs as given, or else as the prototxt says."""
        if self._shapes is None:
            inferred = infer_shapes(self.net, self._given)
            self._shapes = {name: inferred.blobs[name] for name in self.inputs}
        return self._shapes

    def plan(
        self, shapes: Mapping[str, Shape] | None = None, blobs: Sequence[str] | None = None
    ) -> Plan:
        """Return the compiled plan for these input shapes and returned blobs."""
        shapes = {name: tuple(shape) for name, shape in (shapes or self.shapes).items()}
        wanted = list(self.outputs if blobs is None else blobs)
        key = (*sorted(shapes.items()), *wanted)
        plan = self._plans.pop(key, None)
        if plan is None:
            program = lower_net(self.net, shapes, wanted)
            plan = build_plan(
                program,
                self._vectors,
                self._threads_of(program),
                self._state,
                self.tuner,
                self.exact,
                self.codegen,
                self._bf16,
            )
            self._make_room(plan.nbytes)
        self._plans[key] = plan
        return plan

    def _threads_of(self, program: Program) -> int:
        """Return how many threads a plan may use."""
        if self._threads_asked_for:
            return self._threads
        cycles = sum(node.cycles for node in program.nodes)
        return threads_by_default(cycles, self._threads)

    def _make_room(self, wanted: int) -> None:
        """Drop plans, the least recently used first, until so many bytes more are allowed."""
        if self.plan_bytes is None:
            return
        taken = sum(plan.nbytes for plan in self._plans.values())
        for key in list(self._plans):
            if taken + wanted <= self.plan_bytes:
                break
            taken -= self._plans.pop(key).nbytes

    def run(
        self, inputs: Mapping[str, ArrayLike], blobs: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Compute the net.

        Parameters
        ----------
        inputs : mapping of str to array
            One array for each net input; the batch size may differ from the prototxt's.
        blobs : sequence of str, optional
            Blobs to return; the net's outputs by default. A blob that is changed in place is
            returned with its last value.

        Returns
        -------
        dict of str to float32 ndarray

        Raises
        ------
        ModelError
            An input is missing, unknown or has a shape that the net refuses.
        """
        if isinstance(blobs, str):
            raise ModelError(f'blobs is a list of names: ["{blobs}"], not "{blobs}"')
        arrays = self._check(inputs)
        plan = self.plan({name: array.shape for name, array in arrays.items()}, blobs)
        return plan.compute(arrays)

    def refresh(self) -> None:
        """Drop all plans: weights of the net have changed and must be packed again."""
        self._plans.clear()

    def reset_state(self) -> None:
        """Let recurrent layers begin with zeros again; between runs their state lives on."""
        self._state.clear()

    def profile(self, inputs: Mapping[str, ArrayLike], repeat: int = 10) -> list[StepTime]:
        """Time every step of a run.

        Parameters
        ----------
        inputs : mapping of str to array
        repeat : int
            Timed runs, after one that is not counted.
        """
        arrays = self._check(inputs)
        plan = self.plan({name: array.shape for name, array in arrays.items()})
        times: list[list[float]] = [[] for _ in plan.steps]
        for _ in range(repeat + 1):
            plan.feed(arrays)
            with plan.flushed():
                for call, samples in zip(plan.calls, times, strict=True):
                    begin = time.perf_counter()
                    call()
                    samples.append(1e3 * (time.perf_counter() - begin))
        return [
            StepTime(step, median(samples[1:]), min(samples[1:]))
            for step, samples in zip(plan.steps, times, strict=True)
        ]

    def _check(self, inputs: Mapping[str, ArrayLike]) -> dict[str, Float32]:
        """Bring the inputs to float32 arrays and compare their names with the net's."""
        unknown = [name for name in inputs if name not in self.inputs]
        missing = [name for name in self.inputs if name not in inputs]
        if unknown or missing:
            fault = "is not an input" if unknown else "is missing"
            raise ModelError(
                f'"{(unknown + missing)[0]}" {fault}; '
                f"the net's inputs are {', '.join(self.inputs) or 'none'}"
            )
        return {name: np.asarray(inputs[name], np.float32) for name in self.inputs}
