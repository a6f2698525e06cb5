"""Pairs of files, and one outcome for each model."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_scnn.batch import ModelFiles, Status, explain, find_models, run_all, summarize
from caffe_scnn.batch.models import find_caffemodel
from caffe_scnn.errors import FormatError, ModelError
from caffe_scnn.report import Report


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def pairs(pattern: Path | str) -> dict[str, str | None]:
    return {m.name: m.caffemodel.name if m.caffemodel else None for m in find_models(str(pattern))}


def test_the_same_name_makes_a_pair(tmp_path: Path) -> None:
    touch(tmp_path, "a.prototxt", "a.caffemodel", "b.prototxt", "b.caffemodel", "c.prototxt")
    assert pairs(tmp_path / "*.prototxt") == {
        "a": "a.caffemodel",
        "b": "b.caffemodel",
        "c": None,  # the others have prototxts of their own
    }


def test_a_name_that_begins_with_the_prototxt_s_makes_a_pair(tmp_path: Path) -> None:
    touch(tmp_path, "lenet.prototxt", "lenet_iter_10000.caffemodel", "other.caffemodel")
    assert pairs(tmp_path) == {"lenet": "lenet_iter_10000.caffemodel"}


def test_the_only_caffemodel_of_a_folder_belongs_to_its_prototxts(tmp_path: Path) -> None:
    touch(tmp_path, "deploy.prototxt", "squeezenet.caffemodel", "solver.prototxt")
    assert pairs(tmp_path) == {"deploy": "squeezenet.caffemodel"}


def test_nets_for_training_are_left_out_beside_those_to_deploy(tmp_path: Path) -> None:
    touch(tmp_path, "x/deploy.prototxt", "x/train_val.prototxt", "x/w.caffemodel")
    touch(tmp_path, "y/train_val.prototxt", "y/v.caffemodel")
    touch(tmp_path, "z/trained_deploy.prototxt")
    assert pairs(tmp_path / "z") == {"trained_deploy": None}
    assert pairs(tmp_path / "x") == {"deploy": "w.caffemodel"}
    assert pairs(tmp_path / "y") == {"train_val": "v.caffemodel"}
    assert pairs(tmp_path / "x" / "train*") == {"train_val": "w.caffemodel"}  # it is named


def test_models_are_named_by_their_path_below_the_common_folder(tmp_path: Path) -> None:
    touch(tmp_path, "x/deploy.prototxt", "x/w.caffemodel", "y/z/deploy.prototxt")
    assert pairs(tmp_path / "**" / "*.prototxt") == {
        "x/deploy": "w.caffemodel",
        "y/z/deploy": None,
    }


def test_an_unclear_pair_is_refused_with_both_names(tmp_path: Path) -> None:
    touch(tmp_path, "deploy.prototxt", "one.caffemodel", "two.caffemodel")
    with pytest.raises(ModelError, match=r"one\.caffemodel and two\.caffemodel"):
        find_caffemodel(tmp_path / "deploy.prototxt")
    (found,) = find_models(str(tmp_path))  # the others shall not wait for it
    assert found.problem is not None and "one.caffemodel and two.caffemodel" in found.problem


def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="matches no prototxt"):
        find_models(str(tmp_path / "*.prototxt"))


MODELS = [ModelFiles(name, Path(f"{name}.prototxt"), None) for name in ("a", "b", "c")]


def act(model: ModelFiles) -> Report:
    if model.name == "b":
        raise FormatError("is broken", "b.prototxt")
    return Report({"name": model.name}, (), passed=model.name != "c")


def test_a_failure_stops_the_rest() -> None:
    outcomes = list(run_all(MODELS, act))
    assert [o.status for o in outcomes] == [Status.OK, Status.ERROR, Status.SKIPPED]
    assert outcomes[1].error == "b.prototxt: is broken"


def test_keep_going_tries_all() -> None:
    outcomes = list(run_all(MODELS, act, keep_going=True))
    assert [o.status for o in outcomes] == [Status.OK, Status.ERROR, Status.FAILED]
    report = summarize(outcomes)
    assert report.data["summary"] == {"ok": 1, "failed": 1, "error": 1, "skipped": 0}
    assert not report.passed
    assert "3 models: 1 ok, 1 failed, 1 error" in report.text()


def test_a_bug_is_not_an_outcome() -> None:
    def broken(model: ModelFiles) -> Report:
        raise KeyError(model.name)

    with pytest.raises(KeyError):
        list(run_all(MODELS, broken, keep_going=True))


def test_causes_are_told_in_one_line() -> None:
    assert explain(ModelError("first\n  second\n")) == "first; second"
    assert explain(FileNotFoundError(2, "No such file", "x.png")) == "x.png: No such file"
    assert explain(MemoryError()) == "not enough memory"
