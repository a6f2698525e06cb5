"""Arrays as Caffe's protobuf messages, and back: BlobProto, BlobProtoVector, Datum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.proto import caffe_pb2 as pb
from caffe_scnn.pycaffe.blob import Values
from caffe_scnn.pycaffe.training import refuse_training


def blobproto_to_array(blob: pb.BlobProto, return_diff: bool = False) -> Values:
    """Return the values of a BlobProto, in its shape of either form."""
    if return_diff:
        raise refuse_training("blobproto_to_array(return_diff=True)")
    values = np.asarray(blob.double_data or blob.data, np.float32)
    legacy = any(blob.HasField(name) for name in ("num", "channels", "height", "width"))
    if legacy:
        return values.reshape(blob.num, blob.channels, blob.height, blob.width)
    return values.reshape(tuple(blob.shape.dim))


def array_to_blobproto(arr: NDArray[Any], diff: NDArray[Any] | None = None) -> pb.BlobProto:
    """Return an array as a BlobProto."""
    blob = pb.BlobProto()
    blob.shape.dim.extend(arr.shape)
    blob.data.extend(np.asarray(arr, np.float32).ravel().tolist())
    if diff is not None:
        blob.diff.extend(np.asarray(diff, np.float32).ravel().tolist())
    return blob


def arraylist_to_blobprotovector_str(arraylist: Iterable[NDArray[Any]]) -> bytes:
    """Return arrays as a serialised BlobProtoVector."""
    vector = pb.BlobProtoVector()
    vector.blobs.extend(array_to_blobproto(array) for array in arraylist)
    return vector.SerializeToString()


def blobprotovector_str_to_arraylist(string: bytes) -> list[Values]:
    """Return the arrays of a serialised BlobProtoVector."""
    vector = pb.BlobProtoVector()
    vector.ParseFromString(string)
    return [blobproto_to_array(blob) for blob in vector.blobs]


def array_to_datum(arr: NDArray[Any], label: int | None = None) -> pb.Datum:
    """Return (C, H, W) as a Datum: bytes for uint8, floats for anything else."""
    if arr.ndim != 3:
        raise ValueError(f"a Datum has three axes (C, H, W), not the shape {arr.shape}")
    datum = pb.Datum(channels=arr.shape[0], height=arr.shape[1], width=arr.shape[2])
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(np.asarray(arr, np.float32).ravel().tolist())
    if label is not None:
        datum.label = int(label)
    return datum


def datum_to_array(datum: pb.Datum) -> NDArray[Any]:
    """Return the values of a Datum, (C, H, W): uint8 of its bytes, or else its floats.

    Raises
    ------
    ValueError
        It holds a compressed picture.
    """
    if datum.encoded:
        raise ValueError("the datum holds an encoded picture: decode datum.data, e.g. cv2.imdecode")
    shape = datum.channels, datum.height, datum.width
    if len(datum.data):
        return np.frombuffer(datum.data, np.uint8).reshape(shape)
    return np.asarray(datum.float_data, np.float64).reshape(shape)
