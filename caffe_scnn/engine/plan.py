"""From a program to a plan: layouts, memory, and one op for each node.

1. Every value gets the halo that its readers ask for, so that a producer writes straight into the
   padded planes of its consumer.
2. Values that only give another shape to memory, and parts of a concatenation, share storage.
3. Storages are placed in one arena by the steps during which they live.
4. Each node becomes an op that knows where its operands are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import Feed, FlushToZero, clear_halo
from caffe_scnn.engine.arena import Storage, allocate, place
from caffe_scnn.engine.forms import Choice, cheapest, choose_forms
from caffe_scnn.engine.fuse import fuse
from caffe_scnn.engine.nodes import Form, Node, Program, Value, unread_channels
from caffe_scnn.engine.ops import Context, Op, State, op_type
from caffe_scnn.engine.ops.bands import between, join
from caffe_scnn.engine.ops.convolution import ConvolutionOp
from caffe_scnn.engine.ops.filter import FilterOp
from caffe_scnn.engine.ops.ragged import RaggedOp
from caffe_scnn.engine.ops.slices import slice_border, slice_up
from caffe_scnn.engine.ops.winograd import WinogradOp
from caffe_scnn.engine.pitches import widened
from caffe_scnn.engine.tensor import Border, Float32, Tensor
from caffe_scnn.engine.threads import MOVED, threads_for
from caffe_scnn.engine.tile import Tile
from caffe_scnn.engine.tune import Tuner
from caffe_scnn.errors import KernelError
from caffe_scnn.layers.base import ConcatSpec, ConvolutionSpec, ViewSpec
from caffe_scnn.layers.nonzeros import count_nonzeros

# Bytes of an input or an output from which on a copy takes longer than to bind its layer anew.
WORTH_BINDING = 128 << 10


@dataclass(frozen=True)
class Outside:
    """A convolution that can read or write what the caller has outside the arena.

    Attributes
    ----------
    step : ConvolutionOp or WinogradOp
    given, result : str, optional
        The input that it alone reads, the output that nobody reads.
    """

    step: ConvolutionOp | WinogradOp
    given: str | None
    result: str | None


@dataclass
class Plan:
    """What the executor runs for one set of input shapes.

    Attributes
    ----------
    steps : list of Op
        In order.
    inputs, outputs : dict of str to Tensor
    counts : dict of str to FilterOp or RaggedOp
        Outputs whose number of items a layer decides while it runs.
    size : int
        Floats of the arena.
    feeds : dict of str to Feed
        What writes each input into the arena.
    outside : dict of int to Outside
        Numbers of the steps that :meth:`compute` need not copy for.
    threads : int
        The most that share the work of a step.
    calls : list of callable
        Of the steps, each with the arena.
    """

    steps: list[Op]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    counts: dict[str, FilterOp | RaggedOp]
    size: int
    arena: Float32 = field(repr=False)
    feeds: dict[str, Feed] = field(repr=False)
    outside: dict[int, Outside] = field(repr=False)
    threads: int = field(init=False)
    calls: list[Callable[[], object]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.threads = max((step.threads for step in self.steps), default=1)
        self.calls = [step.bind(self.arena) for step in self.steps]

    @property
    def activation_bytes(self) -> int:
        """Memory of all values between input and output: the most that live at once."""
        return 4 * self.size

    @property
    def weight_bytes(self) -> int:
        """Memory of all packed weights."""
        return sum(step.weight_bytes for step in self.steps)

    @property
    def nbytes(self) -> int:
        """Memory of the arena and the packed weights."""
        return int(self.arena.nbytes) + self.weight_bytes

    def compute(self, arrays: dict[str, Float32]) -> dict[str, Float32]:
        """Run every step on inputs, and return the outputs in memory of their own.

        Large inputs that a strided convolution reads, and large outputs that a convolution writes,
        are not copied: they never lie in the arena.

        Raises
        ------
        KernelError
            An array has another shape than its input.
        """
        values = self._values(arrays)
        results: dict[str, Float32] = {}
        unread = {one.given for one in self.outside.values()}
        for name, feed in self.feeds.items():
            if name not in unread:
                feed(values[name])
        with self.flushed():
            for number, call in enumerate(self.calls):
                if number in self.outside:
                    self._bind_outside(self.outside[number], values, results)()
                else:
                    call()
        return {
            name: results[name] if name in results else self.output(name).copy()
            for name in self.outputs
        }

    def _bind_outside(
        self, one: Outside, values: dict[str, Float32], results: dict[str, Float32]
    ) -> Callable[[], object]:
        """Bind a step to an input and to memory for an output."""
        given = None if one.given is None else values[one.given]
        if one.result is None:
            return one.step.bind(self.arena, given)
        results[one.result] = np.empty(self.outputs[one.result].shape, np.float32)
        return one.step.bind(self.arena, given, results[one.result].reshape(-1))

    def feed(self, arrays: dict[str, Float32]) -> None:
        """Write the inputs into the arena.

        Raises
        ------
        KernelError
            An array has another shape than its input.
        """
        values = self._values(arrays)
        for name, feed in self.feeds.items():
            feed(values[name])

    def _values(self, arrays: dict[str, Float32]) -> dict[str, Float32]:
        """Return the values of every input side by side."""
        values = {}
        for name, tensor in self.inputs.items():
            array = np.ascontiguousarray(arrays[name], np.float32)
            if array.shape != tensor.shape:
                raise KernelError(f'input "{name}" is {tensor.shape}, not {array.shape}')
            # an output that was not copied lies where inputs are written
            inside = np.may_share_memory(array, self.arena)
            values[name] = (array.copy() if inside else array).reshape(-1)
        return values

    def input(self, name: str) -> Float32:
        """Return where an input may be written instead of fed; its halo is zero then."""
        tensor = self.inputs[name]
        clear_halo(self.arena, tensor.planes(), tensor.items, 1)
        return tensor.array(self.arena)

    def output(self, name: str) -> Float32:
        """Return one output of :meth:`run` where it lies in the arena: until the next run."""
        array = self.outputs[name].array(self.arena)
        if name not in self.counts:
            return array
        step = self.counts[name]
        return array[(*[slice(None)] * step.axis, slice(step.count))]

    def run(self) -> None:
        """Run every step on what was fed."""
        with self.flushed():
            for call in self.calls:
                call()

    def flushed(self) -> FlushToZero:
        """Return the context in which steps run: denormal numbers count as zero."""
        return FlushToZero(self.threads)


def build_plan(
    program: Program,
    isa: str,
    threads: int,
    state: State | None = None,
    tuner: Tuner | None = None,
    exact: bool = False,
    codegen: bool = False,
    bf16: Iterable[Form] = (),
) -> Plan:
    """Compile a program (which is fused in place)."""
    fuse(program)
    if not exact:
        timed = _timed_form(isa, threads, tuner) if tuner else cheapest
        choose_forms(program, isa, bf16, timed, threads)
    slice_up(program)
    join(program)
    memory = _Memory(program, isa)
    size = memory.place()
    state = {} if state is None else state
    steps = []
    counted: dict[Value, FilterOp | RaggedOp] = {}
    for node in program.nodes:
        scratch, unread = memory.scratch[node], _unread(program, node)
        context = Context(isa, threads, memory.tensors, scratch, state, unread, tuner, codegen)
        op = op_type(node)(node, context)
        steps.append(op)
        deciding = [counted[value] for value in node.inputs() if value in counted]
        if isinstance(op, FilterOp | RaggedOp):
            deciding = [op]
        counted.update((value, step) for step in deciding[:1] for value in node.writes)
    inputs = {name: memory.tensors[value] for name, value in program.inputs.items()}
    arena = allocate(size)
    return Plan(
        steps,
        inputs,
        {name: memory.tensors[value] for name, value in program.wanted.items()},
        {name: counted[value] for name, value in program.wanted.items() if value in counted},
        size,
        arena,
        {name: _feed(tensor, arena, isa, threads) for name, tensor in inputs.items()},
        _outside(program, steps, counted),
    )


def _outside(
    program: Program, steps: Sequence[Op], counted: Container[Value]
) -> dict[int, Outside]:
    """Find the convolutions that can read large inputs, or write large outputs, of the caller."""
    inputs = {value: name for name, value in program.inputs.items() if program.private(value)}
    names = Counter(program.wanted.values())
    outputs = {
        value: name
        for name, value in program.wanted.items()
        if names[value] == 1 and value not in counted and not program.readers(value)
    }
    found = {}
    for number, (node, step) in enumerate(zip(program.nodes, steps, strict=True)):
        if not isinstance(step, ConvolutionOp | WinogradOp):
            continue
        given, result = inputs.get(node.reads[0]), outputs.get(node.writes[0])
        if not step.reads_anywhere or 4 * step.source.size < WORTH_BINDING:
            given = None
        if node.residual or 4 * step.target.size < WORTH_BINDING:
            result = None
        if given is not None or result is not None:
            found[number] = Outside(step, given, result)
    return found


def _feed(tensor: Tensor, arena: Float32, isa: str, threads: int) -> Feed:
    """Return what writes an input into the arena."""
    if tensor.contiguous:
        return Feed(isa, arena, tensor.run(), 1, 1)
    threads = threads_for(tensor.size * MOVED, threads)
    return Feed(isa, arena, tensor.planes(), tensor.items, threads)


def _timed_form(isa: str, threads: int, tuner: Tuner) -> Choice:
    """Let the tuner choose between the forms of a convolution."""

    def choose(node: Node, cycles: dict[Form, float]) -> Form:
        spec, (given,) = node.spec, node.reads
        assert isinstance(spec, ConvolutionSpec)
        by_name = {str(form): form for form in cycles}
        forms = [
            Tile(form, 0, 0, 1, cost, 1, "")
            for form, cost in sorted(cycles.items(), key=lambda form: form[1])
        ]
        nonzeros = count_nonzeros(spec.weights)
        layer = (
            f"{isa} {given.shape} {spec.weights.shape} {spec.stride} {spec.dilation} {spec.pad} "
            f"{spec.group} {nonzeros} {threads} {' '.join(sorted(cycles))}"
        )
        found = tuner.choose(
            layer, forms, lambda form: _alone(node, by_name[form.op], isa, threads), threads
        )
        return by_name[found.op]

    return choose


def _alone(node: Node, form: Form, isa: str, threads: int) -> Callable[[], None]:
    """Return a run of one convolution in one form on memory of its own."""
    (given,) = node.reads
    value, result = Value("given", given.shape), Value("result", node.writes[0].shape)
    copy = replace(node, reads=[value], writes=[result], finish=None, residual=None, form=form)
    program = Program([copy], {"given": value}, {}, {"result": result})
    return build_plan(program, isa, threads, exact=True).run


def _unread(program: Program, node: Node) -> NDArray[np.bool_] | None:
    """Find channels of a convolution's result that its only reader multiplies by zero."""
    value = node.writes[0]
    if not isinstance(node.spec, ConvolutionSpec) or not program.private(value):
        return None
    reader = program.readers(value)[0]
    first = [*reader.before, reader][0].spec
    if not isinstance(first, ConvolutionSpec) or reader.reads[0] is not value:
        return None
    return unread_channels(first)


class _Memory:
    """The tensors of all values, and which of them share storage."""

    def __init__(self, program: Program, isa: str) -> None:
        self.program, self.isa = program, isa
        self.values = [*program.inputs.values(), *(v for n in program.nodes for v in n.writes)]
        self.tensors: dict[Value, Tensor] = {}
        self.scratch: dict[Node, list[Tensor]] = {}
        self.home: dict[Value, tuple[Value, int]] = {}  # value → whose storage, and where in it
        self.borders = self._borders()
        self._join_concatenations()
        for value in self.values:
            self.tensors[value] = Tensor(value.shape, self.borders[value])
        self._share_views()

    def _borders(self) -> dict[Value, Border]:
        borders = {value: Border() for value in self.values}
        for node in self.program.nodes:
            for value in node.inputs():
                borders[value] |= op_type(node).border(node, value)
            if node.before:  # where its first layer writes
                first, reader = [*node.before, node][:2]
                within = slice_border(reader) if node.sliced else between(first, reader)
                borders[first.writes[0]] = within
        alike = self._alike(borders)
        for values in alike:
            joint = reduce(Border.__or__, (borders[value] for value in values))
            borders.update(dict.fromkeys(values, joint))
        return widened(self.program, borders, alike, self.isa)

    def _alike(self, values: Iterable[Value]) -> list[list[Value]]:
        """Group values that must have the same border: parts of concatenations, and of sums.

        Those are taken position by position of the stored planes.
        """
        groups = {value: [value] for value in values}
        ties = [(n.residual, n.writes[0]) for n in self.program.nodes if n.residual]
        for node in self.program.nodes:
            if isinstance(node.spec, ConcatSpec) and node.spec.axis == 1:
                ties += [(part, node.writes[0]) for part in node.reads]
        for a, b in ties:
            if groups[a] is not groups[b]:
                groups[a] += groups[b]
                groups.update(dict.fromkeys(groups[b], groups[a]))
        return list({id(group): group for group in groups.values()}.values())

    def _join_concatenations(self) -> None:
        """Let producers write straight into a concatenation along the channels."""
        produced = {value for node in self.program.nodes for value in node.writes}
        views = {v for n in self.program.nodes if isinstance(n.spec, ViewSpec) for v in n.writes}
        for node in self.program.nodes:
            if not (isinstance(node.spec, ConcatSpec) and node.spec.axis == 1):
                continue
            whole, begin = node.writes[0], 0
            for part in node.reads:
                nested = any(whole_of is part for whole_of, _ in self.home.values())
                if part in produced and part not in views and part not in self.home and not nested:
                    self.home[part] = (whole, begin)
                begin += part.shape[1]

    def _share_views(self) -> None:
        """Place parts in their wholes; give reshaped values the memory of what they reshape."""
        for part, (whole, _) in self.home.items():
            self.tensors[part].item = self.tensors[whole].item
        for node in self.program.nodes:
            source = node.reads[0] if node.reads else None
            if not isinstance(node.spec, ViewSpec) or source is None:
                continue
            for top in node.writes:
                if self.tensors[source].contiguous and self.tensors[top].contiguous:
                    self.home[top] = (source, 0)

    def _root(self, value: Value) -> tuple[Value, int]:
        """Return whose storage a value lies in, and how far from its begin."""
        offset = 0
        while value in self.home:
            value, channel = self.home[value]
            offset += channel * self.tensors[value].plane
        return value, offset

    def place(self) -> int:
        """Give every tensor its address; return the floats needed."""
        storages = self._lives()
        scratch: list[tuple[Tensor, Storage]] = []
        for step, node in enumerate(self.program.nodes):
            self.scratch[node] = op_type(node).scratch(node, self.tensors, self.isa)
            scratch += [(t, Storage(t.size, step, step)) for t in self.scratch[node]]
        size = place([*storages.values(), *(storage for _, storage in scratch)])
        for value, tensor in self.tensors.items():
            root, offset = self._root(value)
            tensor.at = storages[root].at + offset
        for tensor, storage in scratch:
            tensor.at = storage.at
        return size

    def _lives(self) -> dict[Value, Storage]:
        """Find from which step to which the storage of each root value is in use."""
        storages: dict[Value, Storage] = {}
        end = len(self.program.nodes)

        def use(value: Value, step: int) -> None:
            root, _ = self._root(value)
            storage = storages.setdefault(root, Storage(self.tensors[root].size, step, step))
            storage.first, storage.last = min(storage.first, step), max(storage.last, step)

        for value in self.program.inputs.values():
            use(value, -1)
        for step, node in enumerate(self.program.nodes):
            for value in (*node.inputs(), *node.writes):
                use(value, step)
        for value in self.program.wanted.values():
            use(value, end)
        return storages
