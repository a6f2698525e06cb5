"""Nets as PyTorch modules: the values of Caffe, gradients of those values, and back bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_layers import CASES, IDS, inputs_of, net_of

from caffe_scnn import load
from caffe_scnn.engine import Executor
from caffe_scnn.errors import CaffeScnnError, ModelError
from caffe_scnn.evaluate.golden import Golden
from caffe_scnn.layers import LAYER_TYPES, reference
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Net

torch = pytest.importorskip("torch", reason="fine-tuning needs PyTorch (extra: train)")
from caffe_scnn.finetune.bridge import LAYER_MODULES, NetModule  # noqa: E402
from caffe_scnn.finetune.bridge.outside import Outside  # noqa: E402
from caffe_scnn.finetune.bridge.table import module_type  # noqa: E402

GOLDEN = Path(__file__).parent / "golden"
MODELS = Path(__file__).parent.parent / "models"
GOLDENS = sorted(
    path.with_suffix("").relative_to(GOLDEN)
    for folder in ("layers", "nets")
    for path in (GOLDEN / folder).glob("*.npz")
)
TOLERANCE = 2e-5  # of the largest value, as for the engine
# Types that no gradient passes in Caffe either, or that only exist to be looked at.
WITHOUT_GRADIENT = {
    "Accuracy", "ArgMax", "DetectionOutput", "PriorBox", "PSROIPooling", "Python", "ROIPooling",
    "Threshold",
}  # fmt: skip
FED = {"Data", "HDF5Data", "ImageData", "Input", "MemoryData", "WindowData", "AnnotatedData"}
# Second bottoms that hold places or marks: their values have no slope.
DISCRETE = {"Filter": 2, "Upsample": 1, "LSTM": 1, "RNN": 1, "LSTMUnit": 2, "Crop": 1}


def tensors(arrays, dtype=torch.float32):
    return {name: torch.tensor(np.asarray(a), dtype=dtype) for name, a in arrays.items()}


def opened(case: Path) -> tuple[Net, Golden]:
    golden = Golden.read(GOLDEN / f"{case}.npz")
    net = load(
        GOLDEN / f"{case}.prototxt",
        GOLDEN / f"{case}.caffemodel",
        phase=golden.phase or "TEST",
        level=golden.level or 0,
        stages=golden.stages,
        inputs={k.removeprefix("in/"): v.shape for k, v in golden.arrays.items() if "in/" in k},
    )
    return net, golden


def close(got: np.ndarray, want: np.ndarray) -> bool:
    finite = np.isfinite(want) & (want > -3e38)
    if got.shape != want.shape or not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        return False
    most = np.abs(want[finite]).max(initial=0)
    return bool(np.abs(got[finite] - want[finite]).max(initial=0) <= TOLERANCE * most)


@pytest.mark.parametrize("case", GOLDENS, ids=str)
def test_forward_is_that_of_caffe_and_of_the_engine(case):
    net, golden = opened(case)
    module, executor = NetModule(net).eval(), Executor(net)
    for step in golden.steps:
        wanted = golden.blobs(step)
        inputs = golden.inputs(executor.shapes, step)
        got = module(tensors(inputs), list(wanted))
        engine = executor.run(inputs, list(wanted))
        for blob, want in wanted.items():
            assert close(got[blob].detach().numpy(), want), blob
            assert close(got[blob].detach().numpy(), engine[blob]), blob


def test_a_deep_net_is_as_near_to_float64_as_the_engine_is():
    """Both round in every layer, each in its order: from each other they may be two bounds."""
    net = load(MODELS / "resnet50.prototxt", inputs={"data": (1, 3, 64, 64)})
    rng = np.random.default_rng(0)
    for layer in net:
        for index, blob in enumerate(layer.blobs):
            blob[...] = rng.standard_normal(blob.shape) * np.sqrt(2 / max(1, blob[0].size))
            if layer.type == "BatchNorm" and index:
                blob[...] = 0.5 + np.abs(blob)
    inputs = {"data": rng.standard_normal((1, 3, 64, 64)).astype(np.float32)}
    blobs = ["res2c", "res3d", "res4f", "res5c", "fc1000"]
    module = NetModule(net).eval()
    single, engine = module(tensors(inputs), blobs), Executor(net).run(inputs, blobs)
    truth = module.double()(tensors(inputs, torch.float64), blobs)
    for blob in blobs:
        want = truth[blob].detach().numpy()
        assert close(single[blob].detach().numpy(), want), blob
        assert close(engine[blob], want), blob


@pytest.mark.parametrize(("kind", "number"), CASES, ids=IDS)
def test_float64_is_the_reference(kind, number):
    net = net_of(kind, number)
    inputs, tops = inputs_of(net), list(net.layer("x").tops)
    want = reference.run(net, inputs, tops)
    got = NetModule(net).double().eval()(tensors(inputs, torch.float64), tops)
    for top in tops:
        np.testing.assert_allclose(got[top].detach().numpy(), want[top], rtol=1e-6, atol=1e-9)


GRADIENTS = [
    case for case in CASES if case[0].type not in WITHOUT_GRADIENT | {"DummyData", "Parameter"}
]


@pytest.mark.parametrize(
    ("kind", "number"), GRADIENTS, ids=[f"{kind.type}-{number}" for kind, number in GRADIENTS]
)
def test_gradients_are_slopes(kind, number):
    net = net_of(kind, number)
    module = NetModule(net).double().eval()
    inputs = tensors(inputs_of(net), torch.float64)
    fixed = DISCRETE.get(kind.type, len(inputs))
    names = [name for i, name in enumerate(inputs) if i < fixed or i > fixed]
    parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}

    def run(*values):
        module.reset_state()
        fed = {**inputs, **dict(zip(names, values, strict=False))}
        held = dict(zip(parameters, values[len(names) :], strict=True))
        outputs = torch.func.functional_call(module, held, (fed, list(net.layer("x").tops)))
        return tuple(top for top in outputs.values() if top.requires_grad)

    values = [inputs[name].clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(run, (*values, *parameters.values()))


LOSSES = ["losses", "losses_pair"]


@pytest.mark.parametrize("case", LOSSES)
def test_gradients_of_losses_are_slopes(case):
    net, golden = opened(Path("layers") / case)
    module = NetModule(net).double().eval()
    inputs = tensors(golden.inputs(Executor(net).shapes), torch.float64)
    losses = [n for n in net.layers if n.type.endswith("Loss") and n.tops]
    for layer in losses:
        score = layer.bottoms[0]
        source = module(inputs, [score])[score].detach().requires_grad_()

        def run(values, layer=layer, score=score):
            return module({**inputs, score: values}, [layer.tops[0]])[layer.tops[0]]

        assert torch.autograd.gradcheck(run, (source,)), layer.name


def test_the_table_covers_every_type_or_says_why_not():
    names = [name for module in LAYER_MODULES for name in module.types]
    known = {kind.type for kind in LAYER_TYPES}
    assert set(names) <= known
    assert known - set(names) - FED == WITHOUT_GRADIENT


@pytest.mark.parametrize("case", GOLDENS, ids=str)
def test_blobs_come_back_bit_by_bit(case):
    net, _ = opened(case)
    before = [[blob.copy() for blob in layer.blobs] for layer in net]
    module = NetModule(net)
    back = module.to_net()
    assert back.text() == net.text()
    for layer, blobs in zip(back, before, strict=True):
        assert len(layer.blobs) == len(blobs)
        for got, want in zip(layer.blobs, blobs, strict=True):
            assert got.dtype == np.float32
            assert got.shape == want.shape
            assert got.tobytes() == want.tobytes()
    for parameter in module.parameters():
        parameter.data.add_(1)  # what was given must not notice
    for layer, blobs in zip(net, before, strict=True):
        for got, want in zip(layer.blobs, blobs, strict=True):
            assert got.tobytes() == want.tobytes()


def test_shared_blobs_are_one_parameter_and_one_array():
    net, _ = opened(Path("nets/shared_params"))
    module = NetModule(net)
    names: dict[str, list] = {}
    for layer in net:
        for index, spec in enumerate(layer.proto.param):
            if spec.name:
                names.setdefault(spec.name, []).append((layer.name, index))
    shared = [places for places in names.values() if len(places) > 1]
    assert shared
    for places in shared:
        assert len({id(module.layer(name).blobs[i]) for name, i in places}) == 1
    for parameter in module.parameters():
        parameter.data.mul_(2)
    back = module.to_net()
    for places in shared:
        arrays = [back.layer(name).blobs[i] for name, i in places]
        assert all(np.shares_memory(arrays[0], other) for other in arrays)
        first = net.layer(places[0][0]).blobs[places[0][1]]
        assert np.array_equal(arrays[0].ravel(), 2 * first.ravel())


BATCH_NORM = """
layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 6 dim: 3 dim: 4 dim: 4 } } }
layer { name: "n" type: "BatchNorm" bottom: "d" top: "n"
        batch_norm_param { moving_average_fraction: 0.9 } }
"""


def normalised(net: Net) -> NetModule:
    net.layer("n").blobs = [
        np.float32([1, 2, 3]), np.float32([4, 5, 6]), np.float32([2])
    ]  # fmt: skip
    return NetModule(net)


def test_batch_statistics_accumulate_as_in_caffe():
    module = normalised(Net.parse(BATCH_NORM)).double().train()
    module.layer("n").batch_statistics = True
    x = np.random.default_rng(0).standard_normal((6, 3, 4, 4))
    y = module({"d": torch.tensor(x)})["n"].numpy()
    np.testing.assert_allclose(y.mean((0, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var((0, 2, 3)), 1, rtol=1e-4)
    mean, variance, factor = (b.detach().numpy() for b in module.layer("n").blobs)
    np.testing.assert_allclose(mean, 0.9 * np.array([1, 2, 3]) + x.mean((0, 2, 3)))
    unbiased = x.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(variance, 0.9 * np.array([4, 5, 6]) + unbiased)
    np.testing.assert_allclose(factor, 0.9 * 2 + 1)


def test_stored_statistics_stay_unless_asked_for():
    module = normalised(Net.parse(BATCH_NORM)).train()
    x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    got = module({"d": x})["n"]
    want = (x - torch.tensor([0.5, 1, 1.5]).view(3, 1, 1)) / torch.tensor(
        [2.00001, 2.50001, 3.00001]
    ).sqrt().view(3, 1, 1)
    torch.testing.assert_close(got, want)
    assert not any(p.requires_grad for p in module.parameters())
    assert module.to_net().layer("n").blobs[2] == 2


def test_dropout_drops_only_while_it_trains():
    text = (
        'layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 10000 } } }\n'
    )
    for scaled, level in (("true", 1.0), ("false", 0.75)):
        net = Net.parse(
            text + 'layer { name: "o" type: "Dropout" bottom: "d" top: "o" dropout_param '
            f"{{ dropout_ratio: 0.25 scale_train: {scaled} }} }}\n"
        )
        module, x = NetModule(net), torch.ones(1, 10000)
        assert torch.equal(module.eval()({"d": x})["o"], level * x)
        torch.manual_seed(0)
        dropped = module.train()({"d": x})["o"]
        assert set(dropped.unique().tolist()) == {0.0, float(np.float32(1 / 0.75 * level))}
        assert abs((dropped == 0).float().mean() - 0.25) < 0.02


def test_a_part_of_the_net_runs_from_any_blob_to_any_other():
    net, golden = opened(Path("nets/squeezenet"))
    module = NetModule(net).eval()
    inputs = tensors(golden.inputs(Executor(net).shapes))
    graph = Graph(net)
    middle = next(n.tops[0] for n in net if n.type == "Concat")
    whole = module(inputs, [middle, *graph.outputs])
    rest = module({middle: whole[middle]})
    for blob in graph.outputs:
        assert torch.equal(rest[blob], whole[blob])
    with pytest.raises(ModelError, match="feed it"):
        module({})
    with pytest.raises(ModelError, match='no blob "nowhere"'):
        module(inputs, ["nowhere"])
    with pytest.raises(ModelError, match='no layer "nowhere"'):
        module.layer("nowhere")


def test_what_has_no_gradient_says_so():
    net, golden = opened(Path("layers/argmax"))
    module = NetModule(net)
    name = module.inputs[0]
    assert all(module_type(layer) is Outside for layer in net if layer.type == "ArgMax")
    inputs = {
        k: v.requires_grad_() for k, v in tensors(golden.inputs(Executor(net).shapes)).items()
    }
    got = module(inputs)
    assert inputs[name].grad is None
    with pytest.raises(CaffeScnnError, match=r"ArgMax.*no gradient"):
        got[module.outputs[0]].sum().backward()


def test_recurrent_state_lives_on_until_it_is_reset():
    net = net_of(next(kind for kind in LAYER_TYPES if kind.type == "LSTM"), 0)
    inputs = {**inputs_of(net), "b1": np.ones((4, 2), np.float32)}
    module, state = NetModule(net), {}
    for _ in range(2):
        want = reference.run(net, inputs, ["t0"], state)["t0"]
        assert close(module(tensors(inputs))["t0"].detach().numpy(), want)
    module.reset_state()
    want = reference.run(net, inputs, ["t0"])["t0"]
    assert close(module(tensors(inputs))["t0"].detach().numpy(), want)
