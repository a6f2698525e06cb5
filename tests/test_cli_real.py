"""The commands on real models: numbers of real Caffe, accuracies known from elsewhere."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from cli_support import answer, call


@pytest.mark.parametrize("case", ["squeezenet", "cifar10_quick", "lenet_mnist", "mobilenet_v1_075"])
def test_real_models_agree_with_caffe(data_dir: Path, real_golden_dir: Path, case: str) -> None:
    where = json.loads((real_golden_dir / f"{case}.json").read_text())
    beside = "prototxt_relative_to" in where
    prototxt = (real_golden_dir if beside else data_dir) / where["prototxt"]
    data = answer(
        "compare", prototxt, data_dir / where["caffemodel"], real_golden_dir / f"{case}.npz"
    )
    assert data["agrees"]
    assert len(data["blobs"]) >= 4


def test_digits_are_recognised(data_dir: Path, real_golden_dir: Path, tmp_path: Path) -> None:
    lenet = data_dir / "lenet_mnist"
    with gzip.open(lenet / "t10k-images-idx3-ubyte.gz") as images:
        x = np.frombuffer(images.read(), np.uint8, offset=16).reshape(-1, 28, 28)[:1000]
    with gzip.open(lenet / "t10k-labels-idx1-ubyte.gz") as labels:
        y = np.frombuffer(labels.read(), np.uint8, offset=8)[:1000]
    np.savez(tmp_path / "digits.npz", x=x, y=y)
    data = answer(
        "evaluate",
        "classify",
        real_golden_dir / "lenet_deploy.prototxt",
        lenet / "lenet_iter_10000.caffemodel",
        "--input",
        tmp_path / "digits.npz",
        "--scale",
        1 / 256,
        "--batch",
        100,
    )
    # 99.14 % of all 10,000 digits are right; 985 of 1000 is five standard deviations below.
    assert data["images"] == 1000
    assert data["top1"] >= 97.7
    assert data["top5"] >= 99.5


def test_pictures_are_classified_as_by_other_programs(data_dir: Path) -> None:
    squeezenet, imagenet = data_dir / "squeezenet", data_dir / "imagenet"
    pictures = ["n01498041.jpg", "n02120505.jpg"]
    labels = dict(line.rsplit(" ", 1) for line in (imagenet / "val.txt").read_text().splitlines())
    data = answer(
        "classify",
        squeezenet / "deploy.prototxt",
        squeezenet / "squeezenet.caffemodel",
        *(imagenet / "images" / name for name in pictures),
        "--mean",
        "104,117,123",
        "--resize",
        "256",
        "--crop",
        "227",
        "--labels",
        imagenet / "synset_words.txt",
    )
    for name, image in zip(pictures, data["images"], strict=True):
        assert int(labels[name]) in [row["class"] for row in image["top"]]
        assert image["top"][0]["label"].startswith("n0")


def test_models_of_a_folder_are_paired_and_described(data_dir: Path) -> None:
    pattern = data_dir / "[cms]*[0-9tk]" / "*.prototxt"
    data = json.loads(call("info", "--models", pattern, "--keep-going", "--json").stdout)
    found = {m["model"]: (m["status"], m["result"]["total"]["params"]) for m in data["models"]}
    assert found["squeezenet/deploy"] == ("ok", 1_248_424)
    assert found["cifar10_quick/cifar10_quick"][0] == "ok"
