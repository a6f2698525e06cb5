"""Layers of 2013 (one flat message inside ``layers``) as V1 layers, as Caffe upgrades them.

The files of MSRA's SPP_net have V1's parameter messages inside such layers; they are read, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from caffe_scnn.model.layer_names import V0_TYPES
from caffe_scnn.proto import caffe_pb2 as pb

_CONV, _IP, _POOL = "convolution_param", "inner_product_param", "pooling_param"
_DATA, _IMAGES, _WINDOWS = "data_param", "image_data_param", "window_data_param"

# V0 field → V0 type → the V1 message and field it moves to.
_MOVES = {
    "num_output": {"conv": (_CONV, "num_output"), "innerproduct": (_IP, "num_output")},
    "biasterm": {"conv": (_CONV, "bias_term"), "innerproduct": (_IP, "bias_term")},
    "weight_filler": {"conv": (_CONV, "weight_filler"), "innerproduct": (_IP, "weight_filler")},
    "bias_filler": {"conv": (_CONV, "bias_filler"), "innerproduct": (_IP, "bias_filler")},
    "pad": {"conv": (_CONV, "pad"), "pool": (_POOL, "pad")},
    "kernelsize": {"conv": (_CONV, "kernel_size"), "pool": (_POOL, "kernel_size")},
    "stride": {"conv": (_CONV, "stride"), "pool": (_POOL, "stride")},
    "group": {"conv": (_CONV, "group")},
    "pool": {"pool": (_POOL, "pool")},
    "dropout_ratio": {"dropout": ("dropout_param", "dropout_ratio")},
    "local_size": {"lrn": ("lrn_param", "local_size")},
    "alpha": {"lrn": ("lrn_param", "alpha")},
    "beta": {"lrn": ("lrn_param", "beta")},
    "k": {"lrn": ("lrn_param", "k")},
    "source": {
        "data": (_DATA, "source"),
        "hdf5_data": ("hdf5_data_param", "source"),
        "images": (_IMAGES, "source"),
        "window_data": (_WINDOWS, "source"),
        "infogain_loss": ("infogain_loss_param", "source"),
    },
    "batchsize": {
        "data": (_DATA, "batch_size"),
        "hdf5_data": ("hdf5_data_param", "batch_size"),
        "images": (_IMAGES, "batch_size"),
        "window_data": (_WINDOWS, "batch_size"),
    },
    "rand_skip": {"data": (_DATA, "rand_skip"), "images": (_IMAGES, "rand_skip")},
    "shuffle_images": {"images": (_IMAGES, "shuffle")},
    "new_height": {"images": (_IMAGES, "new_height")},
    "new_width": {"images": (_IMAGES, "new_width")},
    "concat_dim": {"concat": ("concat_param", "concat_dim")},
    "det_fg_threshold": {"window_data": (_WINDOWS, "fg_threshold")},
    "det_bg_threshold": {"window_data": (_WINDOWS, "bg_threshold")},
    "det_fg_fraction": {"window_data": (_WINDOWS, "fg_fraction")},
    "det_context_pad": {"window_data": (_WINDOWS, "context_pad")},
    "det_crop_mode": {"window_data": (_WINDOWS, "crop_mode")},
}
_TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}
# Messages of the SPP_net dialect → those of V1.
_MESSAGES = {
    "conv_param": _CONV,
    "pool_param": _POOL,
    "lrn_param": "lrn_param",
    "inner_product_param": _IP,
    "dropout_param": "dropout_param",
    "concat_param": "concat_param",
}
_COPIED = ("name", "blobs_lr", "weight_decay")
_HANDLED = ("type", "blobs")


def upgrade_v0(old: pb.V1LayerParameter) -> pb.V1LayerParameter:
    """Return the V1 form of a V0 layer, without its blobs.

    Raises
    ------
    ValueError
        The type is none that Caffe ever had.
    """
    if not old.HasField("layer"):
        return old
    inner = old.layer
    if inner.type not in V0_TYPES:
        raise ValueError(f'there is no V0 layer type "{inner.type}"')
    new = pb.V1LayerParameter(bottom=old.bottom, top=old.top, type=V0_TYPES[inner.type])
    for field, value in inner.ListFields():
        _move(field, value, inner.type, new)
    return new


def _move(field: FieldDescriptor, value: Any, kind: str, new: pb.V1LayerParameter) -> None:
    """Put one field of a V0 layer where it belongs in V1."""
    if field.name in _HANDLED:
        return
    if field.name in _COPIED:
        _set(new, field.name, value)
    elif field.name in _MESSAGES:
        getattr(new, _MESSAGES[field.name]).MergeFrom(value)
    elif field.name in _TRANSFORM:
        setattr(new.transform_param, _TRANSFORM[field.name], value)
    elif field.name == "hdf5_output_param" and kind == "hdf5_output":
        new.hdf5_output_param.CopyFrom(value)
    elif kind in _MOVES.get(field.name, {}):
        message, target = _MOVES[field.name][kind]
        _set(getattr(new, message), target, value)
    else:
        warnings.warn(
            f'layer "{new.name}": "{field.name}" means nothing for the type {kind} '
            "and is dropped, as Caffe does",
            stacklevel=2,
        )


def _set(message: Any, name: str, value: Any) -> None:
    """Set a field of any kind; the repeated pad, kernel_size and stride get one element."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.is_repeated:
        getattr(message, name).extend(value if not isinstance(value, int) else [value])
    elif field.message_type is not None:
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


def merge_padding(layers: Sequence[pb.V1LayerParameter]) -> list[int]:
    """Move the pad of V0 ``padding`` layers into the layers that read them.

    Parameters
    ----------
    layers : sequence of V1LayerParameter
        All layers; those that read a padding layer are changed.

    Returns
    -------
    list of int
        The layers that remain.

    Raises
    ------
    ValueError
        A padding layer is read by something other than a convolution or pooling.
    """
    producer: dict[str, pb.V1LayerParameter | None] = {}
    for layer in layers:
        for at, bottom in enumerate(layer.bottom):
            padding = producer.get(bottom)
            if padding is not None and not _is_padding(layer):
                _merge(padding, layer, at)
        for top in layer.top:  # the last producer of a blob counts
            producer[top] = layer if _is_padding(layer) else None
    return [index for index, layer in enumerate(layers) if not _is_padding(layer)]


def _is_padding(layer: pb.V1LayerParameter) -> bool:
    return layer.HasField("layer") and layer.layer.type == "padding"


def _merge(padding: pb.V1LayerParameter, layer: pb.V1LayerParameter, at: int) -> None:
    if layer.layer.type not in ("conv", "pool") or len(layer.bottom) != 1:
        raise ValueError(
            f'padding layer "{padding.layer.name}" is read by "{layer.layer.name}"; '
            "only a conv or pool layer with one bottom can take its pad"
        )
    if len(padding.bottom) != 1 or len(padding.top) != 1:
        raise ValueError(f'padding layer "{padding.layer.name}" needs one bottom and one top')
    layer.layer.pad = padding.layer.pad
    layer.bottom[at] = padding.bottom[0]
