"""Layers of 2014 (``layers`` with enum types) as current ones, as Caffe upgrades them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe_scnn.model.layer_names import V1_TYPES
from caffe_scnn.proto import caffe_pb2 as pb

# Fields whose form differs; all others have the same name and type in both generations.
CHANGED = ("layer", "type", "blobs", "blobs_lr", "weight_decay", "param", "blob_share_mode")

_DATA = ("data_param", "image_data_param", "window_data_param")
_TRANSFORM = ("scale", "mean_file", "crop_size", "mirror")


def upgrade_v1(old: pb.V1LayerParameter) -> pb.LayerParameter:
    """Return the current form of a V1 layer, without its blobs.

    Picture transformations move from the data parameters to ``transform_param``; the lists
    ``param``, ``blob_share_mode``, ``blobs_lr`` and ``weight_decay`` become ``param`` messages.
    """
    new = pb.LayerParameter()
    if old.HasField("type"):
        new.type = V1_TYPES[pb.V1LayerParameter.LayerType.Name(old.type)]
    for field, value in old.ListFields():
        if field.name in CHANGED:
            continue
        if field.is_repeated:
            getattr(new, field.name).MergeFrom(value)
        elif field.message_type is not None:
            getattr(new, field.name).CopyFrom(value)
        else:
            setattr(new, field.name, value)
    _move_transform(new)
    _merge_params(old, new)
    return new


def _move_transform(layer: pb.LayerParameter) -> None:
    for name in _DATA:
        data = getattr(layer, name)
        for field in _TRANSFORM:
            if layer.HasField(name) and data.HasField(field):
                setattr(layer.transform_param, field, getattr(data, field))
                data.ClearField(field)


def _merge_params(old: pb.V1LayerParameter, new: pb.LayerParameter) -> None:
    lists: dict[str, Sequence[Any]] = {
        "name": old.param,
        "share_mode": old.blob_share_mode,
        "lr_mult": old.blobs_lr,
        "decay_mult": old.weight_decay,
    }
    for _ in range(max(len(values) for values in lists.values())):
        new.param.add()
    for field, values in lists.items():
        for param, value in zip(new.param, values, strict=False):
            setattr(param, field, value)
