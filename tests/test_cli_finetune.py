"""``caffe-scnn finetune`` from the outside: files in, files out, interrupted, refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from cli_support import answer, call, refusal

from caffe_scnn import load
from caffe_scnn.engine import Executor
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.layers.summary import summarize
from caffe_scnn.loading import open_net
from caffe_scnn.model import prototxt
from caffe_scnn.model.messages import fill
from caffe_scnn.proto import caffe_pb2 as pb
from caffe_scnn.save import save

pytest.importorskip("torch", reason="fine-tuning needs PyTorch (extra: train)")
from finetune_support import LEARNER, images, learner

RECIPE = 'method = "gradual"\ndensity = 0.25\n[train]\nepochs = {epochs}\nbatch = 8\n'
WRITTEN = {
    "curves.svg", "deploy.prototxt", "log.csv", "preprocess.toml", "recipe.toml",
    "solver.prototxt", "train_val.prototxt", "weights.caffemodel",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    source = images(40)
    np.savez(tmp_path / "labelled.npz", x=source._pixels, y=source.labels)
    np.save(tmp_path / "images.npy", source._pixels)
    (tmp_path / "model").mkdir()
    save(learner(), tmp_path / "model")
    (tmp_path / "recipe.toml").write_text(RECIPE.format(epochs=4))
    return tmp_path


def arguments(folder, data="labelled.npz", out="out"):
    model = folder / "model"
    return [
        "finetune", model / "deploy.prototxt", model / "weights.caffemodel",
        "-o", folder / out, "--data", folder / data, "--recipe", folder / "recipe.toml",
        "--resize", "none",
    ]  # fmt: skip


def test_a_model_is_trained_and_written(folder):
    found = answer(*arguments(folder))
    assert {path.name for path in (folder / "out").iterdir()} == WRITTEN
    assert found["steps"] == found["planned"] == 4 * (36 // 8)
    assert found["held_back"]["images"] == 4
    assert len(found["held_back"]["top1"]) == 2
    net = load(folder / "out" / "deploy.prototxt", folder / "out" / "weights.caffemodel")
    conv2 = net.layer("conv2").blobs[0]
    assert np.count_nonzero(conv2) == 0.25 * conv2.size
    assert found["nonzeros"][1] == summarize(net).total.nonzeros
    log = (folder / "out" / "log.csv").read_text().splitlines()
    assert log[0].startswith("step,density,held_back_loss,")
    assert len(log) == len(found["log"]) + 1
    assert "come to its end" in refusal(*arguments(folder), "--resume")
    text = call(*arguments(folder, out="text"))
    assert "same first class as the teacher" in text.stdout
    assert "step 16/16" in text.stderr


def test_without_labels_it_learns_from_the_net_itself(folder):
    found = answer(*arguments(folder, "images.npy"))
    assert found["held_back"]["top1"] is None
    assert "loss_teacher" in found["log"][-1]


def test_another_teacher_may_be_given(folder):
    (folder / "teacher").mkdir()
    save(learner(seed=4), folder / "teacher")
    weights = folder / "teacher" / "weights.caffemodel"
    teacher = ["--teacher", folder / "teacher" / "deploy.prototxt", "--teacher-weights", weights]
    found = answer(*arguments(folder, "images.npy"), *teacher)
    assert found["log"][0]["held_back_loss"] > 1e-3
    assert "together" in call(*arguments(folder), *teacher[:2]).stderr


def interrupt(folder):
    """Start a long training, and press Ctrl-C when it has begun."""
    (folder / "recipe.toml").write_text(RECIPE.format(epochs=5000))
    command = [sys.executable, "-m", "caffe_scnn", *map(str, arguments(folder))]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("step 10/") or "step 12/" in line:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    return process.returncode, rest


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C cannot be sent to one process")
def test_ctrl_c_leaves_a_checkpoint_to_go_on_from(folder):
    code, said = interrupt(folder)
    assert code == 130
    assert "--resume goes on from there" in said
    assert "Traceback" not in said
    assert {path.name for path in (folder / "out").iterdir()} == {"checkpoint.pt", "recipe.toml"}
    message = refusal(*arguments(folder))
    assert "--resume goes on" in message
    (folder / "recipe.toml").write_text(RECIPE.format(epochs=3))
    assert "another net, recipe or set of images" in refusal(*arguments(folder), "--resume")


def test_a_folder_without_a_checkpoint_is_not_to_be_resumed(folder):
    (folder / "out").mkdir()
    (folder / "out" / "recipe.toml").touch()
    message = refusal(*arguments(folder))
    assert "--overwrite begins anew" in message and "--resume" not in message


def test_mistakes_are_one_line(folder):
    assert "no checkpoint.pt to go on from" in refusal(*arguments(folder), "--resume")
    assert "missing" in refusal(*arguments(folder, "missing.npz"))
    (folder / "recipe.toml").write_text("[train]\nepoch = 1\n")
    assert 'recipe.toml: [train] unknown key "epoch"' in refusal(*arguments(folder))
    assert not (folder / "out").exists()


def solver_of(path) -> pb.SolverParameter:
    proto = pb.SolverParameter()
    fill(proto, prototxt.read(path).root, "the solver")
    return proto


def test_the_files_for_caffe_are_nets_of_both_phases_and_a_solver(folder):
    (folder / "recipe.toml").write_text(
        RECIPE.format(epochs=4)
        + 'schedule = "step"\nweight_decay = 0.01\n[augment]\nmirror = true\n'
    )
    answer(*arguments(folder), "--mean", "1,2,3", "--scale", "0.5")
    path = folder / "out" / "train_val.prototxt"
    for phase, ends in (("TRAIN", ["loss"]), ("TEST", ["loss", "accuracy"])):
        net = open_net(path, phase=phase)
        data = net.layers[0]
        assert (data.type, data.tops) == ("ImageData", ["data", "label"])
        assert data.proto.transform_param.mirror == (phase == "TRAIN")
        assert list(data.proto.transform_param.mean_value) == [1, 2, 3]
        assert data.proto.transform_param.scale == 0.5
        assert [layer.name for layer in net.layers[-len(ends) :]] == ends
        assert not any(layer.type == "Softmax" for layer in net)
        shapes = infer_shapes(net, {"data": (8, 3, 6, 6), "label": (8,)})
        assert shapes.blobs["loss"] == ()
    trained = load(path, folder / "out" / "weights.caffemodel", inputs={"data": (2, 3, 6, 6)})
    assert trained.layer("conv2").blobs[0].any()
    solver = solver_of(folder / "out" / "solver.prototxt")
    assert (solver.net, solver.type, solver.lr_policy) == ("train_val.prototxt", "SGD", "multistep")
    assert list(solver.stepvalue) == [5, 10]
    assert solver.max_iter == 16
    assert solver.weight_decay == pytest.approx(0.01)


def test_the_engine_runs_what_was_trained(folder):
    answer(*arguments(folder))
    net = load(folder / "out" / "deploy.prototxt", folder / "out" / "weights.caffemodel")
    x = images(5)._pixels
    assert Executor(net).run({"data": x})["prob"].sum(axis=1) == pytest.approx(1.0)


def test_two_processes_train_the_net_of_one(folder):
    shared = 'method = "gradual"\ndensity = 0.5\nevery = 1\n[train]\nepochs = 2\nbatch = 8\n'
    more = "dropout = false\nlearning_rate = 0.02\n[augment]\nmirror = true\n"
    (folder / "recipe.toml").write_text(shared + more)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    program = ["--nproc-per-node", "2", "-m", "caffe_scnn", *map(str, arguments(folder)), "--json"]
    done = subprocess.run(
        [*launcher, *program, "--device", "cpu"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)  # of one process only
    alone = answer(*arguments(folder, out="alone"))
    for row, other in zip(found["log"], alone["log"], strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    nets = [load(folder / n / "deploy.prototxt", folder / n / "weights.caffemodel")
            for n in ("out", "alone")]  # fmt: skip
    for layer, other in zip(*nets, strict=True):
        for blob, also in zip(layer.blobs, other.blobs, strict=True):
            np.testing.assert_allclose(blob, also, rtol=1e-4, atol=1e-6)


def teacher(folder, **options):
    """Write a teacher, and return the options that name it."""
    (folder / "teacher").mkdir()
    save(learner(**options), folder / "teacher")
    files = folder / "teacher" / "deploy.prototxt", folder / "teacher" / "weights.caffemodel"
    return ["--teacher", files[0], "--teacher-weights", files[1]]


def test_the_folder_of_a_model_that_is_read_is_not_written_to(folder):
    before = (folder / "model" / "weights.caffemodel").read_bytes()
    guide = teacher(folder, seed=4)
    for out in ("model", "teacher"):
        message = refusal(*arguments(folder, "images.npy", out), "--overwrite", *guide)
        assert "which is read; choose another folder" in message
    assert (folder / "model" / "weights.caffemodel").read_bytes() == before


@pytest.mark.parametrize("wrong", [-1, 3])
def test_labels_that_are_no_classes_are_refused_before_anything_is_written(folder, wrong):
    source = images(40)
    labels = source.labels.copy()
    labels[[4, 9]] = wrong  # of every ten the last is held back
    np.savez(folder / "wrong.npz", x=source._pixels, y=labels)
    assert f"has the label {wrong}" in refusal(*arguments(folder, "wrong.npz"))
    assert not (folder / "out").exists()
    held = refusal(*arguments(folder), "--held-back", folder / "wrong.npz")
    assert f"image 5 of 40 has the label {wrong}" in held


def test_goals_of_labels_are_not_judged_without_labels(folder):
    message = refusal(*arguments(folder), "--held-back", folder / "images.npy")
    assert "the images held back have none" in message
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("change", "blob"),
    [
        (("num_output: 3 }", "num_output: 5 }"), "prob"),
        (("dim: 6 dim: 6", "dim: 8 dim: 8"), "data"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(folder, change, blob):
    text = LEARNER.replace(*change)
    message = refusal(*arguments(folder, "images.npy"), *teacher(folder, text=text))
    assert f'the teacher does not fit: its "{blob}"' in message
    assert not (folder / "out").exists()


def test_a_training_that_fails_at_once_leaves_nothing(folder):
    broken = images(40)._pixels
    (folder / "pictures").mkdir()
    (folder / "list.txt").write_text("".join(f"{i}.png 0\n" for i in range(len(broken))))
    message = refusal(*arguments(folder, "list.txt"), "--root", folder / "pictures")
    assert "png" in message
    assert not (folder / "out").exists()
