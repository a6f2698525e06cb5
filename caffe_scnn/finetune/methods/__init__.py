"""The table of fine-tuning methods: one line makes a method exist."""

from __future__ import annotations

from difflib import get_close_matches

from caffe_scnn.errors import CaffeScnnError
from caffe_scnn.finetune.methods.base import Constraint, Method, Step
from caffe_scnn.finetune.methods.gradual import Gradual
from caffe_scnn.finetune.methods.keep import Keep
from caffe_scnn.finetune.methods.rigl import RigL
from caffe_scnn.finetune.methods.scnn import Scnn
from caffe_scnn.finetune.methods.ssl import Ssl

FINETUNE_METHODS: tuple[type[Method], ...] = (Keep, Gradual, RigL, Scnn, Ssl)

__all__ = ["FINETUNE_METHODS", "Constraint", "Method", "Step", "finetune_method"]


def finetune_method(name: str) -> type[Method]:
    """Return the method of this name.

    Raises
    ------
    CaffeScnnError
        There is none; the message names the nearest.
    """
    known = {method.name: method for method in FINETUNE_METHODS}
    if name not in known:
        close = get_close_matches(name, known, 1)
        hint = f'did you mean "{close[0]}"?' if close else f"known are {', '.join(known)}"
        raise CaffeScnnError(f'unknown fine-tuning method "{name}"; {hint}')
    return known[name]
