"""Which fork of Caffe a field or a layer type comes from, for messages."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

TYPE = "type"  # the scope under which layer types are listed


@cache
def _owners() -> dict[tuple[str, str], str]:
    """Read the table: message (or ``type``), field (or layer type), at most three forks."""
    text = (files("caffe_scnn.model") / "forks.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return {(scope, name): forks for scope, name, forks in rows}


def fork_of(scope: str, name: str) -> str | None:
    """Return the forks that have a field, best known first, or None.

    Parameters
    ----------
    scope : str
        Name of the protobuf message (``ConvolutionParameter``), or :data:`TYPE`.
    name : str
        The field, or the layer type.
    """
    return _owners().get((scope, name))
