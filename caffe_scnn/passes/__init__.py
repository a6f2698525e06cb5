"""The table of passes: rewrites of a net that leave its results as they are.

Passes that need to be told something stand beside the table: ``resize_input``, and
``remove_dead`` with the outputs to keep.
"""

from __future__ import annotations

from caffe_scnn.passes.base import Pass, PassResult
from caffe_scnn.passes.data_to_input import data_to_input
from caffe_scnn.passes.fc_to_conv import fc_to_conv
from caffe_scnn.passes.fold_batch_norm import fold_batch_norm
from caffe_scnn.passes.remove_dead import remove_dead
from caffe_scnn.passes.remove_zeros import remove_zeros
from caffe_scnn.passes.strip_training import strip_training
from caffe_scnn.passes.to_stock import to_stock
from caffe_scnn.passes.undo_splits import undo_splits

PASSES: dict[str, Pass] = {
    "data_to_input": data_to_input,
    "fc_to_conv": fc_to_conv,
    "fold_batch_norm": fold_batch_norm,
    "remove_dead": remove_dead,
    "remove_zeros": remove_zeros,
    "strip_training": strip_training,
    "to_stock": to_stock,
    "undo_splits": undo_splits,
}

__all__ = ["PASSES", "Pass", "PassResult"]
