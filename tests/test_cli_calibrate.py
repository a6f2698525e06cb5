"""compress with images: what it reads, says, repeats and refuses."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_support import answer, call, make_model, refusal

from caffe_scnn.batch import ModelFiles


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    return make_model(tmp_path / "model")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(20):
        cv2.imwrite(str(folder / f"{i:02}.png"), rng.integers(0, 255, (8, 8, 3), np.uint8))
    (folder / "readme.txt").write_text("not a picture")
    lines = [f"{i:02}.png {i % 5}" for i in range(20)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    return folder


def asked(model: ModelFiles, out: Path, *options: object) -> list[object]:
    files = [model.prototxt, model.caffemodel, "-o", out, "--repeat", "0"]
    return ["compress", *files, "--method", "obs", "--mean", "128", "--scale", "0.01", *options]


def test_pictures_are_looked_at_and_some_held_back(
    model: ModelFiles, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    data = answer(*asked(model, out, "--density", "0.5", "--images", pictures))
    assert 0 < data["layers"][0]["response_error"] < 1
    assert data["held_back"]["agreement"]["images"] == 2
    assert data["held_back"]["top1"] is None
    blind = answer(*asked(model, tmp_path / "blind", "--density", "0.5"))
    assert blind["held_back"] is None


def test_a_list_brings_labels(model: ModelFiles, pictures: Path, tmp_path: Path) -> None:
    options = ("--density", "1", "--images", pictures, "--list", tmp_path / "list.txt")
    result = call(*asked(model, tmp_path / "out", *options))
    assert result.exit_code == 0
    assert "on 2 images held back: same first class on 100.00 %" in result.stdout
    assert "top-1" in result.stdout


def test_the_resolved_recipe_and_the_same_images_repeat_the_bytes(
    model: ModelFiles, pictures: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--macs", "0.6", "--layers", "*", "--images", pictures)
    data = answer(*asked(model, first, *options))
    assert data["total"]["macs_after"] <= 0.62 * data["total"]["macs_before"]
    again = ("--recipe", first / "recipe.toml", "--images", pictures)
    answer(*[a for a in asked(model, second, *again) if a not in ("--method", "obs")])
    for name in ("deploy.prototxt", "weights.caffemodel", "recipe.toml"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_do_as_well(model: ModelFiles, tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (10, 3, 8, 8), np.uint8)
    path = tmp_path / f"pixels.{suffix}"
    if suffix == "npy":
        np.save(path, pixels)
    else:
        np.savez(path, x=pixels, y=np.zeros(10, np.int64))
    data = answer(*asked(model, tmp_path / "out", "--density", "0.5", "--input", path))
    assert (data["held_back"]["top1"] is None) == (suffix == "npy")


def test_without_images_it_says_what_that_costs(model: ModelFiles, tmp_path: Path) -> None:
    result = call(*asked(model, tmp_path / "out", "--density", "0.5"))
    assert result.exit_code == 0
    assert "warning: no --images" in result.stderr


def test_what_cannot_be_is_refused(model: ModelFiles, pictures: Path, tmp_path: Path) -> None:
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    images = ("--images", pictures)
    assert "neither pictures" in refusal(*asked(model, out, "--density", "0.5", "--images", empty))
    assert "cannot get below" in refusal(*asked(model, out, "--macs", "0.01", *images))
    assert "not both" in refusal(*asked(model, out, "--macs", "0.5", "--density", "0.5"))
    assert "macs must be in" in refusal(*asked(model, out, "--macs", "2"))
    assert "a pattern is" in refusal(*asked(model, out, "--density", "0.5", "--pattern", "3"))
    assert not out.exists()
