"""``evaluate voc`` and ``evaluate proposals``: tables, JSON, plots, refusals."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from cli_support import answer, call, refusal
from voc_support import an_object, make_devkit, make_results

from caffe_scnn.detect.proposals import read_proposals
from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.voc import Devkit, ImageSet, evaluate, read_results
from caffe_scnn.evaluate.voc.bootstrap import bootstrap_difference, resampled_mean
from caffe_scnn.evaluate.voc.run_record import read_run_record

CAT, DOG = (11, 11, 40, 40), (51, 11, 90, 40)
IMAGES = {
    "a": [an_object("cat", CAT), an_object("dog", DOG, difficult=True)],
    "b": [an_object("cat", CAT), an_object("dog", DOG)],
    "c": [],
}
PERFECT = {"cat": "a .9 11 11 40 40\nb .8 11 11 40 40\n", "dog": "b .9 51 11 90 40\n"}
HALF = {"cat": "c .9 11 11 40 40\na .8 11 11 40 40\n", "dog": "a .9 51 11 90 40\n"}
RUN = {
    "images": 2,
    "seconds": {"proposals": 2.0, "conv": 0.2, "pooling": 0.02, "fc": 0.1, "rest": 0.01},
    "stages": [
        {"name": "propose", "windows_in": 0, "windows_out": 1000, "seconds": 2.0},
        {"name": "reject", "windows_in": 1000, "windows_out": 100, "seconds": 0.01},
    ],
    "settings": {"scales": [480]},
}
CLASSES = ("--classes", "cat,dog")


@pytest.fixture
def devkit(tmp_path):
    make_devkit(tmp_path / "kit", IMAGES)
    pictures = tmp_path / "kit" / "VOC2007" / "JPEGImages"
    pictures.mkdir()
    for image in IMAGES:
        picture = np.full((60, 100, 3), 128, np.uint8)
        cv2.rectangle(picture, (10, 10), (39, 39), (200, 10, 10), -1)
        cv2.imwrite(str(pictures / f"{image}.png"), picture)
    return tmp_path / "kit"


def test_one_folder(devkit, tmp_path):
    folder = make_results(tmp_path / "good", PERFECT)
    found = answer("evaluate", "voc", folder, devkit, *CLASSES)
    assert found["mean"] == 1
    assert found["ap"] == {"cat": 1, "dog": 1}
    assert (found["metric"], found["rules"], found["overlap"]) == ("voc07", "devkit", 0.5)
    assert (found["year"], found["set"], found["images"]) == (2007, "test", 3)
    assert found["run"] is None
    dog = found["classes"][1]
    assert (dog["objects"], dog["difficult"], dog["detections"], dog["hits"]) == (1, 1, 1, 1)
    text = call("evaluate", "voc", folder, devkit, *CLASSES).stdout
    assert "Windows and times" not in text
    assert text.endswith("Metric voc07, rules of devkit, overlap 0.5.\n")


def test_several_folders_with_their_runs(devkit, tmp_path):
    good, half = make_results(tmp_path / "good", PERFECT), make_results(tmp_path / "half", HALF)
    (half / "run.json").write_text(json.dumps(RUN))
    line = ("evaluate", "voc", good, half, devkit, *CLASSES, "--metric", "area")
    found = answer(*line, "--bootstrap", 50)
    first, second = found["results"]
    assert (first["name"], second["name"]) == ("good", "half")
    assert (first["mean"], second["ap"]) == (1, {"cat": 0.25, "dog": 0})
    assert first["difference"] is None
    assert second["difference"]["mean"] == pytest.approx(-0.875)
    assert -1 <= second["difference"]["low"] <= -0.875 <= second["difference"]["high"] <= 0
    run = second["run"]
    assert (run["images"], run["windows"], run["kept"]) == (2, 500, 50)
    assert run["milliseconds"]["conv"] == pytest.approx(100)
    table = call(*line).stdout.split("\n\n")[1].splitlines()
    assert table[0] == "Windows and times per image"
    assert table[-2].split() == ["good", "100.00", *["-"] * 9]
    shown = ["half", "12.50", "500", "50", "90.00", "1000.0", "100.0", "10.0", "50.0", "5.0"]
    assert table[-1].split() == [*shown, "1165.0"]


def test_folders_of_one_name_are_told_apart(devkit, tmp_path):
    folders = [make_results(tmp_path / part / "results", PERFECT) for part in "xy"]
    found = answer("evaluate", "voc", *folders, devkit, *CLASSES)
    assert [one["name"] for one in found["results"]] == [str(folder) for folder in folders]


def test_metric_follows_the_year(tmp_path):
    make_devkit(tmp_path, IMAGES, 2012)
    folder = make_results(tmp_path / "results" / "VOC2012" / "Main", PERFECT)
    found = answer("evaluate", "voc", folder, tmp_path, *CLASSES)
    assert found["metric"] == "area"
    assert found["mean"] == 1


def test_a_class_of_which_nothing_is_found_has_recall_zero(devkit, tmp_path):
    folder = make_results(tmp_path / "r", {**PERFECT, "dog": ""})
    found = answer("evaluate", "voc", folder, devkit, *CLASSES)
    dog = next(row for row in found["classes"] if row["class"] == "dog")
    assert (dog["recall"], dog["ap"], dog["detections"]) == (0, 0, 0)


def test_a_class_that_the_set_lacks(devkit, tmp_path):
    folder = make_results(tmp_path / "r", {**PERFECT, "cow": ""})
    (tmp_path / "names.txt").write_text("cat\ncow\n")
    line = ("evaluate", "voc", folder, devkit, "--classes", tmp_path / "names.txt")
    assert answer(*line)["ap"] == {"cat": 1, "cow": None}
    assert "Not in the set, nor in the mean: cow." in call(*line).stdout


def test_precision_recall_plot(devkit, tmp_path):
    folders = [make_results(tmp_path / n, r) for n, r in (("good", PERFECT), ("half", HALF))]
    plot = tmp_path / "pr.svg"
    call("evaluate", "voc", *folders, devkit, *CLASSES, "--plot", plot)
    text = plot.read_text()
    for words in ("good 100.0 %", "half 27.3 %", "recall", "precision", "cat", "dog"):
        assert words in text


def test_refusals(devkit, tmp_path):
    folder = make_results(tmp_path / "r", PERFECT)
    line = ("evaluate", "voc", folder, devkit)
    assert "no results of aeroplane and 17 more" in refusal(*line)
    assert "--classes" in call(*line, "--classes", "cat,Cat ").stderr
    assert "*_det_val_<class>.txt" in refusal(*line, *CLASSES, "--set", "val")
    assert "VOC2010 is wanted" in refusal(*line, *CLASSES, "--year", 2010)
    assert "written as .png or .svg" in refusal(*line, *CLASSES, "--plot", tmp_path / "a.pdf")
    assert "no object of cow" in refusal(
        "evaluate", "voc", make_results(tmp_path / "s", {"cow": ""}), devkit, "--classes", "cow"
    )
    (folder / "run.json").write_text("{")
    assert "run.json:1:2: not JSON" in refusal(*line, *CLASSES)


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": 0},
        {"images": "many"},
        {"stages": []},
        {"stages": [{}]},
        {"seconds": {"lunch": 1}},
        {"seconds": [1]},
    ],
)
def test_a_record_that_is_wrong(tmp_path, wrong):
    (tmp_path / "run.json").write_text(json.dumps({**RUN, **wrong}))
    with pytest.raises(FormatError, match=r"run\.json: not a record of a detection run"):
        read_run_record(tmp_path)


def test_a_record_without_a_cascade(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({**RUN, "stages": RUN["stages"][:1]}))
    record = read_run_record(tmp_path)
    assert record.kept is None
    assert record.rejected is None
    assert record.windows == 500
    assert record.total == pytest.approx(1165)


def test_drawing_images_twice_is_evaluating_them_twice(devkit, tmp_path):
    """The weights of the bootstrap do what copies of the images would."""
    lines = {"cat": HALF["cat"], "dog": PERFECT["dog"]}
    make_results(tmp_path / "r", lines)
    lines = {
        name: text + text.replace("a .", "a2 .").replace("c .", "c2 .")
        for name, text in lines.items()
    }
    make_results(tmp_path / "r2", lines)
    twice = {"a": IMAGES["a"], "a2": IMAGES["a"], "b": IMAGES["b"], "c": [], "c2": []}
    make_devkit(tmp_path / "kit2", twice)

    def evaluated(kit, folder):
        image_set = ImageSet.of(Devkit.open(kit).annotations("test"), ["cat", "dog"])
        results = read_results(folder, "test", ["cat", "dog"], 2007)
        return image_set, evaluate(image_set, results)

    image_set, evaluation = evaluated(devkit, tmp_path / "r")
    assert resampled_mean(image_set, evaluation, np.array([1, 1, 1])) == evaluation.mean
    _, copied = evaluated(tmp_path / "kit2", tmp_path / "r2")
    drawn = resampled_mean(image_set, evaluation, np.array([2, 1, 2]))
    assert drawn == pytest.approx(copied.mean)
    assert np.isnan(resampled_mean(image_set, evaluation, np.array([0, 0, 3])))
    same = bootstrap_difference(image_set, evaluation, evaluation, 20)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_proposals(devkit, tmp_path):
    line = ("evaluate", "proposals", devkit, *CLASSES, "--cache", tmp_path / "cache")
    written = tmp_path / "windows.npz"
    found = answer(*line, "--at", "0.5,0.9", "--write", written, "--jobs", 2)
    cat = found["classes"][0]
    assert (cat["class"], cat["objects"]) == ("cat", 2)
    assert cat["recall 0.5"] == cat["recall 0.9"] == 1  # the drawn rectangle is found
    assert found["images"] == 3
    assert set(found["recall"]) == {"0.5", "0.9"}
    assert list(read_proposals(written)) == ["a", "b", "c"]
    assert len(list((tmp_path / "cache").iterdir())) == 1  # three times the same picture
    again = answer(*line, "--at", "0.5,0.9", "--proposals", written, "--plot", tmp_path / "r.svg")
    assert again["classes"] == found["classes"]
    assert "overlap" in (tmp_path / "r.svg").read_text()
    text = call(*line, "--proposals", "sliding").stdout
    assert text.splitlines()[0].startswith("Recall: objects")


def test_refusals_of_proposals(devkit, tmp_path):
    line = ("evaluate", "proposals", devkit, *CLASSES)
    assert "windows are written as" in refusal(*line, "--write", tmp_path / "w.mat")
    assert "w.npz" in refusal(*line, "--proposals", tmp_path / "w.npz")
    assert "no object of cow" in refusal("evaluate", "proposals", devkit, "--classes", "cow")
    assert "with commas" in call(*line, "--at", "0.5;0.6").stderr
    (devkit / "VOC2007" / "JPEGImages" / "b.png").write_bytes(b"no picture")
    assert "b.png: not a picture" in refusal(*line, "--proposals", "sliding")
