"""Scripts in the manner of pycaffe's examples run unchanged, on small nets and on real ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_support import answer, call, refusal

from caffe_scnn.pycaffe import install

SCRIPTS = Path(__file__).parent / "pycaffe_scripts"


def run(script, *arguments):
    command = [sys.executable, "-m", "caffe_scnn", "python", SCRIPTS / script, *arguments]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    return tmp_path / "a.png"


def files(folder, name):
    return [folder / f"{name}{suffix}" for suffix in (".prototxt", ".caffemodel")]


def test_classification(golden_dir, picture):
    lines = run("classification.py", *files(golden_dir / "nets", "alexnet"), picture)
    assert len(lines[-1].split()) == 5


def test_classification_of_a_real_picture(data_dir):
    folder = data_dir / "squeezenet"
    model = folder / "deploy.prototxt", folder / "squeezenet.caffemodel"
    picture = data_dir / "imagenet" / "cat.jpg"
    found = answer("classify", *model, picture, "--mean", "104,117,123", "--top", "5")
    same = [str(one["class"]) for one in found["images"][0]["top"]]
    assert run("classification.py", *model, picture)[-1].split() == same


def test_net_surgery(golden_dir, tmp_path):
    model = files(golden_dir / "nets", "lenet")
    shape = run("net_surgery.py", *model, tmp_path / "new.caffemodel")[-1].split()
    assert len(shape) == 4 and int(shape[2]) > 1


@pytest.mark.parametrize("net", ["lenet", "alexnet", "vgg"])
def test_filters(golden_dir, net):
    assert run("filters.py", *files(golden_dir / "nets", net))


def test_detection(golden_dir, picture):
    lines = run("detection.py", *files(golden_dir / "nets", "alexnet"), picture)
    assert [len(line.split()) for line in lines] == [5, 5, 5]


def test_a_failing_script_shows_its_traceback(tmp_path):
    script = tmp_path / "a.py"
    script.write_text("import caffe\ncaffe.SGDSolver('x')\n")
    result = call("python", script)
    assert result.exit_code == 1
    assert result.stderr.startswith("Traceback")
    assert "a.py" in result.stderr and "runpy" not in result.stderr
    assert "caffe train" in result.stderr.splitlines()[-1]


def test_options_and_exit_code_are_the_scripts_own(tmp_path):
    script = tmp_path / "a.py"
    script.write_text("import sys\nprint(sys.argv[1:])\nsys.exit(7)\n")
    result = call("python", script, "--gpu", "0", "--help")
    assert (result.exit_code, result.stdout) == (7, "['--gpu', '0', '--help']\n")


def test_a_missing_script_is_one_line(tmp_path):
    assert "nothing.py" in refusal("python", tmp_path / "nothing.py")


def test_another_caffe_is_not_replaced(monkeypatch):
    monkeypatch.setitem(sys.modules, "caffe", sys)
    with pytest.raises(ImportError, match="already"):
        install()


def test_the_example_of_the_page_prints_what_the_page_says(capsys, monkeypatch):
    root = Path(__file__).parent.parent
    page = (root / "docs" / "pycaffe.md").read_text()
    code, printed = (page.split(f"```{kind}\n")[1].split("```")[0] for kind in ("python", "text"))
    monkeypatch.chdir(root / "models" / "digits")
    exec(compile(code, "docs/pycaffe.md", "exec"), {})
    assert capsys.readouterr().out == printed
