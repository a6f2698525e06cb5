"""Nets that real Caffe refuses to build or to run: each is refused, and the message says why.

Errors of the text and of the weights are in test_prototxt.py and test_binding.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from caffe_scnn.engine import Executor
from caffe_scnn.errors import CaffeScnnError
from caffe_scnn.loading import load

PHRASES = {
    "absval_inplace": 'cannot work in place on "data"',
    "axis_range": "axis 4 is out of range for a blob of 4 axes",
    "bn_lr": "set lr_mult: 0",
    "bn_one_axis": "needs a channel axis, got shape (7,)",
    "bottom_later": 'made only later, by layer "data"',
    "concat_axis": "axis 4 is out of range",
    "concat_shape": "differ outside axis 1",
    "conv_kernel_count": "3 values of kernel_size for 2 spatial axes",
    "conv_mixed_kernel": "either kernel_size or kernel_h and kernel_w",
    "conv_no_num_output": "num_output is 0",
    "crop_offset": "offset 3 plus size 4 exceeds 6",
    "crop_offset_count": "2 offsets for 3 cropped axes",
    "deconv_group": "group 2 does not divide num_output 3",
    "duplicate_top": 'top "x" is made by layer "a" already',
    "eltwise_coeff_count": "3 coeff for 2 bottoms",
    "eltwise_one": "has 1 bottoms, the type takes 2+",
    "eltwise_shape": "differ in shape",
    "empty_prototxt": "no layers",
    "group_channels": "group 3 does not divide its 4 input channels",
    "include_exclude": "both include and exclude",
    "inplace_other_consumer": 'works in place on "c", which layer "p" reads too',
    "kernel_too_large": "is a kernel larger than its padded input?",
    "layer_and_layers": 'both "layer"',
    "lrn_even": "local_size 4 must be odd",
    "lstm_cont": "its marks (4, 3); (T, N) must agree",
    "missing_bottom": 'no layer makes its bottom "dota"; did you mean "data"?',
    "negative_dim": "shape (1, -3)",
    "pool_global_kernel": "global_pooling has no kernel size",
    "pool_kernel_forms": "either kernel_size or kernel_h and kernel_w",
    "pool_no_kernel": "kernel_size is missing",
    "pool_not_4d": "four axes, got shape (2, 4, 6)",
    "pool_pad_ge_kernel": "pad (2, 2) must be smaller",
    "pool_stochastic": "stochastic pooling does not run on a CPU",
    "reindex_negative": "is not one of the 3 items",
    "reindex_range": "is not one of the 3 items",
    "relu_two_bottoms": "has 2 bottoms, the type takes 1",
    "reshape_count": "288 values cannot be cut",
    "reshape_two_minus": "only one dim may be -1",
    "scale_shape": "factor (4, 5) does not match",
    "share_lr": 'shares "w" with layer "f", but with another lr_mult',
    "share_shape": "their shapes are (3, 144) and (2, 144)",
    "slice_order": "must increase",
    "slice_point_count": "1 slice_point for 3 tops",
    "slice_uneven": "do not give 3 equal parts",
    "spp_size": "pad (2, 2) must be smaller",
    "too_many_params": "2 param entries for 1 learnt blobs",
    "unknown_type": "unknown layer type",
    "v0_unknown_type": 'no V0 layer type "lstm"',
}


def test_every_case_of_these_stages_has_a_phrase(golden_dir):
    cases = {
        path.stem
        for path in (golden_dir / "errors").glob("*.txt")
        if path.read_text().startswith(("stage: build", "stage: forward"))
    }
    assert cases == set(PHRASES)


@pytest.mark.parametrize("case", PHRASES)
def test_refused_with_the_cause(golden_dir, case):
    prototxt = golden_dir / "errors" / f"{case}.prototxt"
    caffemodel = prototxt.with_suffix(".caffemodel")
    with pytest.raises(CaffeScnnError) as refusal:
        net = load(prototxt, caffemodel if caffemodel.exists() else None)
        executor = Executor(net, threads=1)
        index = -1 if case == "reindex_negative" else 3
        executor.run({name: np.full(shape, index) for name, shape in executor.shapes.items()})
    assert PHRASES[case] in str(refusal.value)
    assert "\n" not in str(refusal.value)
