"""SCNN and structured sparsity learning on tiny nets: what is penalised, reached and removed."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_scnn.engine import Executor
from caffe_scnn.errors import CaffeScnnError, FormatError, ModelError
from caffe_scnn.layers.binding import bind
from caffe_scnn.layers.summary import summarize
from caffe_scnn.model.net import Net

torch = pytest.importorskip("torch", reason="fine-tuning needs PyTorch (extra: train)")
from finetune_support import trainer_of  # noqa: E402

from caffe_scnn.finetune.bridge import NetModule  # noqa: E402
from caffe_scnn.finetune.groups import FAMILIES, family_size, group_view, zero_groups  # noqa: E402
from caffe_scnn.finetune.methods import Step  # noqa: E402
from caffe_scnn.finetune.methods.branches import residual_branches  # noqa: E402
from caffe_scnn.finetune.methods.scnn import Scnn  # noqa: E402
from caffe_scnn.finetune.methods.ssl import Ssl  # noqa: E402
from caffe_scnn.finetune.recipe import FinetuneRecipe  # noqa: E402

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { %s } } }\n'
CHAIN = (
    DATA % "dim: 4 dim: 4 dim: 8 dim: 8"
    + """
layer { name: "one" type: "Convolution" bottom: "data" top: "one"
  convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }
layer { name: "relu" type: "ReLU" bottom: "one" top: "one" }
layer { name: "two" type: "Convolution" bottom: "one" top: "two"
  convolution_param { num_output: 12 kernel_size: 3 pad: 1 group: 2 } }
layer { name: "three" type: "Convolution" bottom: "two" top: "three"
  convolution_param { num_output: 6 kernel_size: 1 } }
layer { name: "fc" type: "InnerProduct" bottom: "three" top: "fc"
  inner_product_param { num_output: 5 } }
"""
)
BLOCK = """
layer {{ name: "{0}a" type: "Convolution" bottom: "{1}" top: "{0}a"
  convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 }} }}
layer {{ name: "{0}r" type: "ReLU" bottom: "{0}a" top: "{0}a" }}
layer {{ name: "{0}b" type: "Convolution" bottom: "{0}a" top: "{0}b"
  convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 bias_term: false }} }}
layer {{ name: "{0}n" type: "BatchNorm" bottom: "{0}b" top: "{0}b" }}
layer {{ name: "{0}s" type: "Scale" bottom: "{0}b" top: "{0}b" scale_param {{ bias_term: true }} }}
layer {{ name: "{0}" type: "Eltwise" bottom: "{1}" bottom: "{0}b" top: "{0}" }}
layer {{ name: "{0}o" type: "ReLU" bottom: "{0}" top: "{0}" }}
"""
RESIDUAL = (
    DATA % "dim: 4 dim: 6 dim: 6 dim: 6"
    + BLOCK.format("x", "data")
    + BLOCK.format("y", "x")
    + 'layer { name: "fc" type: "InnerProduct" bottom: "y" top: "fc"'
    " inner_product_param { num_output: 5 } }\n"
)


def net_of(text=CHAIN, seed=0):
    net = Net.parse(text)
    bind(net, None)
    rng = np.random.default_rng(seed)
    for layer in net:
        for index, blob in enumerate(layer.blobs):
            blob[...] = rng.standard_normal(blob.shape)
            if layer.type == "BatchNorm" and index:
                blob[...] = np.abs(blob) + 0.5
    return net


def images(net, seed=1):
    shape = net.layers[0].proto.input_param.shape[0].dim
    return np.random.default_rng(seed).standard_normal(tuple(shape)).astype(np.float32)


def answers(net):
    return Executor(net, threads=1).run({"data": images(net)})["fc"]


def trained(method, net, layers=None, steps=40, rate=0.03):
    """Train a net to answer as it did at first; return the module, the constraint and densities."""
    goal = torch.from_numpy(answers(net))
    module = NetModule(method.prepare(net, layers))
    constraint = method.attach(module, layers)
    found = run(module, constraint, goal, images(net), range(1, steps + 1), steps, rate)
    return module, constraint, found


def run(module, constraint, goal, x, numbers, steps, rate=0.03):
    optimizer = torch.optim.SGD(module.parameters(), lr=rate)
    inputs, found = {"data": torch.from_numpy(x)}, []
    for number in numbers:
        loss = ((module(inputs)["fc"] - goal) ** 2).mean() / (goal**2).mean()
        penalty = constraint.penalty()
        optimizer.zero_grad()
        (loss if penalty is None else loss + penalty).backward()
        with torch.no_grad():
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            constraint.after_step(Step(number, steps, optimizer))
        found.append(constraint.describe()["density"])
    return found


def weights(module, name):
    return module.layer(name).blobs[0].detach()


# --- groups --------------------------------------------------------------------------------------


def test_groups_of_a_grouped_convolution_are_views():
    net = net_of()
    layer = net.layer("two")
    blob = torch.from_numpy(layer.blobs[0])
    view = group_view(blob, layer, (4, 8, 8, 8))
    assert view.shape == (2, 6, 4, 3, 3)
    assert {name: family_size(view, name) for name in FAMILIES} == {
        "kernel": 9, "shape": 6, "channel": 54, "filter": 36,
    }  # fmt: skip
    view[1, :, 2, 0, 1] = 0  # one tap of input channel 6, for the filters of the second group
    assert (layer.blobs[0][6:, 2, 0, 1] == 0).all() and (layer.blobs[0][:6] != 0).all()
    assert zero_groups(view, "shape").sum() == 1
    view[0, 3] = 0
    assert zero_groups(view, "filter").tolist() == [i == 3 for i in range(12)]
    view[1, :, 1] = 0
    assert zero_groups(view, "channel").tolist() == [i == 5 for i in range(8)]


@pytest.mark.parametrize("transpose", [False, True])
def test_an_inner_product_has_the_channels_of_its_bottom(transpose):
    text = CHAIN.replace("num_output: 5", f"num_output: 5 transpose: {str(transpose).lower()}")
    net = net_of(text)
    blob = torch.from_numpy(net.layer("fc").blobs[0])
    view = group_view(blob, net.layer("fc"), (4, 6, 8, 8))
    assert view.shape == (1, 5, 6, 64, 1)
    view[0, 2, 3] = 7.0
    row = (blob.T if transpose else blob)[2]
    assert (row[3 * 64 : 4 * 64] == 7).all() and (row == 7).sum() == 64


def test_other_layers_have_no_groups():
    net = net_of(RESIDUAL)
    with pytest.raises(ModelError, match=r'"xn" \(BatchNorm\): groups .* leave the layer out'):
        group_view(torch.zeros(6), net.layer("xn"), (4, 6, 6, 6))


def test_branches_are_chains_beside_an_identity():
    found = residual_branches(net_of(RESIDUAL))
    assert [layer.name for layer in found["x"]] == ["xa", "xr", "xb", "xn", "xs"]
    assert list(found) == ["x", "y"]
    projected = RESIDUAL.replace('bottom: "data" bottom: "xb"', 'bottom: "xa" bottom: "xb"')
    assert [layer.name for layer in residual_branches(net_of(projected))["x"]] == ["xb", "xn", "xs"]
    product = RESIDUAL.replace('"Eltwise"', '"Eltwise" eltwise_param { operation: PROD }')
    assert residual_branches(net_of(product)) == {}


# --- SCNN ----------------------------------------------------------------------------------------


def test_scnn_begins_with_the_same_net():
    net = net_of()
    method = Scnn()
    made = method.prepare(net, ["one", "two", "three"])
    assert [layer.name for layer in made][1:4] == ["one/Q", "one/S", "relu"]
    np.testing.assert_allclose(answers(made), answers(net), rtol=2e-4, atol=2e-3)
    assert method.prepare(made, None) is made
    assert [own.layer.name for own in method.attach(NetModule(made), None).weights] == [
        "one/S", "two/S",
    ]  # fmt: skip
    again = method.attach(NetModule(made), ["t*"])
    assert [own.layer.name for own in again.weights] == ["two/S", "three"]
    with pytest.raises(ModelError, match="no coefficients"):
        method.attach(NetModule(net), None)


def test_scnn_reaches_its_density_and_writes_unit_bases():
    net = net_of()
    method = Scnn(density=0.1, p="pca")
    module, constraint, found = trained(method, net, ["one", "two"])
    assert constraint.settled and found[-1] <= 0.1 and found[-1] > 0.05
    for name in ("one/Q", "two/Q"):
        assert (weights(module, name).flatten(1).norm(dim=1) <= 1 + 1e-6).all()
    columns = weights(module, "two/P").view(2, 4, 4).norm(dim=1)
    assert (columns <= 1 + 1e-6).all()
    whole = module.to_net()
    small = constraint.finish(whole)
    np.testing.assert_allclose(answers(small), answers(whole), rtol=1e-4, atol=1e-4)
    q, s = small.layer("two/Q").blobs[0], small.layer("two/S").blobs[0]
    norms = np.linalg.norm(q.reshape(len(q), -1), axis=1)
    np.testing.assert_allclose(norms[norms > 0], 1.0, rtol=1e-6)
    assert len(q) < len(weights(module, "two/Q")) and s.shape[1] == len(q) // 2
    used = s.reshape(2, len(s) // 2, -1).any(axis=1).ravel()
    assert np.array_equal(used, norms > 0)  # no basis without a coefficient


def test_rows_of_coefficients_go_together():
    """At equal density, a penalty on rows leaves fewer bases."""

    def bases(rows):
        _, constraint, _ = trained(Scnn(density=0.1, rows=rows), net_of(), ["two"])
        (own,) = constraint.weights
        return int((own.parameter.view(2, 6, -1) != 0).any(1).sum())

    assert bases(2.0) < bases(0.0)


def test_no_step_leaves_the_schedule():
    _, constraint, found = trained(Scnn(density=0.1), net_of(), ["one", "two"])
    size = sum(own.parameter.numel() for own in constraint.weights)
    for number, left in enumerate(found, start=1):
        time = min(1.0, number / (0.8 * 0.6 * 40))
        assert left >= 0.1 + 0.9 * (1 - time) ** 3 - 8 / size or number >= 24


def test_layers_that_share_weights_share_bases():
    shared = CHAIN.replace("num_output: 12 kernel_size: 3 pad: 1 group: 2", "num_output: 8 "
        "kernel_size: 3 pad: 1").replace('"two" type: "Convolution"',
        '"two" type: "Convolution" param { name: "w" } param { name: "b" }')  # fmt: skip
    more = 'layer { name: "twin" type: "Convolution" bottom: "two" top: "twin" param { name: "w" }'
    more += ' param { name: "b" } convolution_param { num_output: 8 kernel_size: 3 pad: 1 } }\n'
    text = shared.replace('layer { name: "three"', more + 'layer { name: "three"').replace(
        'bottom: "two" top: "three"', 'bottom: "twin" top: "three"'
    )
    net = net_of(text)
    bind(net, None)
    module, constraint, _ = trained(Scnn(density=0.2), net_of(text), ["tw*"])
    assert len(constraint.weights) == 1
    small = constraint.finish(module.to_net())
    assert small.layer("two/Q").blobs[0] is small.layer("twin/Q").blobs[0]
    np.testing.assert_allclose(answers(small), answers(module.to_net()), rtol=1e-4, atol=1e-4)


# --- structured sparsity learning ----------------------------------------------------------------


def test_ssl_removes_filters_and_keeps_the_answers():
    net = net_of()
    module, constraint, found = trained(Ssl(density=0.3), net)
    whole = module.to_net()
    small = constraint.finish(whole)
    np.testing.assert_allclose(answers(small), answers(whole), rtol=1e-4, atol=1e-4)
    assert found[-1] <= 0.3
    convolutions = [layer for layer in summarize(small).layers if layer.type == "Convolution"]
    before = [layer for layer in summarize(net).layers if layer.type == "Convolution"]
    done, had = (sum(layer.nonzero_macs for layer in some) for some in (convolutions, before))
    assert done <= 0.3 * had
    sizes = [len(small.layer(name).blobs[0]) for name in ("one", "two", "three")]
    assert sum(sizes) < 8 + 12 + 6
    kept = Ssl(density=0.3, keep=True).attach(module, None).finish(whole)
    assert kept.layer("one").blobs[0].shape == (8, 4, 3, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_makes_its_own_groups_zero(family):
    only = {"filter": 0.0, "shape": 0.0} | {family: 1.0}
    module, constraint, _ = trained(Ssl(density=0.4, **only), net_of(), ["two"])
    (own,) = constraint.weights
    view = group_view(own.parameter.detach(), own.layer, (4, 8, 8, 8))
    gone = zero_groups(view, family)
    assert 0 < gone.sum() < len(gone)
    # nothing but whole groups is zero
    assert int((view == 0).sum()) == int(gone.sum()) * family_size(view, family)
    assert (weights(module, "one") != 0).all()


def test_filters_that_are_gone_have_no_bias():
    module, constraint, _ = trained(Ssl(density=0.3, shape=0.0), net_of(RESIDUAL))
    for name, shifts in (("xa", ["xa"]), ("xb", ["xs"])):
        gone = (weights(module, name).flatten(1) == 0).all(1)
        for shift in shifts:
            blobs = module.layer(shift).blobs
            assert (blobs[1].detach()[gone] == 0).all() and (blobs[1].detach()[~gone] != 0).all()
    whole = module.to_net()
    np.testing.assert_allclose(
        answers(constraint.finish(whole)), answers(whole), rtol=1e-4, atol=1e-4
    )


def test_depth_drops_a_whole_block():
    net = net_of(RESIDUAL)
    for name in ("ya", "yb"):
        net.layer(name).blobs[0] *= 0.3
    method = Ssl(density=0.6, filter=0.0, shape=0.0, depth=1.0)
    module, constraint, _ = trained(method, net)
    small = constraint.finish(module.to_net())
    assert [layer.name for layer in small if layer.type == "Convolution"] == ["xa", "xb"]
    assert not [layer.name for layer in small if layer.name == "y"]
    np.testing.assert_allclose(answers(small), answers(module.to_net()), rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="no residual branch"):
        method.attach(NetModule(net_of()), None)


def test_multipliers_spare_layers():
    method = Ssl(density=0.7, multipliers={"t*o": 0.0})
    module, constraint, _ = trained(method, net_of())
    assert (weights(module, "two") != 0).all()
    assert (weights(module, "one") == 0).any()
    assert 0.54 < constraint.describe()["density"] <= 0.7
    with pytest.raises(ModelError, match=r"density 0.5 is out of reach: two, .* hold 0.55 of"):
        Ssl(density=0.5, multipliers={"two": 0.0}).attach(module, None)


# --- what both have in common --------------------------------------------------------------------


@pytest.mark.parametrize("method", [Scnn, Ssl])
def test_zeros_become_final_and_the_rest_is_polished(method):
    net = net_of()
    goal = torch.from_numpy(answers(net))
    made = method(density=0.3, end=0.5)
    module = NetModule(made.prepare(net, ["one", "two"]))
    constraint = made.attach(module, ["one", "two"])
    run(module, constraint, goal, images(net), range(1, 21), 40)
    assert constraint.settled and constraint.describe()["strength"] == 0
    before = [own.parameter.detach().clone() for own in constraint.weights]
    run(module, constraint, goal, images(net), range(21, 41), 40)
    for own, old in zip(constraint.weights, before, strict=True):
        assert torch.equal(own.parameter == 0, old == 0)
        assert not torch.equal(own.parameter, old)


@pytest.mark.parametrize("method", [Scnn, Ssl])
def test_what_is_to_stay_is_hardly_shrunk(method):
    """A λ that grows until enough is zero takes most of what is left as well."""
    net = net_of()
    for name in ("one", "two"):
        net.layer(name).blobs[0][::2] *= 0.2
    made = method(density=0.5, end=1.0)
    module = NetModule(made.prepare(net, ["one", "two"]))
    constraint = made.attach(module, ["one", "two"])
    before = [own.parameter.detach().clone() for own in constraint.weights]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.03)
    for number in range(1, 41):  # without a loss nothing grows back
        constraint.after_step(Step(number, 40, optimizer))
    assert 0.45 <= constraint.describe()["density"] <= 0.5
    for own, old in zip(constraint.weights, before, strict=True):
        stays = own.parameter != 0
        assert own.parameter[stays].norm() > 0.8 * old[stays].norm()


@pytest.mark.parametrize("method", [Scnn, Ssl])
def test_layers_lose_alike_whatever_the_size_of_their_weights(method):
    left = []
    for factor in (1.0, 1000.0):
        net = net_of()
        net.layer("one").blobs[0] *= np.float32(factor)
        made = method(density=0.5, end=1.0)
        module = NetModule(made.prepare(net, ["one", "two"]))
        constraint = made.attach(module, ["one", "two"])
        optimizer = torch.optim.SGD(module.parameters(), lr=0.03)
        for number in range(1, 41):
            constraint.after_step(Step(number, 40, optimizer))
        left.append([float((own.parameter != 0).float().mean()) for own in constraint.weights])
    assert left[0] == pytest.approx(left[1], abs=0.01)


def test_layers_without_weights_that_live_are_no_trouble():
    net = net_of()
    net.layer("one").blobs[0][...] = 0
    _, constraint, found = trained(Ssl(density=0.3), net, ["one", "two"], steps=10)
    assert found[-1] <= 0.3
    assert all(torch.isfinite(own.parameter).all() for own in constraint.weights)


@pytest.mark.parametrize("method", [Scnn, Ssl])
@pytest.mark.parametrize("cut", [10, 30])
def test_a_training_goes_on_from_its_state(method, cut):
    net = net_of()
    goal, x = torch.from_numpy(answers(net)), images(net)
    made = method(density=0.3, end=0.5)
    first = NetModule(made.prepare(net, ["one", "two"]))
    constraint = made.attach(first, ["one", "two"])
    run(first, constraint, goal, x, range(1, cut + 1), 40)
    second = NetModule(first.to_net())
    other = made.attach(second, ["one", "two"])
    other.restore(constraint.state())
    for module, own in ((first, constraint), (second, other)):
        run(module, own, goal, x, range(cut + 1, 41), 40)
    for one, two in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("method", [Scnn, Ssl])
def test_the_papers_form_is_a_subgradient_and_a_threshold(method):
    net = net_of()
    made = method(strength=0.01, form="subgradient", end=1.0)
    module = NetModule(made.prepare(net, ["one", "two"]))
    constraint = made.attach(module, ["one", "two"])
    penalty = constraint.penalty()
    total = torch.autograd.grad(penalty, [own.parameter for own in constraint.weights])
    assert all(torch.isfinite(gradient).all() for gradient in total)
    if method is Scnn:  # of a coefficient: strength · (sign + rows · √n · s / ‖row‖)
        own = constraint.weights[0]
        s = own.parameter.detach().view(8, -1)
        expected = 0.01 * (s.sign() + 0.5 * 8**0.5 * s / s.norm(dim=0))
        torch.testing.assert_close(total[0].view(8, -1), expected)
    own = constraint.weights[0].parameter
    own.data.flatten()[:3] = torch.tensor([9e-5, -9e-5, 2e-4])
    constraint.after_step(Step(1, 10, torch.optim.SGD(module.parameters(), lr=0.1)))
    assert (own.flatten()[:3] != 0).tolist() == [False, False, True]


@pytest.mark.parametrize("method", [Scnn, Ssl])
def test_a_fixed_strength_is_the_penalty_of_the_papers(method):
    """The proximal step lowers the penalty, by the square of its gradient at first."""
    net = net_of()
    made = method(strength=1e-3)
    module = NetModule(made.prepare(net, ["one", "two"]))
    constraint = made.attach(module, ["one", "two"])
    cost = constraint.cost()
    gradients = torch.autograd.grad(cost, [own.parameter for own in constraint.weights])
    moved = constraint.shrunk([1e-5] * len(constraint.weights))
    for own, values, gradient in zip(constraint.weights, moved, gradients, strict=True):
        change = (own.parameter.detach() - values) / 1e-5
        far = own.parameter.detach().abs() > 1e-3
        torch.testing.assert_close(change[far], gradient[far], atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        (Scnn, {"density": 0.0}, r"density must be in \(0, 1\], not 0.0"),
        (Scnn, {"adaptive": -1.0}, r"adaptive must be in \[0, 8.0\], not -1.0"),
        (Scnn, {"rows": -1.0}, "rows must not be negative"),
        (Scnn, {"form": "magic"}, 'form must be "proximal" or "subgradient"'),
        (Ssl, {"strength": 0.0}, "strength must be positive"),
        (Ssl, {"end": 0.0}, r"end must be in \(0, 1\]"),
        (Ssl, {"filter": 0.0, "shape": 0.0}, "one of kernel, .*, depth must have a weight"),
        (Ssl, {"multipliers": {"conv1": -1.0}}, "weight of conv1 must not be negative"),
    ],
)
def test_settings_that_mean_nothing_are_refused(method, settings, message):
    with pytest.raises(CaffeScnnError, match=message):
        method(**settings)


def test_recipes_hold_tables_of_factors():
    recipe = FinetuneRecipe.parse('method = "ssl"\nmultipliers = { "conv*" = 2, fc = 0.5 }')
    assert recipe.method.multipliers == {"conv*": 2.0, "fc": 0.5}
    assert FinetuneRecipe.parse(recipe.text()) == recipe
    with pytest.raises(FormatError, match=r"multipliers\.conv1 must be a number, not 'two'"):
        FinetuneRecipe.parse('method = "ssl"\nmultipliers = { conv1 = "two" }')
    with pytest.raises(FormatError, match="multipliers must be a table, not 2"):
        FinetuneRecipe.parse('method = "ssl"\nmultipliers = 2')


@pytest.mark.parametrize("method", ["scnn", "ssl"])
@pytest.mark.parametrize("stop", [4, 10])
def test_an_interrupted_training_gives_the_same_net(method, stop, tmp_path):
    recipe = f"""
    method = "{method}"
    layers = ["conv1", "conv2"]
    density = 0.5
    [train]
    epochs = 4
    batch = 8
    learning_rate = 0.05
    """
    whole = trainer_of(recipe)
    whole.run()
    first, reached = trainer_of(recipe), [0]
    first.run(tmp_path / "c", lambda step, *_: reached.append(step), lambda: reached[-1] == stop)
    second = trainer_of(recipe)
    second.resume(tmp_path / "c")
    assert second.step == stop
    second.run()
    for one, two in zip(whole.result(), second.result(), strict=True):
        assert one.name == two.name
        assert all(np.array_equal(a, b) for a, b in zip(one.blobs, two.blobs, strict=True))


@pytest.mark.parametrize("factor", [0.3, 1.0001])
def test_blocks_that_are_larger_than_a_step_of_the_schedule_go_in_time(factor):
    """Two (almost) equal blocks, one to be left: it goes when half of it is due, not at the end."""
    net = net_of(RESIDUAL)
    for name in ("a", "b"):
        first, second = net.layer(f"x{name}"), net.layer(f"y{name}")
        second.blobs[0] = first.blobs[0] * np.float32(factor)
    _, constraint, found = trained(Ssl(density=0.5, filter=0.0, shape=0.0, depth=1.0), net)
    assert found[8] == 1.0 and found[9] == 0.5 and found[-1] == 0.5
    assert constraint.settled
