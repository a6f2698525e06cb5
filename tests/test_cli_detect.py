"""The front door of detection: train, detect, evaluate; kill and go on."""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_support import answer, call, refusal
from detect_support import CLASSES, SIZE, write_devkit, write_net

from caffe_scnn.detect import many
from caffe_scnn.detect.checkpoint import Checkpoint
from caffe_scnn.detect.model_folder import DetectorModel
from caffe_scnn.evaluate.voc import Devkit, ImageSet, evaluate, read_results


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A devkit, a net, and a detector that was trained on them."""
    folder = tmp_path_factory.mktemp("detect")
    write_devkit(folder / "kit", 40)
    write_net(folder / "net")
    assert call(*train(folder, folder / "detector")).exit_code == 0
    return folder


def train(world: Path, out: Path, *more: object) -> list[object]:
    return [
        "detect-train", world / "net/deploy.prototxt", world / "net/weights.caffemodel",
        world / "kit", "-o", out, "--classes", ",".join(CLASSES), "--blob", "pool",
        "--scales", "96,160", "--levels", "1,2", "--coarse-levels", "1", "--keep", 20, "--c", "1",
        "--proposals", world / "kit/windows.npz", "--threads", 1, *more,
    ]  # fmt: skip


def detect(world: Path, out: Path, *more: object) -> list[object]:
    windows = world / "kit/windows.npz"
    return ["detect", world / "detector", "-o", out, "--proposals", windows, "--threads", 1, *more]


def mean_ap(world: Path, run: Path) -> float:
    kit = Devkit.open(world / "kit")
    image_set = ImageSet.of(kit.annotations("test"), CLASSES)
    results = read_results(run, "test", CLASSES, 2007)
    return float(evaluate(image_set, results).mean)


def test_a_trained_detector_finds_what_it_was_shown(world):
    run = world / "run"
    found = answer(*detect(world, run, "--voc", world / "kit"))
    assert found["images"] == 20
    assert set(found["seconds"]) == {"proposals", "conv", "pooling", "fc", "rest"}
    names = [stage["name"] for stage in found["stages"]]
    assert names == ["propose", "pyramid", "spp_pool", "reject", "spp_pool", "classify", "nms",
                     "regress", "nms"]  # fmt: skip
    assert found["stages"][3]["windows_out"] <= 20 * 20 < found["stages"][3]["windows_in"]
    assert mean_ap(world, run) > 0.9
    assert json.loads((run / "run.json").read_text())["images"] == 20
    one = json.loads((run / "detections/000020.json").read_text())["detections"]
    assert 0.9 < max(each["score"] for each in one) < 5  # an SVM's margin


def test_without_the_cascade_no_window_is_rejected(world):
    found = answer(*detect(world, world / "full", "--voc", world / "kit", "--no-cascade"))
    assert "reject" not in [stage["name"] for stage in found["stages"]]
    assert mean_ap(world, world / "full") > 0.9


def test_training_again_gives_the_same_bytes(world, tmp_path):
    assert call(*train(world, tmp_path / "again")).exit_code == 0
    for path in (world / "detector").iterdir():
        assert filecmp.cmp(path, tmp_path / "again" / path.name, shallow=False), path.name


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_training_that_was_killed_goes_on_to_the_same_bytes(world, tmp_path, monkeypatch, steps):
    whole = Checkpoint.step

    def step(self, name, compute):
        if sum(1 for _ in self.folder.glob("*.npz")) >= steps:
            raise KeyboardInterrupt
        return whole(self, name, compute)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "step", step)
        assert call(*train(world, out)).exit_code != 0
    assert not out.exists()
    assert call(*train(world, out)).exit_code == 0
    for path in (world / "detector").iterdir():
        assert filecmp.cmp(path, out / path.name, shallow=False), path.name


def test_a_run_that_was_killed_goes_on_to_the_same_results(world, tmp_path, monkeypatch):
    voc = ("--voc", world / "kit")
    call(*detect(world, tmp_path / "whole", *voc))
    one, seen = many._one, []

    def stop(*arguments):
        if len(seen) == 7:
            raise KeyboardInterrupt
        seen.append(arguments)
        one(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(many, "_one", stop)
        assert call(*detect(world, tmp_path / "out", *voc)).exit_code != 0
    assert not (tmp_path / "out" / "results").exists()
    with monkeypatch.context() as patch:
        patch.setattr(many, "_one", lambda *a: (seen.append(a), one(*a)))
        call(*detect(world, tmp_path / "out", *voc))
    assert len(seen) == 20
    for path in (tmp_path / "whole/results/VOC2007/Main").iterdir():
        other = tmp_path / "out/results/VOC2007/Main" / path.name
        assert filecmp.cmp(path, other, shallow=False), path.name


def test_processes_find_the_same(world, tmp_path):
    voc = ("--voc", world / "kit")
    call(*detect(world, tmp_path / "one", *voc))
    assert call(*detect(world, tmp_path / "two", *voc, "--jobs", 2)).exit_code == 0
    place = "results/VOC2007/Main"
    for path in (tmp_path / "one" / place).iterdir():
        assert filecmp.cmp(path, tmp_path / "two" / place / path.name, shallow=False)


def test_pictures_from_a_list_and_sliding_windows(world, tmp_path):
    pictures = sorted((world / "kit/VOC2007/JPEGImages").iterdir())[:2]
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in pictures))
    command = ["detect", world / "detector", "-o", tmp_path / "out", "--proposals", "sliding"]
    found = answer(*command, "--list", tmp_path / "list.txt", "--threshold", 0)
    assert found["images"] == 2
    data = json.loads((tmp_path / "out/detections" / f"{pictures[0].stem}.json").read_text())
    assert data["image"] == pictures[0].stem
    drawn = [cv2.imread(str(tmp_path / "out/pictures" / f"{path.stem}.jpg")) for path in pictures]
    assert all(picture.shape == (*SIZE, 3) for picture in drawn)
    assert cv2.imread(str(tmp_path / "out/sheet-1.jpg")) is not None
    assert all(set(one) == {"class", "score", "box"} for one in data["detections"])


def test_other_settings_need_another_folder(world, tmp_path):
    voc = ("--voc", world / "kit")
    call(*detect(world, tmp_path / "out", *voc))
    said = refusal(*detect(world, tmp_path / "out", *voc, "--no-cascade"))
    assert "another model or other settings" in said


def test_settings_of_detections_that_were_never_made_bind_nobody(world, tmp_path):
    (tmp_path / "broken.jpg").write_text("no picture")
    command = ["detect", world / "detector", tmp_path / "broken.jpg", "-o", tmp_path / "out"]
    for threshold in (0.1, 0.2):
        said = refusal(*command, "--proposals", "sliding", "--threshold", threshold)
        assert "broken.jpg" in said and "other settings" not in said


def test_a_compressed_backbone_drops_in(world, tmp_path):
    backbone = world / "detector" / "backbone.prototxt", world / "detector/backbone.caffemodel"
    options = ["--method", "magnitude", "--density", 0.6, "--layers", "conv"]
    done = call("compress", *backbone, *options, "-o", tmp_path / "small")
    assert done.exit_code == 0, done.output
    small = tmp_path / "small/deploy.prototxt", tmp_path / "small/weights.caffemodel"
    run = ("--voc", world / "kit", "--backbone", *small)
    assert call(*detect(world, tmp_path / "out", *run)).exit_code == 0
    assert mean_ap(world, tmp_path / "out") > 0.8


def test_fc_layers_of_the_net_are_used(world, tmp_path):
    options = ["--levels", "3", "--fc", "fc6", "--no-rejection"]
    assert call(*train(world, tmp_path / "fc", *options)).exit_code == 0
    model = DetectorModel.read(tmp_path / "fc")
    assert [layer.name for layer in model.fc] == ["pooled", "fc6", "relu6"]
    assert model.heads.weights.shape == (3, 8) and model.settings.keep is None
    arguments = detect(world, tmp_path / "run", "--voc", world / "kit")
    arguments[1] = tmp_path / "fc"
    found = answer(*arguments)
    assert "fc" in [stage["name"] for stage in found["stages"]]


def test_a_reduction_leaves_the_scores_nearly_as_they_are(world, tmp_path):
    assert call(*train(world, tmp_path / "small", "--reduction", 16)).exit_code == 0
    model = DetectorModel.read(tmp_path / "small")
    assert model.fc.layers[1].blobs[0].shape == (16, 30)
    arguments = detect(world, tmp_path / "run", "--voc", world / "kit")
    arguments[1] = tmp_path / "small"
    call(*arguments)
    assert mean_ap(world, tmp_path / "run") > 0.9


def test_a_softmax_head_gives_probabilities(world, tmp_path):
    assert call(*train(world, tmp_path / "soft", "--softmax")).exit_code == 0
    model = DetectorModel.read(tmp_path / "soft")
    assert model.settings.scores == "softmax" and model.heads.weights.shape == (4, 30)
    arguments = detect(world, tmp_path / "run", "--voc", world / "kit")
    arguments[1] = tmp_path / "soft"
    call(*arguments)
    found = json.loads((tmp_path / "run/detections/000020.json").read_text())["detections"]
    assert all(0.05 <= one["score"] <= 1 for one in found)
    assert mean_ap(world, tmp_path / "run") > 0.8


def test_a_recall_target_chooses_how_many_windows_pass(world, tmp_path):
    found = answer(*train(world, tmp_path / "det", "--recall", 1))
    model = DetectorModel.read(tmp_path / "det")
    assert 0 < model.settings.keep == found["keep"] <= 1
    step = tmp_path / "det.training/steps/rejection.npz"
    made = step.stat().st_mtime_ns
    less = answer(*train(world, tmp_path / "det", "--recall", 0.5, "--overwrite"))
    assert less["keep"] < found["keep"]
    assert step.stat().st_mtime_ns == made  # not computed again


def test_replaced_files_that_do_not_fit_are_refused(world, tmp_path):
    shutil.copytree(world / "detector", tmp_path / "detector")
    arrays = dict(np.load(tmp_path / "detector/heads.npz"))
    arrays["weights"] = arrays["weights"][:, :5]
    np.savez(tmp_path / "detector/heads.npz", **arrays)
    arguments = detect(world, tmp_path / "run", "--voc", world / "kit")
    arguments[1] = tmp_path / "detector"
    assert "weights has the shape (3, 5)" in refusal(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--blob", "conv9"], 'no blob "conv9"'),
        (["--levels", "0"], "numbers of bins, from 1"),
        (["--classes", "cat"], "no object of cat"),
        (["--set", "val"], "no such image set"),
        (["--fc", "fc6"], "takes 54 values, the pyramid gives 30"),
    ],
)
def test_training_refuses_what_cannot_work(world, tmp_path, options, message):
    assert message in refusal(*train(world, tmp_path / "out", *options))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--blob", "conv9"], ["--fc", "fc6"]])
def test_a_wrong_blob_is_found_before_the_first_picture(world, tmp_path, monkeypatch, options):
    monkeypatch.delattr("caffe_scnn.cli.detect_train.training_pictures")
    refusal(*train(world, tmp_path / "out", *options))


def test_detecting_refuses_what_cannot_work(world, tmp_path):
    assert "no detect.toml" in refusal("detect", world / "net", "a.jpg", "-o", tmp_path / "x")
    done = call(*detect(world, tmp_path / "x"))
    assert done.exit_code == 2 and "give IMAGE files" in done.stderr
    picture = next((world / "kit/VOC2007/JPEGImages").iterdir())
    for keep in (0, -3, 1.5, "nan", "inf"):
        done = call(*detect(world, tmp_path / "x", picture, "--keep", keep))
        assert done.exit_code == 2 and "keep must be a number of windows" in done.stderr
    said = refusal(*detect(world, tmp_path / "x", picture, picture))
    assert "has the name of" in said


def test_detecting_needs_no_learning_library(world, tmp_path):
    picture = next((world / "kit/VOC2007/JPEGImages").iterdir())
    arguments = [str(a) for a in detect(world, tmp_path / "out", picture)]
    code = (
        "import sys\nfrom caffe_scnn.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        "print({'sklearn', 'torch'} & {name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_share_of_each_pictures_windows_passes(world, tmp_path):
    voc = ("--voc", world / "kit")
    assert call(*detect(world, tmp_path / "out", *voc, "--keep", 0.25)).exit_code == 0
    stages = json.loads((tmp_path / "out/run.json").read_text())["stages"]
    (reject,) = (stage for stage in stages if stage["name"] == "reject")
    assert 0.2 < reject["windows_out"] / reject["windows_in"] <= 0.25
