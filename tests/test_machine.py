"""What the engine finds out about the processor."""

from __future__ import annotations

import pytest

from caffe_scnn.engine import machine


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Pretend that the system tells what lies in a folder."""
    monkeypatch.setattr(machine, "CACHES", tmp_path)
    machine.cache_bytes.cache_clear()
    yield tmp_path
    machine.cache_bytes.cache_clear()


def add(folder, index, level, kind, size):
    """Describe a cache as Linux does."""
    one = folder / f"index{index}"
    one.mkdir()
    for name, text in (("level", level), ("type", kind), ("size", size)):
        (one / name).write_text(f"{text}\n")


def test_caches_of_data_are_found_by_their_level(caches):
    add(caches, 0, 1, "Instruction", "64K")
    add(caches, 1, 1, "Data", "48K")
    add(caches, 2, 2, "Unified", "2048K")
    assert [machine.cache_bytes(level) for level in (1, 2)] == [48 << 10, 2 << 20]


def test_caches_are_small_where_nobody_tells_their_size(caches):
    (caches / "index0").mkdir()
    add(caches, 1, 2, "Unified", "512K")
    add(caches, 2, 1, "Data", "0K")
    add(caches, 3, 1, "Data", "unknown")
    assert machine.cache_bytes(1) == 32 << 10
    assert machine.cache_bytes(2) == 512 << 10
    assert machine.cache_bytes(3) == machine.SMALL_CACHES[3]
