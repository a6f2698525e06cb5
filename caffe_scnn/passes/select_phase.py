"""The layers of a net that exist in one phase, level and set of stages."""

from __future__ import annotations

from collections.abc import Sequence

from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.proto import caffe_pb2 as pb

PHASES = ("TRAIN", "TEST")


def select_phase(net: Net, phase: str = "TEST", level: int = 0, stages: Sequence[str] = ()) -> Net:
    """Return the net as Caffe would build it, without the layers that its rules leave out.

    A layer with ``include`` rules is kept if one of them is met; one with ``exclude`` rules is
    dropped if one of them is met. Kept layers lose their rules: they are part of the new net in
    every phase.

    Parameters
    ----------
    net : Net
        Is not changed.
    phase : str
        ``TRAIN`` or ``TEST``; a ``state`` in the prototxt does not count against it.
    level : int
        Compared with the rules' ``min_level`` and ``max_level``.
    stages : sequence of str
        Added to those of a ``state`` in the prototxt.

    Raises
    ------
    ModelError
        An unknown phase, or a layer with both kinds of rules.
    """
    if phase not in PHASES:
        raise ModelError(f'there is no phase "{phase}"; choose {" or ".join(PHASES)}')
    state = pb.NetState(phase=phase, level=level)
    state.stage.extend([*net.proto.state.stage, *stages])
    selected = net.copy()
    selected.layers = [layer for layer in selected.layers if _kept(layer, state)]
    for layer in selected.layers:
        layer.proto.ClearField("include")
        layer.proto.ClearField("exclude")
    return selected


def _kept(layer: Layer, state: pb.NetState) -> bool:
    include, exclude = layer.proto.include, layer.proto.exclude
    if include and exclude:
        where = f" (line {layer.line})" if layer.line else ""
        raise ModelError(
            f'layer "{layer.name}"{where} has both include and exclude rules; keep one kind'
        )
    if include:
        return any(_met(rule, state) for rule in include)
    return not any(_met(rule, state) for rule in exclude)


def _met(rule: pb.NetStateRule, state: pb.NetState) -> bool:
    """Tell whether a rule holds; what it does not mention always does."""
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and all(stage in state.stage for stage in rule.stage)
        and not any(stage in state.stage for stage in rule.not_stage)
    )
