"""``caffe.proto``: Caffe's messages."""

from caffe_scnn.proto import caffe_pb2

__all__ = ["caffe_pb2"]
