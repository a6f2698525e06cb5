"""compress with a target for the whole net: met, planned, checked, interrupted; what it says."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_support import TINY, answer, call, make_model, refusal

from caffe_scnn.batch import ModelFiles
from caffe_scnn.decompose import Recipe
from caffe_scnn.decompose.costs import packed_bytes
from caffe_scnn.decompose.fit import Progress
from caffe_scnn.loading import load

WIDER = TINY.replace("num_output: 4", "num_output: 8").replace("num_output: 6", "num_output: 16")


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    return make_model(tmp_path / "model", WIDER)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(30):
        coarse = rng.integers(0, 255, (4, 4, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)
        cv2.imwrite(str(folder / f"{i:02}.png"), coarse)
    (tmp_path / "list.txt").write_text("\n".join(f"{i:02}.png {i % 5}" for i in range(30)))
    return folder


def asked(model: ModelFiles, out: Path, pictures: Path, *options: object) -> list[object]:
    files = [model.prototxt, model.caffemodel, "-o", out, "--images", pictures, "--layers", "*"]
    settings = ["--method", "obs", "--mean", "128", "--scale", "0.01", "--threads", "1"]
    return ["compress", *files, *settings, *options]


def test_a_size_is_kept_and_everything_is_said(
    model: ModelFiles, pictures: Path, tmp_path: Path
) -> None:
    data = answer(*asked(model, tmp_path / "out", pictures, "--size", "3 kB"))
    written = load(tmp_path / "out" / "deploy.prototxt", tmp_path / "out" / "weights.caffemodel")
    assert data["packed_bytes"]["after"] == packed_bytes(written) <= 3000
    assert data["packed_bytes"]["after"] > 2700
    assert data["time"]["ratio"] == data["time"]["before_ms"] / data["time"]["after_ms"]
    for layer in data["layers"]:
        assert layer["before_ms"] > 0 and layer["after_ms"] > 0
        assert 0 < layer["response_error"] < 1
        assert layer["after"]["macs"] < layer["before"]["macs"]
    assert {"same_top1", "divergence", "images"} == data["held_back"]["agreement"].keys()
    assert data["check"] is None
    assert not (tmp_path / "out.resume").exists()


@pytest.mark.parametrize("labels", [False, True])
def test_a_drop_is_checked_on_images_of_its_own(
    model: ModelFiles, pictures: Path, tmp_path: Path, labels: bool
) -> None:
    options = ["--max-drop", "40%", "--spare", "macs", "--repeat", "0"]
    if labels:
        options += ["--list", str(tmp_path / "list.txt")]
    data = answer(*asked(model, tmp_path / "out", pictures, *options))
    check = data["check"]
    assert check["agreement"]["images"] == 6 and data["held_back"]["agreement"]["images"] == 3
    dropped = (
        check["top1"][0] - check["top1"][1] if labels else 100 - check["agreement"]["same_top1"]
    )
    assert dropped <= 40
    assert data["total"]["macs_after"] < data["total"]["macs_before"]
    recipe = Recipe.read(tmp_path / "out" / "recipe.toml")
    assert not recipe.searched and recipe.overrides


def test_a_dry_run_plans_and_writes_nothing(
    model: ModelFiles, pictures: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = call(*asked(model, tmp_path / "out", pictures, "--macs", "0.5", "--dry-run"))
    assert result.exit_code == 0 and "Predicted, not made" in result.stdout
    data = answer(*asked(model, tmp_path / "out", pictures, "--macs", "0.5", "--dry-run"))
    assert [layer["layer"] for layer in data["layers"]] == ["conv1", "conv2", "fc"]
    plain = call(*asked(model, tmp_path / "out", pictures, "--density", "0.3", "--dry-run"))
    assert "30.0 %" in plain.stdout and "Nothing was written" in plain.stdout
    assert sorted(tmp_path.rglob("*")) == before
    # The plan is what happens.
    assert Recipe.parse(data["recipe"]).overrides.keys() <= {"conv1", "conv2", "fc"}
    done = answer(*asked(model, tmp_path / "out", pictures, "--macs", "0.5", "--repeat", "0"))
    planned = sum(layer["after"] for layer in data["layers"])
    assert done["total"]["macs_after"] == pytest.approx(planned, rel=0.02)


def test_after_ctrl_c_the_same_command_goes_on(
    model: ModelFiles, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--macs", "0.5", "--repeat", "0")
    answer(*asked(model, tmp_path / "whole", pictures, *options))
    tell, told = Progress.tell, []

    def interrupted(self: Progress, name: str) -> None:
        told.append(name)
        if len(told) == 5:
            raise KeyboardInterrupt
        tell(self, name)

    monkeypatch.setattr(Progress, "tell", interrupted)
    result = call(*asked(model, tmp_path / "out", pictures, *options))
    assert result.exit_code == 130
    assert f"what is finished lies in {tmp_path / 'out.resume'}" in result.stderr
    assert (tmp_path / "out.resume").is_dir() and not (tmp_path / "out").exists()
    monkeypatch.undo()
    again = call(*asked(model, tmp_path / "out", pictures, *options))
    assert again.exit_code == 0 and "going on: 5 pieces are in" in again.stderr
    for name in ("deploy.prototxt", "weights.caffemodel", "recipe.toml"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "out.resume").exists()


def test_other_pictures_do_not_go_on(
    model: ModelFiles, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Progress, name: str) -> None:
        if name == "conv2":
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "tell", interrupted)
    call(*asked(model, tmp_path / "out", pictures, "--density", "0.5"))
    monkeypatch.undo()
    (pictures / "29.png").unlink()
    again = call(*asked(model, tmp_path / "out", pictures, "--density", "0.5"))
    assert again.exit_code == 0 and "going on" not in again.stderr


def test_targets_that_cannot_be_are_refused(
    model: ModelFiles, pictures: Path, tmp_path: Path
) -> None:
    def said(*options: object) -> str:
        return refusal(*asked(model, tmp_path / "out", pictures, *options))

    assert "not macs and speedup" in said("--macs", "0.5", "--speedup", "2")
    assert "speedup must be above 1" in said("--speedup", "0.5")
    assert "cannot get below" in said("--size", "100B")
    blind = ["compress", model.prototxt, model.caffemodel, "-o", tmp_path / "out"]
    result = call(*blind, "--max-drop", "1%")
    assert result.exit_code == 2 and "--max-drop needs --images" in result.stderr
    for option, text in (("--size", "big"), ("--max-drop", "little")):
        assert call(*blind, option, text).exit_code == 2
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.resume").exists()


def test_labels_that_are_no_classes_are_refused(
    model: ModelFiles, pictures: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "wrong.txt"
    listed.write_text("\n".join(f"{i:02}.png {i % 5 + 1}" for i in range(30)))
    options = ["--list", listed, "--max-drop", "1%"]
    message = refusal(*asked(model, tmp_path / "out", pictures, *options))
    assert "image 5 of 30 has the label 5, but the net has 5 classes (0 … 4)" in message
    assert not (tmp_path / "out").exists()


def test_what_is_spared_needs_a_drop(model: ModelFiles, pictures: Path, tmp_path: Path) -> None:
    result = call(*asked(model, tmp_path / "out", pictures, "--macs", "0.5", "--spare", "size"))
    assert result.exit_code == 2
    assert "--max-drop" in result.stderr


def test_values_that_are_not_finite_are_refused(model: ModelFiles, tmp_path: Path) -> None:
    images = np.zeros((20, 3, 8, 8), np.float32)
    images[6, 0, 0, 0] = np.nan
    for name, arrays in (
        ("x.npz", {"x": images}),
        ("xy.npz", {"x": images, "y": np.zeros(20, int)}),
    ):
        np.savez(tmp_path / name, **arrays)
        files = [model.prototxt, model.caffemodel, "-o", tmp_path / "out"]
        message = refusal("compress", *files, "--method", "obs", "--input", tmp_path / name)
        assert name in message and "image 7 of 20 holds values that are not finite" in message


def test_a_picture_that_is_missing_is_named_as_such(
    model: ModelFiles, pictures: Path, tmp_path: Path
) -> None:
    (pictures / "03.png").unlink()
    listed = ["--list", tmp_path / "list.txt"]
    message = refusal(*asked(model, tmp_path / "out", pictures, "--density", "0.5", *listed))
    assert "03.png" in message and "cannot be written" not in message


def test_the_help_says_defaults_that_differ_by_method() -> None:
    help_text = " ".join(call("compress", "--help").stdout.split())
    assert "[scnn: True, magnitude: False]" in help_text
