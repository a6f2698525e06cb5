"""What README and docs name exists: files, commands, options, Python names, settings."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def outside_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", outside_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, target


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_paths_in_code_spans_exist(page):
    spans = re.findall(r"`([\w./-]+)`", outside_code(page.read_text()))
    known = ("caffe_scnn/", "kernels/", "tests/", "models/", "benchmarks/", "docs/", "proto/")
    missing = [s for s in spans if s.startswith(known) and not (ROOT / s).exists()]
    assert not missing


def test_modules_named_by_their_package_exist():
    packages = [p.name for p in (ROOT / "caffe_scnn").iterdir() if p.is_dir()]
    for page in PAGES:
        for span in re.findall(r"`(\w+/\w+\.py)`", outside_code(page.read_text())):
            if span.split("/")[0] in packages:
                assert (ROOT / "caffe_scnn" / span).exists(), f"{page.name}: {span}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_names_exist(page):
    for name in set(re.findall(r"`?caffe_scnn\.(\w+)\b", page.read_text())):
        package = importlib.import_module("caffe_scnn")
        if not hasattr(package, name):
            importlib.import_module(f"caffe_scnn.{name}")


@pytest.fixture(scope="module")
def help_of():
    known: dict[tuple[str, ...], str] = {}

    def text(*command: str) -> str:
        if command not in known:
            words = [sys.executable, "-m", "caffe_scnn", *command, "--help"]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
            known[command] = done.stdout
        return known[command]

    return text


def commands_of(text: str) -> list[str]:
    """Command lines of a page, continued ones joined."""
    return re.findall(r"caffe-scnn ((?:[^`\n\\]|\\\n)+)", text)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_and_options_exist(page, help_of):
    for line in commands_of(page.read_text()):
        words = line.replace("\\\n", " ").split()
        command = [words[0]] if words[0] != "evaluate" else words[:2]
        if not re.fullmatch(r"[a-z-]+", words[0]):
            continue
        text = help_of(*command)
        for option in re.findall(r"(?<!\S)(--[a-z][\w-]*)", " ".join(words)):
            assert re.search(rf"{option}\b", text), f"{command}: {option}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_settings_are_toml(page):
    for block in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL):
        tomllib.loads(block)


def test_the_layer_type_in_the_docs_runs():
    """The page's own example, in a process of its own: it registers a type."""
    page = (ROOT / "docs" / "layers.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)[0]
    wanted = re.findall(r"# (\[.*\])$", code, re.MULTILINE)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == wanted


def test_every_layer_type_is_listed():
    from caffe_scnn.layers import LAYER_TYPES

    rows = re.findall(r"^\| ([^|]*) \|", (ROOT / "docs" / "layers.md").read_text(), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"\b[A-Z]\w+", row)}
    assert {kind.type for kind in LAYER_TYPES} <= listed
