"""The rules of the house, which no single file can keep by itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import caffe_scnn

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "caffe_scnn"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if "caffe_pb2" not in p.name)
LONGEST_MODULE, LONGEST_FUNCTION = 450, 60

# A package may import those that stand to its right, and itself.
ORDER = [
    "cli",
    "pycaffe",
    "batch",
    "finetune",
    "report",
    "detect",
    "weights",
    "evaluate",
    "convert",
    "save",
    "environment",
    "decompose",
    "calibrate",
    "engine",
    "loading",
    "passes",
    "preprocess",
    "layers",
    "model",
    "proto",
    "errors",
    "spinning",
]


def package_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(module: Path) -> set[str]:
    """Names of our own packages that a module imports when it runs."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            parts = node.module.split(".")
            if parts[0] == "caffe_scnn":
                found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_imports_go_one_way(module):
    here = package_of(module)
    if here in ("__init__", "__main__"):
        return
    allowed = set(ORDER[ORDER.index(here) :]) | {"_kernels", "__version__"}
    if here not in ("engine", "environment"):
        allowed.discard("_kernels")
    assert imports_of(module) <= allowed


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import caffe_scnn",
        "from caffe_scnn import load, Executor, spmm, pack",
        "from caffe_scnn.cli import main; main.get_command(None, 'run')",
    ],
)
def test_running_needs_no_learning_library(statement):
    assert not loaded_by(statement) & {"sklearn", "torch", "scipy", "cv2"}


def test_modules_and_functions_stay_short():
    long = []
    for module in MODULES:
        text = module.read_text()
        if text.count("\n") > LONGEST_MODULE:
            long.append(f"{module.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
                if lines > LONGEST_FUNCTION:
                    long.append(f"{module.relative_to(ROOT)}: {node.name}, {lines} lines")
    assert not long


def tracked_texts():
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if done.returncode or not done.stdout:
        pytest.skip("not a git checkout")
    for name in done.stdout.split("\n"):
        path = ROOT / name
        data = path.read_bytes() if name and path.is_file() else b"\0"
        if b"\0" not in data and path != Path(__file__):
            yield name, data.decode("utf-8", "replace")


def test_files_speak_of_the_product_alone():
    machine = re.compile(
        r"(?<![\w.])/(?:work|home|root|Users)/|https?://[\w.]*(?:pypi|artifactory)"
    )
    found = [
        f"{name}: {match[0]}"
        for name, text in tracked_texts()
        if name.startswith(
            ("caffe_scnn/", "kernels/", "docs/", "benchmarks/", "README", "Makefile")
        )
        for match in machine.finditer(text)
    ]
    assert not found


def test_public_names_are_documented():
    for name in caffe_scnn.__all__:
        thing = getattr(caffe_scnn, name)
        assert (thing.__doc__ or "").strip(), name
        if callable(thing) and not isinstance(thing, type):
            assert "Parameters\n" in thing.__doc__, name
