"""Hypothesis strategies for Caffe's messages, made from the schema itself."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from caffe_scnn.proto import caffe_pb2 as pb

_SCALARS = {
    # Text has one NaN only, so that payloads cannot survive.
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32, allow_nan=False) | st.just(math.nan),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
}


def _value(draw: st.DrawFn, field: FieldDescriptor) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return draw(st.sampled_from(sorted(field.enum_type.values_by_number)))
    return draw(_SCALARS[field.type])


def _fill(draw: st.DrawFn, message: Message) -> None:
    fields = [f for f in message.DESCRIPTOR.fields if f.name != "blobs"]
    chosen = draw(st.lists(st.sampled_from(fields), max_size=4, unique_by=lambda f: f.name))
    required = [f for f in fields if f.is_required and f not in chosen]
    for field in chosen + required:
        for _ in range(draw(st.integers(1, 3)) if field.is_repeated else 1):
            if field.message_type is not None:
                target = getattr(message, field.name)
                target = target.add() if field.is_repeated else target
                target.SetInParent()
                _fill(draw, target)
            elif field.is_repeated:
                getattr(message, field.name).append(_value(draw, field))
            else:
                setattr(message, field.name, _value(draw, field))


@st.composite
def layers(draw: st.DrawFn) -> pb.LayerParameter:
    """Draw a layer with a few fields of any kind, at any depth."""
    layer = pb.LayerParameter()
    _fill(draw, layer)
    return layer
