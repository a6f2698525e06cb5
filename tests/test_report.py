"""Tables and reports: every face shows the same values."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caffe_scnn.report import Column, Report, Table, numbers
from caffe_scnn.report.report import plain

TABLE = Table(
    columns=(
        Column("name"),
        Column("macs", "MACs", numbers.count),
        Column("tops", show=numbers.names, left=True),
    ),
    rows=[
        {"name": "conv|1[x]", "macs": 1234567, "tops": ["a", "b"]},
        {"name": "relu", "macs": None},
    ],
    total={"name": "total", "macs": 1234567},
    title="Layers",
)


def test_text_is_aligned_and_never_folded() -> None:
    assert TABLE.text().splitlines() == [
        "Layers",
        "name            MACs  tops",
        "--------------------------",
        "conv|1[x]  1,234,567  a b",
        "relu               -  -",
        "--------------------------",
        "total      1,234,567",
    ]


def test_markdown_escapes_pipes_and_keeps_the_alignment() -> None:
    assert TABLE.markdown().splitlines() == [
        "Layers",
        "",
        "| name | MACs | tops |",
        "| --- | ---: | --- |",
        "| conv\\|1[x] | 1,234,567 | a b |",
        "| relu | - | - |",
        "| **total** | **1,234,567** |  |",
    ]


def test_records_hold_raw_values_of_every_column() -> None:
    assert TABLE.records()[1] == {"name": "relu", "macs": None, "tops": None}
    assert TABLE.records()[0]["macs"] == 1234567


def test_a_table_without_rows_still_has_its_head() -> None:
    assert Table((Column("a"),), []).text().splitlines() == ["a", "-"]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (np.float32(0.5), 0.5),
        (np.arange(2), [0, 1]),
        ((1, (2,)), [1, [2]]),
        (float("nan"), None),
        ([np.float64("inf")], [None]),
        (True, True),
        ({"a": np.int64(3)}, {"a": 3}),
    ],
)
def test_json_has_plain_values_only(value: object, wanted: object) -> None:
    assert json.loads(Report({"v": value}, ()).json())["v"] == wanted
    assert plain(value) == wanted


def test_a_report_shows_its_parts_in_order() -> None:
    report = Report({}, (Table((Column("a"),), [{"a": 1}]), "done"))
    assert report.text() == "a\n-\n1\n\ndone"
    assert report.markdown().endswith("| 1 |\n\ndone")


def test_numbers_carry_their_unit() -> None:
    assert numbers.percent(0.0512) == "5.1 %"
    assert [numbers.counted(n, "thread") for n in (1, 2)] == ["1 thread", "2 threads"]
    assert numbers.megabytes(4_995_339) == "5.00 MB"
    assert numbers.shape((1, 3, 227)) == "1x3x227"
    assert numbers.shape(()) == "scalar"
    assert numbers.shapes([(1,), (2, 3)]) == "1 2x3"
    assert numbers.milliseconds(1.23456) == "1.235"
