"""In which form each convolution of a program runs: directly, Winograd's, or on the matrix unit."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from caffe_scnn.engine.bf16 import LEAST_PRODUCTS, plan_split
from caffe_scnn.engine.choose import rank_tiles
from caffe_scnn.engine.nodes import WINOGRAD, Form, Node, Program
from caffe_scnn.engine.ops.convolution import ConvolutionOp, Matrix
from caffe_scnn.engine.tensor import Border, Tensor
from caffe_scnn.engine.winograd import winograd_cycles
from caffe_scnn.layers.base import ConvolutionSpec

# Winograd's form where it is predicted to be better by less than this is not worth its weights and
# its rounding.
MARGIN = 0.93

Choice = Callable[[Node, dict[Form, float]], Form]


def cheapest(node: Node, cycles: dict[Form, float]) -> Form:
    """Choose the form that is predicted to be the fastest; direct where Winograd's gains little."""
    limit = MARGIN * cycles["direct"]
    worth = (form for form in cycles if form not in WINOGRAD or cycles[form] < limit)
    return min(worth, key=cycles.__getitem__)


def choose_forms(
    program: Program,
    isa: str,
    bf16: Iterable[Form] = (),
    choose: Choice = cheapest,
    threads: int = 1,
) -> None:
    """Let convolutions run in the form that is the fastest, in place.

    Parameters
    ----------
    program : Program
    isa : str
    bf16 : iterable of Form
        Those on the matrix unit that may be used.
    choose : callable
        Returns the form of a node, given the predicted cycles of each form that it may take.
    threads : int
    """
    for node in program.nodes:
        spec = node.spec
        if not isinstance(spec, ConvolutionSpec) or spec.depthwise:
            continue
        others = winograd_cycles(node, isa)
        forms = [form for form in bf16 if _rounds_well(spec, form)]
        if not others and not forms:
            continue
        matrix, items = _matrix(node, isa), node.reads[0].shape[0]
        for form in forms:
            split = plan_split(form, matrix.channels, matrix.taps, matrix.run, matrix.plane)
            others[form] = items * split.cycles
        node.form = choose(
            node, {"direct": items * _direct_cycles(node, matrix, isa, threads), **others}
        )


def _rounds_well(spec: ConvolutionSpec, form: Form) -> bool:
    """Whether an output adds up so many products that rounding stays inside its bound."""
    return form != "bf16x3" or spec.weights[0].size >= LEAST_PRODUCTS


def _matrix(node: Node, isa: str) -> Matrix:
    """Describe a convolution before the layout of its maps is known."""
    (given,), (result,) = node.reads, node.writes
    target = Tensor(result.shape, Border(aligned=True))
    source = Tensor(given.shape, ConvolutionOp.border(node, given))
    tensors = {given: source, result: target}
    planes = next(iter(ConvolutionOp.scratch(node, tensors, isa)), source)
    assert isinstance(node.spec, ConvolutionSpec)
    return Matrix.of(node.spec, planes, target)


def _direct_cycles(node: Node, matrix: Matrix, isa: str, threads: int) -> float:
    """Predict the cycles of the direct form (one item)."""
    size = node.writes[0].shape[2], node.writes[0].shape[3]
    weights, groups = matrix.weights(), matrix.spec.group
    tiles = rank_tiles(isa, weights, groups, matrix.shape, None, size, threads)
    return tiles[0].cycles
