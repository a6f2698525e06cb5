"""A model in Caffe's current form: upgraded, and on request selected, folded, made stock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from caffe_scnn.errors import ModelError, UnsupportedLayer
from caffe_scnn.layers.base import Shape
from caffe_scnn.layers.binding import IGNORED, Binding, attach, bind
from caffe_scnn.model.caffemodel import StoredNet, read_caffemodel
from caffe_scnn.model.net import Net, refuse_unknown
from caffe_scnn.model.upgrade import upgrade
from caffe_scnn.passes import PASSES, Pass
from caffe_scnn.passes.remove_dead import remove_dead
from caffe_scnn.passes.resize_input import resize_input
from caffe_scnn.passes.select_phase import select_phase


@dataclass(frozen=True, eq=False)
class Conversion:
    """A converted net.

    Attributes
    ----------
    net : Net
    weights : bool
        Does it hold blobs that belong into a caffemodel?
    notes : tuple of str
        What was done, and what was not checked.
    """

    net: Net
    weights: bool
    notes: tuple[str, ...]


def convert(
    prototxt: str | Path,
    caffemodel: str | Path | None = None,
    *,
    phase: str | None = None,
    level: int = 0,
    stages: Sequence[str] = (),
    passes: Sequence[str] = (),
    outputs: Sequence[str] = (),
    input_size: tuple[int, int] | None = None,
    allow_missing: bool = False,
    inputs: Mapping[str, Shape] | None = None,
) -> Conversion:
    """Bring a model to the current format.

    Parameters
    ----------
    prototxt, caffemodel : str or Path
    phase : str, optional
        Keep only the layers of this phase; None keeps all, unless stages or passes are given:
        then TEST.
    level, stages
        See :func:`caffe_scnn.passes.select_phase.select_phase`.
    passes : sequence of str
        Names from ``PASSES``, applied in this order.
    outputs : sequence of str
        Blobs to keep: layers that do not lead to them go, after the passes.
    input_size : (height, width), optional
        New size of the images that the net takes, after everything else.
    allow_missing : bool
        Warn about weights that are missing or do not fit instead of refusing.
    inputs : mapping of blob name to shape, optional
        Shapes of net inputs that the prototxt leaves open, for passes that need them.

    Raises
    ------
    FormatError, ModelError, PassError
        A file or a net that cannot be read, does not fit or cannot be changed as asked.
    """
    net = Net.read(prototxt)
    notes: list[str] = []
    before = net.text()
    net = upgrade(net)
    if not list(net):
        raise ModelError(f"{prototxt}: the net has no layers")
    changed = net.text() != before
    notes.append("prototxt: upgraded to the current format" if changed else "prototxt: is current")
    steps = _steps(passes, outputs, input_size)
    if phase or level or stages or steps:
        net = _selected(net, phase or "TEST", level, stages, notes)
    stored = read_caffemodel(caffemodel) if caffemodel is not None else None
    net.input_shapes.update(inputs or {})
    if steps:
        for layer in net:
            refuse_unknown(layer)
        notes += _ignored(bind(net, stored, allow_missing=allow_missing))
    elif stored is not None:
        notes += _unchecked(net, stored, allow_missing)
        notes += _ignored(attach(net, stored))
    if stored is not None and stored.generation != "V2":
        notes.append(f"caffemodel: upgraded from {stored.generation}")
    for name, step in steps:
        result = step(net)
        net = result.net
        notes += [f"{name}: {note}" for note in result.notes or ("nothing to do",)]
    given = bool(steps) and any(layer.weights for layer in net)  # in the prototxt
    return Conversion(net, stored is not None or given, tuple(notes))


def _steps(
    passes: Sequence[str], outputs: Sequence[str], input_size: tuple[int, int] | None
) -> list[tuple[str, Pass]]:
    steps = [(name, PASSES[name]) for name in passes]
    if outputs:
        steps.append(("remove_dead", partial(remove_dead, outputs=outputs)))
    if input_size:
        height, width = input_size
        steps.append(("resize_input", partial(resize_input, height=height, width=width)))
    return steps


def _selected(net: Net, phase: str, level: int, stages: Sequence[str], notes: list[str]) -> Net:
    kept = select_phase(net, phase, level, stages)
    names = {id(layer.source) for layer in kept}
    dropped = [layer.name for layer in net if id(layer.source) not in names]
    said = f"left out {', '.join(dropped)}" if dropped else "no layer was left out"
    notes.append(f"phase {phase}, level {level}, stages {list(stages) or 'none'}: {said}")
    return kept


def _unchecked(net: Net, stored: StoredNet, allow_missing: bool) -> list[str]:
    """Check that the weights fit; where a layer is not understood, say so instead."""
    test = select_phase(net)
    unknown = [field for layer in test for field in layer.unknown if not field.harmless]
    try:
        if unknown:
            raise UnsupportedLayer(str(unknown[0].error()))
        bind(test, stored, allow_missing=allow_missing)
    except UnsupportedLayer as error:
        return [f"weights: kept by layer name, whether they fit is not checked: {error}"]
    return []


def _ignored(binding: Binding) -> list[str]:
    names = dict.fromkeys(row.layer for row in binding.with_status(IGNORED))
    return [f"weights: left out, the net has no such layers: {', '.join(names)}"] if names else []
