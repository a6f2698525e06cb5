"""Methods that make a net smaller, and the recipe that says which, how much and where."""

from caffe_scnn.decompose.auto import Auto
from caffe_scnn.decompose.base import Counts, Decomposition, Edit, LayerReport
from caffe_scnn.decompose.channels import ChannelSelection
from caffe_scnn.decompose.compress import Compression, compress, plan
from caffe_scnn.decompose.fc_svd import FcSvd
from caffe_scnn.decompose.journal import Journal
from caffe_scnn.decompose.low_rank import LowRank
from caffe_scnn.decompose.low_rank_3d import LowRank3d
from caffe_scnn.decompose.magnitude import Magnitude
from caffe_scnn.decompose.methods import METHODS, method_type
from caffe_scnn.decompose.obs import Obs
from caffe_scnn.decompose.recipe import Goal, Recipe
from caffe_scnn.decompose.scnn import Scnn
from caffe_scnn.decompose.search import Plan
from caffe_scnn.decompose.sparse_low_rank import SparseLowRank
from caffe_scnn.decompose.spatial import Spatial

__all__ = [
    "METHODS",
    "Auto",
    "ChannelSelection",
    "Compression",
    "Counts",
    "Decomposition",
    "Edit",
    "FcSvd",
    "Goal",
    "Journal",
    "LayerReport",
    "LowRank",
    "LowRank3d",
    "Magnitude",
    "Obs",
    "Plan",
    "Recipe",
    "Scnn",
    "SparseLowRank",
    "Spatial",
    "compress",
    "method_type",
    "plan",
]
