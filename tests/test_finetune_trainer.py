"""Training: it learns, it can be interrupted, it stops in time, and it says what went wrong."""

from __future__ import annotations

import platform

import numpy as np
import pytest

from caffe_scnn.engine import Executor
from caffe_scnn.errors import CaffeScnnError, FormatError, ModelError
from caffe_scnn.model.net import Net

torch = pytest.importorskip("torch", reason="fine-tuning needs PyTorch (extra: train)")
from finetune_support import LEARNER, TRANSFORMER, images, learner, trainer_of  # noqa: E402

from caffe_scnn.finetune.bridge import NetModule  # noqa: E402
from caffe_scnn.finetune.objective import Goals, Objective  # noqa: E402
from caffe_scnn.finetune.recipe import FinetuneRecipe  # noqa: E402
from caffe_scnn.finetune.schedule import Training  # noqa: E402
from caffe_scnn.finetune.trainer import Data, Trainer  # noqa: E402

BASIC = '[train]\nepochs = {epochs}\nbatch = 8\nlearning_rate = {rate}\noptimizer = "adam"\n'


def blobs_of(net: Net) -> list[bytes]:
    return [blob.tobytes() for layer in net for blob in layer.blobs]


def pruned(net: Net, share: float = 0.5) -> Net:
    small = net.copy()
    rng = np.random.default_rng(3)
    for layer in small:
        if layer.type == "Convolution":
            weights = layer.blobs[0].copy()
            weights[rng.random(weights.shape) < share] = 0
            layer.blobs = [weights, *layer.blobs[1:]]
    return small


def loss_on_training_images(trainer: Trainer) -> dict[str, float]:
    trainer.module.eval()
    with torch.no_grad():
        _, parts = trainer.objective({"data": torch.from_numpy(images()._pixels)}, None)
    return {name: float(value) for name, value in parts.items()}


def test_labels_are_learnt():
    trainer = trainer_of(BASIC.format(epochs=15, rate=0.01))
    assert trainer.run()
    first, last = trainer.log.rows[0], trainer.log.rows[-1]
    assert last["held_back_top1"] >= 75 > first["held_back_top1"]
    assert last["loss_labels"] < 0.4
    net, held = trainer.result(), images(12, seed=1)
    scores = Executor(net).run({"data": held._pixels})["prob"]
    right = 100 * (scores.argmax(axis=1) == held.labels).mean()
    assert right == pytest.approx(last["held_back_top1"])


def test_without_labels_a_student_comes_back_to_its_teacher():
    teacher = learner()
    student = pruned(teacher)
    recipe = BASIC.format(epochs=30, rate=0.005) + '[goals]\nresponses = ["conv1", "conv2"]\n'
    trainer = trainer_of(recipe, student, labelled=False, teacher=teacher)
    before = loss_on_training_images(trainer)
    trainer.run()
    first, last = trainer.log.rows[0], trainer.log.rows[-1]
    assert "loss_labels" not in last
    assert "held_back_top1" not in last
    assert last["held_back_loss"] < first["held_back_loss"]
    after = loss_on_training_images(trainer)
    assert after["teacher"] < 0.25 * before["teacher"]
    assert after["responses"] < before["responses"]
    for layer, old in zip(trainer.result(), student, strict=True):
        if layer.type == "Convolution":
            assert np.array_equal(layer.blobs[0] == 0, old.blobs[0] == 0)


def test_the_net_itself_is_the_teacher_by_default():
    trainer = trainer_of(BASIC.format(epochs=1, rate=0.01), labelled=False)
    assert trainer.log.rows == []
    trainer.run()
    assert trainer.log.rows[0]["held_back_loss"] == pytest.approx(0, abs=1e-6)
    assert trainer.log.rows[0]["held_back_agreement"] == 100


RESUMED = """
method = "gradual"
density = 0.25
every = 2
seed = 7
[train]
epochs = 5
batch = 8
learning_rate = 0.01
optimizer = "{optimizer}"
batch_norm = "batch"
patience = 9
[augment]
mirror = true
colour = 0.2
"""


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("stop", [1, 4, 9])
def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path, optimizer, stop):
    recipe = RESUMED.format(optimizer=optimizer)
    whole = trainer_of(recipe)
    assert whole.run()
    broken = trainer_of(recipe, workers=2)
    asked = iter([False] * (stop - 1) + [True])
    assert not broken.run(tmp_path / "checkpoint.pt", interrupted=lambda: next(asked))
    assert broken.step == stop
    torch.manual_seed(99)
    again = trainer_of(recipe)
    again.resume(tmp_path / "checkpoint.pt")
    assert again.run(tmp_path / "checkpoint.pt")
    assert blobs_of(again.result()) == blobs_of(whole.result())
    assert again.log.rows == whole.log.rows


def test_the_same_seed_gives_the_same_net():
    nets = []
    for seed in (1, 1, 2):
        trainer = trainer_of(f"seed = {seed}\n" + BASIC.format(epochs=2, rate=0.01))
        trainer.run()
        nets.append(blobs_of(trainer.result()))
    assert nets[0] == nets[1] != nets[2]


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    trainer_of(BASIC.format(epochs=1, rate=0.01)).run(path)
    with pytest.raises(FormatError, match="another net, recipe or set of images"):
        trainer_of(BASIC.format(epochs=2, rate=0.01)).resume(path)
    with pytest.raises(FormatError, match="another net, recipe or set of images"):
        trainer_of(BASIC.format(epochs=1, rate=0.01), learner(seed=5)).resume(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(FormatError, match="no checkpoint that can be read"):
        trainer_of(BASIC.format(epochs=1, rate=0.01)).resume(path)


def test_patience_ends_a_training_and_takes_the_best():
    recipe = BASIC.format(epochs=200, rate=0.05) + "patience = 3\n"
    trainer = trainer_of(recipe)
    assert trainer.run()
    assert trainer.step < trainer.total
    rows = trainer.log.rows
    best = min(row["held_back_loss"] for row in rows)
    assert rows[-4]["held_back_loss"] == best
    judge = trainer_of(recipe, trainer.result())
    judge._evaluate()
    assert judge.log.rows[0]["held_back_loss"] == pytest.approx(best, rel=1e-5)


def test_patience_waits_until_the_net_is_small():
    recipe = 'method = "gradual"\ndensity = 0.2\nend = 0.9\n'
    trainer = trainer_of(recipe + BASIC.format(epochs=30, rate=0.02) + "patience = 1\n")
    trainer.run()
    assert trainer.log.rows[-1]["density"] <= 0.21
    conv2 = trainer.result().layer("conv2").blobs[0]
    assert np.count_nonzero(conv2) == round(0.2 * conv2.size)


def test_a_loss_that_is_no_number_is_explained(tmp_path):
    recipe = "[train]\nepochs = 50\nbatch = 8\nlearning_rate = 1e18\nmomentum = 0.0\n"
    trainer = trainer_of(recipe)
    with pytest.raises(CaffeScnnError, match=r"step \d+: the loss is (nan|inf): .*learning_rate"):
        trainer.run(tmp_path / "checkpoint.pt")


def test_values_that_are_not_finite_are_found():
    bad = images()
    bad._pixels[5] = np.nan
    recipe = FinetuneRecipe.parse(BASIC.format(epochs=1, rate=0.01))
    with pytest.raises(CaffeScnnError, match='the input "data" holds values that are not finite'):
        Trainer(learner(), recipe, Data(bad, TRANSFORMER)).run()
    net = learner()
    net.layer("conv2").blobs[0][:] = 1e30
    net.layer("fc").blobs[0][:] = 1e30
    with pytest.raises(CaffeScnnError, match='blob "fc" of layer "fc"'):
        trainer_of(BASIC.format(epochs=1, rate=0.01), net).run()


def test_multipliers_of_the_prototxt_count():
    net = learner(text=LEARNER.replace("lr_mult: 2 decay_mult: 0", "lr_mult: 0"))
    trainer = trainer_of("[train]\nepochs = 1\nbatch = 8\nweight_decay = 0.1\n", net)
    bias = net.layer("conv1").blobs[1].copy()
    trainer.run()
    result = trainer.result()
    assert np.array_equal(result.layer("conv1").blobs[1], bias)
    assert not np.array_equal(result.layer("conv1").blobs[0], net.layer("conv1").blobs[0])
    module = NetModule(learner())
    optimizer = Training(learning_rate=0.5, weight_decay=0.1).make_optimizer(
        module, list(module.parameters())
    )
    rates = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert [rates[id(p)] for p in module.layer("conv1").blobs] == [(0.5, 0.1), (1.0, 0.0)]
    assert rates[id(module.layer("fc").blobs[1])] == (0.5, 0.1)


def test_schedules():
    cosine = Training(warmup=0.1)
    assert [round(cosine.factor(i, 100), 3) for i in (0, 5, 10, 55, 99)] == [
        0.091, 0.545, 1.0, 0.5, 0.0,
    ]  # fmt: skip
    step = Training(schedule="step")
    assert [step.factor(i, 90) for i in (0, 29, 30, 59, 60, 89)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert Training(schedule="constant").factor(70, 90) == 1.0
    assert Training(steps=7).total(100) == 7
    assert Training(epochs=2.5).total(100) == 250


@pytest.mark.skipif(platform.machine() != "x86_64", reason="a mode of x86-64 processors")
def test_denormal_numbers_count_as_zero_while_it_runs():
    tiny, large = torch.tensor([1e-40]), torch.tensor([1e30])
    found = []
    trainer = trainer_of(BASIC.format(epochs=1, rate=0.01))
    trainer.run(on_step=lambda *_: found.append(float(tiny * large)))
    assert found == [0.0] * len(found) != []
    assert float(tiny * large) > 0


def test_statistics_of_batches_are_learnt_only_on_request():
    for mode, changed in (("stored", False), ("batch", True)):
        trainer = trainer_of(BASIC.format(epochs=1, rate=0.01) + f'batch_norm = "{mode}"\n')
        trainer.run()
        factor = trainer.result().layer("bn1").blobs[2]
        assert (factor[0] != 1) == changed


def test_lower_precision_learns_too():
    trainer = trainer_of(BASIC.format(epochs=6, rate=0.01) + 'precision = "bfloat16"\n')
    trainer.run()
    assert trainer.log.rows[-1]["loss_labels"] < trainer.log.rows[1]["loss_labels"]
    assert trainer.result().layer("conv1").blobs[0].dtype == np.float32


# --- what is minimised -----------------------------------------------------------------------


def objective_of(goals: Goals, student: Net, teacher: Net, labelled: bool = False) -> Objective:
    module = NetModule(student).eval()
    return Objective(module, student, goals, labelled, (NetModule(teacher), teacher))


def batch(count: int = 5):
    return {"data": torch.from_numpy(images(count)._pixels)}


def test_the_divergence_is_that_of_softened_answers():
    student, teacher = learner(1), learner(0)
    total, parts = objective_of(Goals(temperature=3.0), student, teacher)(batch(), None)
    logits = [
        Executor(n).run({"data": images(5)._pixels}, ["fc"])["fc"] for n in (student, teacher)
    ]
    q, p = (np.exp(x / 3) / np.exp(x / 3).sum(1, keepdims=True) for x in logits)
    want = 9 * (p * np.log(p / q)).sum() / 5
    assert float(total.detach()) == pytest.approx(want, rel=1e-4)
    assert parts.keys() == {"teacher"}


def test_a_softmax_in_place_gives_the_same_divergence():
    inside = LEARNER.replace('bottom: "fc" top: "prob"', 'bottom: "fc" top: "fc"')
    totals = [
        float(objective_of(Goals(), learner(1, text), learner(0, text))(batch(), None)[0].detach())
        for text in (LEARNER, inside)
    ]
    assert totals[0] == pytest.approx(totals[1], rel=1e-4)


def test_weights_of_goals_are_those_asked_for():
    goals = Goals(labels=0.5, teacher=2.0, responses=("conv2",), response_weight=3.0)
    total, parts = objective_of(goals, learner(1), learner(0), True)(
        batch(), torch.tensor([0, 1, 2, 0, 1])
    )
    want = 0.5 * parts["labels"] + 2 * parts["teacher"] + 3 * parts["responses"]
    torch.testing.assert_close(total, want)
    assert all(float(part.detach()) > 0 for part in parts.values())


def test_blocks_do_not_learn_from_each_other():
    for blocks in (False, True):
        goals = Goals(teacher=0.0, responses=("conv1", "conv2"), blocks=blocks)
        objective = objective_of(goals, learner(1), learner(0))
        blobs = objective._run(batch())
        (gradient,) = torch.autograd.grad(
            blobs["conv2"].sum(), objective.student.layer("conv1").blobs[0], allow_unused=True
        )
        assert (gradient is None) == blocks
        whole = objective.student(batch(), ["conv2"])["conv2"]
        torch.testing.assert_close(blobs["conv2"], whole)


def test_goals_that_do_not_fit_are_refused():
    narrow = learner(text=LEARNER.replace("num_output: 16", "num_output: 12"))
    with pytest.raises(ModelError, match=r'blob "conv2" has the shape .*leave it out'):
        objective_of(Goals(responses=("conv*",)), narrow, learner())
    with pytest.raises(ModelError, match='no blob of the net matches the response "pool'):
        objective_of(Goals(responses=("pool*",)), learner(), learner())
    with pytest.raises(CaffeScnnError, match="the data have no labels"):
        trainer_of("[goals]\nlabels = 1.0\n", labelled=False)
    with pytest.raises(CaffeScnnError, match="nothing is minimised"):
        trainer_of("[goals]\nlabels = 0.0\nteacher = 0.0\n")
    with pytest.raises(CaffeScnnError, match="blocks needs responses"):
        Goals(blocks=True)


# --- recipes ---------------------------------------------------------------------------------

RECIPE = """
method = "rigl"
density = 0.1
layers = ["a*", "b"]
seed = 3
[train]
epochs = 2
steps = 30
dropout = true
[goals]
labels = 1
responses = ["x"]
[augment]
area = [0.5, 1]
"""


def test_recipes_survive_writing():
    recipe = FinetuneRecipe.parse(RECIPE)
    assert FinetuneRecipe.parse(recipe.text()) == recipe
    assert FinetuneRecipe.parse(FinetuneRecipe().text()) == FinetuneRecipe()
    assert recipe.method.density == 0.1
    assert recipe.layers == ("a*", "b")
    assert recipe.train.steps == 30
    assert recipe.augment.area == (0.5, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("metod = 1", r'unknown key "metod"; did you mean "method"'),
        ('method = "gradul"', "unknown fine-tuning method"),
        ("[train]\nepoch = 2", r'\[train\] unknown key "epoch"; did you mean "epochs"'),
        ("[train]\nepochs = true", r"\[train\] epochs must be a number, not True"),
        ('[train]\noptimizer = "lion"', r'optimizer must be "sgd" or "adam", not'),
        ('layers = "conv1"', "layers must be a list"),
        ("seed = -1", "seed must be in"),
        ("[augment]\nmirror = 1", "mirror must be true or false"),
        ("[train]\nbatch = 0", "batch must be at least 1"),
        ("[train", "not a TOML file"),
    ],
)
def test_mistakes_in_recipes_are_named(tmp_path, text, message):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(FormatError, match=message) as caught:
        FinetuneRecipe.read(tmp_path / "r.toml")
    assert "r.toml" in str(caught.value)
