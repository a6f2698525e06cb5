"""Which layers exist in a phase, at a level, with stages: Caffe's rules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Net
from caffe_scnn.passes.select_phase import select_phase


def kept(rules: str, head: str = "", **state: object) -> bool:
    net = Net.parse(f'{head} layer {{ name: "a" {rules} }}')
    return bool(select_phase(net, **state).layers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("", True),
        ("include { }", True),
        ("exclude { }", False),
        ("include { phase: TEST }", True),
        ("include { phase: TRAIN }", False),
        ("exclude { phase: TRAIN }", True),
        ("include { phase: TRAIN } include { min_level: 1 }", True),
        ("exclude { phase: TRAIN } exclude { min_level: 1 }", False),
        ("include { min_level: 2 }", True),
        ("include { min_level: 3 }", False),
        ("include { max_level: 2 }", True),
        ("include { max_level: 1 }", False),
        ('include { stage: "a" stage: "b" }', True),
        ('include { stage: "a" stage: "c" }', False),
        ('include { not_stage: "c" }', True),
        ('include { not_stage: "c" not_stage: "b" }', False),
        ('include { phase: TEST stage: "c" }', False),
    ],
)
def test_rules(rules: str, expected: bool) -> None:
    assert kept(rules, level=2, stages=["a", "b"]) is expected


def test_state_of_the_file_gives_stages_but_no_phase_or_level() -> None:
    head = 'state { phase: TRAIN level: 5 stage: "own" }'
    assert kept('include { stage: "own" }', head)
    assert kept('include { stage: "own" stage: "mine" }', head, stages=["mine"])
    assert not kept("include { phase: TRAIN }", head)
    assert not kept("include { min_level: 5 }", head)


def test_both_kinds_of_rules_are_refused() -> None:
    with pytest.raises(ModelError, match=r'"a" \(line 1\) has both include and exclude'):
        kept("include { } exclude { }")


def test_unknown_phase_is_refused() -> None:
    with pytest.raises(ModelError, match="TRAIN or TEST"):
        kept("", phase="DEPLOY")


def test_the_net_given_is_not_changed_and_kept_layers_lose_their_rules() -> None:
    text = 'layer { name: "a" include { stage: "s" } }\nlayer { name: "b" exclude { } }\n'
    text += 'layer { name: "c" exclude { phase: TRAIN } }\n'
    net = Net.parse(text)
    selected = select_phase(net, stages=["s"])
    assert net.text() == text
    assert selected.text() == 'layer { name: "a" }\nlayer { name: "c" }\n'


@pytest.mark.parametrize("case", ["filter_default", "filter_deploy", "filter_train", "train_val"])
def test_selected_nets_have_the_outputs_that_caffe_saw(golden_dir: Path, case: str) -> None:
    path = golden_dir / "nets" / f"{case}.prototxt"
    options = path.with_suffix(".json")
    state = json.loads(options.read_text()) if options.exists() else {}
    net = select_phase(
        Net.read(path),
        state.get("phase", "TEST"),
        state.get("level", 0),
        state.get("stages", ()),
    )
    consumed = {bottom for layer in net for bottom in layer.bottoms}
    tops = {top for layer in net for top in layer.tops}
    with np.load(path.with_suffix(".npz")) as golden:
        assert sorted(tops - consumed) == list(golden["outputs"])
