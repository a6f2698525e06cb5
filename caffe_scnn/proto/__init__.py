"""Protobuf messages of Caffe files (``caffe_pb2`` is generated from ``proto/caffe.proto``)."""
