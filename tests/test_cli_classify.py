"""classify and evaluate classify: pictures, lists, arrays, settings beside the model."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_support import BRIGHTEST, answer, call, make_model, refusal

from caffe_scnn.batch import ModelFiles

# One bright channel in BGR: the net of BRIGHTEST answers 0 for blue, 1 for green, 2 for red.
COLOURS = {"blue": (200, 0, 0), "green": (0, 150, 0), "red sky": (0, 0, 100)}


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    return make_model(tmp_path / "model", BRIGHTEST)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in COLOURS.items():
        cv2.imwrite(str(folder / f"{name}.png"), np.full((6, 8, 3), colour, np.uint8))
    (folder / "val.txt").write_text("blue.png 0\ngreen.png 1\nred sky.png 2\nblue.png 1\n")
    return folder


def test_classify_ranks_the_classes_of_each_picture(model: ModelFiles, pictures: Path) -> None:
    images = [pictures / "red sky.png", pictures / "blue.png"]
    data = answer("classify", model.prototxt, model.caffemodel, *images, "--top", "2")
    assert [image["image"] for image in data["images"]] == [str(path) for path in images]
    assert [image["top"][0]["class"] for image in data["images"]] == [2, 0]
    assert data["images"][1]["top"] == [
        {"class": 0, "score": 200.0, "label": None},
        {"class": 1, "score": 0.0, "label": None},
    ]


def test_classify_shows_names(model: ModelFiles, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("n0 blue, azure\nn1 green\nn2 red\n")
    result = call(
        "classify",
        model.prototxt,
        model.caffemodel,
        pictures / "green.png",
        "--labels",
        tmp_path / "words.txt",
        "--mean",
        "1,2,3",
        "--scale",
        "0.5",
    )
    assert result.exit_code == 0
    first = result.stdout.splitlines()[2].split()
    assert first[1:] == ["1", "1", "74", "n1", "green"]
    assert "(pixel - [1, 2, 3]) * 0.5" in result.stderr


def test_evaluate_counts_hits(model: ModelFiles, pictures: Path) -> None:
    data = answer(
        "evaluate",
        "classify",
        model.prototxt,
        model.caffemodel,
        "--images",
        pictures,
        "--list",
        pictures / "val.txt",
        "--batch",
        "3",
    )
    assert (data["top1"], data["top5"], data["images"]) == (75.0, 100.0, 4)
    assert data["seconds"] > 0


def test_the_order_of_channels_matters(model: ModelFiles, pictures: Path) -> None:
    data = answer(
        "evaluate",
        "classify",
        model.prototxt,
        model.caffemodel,
        "--list",
        pictures / "val.txt",
        "--channels",
        "rgb",
    )
    assert data["top1"] == 25.0  # only green is where it was


def test_settings_are_kept_beside_the_model_and_found_again(
    model: ModelFiles, pictures: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "mean.npy", np.array([200.0, 0.0, 0.0]))
    evaluate = (
        "evaluate",
        "classify",
        model.prototxt,
        model.caffemodel,
        "--list",
        pictures / "val.txt",
    )
    asked = ("--mean", tmp_path / "mean.npy", "--resize", "6", "--crop", "4", "--save-preprocess")
    first = answer(*evaluate, *asked)
    assert first["top1"] == 75.0  # blue minus the mean is 0 everywhere: class 0 as the first
    text = (model.folder / "preprocess.toml").read_text()
    assert 'mean = "../mean.npy"' in text
    result = call(*evaluate)
    assert "resized to 6x6, 4x4 in the middle, (pixel - [200, 0, 0])" in result.stderr
    result = call(*evaluate, "--mean", "0")  # what is given goes first, the rest stays
    assert "resized to 6x6, 4x4 in the middle, (pixel - [0, 0, 0])" in result.stderr


def test_a_mean_is_named_from_where_one_stands(
    model: ModelFiles, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "mean.npy", np.array([200.0, 0.0, 0.0]))
    monkeypatch.chdir(tmp_path)
    arguments = ("classify", model.prototxt, model.caffemodel, pictures / "blue.png")
    first = answer(*arguments, "--mean", "mean.npy", "--save-preprocess")
    monkeypatch.chdir(pictures)
    assert answer(*arguments) == first
    assert first["images"][0]["top"][0]["score"] == 0


def test_evaluate_takes_arrays(model: ModelFiles, tmp_path: Path) -> None:
    x = np.zeros((3, 3, 4, 4), np.uint8)
    x[[0, 1, 2], [0, 1, 2]] = 255
    np.savez(tmp_path / "d.npz", x=x, y=np.array([0, 1, 1]))
    arguments = (
        "evaluate",
        "classify",
        model.prototxt,
        model.caffemodel,
        "--input",
        tmp_path / "d.npz",
    )
    assert answer(*arguments)["top1"] == pytest.approx(200 / 3)
    # 255 - 300 < 0 for blue: the mean is applied to arrays too
    assert answer(*arguments, "--mean", "300,0,0")["top1"] == pytest.approx(100 / 3)


def test_many_models_are_evaluated_alike(model: ModelFiles, pictures: Path) -> None:
    make_model(model.folder.parent / "other", BRIGHTEST)
    data = answer(
        "evaluate",
        "classify",
        "--models",
        model.folder.parent / "*/deploy.prototxt",
        "--list",
        pictures / "val.txt",
    )
    assert [m["result"]["top1"] for m in data["models"]] == [75.0, 75.0]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("", "empty"),
        ("nothing.png 0\n", "nothing.png"),
        ("blue.png 7\n", "label 7"),
        ("blue.png\n", "val2.txt:1"),
        ("val.txt 0\n", "val.txt"),
    ],
)
def test_bad_lists_are_refused(model: ModelFiles, pictures: Path, text: str, phrase: str) -> None:
    (pictures / "val2.txt").write_text(text)
    line = refusal(
        "evaluate", "classify", model.prototxt, model.caffemodel, "--list", pictures / "val2.txt"
    )
    assert phrase in line


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (("--mean", "none.npy"), "none.npy"),
        (("--mean", "1,2"), "3 channels"),
        (("--crop", "5"), "--crop 4"),
        (("--resize", "huge"), "keep"),
        (("--channels", "gray"), "--channels"),
        (("--scale", "0"), "scale"),
        (("--blob", "conv7"), "conv7"),
    ],
)
def test_bad_settings_are_refused(
    model: ModelFiles, pictures: Path, options: tuple[str, ...], phrase: str
) -> None:
    line = refusal("classify", model.prototxt, model.caffemodel, pictures / "blue.png", *options)
    assert phrase in line


def test_names_of_another_number_of_classes_are_refused(
    model: ModelFiles, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "words.txt").write_text("one\ntwo\n")
    line = refusal(
        "classify",
        model.prototxt,
        model.caffemodel,
        pictures / "blue.png",
        "--labels",
        tmp_path / "words.txt",
    )
    assert "2 class names" in line
