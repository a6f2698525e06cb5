"""Which fork of Caffe a field or a layer type comes from, for messages."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

TYPE = "type"  # the scope under which layer types are listed

# Fields that say how a fork computes or reads, and not what: a net means the same without them.
_EXECUTION = {
    "NetParameter": "compile_net_state default_backward_math default_backward_type "
    "default_conv_algos_override default_cudnn_math_override default_forward_math "
    "default_forward_type eltwise_mem_sharing engine global_grad_scale global_grad_scale_adaptive "
    "mem_param multinode reduce_buckets",
    "LayerParameter": "backward_math backward_type cudnn_math_override debug display engine "
    "forward_math forward_type mn_grad_compress_param multinode trt_param",
    "DataParameter": "cache parser_threads precache shuffle threads",
    "ImageDataParameter": "cache precache threads",
}


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


def only_executes(scope: str, name: str) -> bool:
    """Whether a fork's field changes nothing of what a net computes; names as :func:`fork_of`."""
    return name in _EXECUTION.get(scope, "").split()
