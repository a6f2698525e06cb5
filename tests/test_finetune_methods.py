"""Fine-tuning methods on a tiny net: which weights live, when, and what moves them."""

from __future__ import annotations

import numpy as np
import pytest
from cli_support import TINY

from caffe_scnn.errors import CaffeScnnError, ModelError
from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net

torch = pytest.importorskip("torch", reason="fine-tuning needs PyTorch (extra: train)")
from caffe_scnn.finetune.bridge import NetModule  # noqa: E402
from caffe_scnn.finetune.methods import FINETUNE_METHODS, Step, finetune_method  # noqa: E402
from caffe_scnn.finetune.methods.gradual import Gradual  # noqa: E402
from caffe_scnn.finetune.methods.keep import Keep  # noqa: E402
from caffe_scnn.finetune.methods.rigl import RigL  # noqa: E402
from caffe_scnn.finetune.methods.weights import choose, is_pointwise, weighted  # noqa: E402

POINTWISE = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 8 dim: 3 dim: 3 } } }
layer { name: "first" type: "Convolution" bottom: "data" top: "first"
  convolution_param { num_output: 16 kernel_size: 3 pad: 1 } }
layer { name: "dw" type: "Convolution" bottom: "first" top: "dw"
  convolution_param { num_output: 16 kernel_size: 1 group: 16 } }
layer { name: "pw1" type: "Convolution" bottom: "dw" top: "pw1"
  convolution_param { num_output: 32 kernel_size: 1 } }
layer { name: "pw2" type: "Convolution" bottom: "pw1" top: "pw2"
  convolution_param { num_output: 32 kernel_size: 1 } }
layer { name: "fc" type: "InnerProduct" bottom: "pw2" top: "fc"
  inner_product_param { num_output: 6 transpose: true } }
"""


def module_of(text: str = POINTWISE, seed: int = 0) -> NetModule:
    net = Net.parse(text)
    bind(net, None)
    rng = np.random.default_rng(seed)
    for layer in net:
        for blob in layer.blobs:
            blob[...] = rng.standard_normal(blob.shape)
    return NetModule(net)


def step_of(module, number, total, rate=0.1):
    return Step(number, total, torch.optim.SGD(module.parameters(), lr=rate, momentum=0.9))


def density(module, name):
    return float((module.layer(name).blobs[0] != 0).float().mean())


def disturb(module):
    for parameter in module.parameters():
        parameter.data += 1e-3 * torch.randn(parameter.shape)


def test_the_table_names_methods_once():
    names = [method.name for method in FINETUNE_METHODS]
    assert len(set(names)) == len(names)
    assert finetune_method("gradual") is Gradual
    with pytest.raises(CaffeScnnError, match='did you mean "gradual"'):
        finetune_method("gradul")


def test_pointwise_layers_are_the_choice_of_gradual_pruning():
    module = module_of()
    assert [own.layer.name for own in choose(module, None, is_pointwise)] == ["pw1", "pw2"]
    assert [own.layer.name for own in choose(module, ["fc", "first"], is_pointwise)] == [
        "first", "fc",
    ]  # fmt: skip
    with pytest.raises(ModelError, match=r'"pv\*" matches no layer with weights; those are first'):
        choose(module, ["pw*", "pv*"], is_pointwise)
    with pytest.raises(ModelError, match="no layer to work on"):
        choose(module_of(TINY), None, is_pointwise)


def test_matrices_are_views_with_outputs_as_rows():
    module = module_of()
    fc = next(own for own in weighted(module) if own.layer.name == "fc")
    assert fc.parameter.shape == (288, 6)
    assert fc.matrix().shape == (6, 288)
    fc.matrix()[2, 5] = 7.0
    assert float(fc.parameter.detach()[5, 2]) == 7.0


def test_zeros_stay_zeros():
    module = module_of()
    for own in weighted(module):
        own.parameter.data[torch.rand(own.parameter.shape) < 0.7] = 0
    before = [own.parameter.detach().clone() for own in weighted(module)]
    constraint = Keep().attach(module, None)
    disturb(module)
    constraint.after_step(step_of(module, 1, 1))
    for own, old in zip(weighted(module), before, strict=True):
        assert torch.equal(own.parameter == 0, old == 0)
        assert not torch.equal(own.parameter, old)
    total = sum(old.numel() for old in before)
    living = sum(int((old != 0).sum()) for old in before)
    assert constraint.describe() == {"density": pytest.approx(living / total)}


def course(method, total=100):
    module = module_of()
    constraint = method.attach(module, None)
    found = []
    for number in range(1, total + 1):
        disturb(module)
        constraint.after_step(step_of(module, number, total))
        found.append(density(module, "pw1"))
    return module, constraint, found


def test_gradual_pruning_follows_the_cubic():
    module, constraint, found = course(Gradual(density=0.25, begin=0.1, end=0.9, every=5))
    for number, got in enumerate(found, start=1):
        last = 90 if number >= 90 else number - number % 5
        time = min(1.0, max(0.0, (last - 10) / 80))
        wanted = 0.25 + 0.75 * (1 - time) ** 3 if last > 10 else 1.0
        assert got == pytest.approx(wanted, abs=1 / 512), number
    assert constraint.settled
    assert density(module, "first") == density(module, "dw") == density(module, "fc") == 1


def test_gradual_pruning_is_not_settled_before_its_end():
    module = module_of()
    constraint = Gradual(density=0.5, end=1.0).attach(module, None)
    constraint.after_step(step_of(module, 50, 100))
    assert density(module, "pw1") < 1
    assert not constraint.settled


def test_gradual_pruning_takes_the_smallest():
    module = module_of()
    weights = module.layer("pw2").blobs[0].detach().clone().abs().flatten()
    Gradual(density=0.25, end=1.0).attach(module, None).after_step(step_of(module, 1, 1))
    kept = module.layer("pw2").blobs[0].flatten() != 0
    assert weights[kept].min() > weights[~kept].max()


def test_what_was_pruned_does_not_come_back():
    module = module_of()
    constraint = Gradual(density=0.25, every=1, end=1.0).attach(module, None)
    dead = torch.zeros_like(module.layer("pw1").blobs[0], dtype=torch.bool)
    for number in range(1, 21):
        disturb(module)
        constraint.after_step(step_of(module, number, 20))
        now = module.layer("pw1").blobs[0] == 0
        assert bool(now[dead].all())
        dead = now


@pytest.mark.parametrize("block", [2, 4, 16])
def test_blocks_of_output_channels_go_together(block):
    method = Gradual(density=0.25, every=1, end=0.5, pattern=f"{block}x1")
    module, _, found = course(method, 10)
    assert found[-1] == 0.25
    living = (module.layer("pw1").blobs[0].detach().reshape(32, 16) != 0).numpy()
    groups = living.reshape(32 // block, block, 16)
    assert (groups.all(axis=1) | ~groups.any(axis=1)).all()


def test_masks_survive_a_checkpoint():
    module, constraint, _ = course(Gradual(density=0.25), 20)
    other = module_of()
    fresh = Gradual(density=0.25).attach(other, None)
    other.load_state_dict(module.state_dict())
    fresh.restore(constraint.state())
    disturb(other)
    fresh.after_step(step_of(other, 19, 20))
    assert torch.equal(other.layer("pw1").blobs[0] == 0, module.layer("pw1").blobs[0] == 0)


def test_rigl_moves_weights_to_the_largest_gradients():
    module = module_of()
    method = RigL(density=0.25, share=0.4, every=10, end=1.0)
    constraint = method.attach(module, None)
    assert density(module, "pw1") == 0.25
    parameter = module.layer("pw1").blobs[0]
    before = parameter.detach().clone()
    for each in module.parameters():
        each.grad = torch.randn(each.shape)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0, momentum=0.9)
    optimizer.step()
    gradient = parameter.grad.clone()
    constraint.before_step(Step(9, 40, optimizer))
    assert torch.equal(parameter.detach(), before)
    constraint.before_step(Step(10, 40, optimizer))
    living = int((before != 0).sum())
    count = round(0.4 / 2 * (1 + np.cos(np.pi * 0.25)) * living)
    mask = constraint.masks[0]
    assert int(mask.sum()) == living
    kept = (
        before.abs() >= before.abs()[before != 0].sort(descending=True).values[living - count - 1]
    )
    assert bool(mask[kept].all())
    grown = mask & ~kept
    assert int(grown.sum()) == count
    assert gradient.abs()[grown].min() > gradient.abs()[~mask].max()
    fresh = grown & (before == 0)
    assert not optimizer.state[parameter]["momentum_buffer"][fresh].any()
    assert optimizer.state[parameter]["momentum_buffer"][kept].any()
    assert not parameter.detach()[~mask].any()


def test_rigl_moves_less_and_less_and_then_nothing():
    module = module_of()
    constraint = RigL(density=0.25, share=0.4, every=1, end=0.75).attach(module, None)
    moved = []
    for number in range(1, 41):
        for each in module.parameters():
            each.grad = torch.randn(each.shape)
        old = constraint.masks[0].clone()
        constraint.before_step(step_of(module, number, 40))
        disturb(module)
        constraint.after_step(step_of(module, number, 40))
        moved.append(int((constraint.masks[0] & ~old).sum()))
        assert density(module, "pw1") == 0.25
    assert moved[0] > moved[14] > moved[28]
    assert moved[30:] == [0] * 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gradual(density=0.0), "density"),
        (lambda: Gradual(begin=0.5, end=0.5), "begin < end"),
        (lambda: Gradual(every=0), "every"),
        (lambda: Gradual(pattern="4y1"), "pattern"),
        (lambda: RigL(density=2.0), "density"),
        (lambda: RigL(share=1.0), "share"),
        (lambda: RigL(end=0.0), "end"),
    ],
)
def test_parameters_are_checked(make, message):
    with pytest.raises(CaffeScnnError, match=message):
        make()


def test_a_step_knows_the_rate_of_a_parameter():
    module = module_of()
    first, *rest = module.parameters()
    groups = [{"params": [first], "lr": 0.5}, {"params": rest[:-1], "lr": 0.25}]
    step = Step(3, 12, torch.optim.SGD(groups))
    assert (step.rate(first), step.rate(rest[0]), step.rate(rest[-1])) == (0.5, 0.25, 0.0)
    assert step.progress == 0.25
