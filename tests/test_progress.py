"""What long work says on stderr where nobody watches a bar."""

from __future__ import annotations

import pytest

from caffe_scnn.cli import progress as module
from caffe_scnn.cli.finetune_progress import Follower
from caffe_scnn.cli.progress import Pace, progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand, in seconds."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_line_a_minute_with_the_time_left(clock, capsys):
    with progress(600, "pictures") as advance:
        for _ in range(5):
            clock[0] += 30
            advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "pictures: 20/600, 29 min 0 s left",
        "pictures: 40/600, 28 min 0 s left",
    ]


def test_a_total_that_comes_later_or_never(clock, capsys):
    with progress(None, "windows") as advance:
        clock[0] += 60
        advance(10)
        clock[0] += 60
        advance(10, 40)
    assert capsys.readouterr().err.splitlines() == ["windows: 10", "windows: 20/40, 2 min 0 s left"]


def test_what_was_done_before_took_no_time(clock, capsys):
    with progress(100, "layers") as advance:
        advance(90)
        clock[0] += 65
        advance(1)
        clock[0] += 65
        advance(11)
    assert capsys.readouterr().err.splitlines() == [
        "layers: 91/100, 9 min 45 s left",
        "layers: 102/100, 0 min 0 s left",
    ]


def test_a_training_says_how_it_goes(clock, capsys):
    with Follower() as follower:
        for step in range(1, 8):
            clock[0] += 25
            follower.follow(step, 7, {"loss": 0.5, "rate": 0.1})
    assert capsys.readouterr().err.splitlines() == [
        "step 4/7, loss 0.5, 1 min 15 s left",
        "step 7/7, loss 0.5",
    ]


def test_time_left_in_hours(clock):
    pace = Pace()
    clock[0] += 36
    assert pace.left(1, 101) == "1 h 0 min left"
