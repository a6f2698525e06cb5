"""Why a loss is not a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from caffe_scnn.finetune.bridge import LayerModule, NetModule


@torch.no_grad()
def explain(module: NetModule, inputs: Mapping[str, Tensor], blobs: Sequence[str]) -> str:
    """Say what is NaN or infinite first: an input, a weight, or a layer's result."""
    for name, values in inputs.items():
        if not bool(torch.isfinite(values).all()):
            return f'the input "{name}" holds values that are not finite; look at the data'
    for own in module.layers:
        assert isinstance(own, LayerModule)
        for index, blob in enumerate(own.blobs):
            bad = blob.numel() - int(torch.isfinite(blob).sum())
            if bad:
                return (
                    f'{bad} of {blob.numel()} values of blob {index} of layer "{own.layer.name}" '
                    "are not finite: the training has diverged"
                )
    for own in module.needed(blobs):
        for top, values in module(inputs, own.layer.tops).items():
            if not bool(torch.isfinite(values).all()):
                largest = max(
                    float(module(inputs, [bottom])[bottom].abs().max())
                    for bottom in own.layer.bottoms
                )
                return (
                    f'blob "{top}" of layer "{own.layer.name}" ({own.layer.type}) is the first '
                    f"that is not finite; the largest value that goes in is {largest:.3g}"
                )
    return "every blob of the net is finite: the loss itself overflows"
