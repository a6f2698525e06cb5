"""``caffe.draw``: a net as a graph, in Graphviz's language or drawn by it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from caffe_scnn.errors import OutputError
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.passes.select_phase import PHASES
from caffe_scnn.proto import caffe_pb2 as pb

TEXT = ("dot", "gv")
DIRECTIONS = ("LR", "TB", "BT", "RL")
_COLOURS = {"Convolution": "#FF5050", "Pooling": "#FF9900", "InnerProduct": "#CC33FF"}
_WINDOWS = {"Convolution": "convolution_param", "Deconvolution": "convolution_param"}


def dot(caffe_net: pb.NetParameter, rankdir: str = "LR", phase: int | None = None) -> str:
    """Return a net as a graph in Graphviz's language.

    Parameters
    ----------
    caffe_net : NetParameter
        As ``text_format.Merge`` reads it from a prototxt.
    rankdir : {"LR", "TB", "BT", "RL"}
        Where the graph leads.
    phase : {TEST, TRAIN}, optional
        Leave out layers that the other phase has alone.
    """
    if rankdir not in DIRECTIONS:
        raise ValueError(f"rankdir must be one of {', '.join(DIRECTIONS)}, not {rankdir!r}")
    lines = [f"digraph {_quoted(caffe_net.name or 'net')} {{", f"  rankdir={rankdir};"]
    blobs: dict[str, None] = dict.fromkeys(caffe_net.input)
    for number, layer in enumerate(caffe_net.layer):
        if phase is not None and not _in_phase(layer, phase):
            continue
        node = f"layer{number}"
        colour = _COLOURS.get(layer.type, "#6495ED")
        style = f'shape=record style=filled fillcolor="{colour}"'
        lines.append(f"  {node} [label={_quoted(_label(layer))} {style}];")
        if list(layer.bottom) == list(layer.top):  # in place: beside its blob
            lines += _edges([(_blob(name), node) for name in layer.bottom], " [dir=both]")
        else:
            lines += _edges((_blob(name), node) for name in layer.bottom)
            lines += _edges((node, _blob(name)) for name in layer.top)
        blobs.update(dict.fromkeys([*layer.bottom, *layer.top]))
    style = 'shape=octagon style=filled fillcolor="#E0E0E0"'
    lines += [f"  {_blob(name)} [label={_quoted(name)} {style}];" for name in blobs]
    return "\n".join([*lines, "}", ""])


def draw_net(
    caffe_net: pb.NetParameter, rankdir: str = "LR", ext: str = "png", phase: int | None = None
) -> bytes:
    """Return a net as a picture.

    Parameters
    ----------
    caffe_net, rankdir, phase
        See :func:`dot`.
    ext : str
        What Graphviz is to make (png, svg, pdf …); ``dot`` and ``gv`` need no Graphviz.

    Raises
    ------
    OutputError
        Graphviz is not there, or does not know the format.
    """
    text = dot(caffe_net, rankdir, phase)
    if ext in TEXT:
        return text.encode()
    program = shutil.which("dot")
    if program is None:
        raise OutputError(
            f"drawing {ext} needs Graphviz (the program dot); install it, or write a .dot file"
        )
    done = subprocess.run([program, f"-T{ext}"], input=text.encode(), capture_output=True)
    if done.returncode:
        raise OutputError(f"Graphviz cannot draw {ext}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def draw_net_to_file(
    caffe_net: pb.NetParameter, filename: str | Path, rankdir: str = "LR", phase: int | None = None
) -> None:
    """Write a net as a picture whose kind is the file's extension; see :func:`draw_net`."""
    content = draw_net(caffe_net, rankdir, Path(filename).suffix.lstrip(".") or "png", phase)
    with atomic_write(filename) as file:
        file.write(content)


def _label(layer: pb.LayerParameter) -> str:
    lines = [layer.name, f"({layer.type})"]
    field = _WINDOWS.get(layer.type)
    if field:
        param = getattr(layer, field)
        lines[1] = f"({layer.type}, {param.num_output} outputs)"
        lines += [
            f"{name.removesuffix('_size')} {'x'.join(map(str, values))}"
            for name, values in (
                ("kernel_size", param.kernel_size),
                ("stride", param.stride),
                ("pad", param.pad),
            )
            if values
        ]
    if layer.type == "Pooling":
        param = layer.pooling_param
        lines.append(
            f"{param.PoolMethod.Name(param.pool)}, kernel {param.kernel_size}, "
            f"stride {param.stride}"
        )
    return "\n".join(lines)


def _in_phase(layer: pb.LayerParameter, phase: int) -> bool:
    assert PHASES[phase]
    included = [rule.phase for rule in layer.include if rule.HasField("phase")]
    excluded = [rule.phase for rule in layer.exclude if rule.HasField("phase")]
    return (not included or phase in included) and phase not in excluded


def _edges(pairs: Iterable[tuple[str, str]], attributes: str = "") -> list[str]:
    return [f"  {source} -> {target}{attributes};" for source, target in pairs]


def _blob(name: str) -> str:
    return _quoted(f"blob {name}")


def _quoted(text: Any) -> str:
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    for sign in "{}|<>":  # of record labels
        escaped = escaped.replace(sign, f"\\{sign}")
    return f'"{escaped}"'
