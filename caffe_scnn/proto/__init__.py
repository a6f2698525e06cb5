"""The protobuf messages of Caffe's files (``caffe_pb2`` is generated from ``proto/caffe.proto``)."""
