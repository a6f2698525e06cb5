"""Fixtures that several test files use: where the recorded numbers and the large data are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def _no_measurements_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Choose kernels by the costs that are shipped, and leave the user's cache folder alone."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def nothing_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small convolutions, too, read and write the caller's arrays in place."""
    monkeypatch.setattr("caffe_scnn.engine.plan.WORTH_BINDING", 0)


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Numbers of real Caffe on small nets, which are part of this repository."""
    return Path(__file__).parent / "golden"


def large(part: str) -> Path:
    root = os.environ.get("CAFFE_SCNN_DATA")
    if not root:
        pytest.skip("CAFFE_SCNN_DATA is not set: the real models are not part of the repository")
    folder = Path(root) / part
    if not folder.is_dir():
        pytest.skip(f"{folder} does not exist: CAFFE_SCNN_DATA must hold golden/ and data/")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real models and pictures."""
    return large("data")


@pytest.fixture(scope="session")
def real_golden_dir() -> Path:
    """Numbers of real Caffe on the real models."""
    return large("golden/real")
