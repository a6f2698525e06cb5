"""The generated messages are those of proto/caffe.proto."""

from __future__ import annotations

import re
from pathlib import Path

from caffe_scnn.proto import caffe_pb2 as pb

PROTO = Path(__file__).parents[1] / "proto" / "caffe.proto"
FIELD = re.compile(r"^\s+(?:optional|required|repeated) [\w.]+ (\w+) = (\d+)", re.M)


def test_the_generated_messages_are_current():
    text = PROTO.read_text()
    parts = re.split(r"^message (\w+) \{$", text, flags=re.M)
    names, bodies = parts[1::2], parts[2::2]
    assert len(names) > 80
    for name, body in zip(names, bodies, strict=True):
        descriptor = pb.DESCRIPTOR.message_types_by_name.get(name)
        built = {f.name: f.number for f in descriptor.fields} if descriptor else None
        written = {field: int(number) for field, number in FIELD.findall(body)}
        assert built == written, f"{name}: caffe_pb2 is stale; python setup.py build_ext --inplace"
