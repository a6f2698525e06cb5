"""The engine: compiles a net into a plan of kernel calls and runs it."""

from __future__ import annotations

from caffe_scnn._kernels import FlushToZero
from caffe_scnn.engine.executor import Executor, StepTime
from caffe_scnn.engine.matrix import PackedMatrix, pack, spmm

__all__ = ["Executor", "FlushToZero", "PackedMatrix", "StepTime", "pack", "spmm"]
