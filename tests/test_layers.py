"""What every layer type promises, on the examples it gives itself."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_scnn import layers
from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.layers import LAYER_TYPES, reference, register_layer
from caffe_scnn.layers.base import LayerType
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Net

CASES = [(kind, number) for kind in LAYER_TYPES for number in range(len(kind.examples()))]
IDS = [f"{kind.type}-{number}" for kind, number in CASES]
# Their inputs are indices or labels, which the golden cases feed; random ones mean nothing.
WITHOUT_EXAMPLES = {
    "Accuracy", "AnnotatedData", "BatchReindex", "ContrastiveLoss", "Data", "Embed",
    "EuclideanLoss", "HDF5Data", "HDF5Output", "HingeLoss", "ImageData", "InfogainLoss", "Input",
    "MemoryData", "MultinomialLogisticLoss", "Python", "SigmoidCrossEntropyLoss", "Silence",
    "SoftmaxWithLoss", "WindowData",
}  # fmt: skip
TOLERANCE = 2e-5  # of the largest value, as for the golden cases


def net_of(kind: LayerType, number: int, in_place: bool = False) -> Net:
    """The example between inputs of its shapes, with random weights."""
    example = kind.examples()[number]
    text = ""
    for index, shape in enumerate(example.bottoms):
        dims = " ".join(f"dim: {n}" for n in shape)
        text += f'layer {{ name: "b{index}" type: "Input" top: "b{index}" '
        text += f"input_param {{ shape {{ {dims} }} }} }}\n"
    bottoms = " ".join(f'bottom: "b{index}"' for index in range(len(example.bottoms)))
    names = ["b0"] if in_place else [f"t{index}" for index in range(example.tops)]
    tops = " ".join(f'top: "{name}"' for name in names)
    text += f'layer {{ name: "x" type: "{kind.type}" {bottoms} {tops} {example.prototxt} }}\n'
    net = Net.parse(text)
    rng = np.random.default_rng(number)
    layer = net.layer("x")
    for param in kind.params(layer, list(example.bottoms)):
        blob = rng.standard_normal(param.shape).astype(np.float32)
        layer.blobs.append(
            np.abs(blob) + np.float32(0.5) if kind.type in ("BatchNorm", "BN") else blob
        )
    return net


def inputs_of(net: Net) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    shapes = Executor(net).shapes
    return {
        name: np.abs(rng.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def assert_close(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    for name, array in want.items():
        assert got[name].shape == array.shape
        assert np.abs(got[name] - array).max() <= TOLERANCE * np.abs(array).max(), name


def test_every_type_has_examples_or_a_reason():
    without = {kind.type for kind in LAYER_TYPES if not kind.examples()}
    assert without == WITHOUT_EXAMPLES


@pytest.mark.parametrize(("kind", "number"), CASES, ids=IDS)
def test_engine_and_reference_agree(kind, number):
    net = net_of(kind, number)
    inputs = inputs_of(net)
    tops = [name for name in net.layer("x").tops]
    want = reference.run(net, inputs, tops)
    for threads in (1, 2):
        assert_close(Executor(net, threads=threads).run(inputs, tops), want)


@pytest.mark.parametrize(("kind", "number"), CASES, ids=IDS)
def test_the_halo_of_a_result_is_zero_whatever_was_in_memory(kind, number):
    """A padded convolution reads every top; before the run all memory is NaN."""
    apart = net_of(kind, number)
    inputs = inputs_of(apart)
    if kind.type in ("Filter", "DetectionOutput"):
        pytest.skip("how many rows there are is known when it runs")
    shapes, text, blobs = infer_shapes(apart).blobs, apart.text(), {}
    for top in apart.layer("x").tops:
        if len(shapes[top]) == 4:
            text += (
                f'\nlayer {{ name: "read {top}" type: "Convolution" bottom: "{top}" '
                f'top: "read {top}" convolution_param {{ num_output: 2 kernel_size: 3 pad: 2 }} }}'
            )
            blobs[f"read {top}"] = np.ones((2, shapes[top][1], 3, 3), np.float32)
    if not blobs:
        pytest.skip("no top has rows and columns")
    net = Net.parse(text)
    net.layer("x").blobs = apart.layer("x").blobs
    for name, weights in blobs.items():
        net.layer(name).blobs = [weights, np.zeros(2, np.float32)]
    executor = Executor(net, threads=1)
    plan = executor.plan(executor.shapes, list(blobs))
    plan.arena.fill(np.nan)
    assert_close(executor.run(inputs, list(blobs)), reference.run(net, inputs, list(blobs)))


def test_of_equal_scores_the_larger_index_is_the_arg_max():
    kind = next(kind for kind in LAYER_TYPES if kind.type == "ArgMax")
    net = net_of(kind, 1)
    x = np.random.default_rng(0).integers(0, 2, (2, 3, 4, 5)).astype(np.float32)
    got = Executor(net).run({"b0": x}, ["t0"])["t0"]
    assert np.array_equal(got, reference.run(net, {"b0": x}, ["t0"])["t0"])


@pytest.mark.parametrize(("kind", "number"), CASES, ids=IDS)
def test_shapes_are_those_of_the_result(kind, number):
    net = net_of(kind, number)
    tops = list(net.layer("x").tops)
    shapes = infer_shapes(net).blobs
    for name, array in reference.run(net, inputs_of(net), tops).items():
        if kind.type not in ("Filter", "DetectionOutput"):  # known when it runs
            assert array.shape == shapes[name]


@pytest.mark.parametrize(("kind", "number"), CASES, ids=IDS)
def test_work_is_counted(kind, number):
    net = net_of(kind, number)
    layer, bottoms = net.layer("x"), list(kind.examples()[number].bottoms)
    macs, nonzero = kind.macs(layer, bottoms), kind.nonzero_macs(layer, bottoms)
    assert isinstance(macs, int)
    assert 0 <= nonzero <= macs


@pytest.mark.parametrize(("kind", "number"), CASES, ids=IDS)
def test_in_place_gives_the_same_or_is_refused(kind, number):
    example = kind.examples()[number]
    if example.tops != 1 or not example.bottoms:
        pytest.skip("only one top can take the place of the bottom")
    apart, inside = net_of(kind, number), net_of(kind, number, in_place=True)
    inputs = inputs_of(apart)
    if not kind.in_place:
        with pytest.raises(ModelError, match=r'layer "x".*in place'):
            Executor(inside).run(inputs)
        return
    want = reference.run(apart, inputs, ["t0"])["t0"]
    assert_close(Executor(inside).run(inputs, ["b0"]), {"b0": want})


@pytest.mark.parametrize("kind", LAYER_TYPES, ids=lambda kind: kind.type)
def test_too_many_bottoms_or_tops_are_refused(kind):
    for what, (_, most) in (("bottom", kind.bottoms), ("top", kind.tops)):
        if most is None:
            continue
        count = {"bottom": kind.bottoms[0], "top": kind.tops[0], what: most + 1}
        text = "".join(
            f'layer {{ name: "b{i}" type: "Input" top: "b{i}" '
            "input_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } } }\n"
            for i in range(count["bottom"])
        )
        text += f'layer {{ name: "x" type: "{kind.type}" '
        text += " ".join(f'bottom: "b{i}"' for i in range(count["bottom"]))
        text += " ".join(f' top: "t{i}"' for i in range(count["top"])) + " }\n"
        with pytest.raises(ModelError, match=rf'layer "x".*has {most + 1} {what}s'):
            infer_shapes(Net.parse(text))


def test_recurrent_state_lives_on_until_it_is_reset():
    kind = next(kind for kind in LAYER_TYPES if kind.type == "LSTM")
    net = net_of(kind, 0)
    inputs = {**inputs_of(net), "b1": np.ones((4, 2), np.float32)}
    executor, state = Executor(net), {}
    first, second = (executor.run(inputs)["t0"] for _ in range(2))
    wanted = [reference.run(net, inputs, ["t0"], state)["t0"] for _ in range(2)]
    assert_close({"a": first, "b": second}, dict(zip("ab", wanted, strict=True)))
    assert np.abs(first - second).max() > 1e-3
    executor.reset_state()
    assert np.array_equal(executor.run(inputs)["t0"], first)


def test_what_depends_on_a_filter_has_as_many_items():
    net = Net.parse(
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 5 dim: 2 } } }\n'
        'layer { name: "s" type: "Input" top: "s" input_param { shape { dim: 5 } } }\n'
        'layer { name: "f" type: "Filter" bottom: "d" bottom: "s" top: "f" }\n'
        'layer { name: "r" type: "ReLU" bottom: "f" top: "r" }\n'
    )
    x = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    executor = Executor(net)
    for chosen in ([1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]):
        got = executor.run({"d": x, "s": np.array(chosen)}, ["f", "r", "d"])
        assert np.array_equal(got["f"], x[np.array(chosen) > 0])
        assert np.array_equal(got["r"], np.maximum(x[np.array(chosen) > 0], 0))
        assert len(got["d"]) == 5


def test_a_user_can_register_a_type():
    class Double(LayerType):
        """Twice its bottom."""

        type = "TestDouble"

        def infer(self, layer, bottoms):
            return [bottoms[0]]

        def reference(self, layer, bottoms):
            return [bottoms[0] * 2]

    text = 'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 2 dim: 3 } } }\n'
    net = Net.parse(text + 'layer { name: "x" type: "TestDouble" bottom: "d" top: "x" }\n')
    with pytest.raises(ModelError, match='unknown layer type "TestDouble"'):
        infer_shapes(net)
    register_layer(Double())
    try:
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        assert np.array_equal(Executor(net).run({"d": x})["x"], 2 * x)
        with pytest.raises(ModelError, match='"TestDouble" already'):
            register_layer(Double())
        with pytest.raises(ModelError, match='"ReLU" already'):
            register_layer(LAYER_TYPES[[kind.type for kind in LAYER_TYPES].index("ReLU")])
    finally:
        del layers._BY_NAME["TestDouble"]
