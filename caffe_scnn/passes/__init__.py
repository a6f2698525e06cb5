"""The table of passes: rewrites of a net that leave its results as they are."""

from __future__ import annotations

from caffe_scnn.passes.base import Pass, PassResult
from caffe_scnn.passes.fold_batch_norm import fold_batch_norm
from caffe_scnn.passes.to_stock import to_stock

PASSES: dict[str, Pass] = {
    "fold_batch_norm": fold_batch_norm,
    "to_stock": to_stock,
}

__all__ = ["PASSES", "Pass", "PassResult"]
