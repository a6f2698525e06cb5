"""Caffe nets in PyTorch with Caffe's exact semantics, and back."""

from __future__ import annotations

from caffe_scnn.finetune.bridge.base import LayerModule
from caffe_scnn.finetune.bridge.net_module import NetModule
from caffe_scnn.finetune.bridge.table import LAYER_MODULES, layer_module

__all__ = ["LAYER_MODULES", "LayerModule", "NetModule", "layer_module"]
