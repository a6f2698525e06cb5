"""The table of ops: which class computes which description of work."""

from __future__ import annotations

from caffe_scnn.engine.bf16 import PARTS
from caffe_scnn.engine.nodes import WINOGRAD, Node
from caffe_scnn.engine.ops.activation import activation_op
from caffe_scnn.engine.ops.affine import AffineOp
from caffe_scnn.engine.ops.argmax import ArgMaxOp
from caffe_scnn.engine.ops.bands import BandsOp
from caffe_scnn.engine.ops.base import Context, Op, State
from caffe_scnn.engine.ops.bf16 import Bf16Op
from caffe_scnn.engine.ops.concat import ConcatOp
from caffe_scnn.engine.ops.constant import ConstantOp
from caffe_scnn.engine.ops.convolution import ConvolutionOp
from caffe_scnn.engine.ops.cut import CutOp
from caffe_scnn.engine.ops.depthwise import DepthwiseOp
from caffe_scnn.engine.ops.eltwise import EltwiseOp
from caffe_scnn.engine.ops.filter import FilterOp
from caffe_scnn.engine.ops.inner_product import InnerProductOp
from caffe_scnn.engine.ops.interleave import InterleaveOp
from caffe_scnn.engine.ops.lrn import LRNOp
from caffe_scnn.engine.ops.lrn_within import LRNWithinOp
from caffe_scnn.engine.ops.masked_pooling import MaskedPoolingOp
from caffe_scnn.engine.ops.neuron import NeuronOp
from caffe_scnn.engine.ops.normalize import NormalizeOp
from caffe_scnn.engine.ops.pooling import PoolingOp
from caffe_scnn.engine.ops.product import ProductOp
from caffe_scnn.engine.ops.psroi_pooling import PSRoiPoolingOp
from caffe_scnn.engine.ops.ragged import RaggedOp
from caffe_scnn.engine.ops.rearrange import RearrangeOp
from caffe_scnn.engine.ops.reference import ReferenceOp
from caffe_scnn.engine.ops.resample import ResampleOp
from caffe_scnn.engine.ops.roi_pooling import RoiPoolingOp
from caffe_scnn.engine.ops.slices import SlicesOp
from caffe_scnn.engine.ops.softmax import SoftmaxOp
from caffe_scnn.engine.ops.unpool import UnpoolOp
from caffe_scnn.engine.ops.view import ViewOp
from caffe_scnn.engine.ops.winograd import WinogradOp
from caffe_scnn.layers import base

OPS: dict[type[object], type[Op]] = {
    base.AffineSpec: AffineOp,
    base.ArgMaxSpec: ArgMaxOp,
    base.ConcatSpec: ConcatOp,
    base.ConstantSpec: ConstantOp,
    base.ConvolutionSpec: ConvolutionOp,
    base.CutSpec: CutOp,
    base.EltwiseSpec: EltwiseOp,
    base.FilterSpec: FilterOp,
    base.InnerProductSpec: InnerProductOp,
    base.InterleaveSpec: InterleaveOp,
    base.LRNSpec: LRNOp,
    base.LRNWithinSpec: LRNWithinOp,
    base.MaskedPoolingSpec: MaskedPoolingOp,
    base.NeuronSpec: NeuronOp,
    base.NormalizeSpec: NormalizeOp,
    base.PoolingSpec: PoolingOp,
    base.ProductSpec: ProductOp,
    base.PSRoiPoolingSpec: PSRoiPoolingOp,
    base.RaggedSpec: RaggedOp,
    base.RearrangeSpec: RearrangeOp,
    base.ReferenceSpec: ReferenceOp,
    base.ResampleSpec: ResampleOp,
    base.RoiPoolingSpec: RoiPoolingOp,
    base.SoftmaxSpec: SoftmaxOp,
    base.UnpoolSpec: UnpoolOp,
    base.ViewSpec: ViewOp,
}

__all__ = ["OPS", "Context", "Op", "State", "op_type"]


def op_type(node: Node) -> type[Op]:
    """Return the class that computes a node."""
    if isinstance(node.spec, base.ActivationSpec):
        return activation_op(node)
    if node.before:
        return SlicesOp if node.sliced else BandsOp
    if DepthwiseOp.computes(node):
        return DepthwiseOp
    if node.form in WINOGRAD:
        return WinogradOp
    if node.form in PARTS:
        return Bf16Op
    return OPS[type(node.spec)]
