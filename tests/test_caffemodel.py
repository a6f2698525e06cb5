"""Binary weights: every form that Caffe reads, and files that Caffe reads back."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from numpy.typing import NDArray
from proto_strategies import layers

from caffe_scnn.errors import FormatError, OutputError
from caffe_scnn.model import caffemodel
from caffe_scnn.model.blob import StoredBlob, read_binaryproto
from caffe_scnn.model.caffemodel import (
    StoredNet,
    count_caffemodel,
    read_caffemodel,
    write_caffemodel,
)
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.model.wire import encode_head, encode_varint
from caffe_scnn.proto import caffe_pb2 as pb

Blob = NDArray[np.float32]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "net.caffemodel"


def read_blob(path: Path, blob: bytes) -> StoredBlob:
    """Return the blob that a file with one layer of one blob gives."""
    layer = encode_head(1, 1) + b"c" + encode_head(7, len(blob)) + blob
    path.write_bytes(encode_head(100, len(layer)) + layer)
    return read_caffemodel(path).layers[0].blobs[0]


def message(number: int, content: bytes) -> bytes:
    return encode_head(number, len(content)) + content


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


SHAPE_3 = message(7, message(1, b"\x03"))


# --- real files -------------------------------------------------------------------------------

READABLE = ["blob_chunks", "blob_double", "blob_legacy4d", "blob_unpacked", "bn_params"]
READABLE += ["input_dim", "model_duplicate_layer", "model_extra_layers", "model_only_names"]
OLD = {"v0_lenet": "V0", "v0_padding": "V0", "v1_lenet": "V1", "v1_shared": "V1"}


@pytest.mark.parametrize("case", [*READABLE, *OLD])
def test_blobs_equal_those_that_protobuf_reads(golden_dir: Path, case: str) -> None:
    path = golden_dir / "legacy" / f"{case}.caffemodel"
    official = pb.NetParameter.FromString(path.read_bytes())
    stored = read_caffemodel(path)
    assert stored.generation == OLD.get(case, "V2")
    assert stored.name == official.name
    wanted = [v1.layer if v1.HasField("layer") else v1 for v1 in official.layers]
    for got, layer in zip(stored.layers, [*official.layer, *wanted], strict=True):
        assert got.name == layer.name
        for blob, proto in zip(got.blobs, layer.blobs, strict=True):
            data = proto.double_data or proto.data
            np.testing.assert_array_equal(blob.array.ravel(), np.array(data, np.float32))
            assert blob.legacy is proto.HasField("num")
            shape = proto.shape.dim
            if blob.legacy:
                shape = [proto.num, proto.channels, proto.height, proto.width]
            assert list(blob.shape) == list(blob.array.shape) == list(shape)


def test_types_of_old_files_have_their_current_names(golden_dir: Path) -> None:
    stored = read_caffemodel(golden_dir / "legacy" / "v1_lenet.caffemodel")
    assert {"Convolution", "InnerProduct"} <= {layer.type for layer in stored.layers}


# --- forms of a blob --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        message(5, floats(1, 2, 3)),
        message(5, floats(1)) + message(5, floats(2, 3)),
        b"".join(b"\x2d" + floats(v) for v in (1, 2, 3)),
        message(5, floats(1)) + b"\x2d" + floats(2) + message(5, b"") + b"\x2d" + floats(3),
        message(8, np.array([1, 2, 3], "<f8").tobytes()),
        b"".join(b"\x41" + np.array(v, "<f8").tobytes() for v in (1, 2, 3)),
        message(5, floats(9, 9)) + message(8, np.array([1, 2, 3], "<f8").tobytes()),
        message(5, floats(1, 2, 3)) + message(6, floats(9)) + b"\x35" + floats(9),
        b"\x28\x07" + message(5, floats(1, 2, 3)),
        b"\xab\x06\x08\x07\xac\x06" + message(5, floats(1, 2, 3)),
        b"\x50\x02" + message(12, np.array([1, 2, 3], "<f2").tobytes()),
        message(12, floats(1, 2, 3)) + b"\x50\x01",
        message(12, np.array([1, 2, 3], "<f8").tobytes()),
        b"\x50\x02" + message(12, b"\0" * 6) + message(5, floats(1, 2, 3)),
    ],
    ids=[
        "packed",
        "pieces",
        "unpacked",
        "mixed",
        "double",
        "double unpacked",
        "double wins",
        "diff",
        "data as varint is an unknown field",
        "an unknown group",
        "NVIDIA half",
        "NVIDIA float",
        "NVIDIA double is the default",
        "float goes before NVIDIA",
    ],
)
@pytest.mark.parametrize("shape_first", [True, False])
def test_data_in_every_form(model: Path, data: bytes, shape_first: bool) -> None:
    blob = read_blob(model, SHAPE_3 + data if shape_first else data + SHAPE_3)
    assert blob.array.dtype == np.float32
    np.testing.assert_array_equal(blob.array, [1, 2, 3])


@pytest.mark.parametrize(
    ("shape", "wanted", "legacy"),
    [
        (message(7, message(1, b"\x02\x03")), (2, 3), False),
        (message(7, b"\x08\x02\x08\x03"), (2, 3), False),
        (message(7, message(1, b"\x02") + b"\x08\x03"), (2, 3), False),
        (message(7, b"\x08\x02") + message(7, b"\x08\x03"), (2, 3), False),
        (b"\x08\x01\x10\x01\x18\x02\x20\x03", (1, 1, 2, 3), True),
        (b"\x08\x01\x10\x01\x18\x02\x20\x03" + message(7, b"\x08\x06"), (1, 1, 2, 3), True),
        (b"\x08\x05\x08\x01\x10\x01\x18\x02\x20\x03", (1, 1, 2, 3), True),
    ],
    ids=["packed", "unpacked", "mixed", "merged", "legacy", "legacy wins", "last scalar wins"],
)
def test_shape_in_every_form(
    model: Path, shape: bytes, wanted: tuple[int, ...], legacy: bool
) -> None:
    blob = read_blob(model, shape + message(5, floats(*range(6))))
    assert (blob.shape, blob.legacy) == (wanted, legacy)
    assert blob.array.shape == wanted


def test_blobs_without_axes_or_values(model: Path) -> None:
    assert read_blob(model, message(7, b"") + message(5, floats(4))).array.shape == ()
    assert read_blob(model, message(7, b"\x08\x00\x08\x05")).array.shape == (0, 5)


def test_doubles_beyond_float_become_infinite(model: Path) -> None:
    data = np.array([1e300, -1e300, 0.1], "<f8")
    blob = read_blob(model, SHAPE_3 + message(8, data.tobytes()))
    np.testing.assert_array_equal(blob.array, [np.inf, -np.inf, np.float32(0.1)])


def test_long_runs_of_single_values(model: Path) -> None:
    values = np.arange(600_000, dtype="<f4")
    records = np.empty((values.size, 5), np.uint8)
    records[:, 0] = 0x2D
    records[:, 1:] = values.view(np.uint8).reshape(-1, 4)
    shape = message(7, b"\x08" + encode_varint(values.size))
    np.testing.assert_array_equal(read_blob(model, records.tobytes() + shape).array, values)


@st.composite
def stored_nets(draw: st.DrawFn) -> pb.NetParameter:
    """Draw a caffemodel as the official library would write it, in one of the generations."""
    net = pb.NetParameter(name=draw(st.text(max_size=3)), force_backward=draw(st.booleans()))
    kind = draw(st.sampled_from(["V0", "V1", "V2"]))
    for _ in range(draw(st.integers(1, 3))):
        layer = net.layer.add() if kind == "V2" else net.layers.add()
        layer.bottom.append("data")
        if kind == "V0":
            layer = layer.layer
        layer.name = draw(st.text(max_size=3))
        for _ in range(draw(st.integers(0, 2))):
            _fill_blob(draw, layer.blobs.add())
    return net


def _fill_blob(draw: st.DrawFn, blob: pb.BlobProto) -> None:
    shape = draw(st.lists(st.integers(0, 3), min_size=4, max_size=4))
    if draw(st.booleans()):
        blob.num, blob.channels, blob.height, blob.width = shape
    else:
        blob.shape.dim.extend(shape)
    count = int(np.prod(shape))
    target = blob.double_data if draw(st.booleans()) else blob.data
    target.extend(draw(st.lists(st.floats(width=32), min_size=count, max_size=count)))
    blob.diff.extend([1.0] * draw(st.integers(0, 2)))


@given(stored_nets())
def test_whatever_protobuf_writes_is_read(official: pb.NetParameter) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.caffemodel")
        path.write_bytes(official.SerializeToString())
        stored = read_caffemodel(path)
    assert stored.name == official.name
    wanted = [old.layer if old.HasField("layer") else old for old in official.layers]
    for got, layer in zip(stored.layers, [*official.layer, *wanted], strict=True):
        assert got.name == layer.name
        for blob, proto in zip(got.blobs, layer.blobs, strict=True):
            data = proto.double_data or proto.data
            np.testing.assert_array_equal(blob.array.ravel(), np.array(data, np.float32))
            assert blob.legacy is proto.HasField("num")


# --- writing ----------------------------------------------------------------------------------


def make_net(**blobs: list[Blob]) -> Net:
    made = [Layer(pb.LayerParameter(name=name, type="X"), b) for name, b in blobs.items()]
    return Net(pb.NetParameter(name="né"), made)


def assert_same(net: Net, stored: StoredNet) -> None:
    assert [layer.name for layer in net] == [layer.name for layer in stored.layers]
    for layer, got in zip(net, stored.layers, strict=True):
        assert layer.type == got.type
        for blob, read in zip(layer.blobs, got.blobs, strict=True):
            assert read.array.shape == blob.shape
            assert read.array.tobytes() == blob.tobytes()


@given(
    st.lists(
        st_numpy.arrays(
            np.float32, st_numpy.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
        ),
        max_size=3,
    ),
    layers(),
)
def test_written_files_read_back_bit_for_bit(blobs: list[Blob], proto: pb.LayerParameter) -> None:
    net = make_net(a=blobs, b=[])
    net.layers[0].proto = proto
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.caffemodel")
        write_caffemodel(net, path)
        assert_same(net, read_caffemodel(path))
        official = pb.NetParameter.FromString(path.read_bytes())
    assert official.name == "né"
    for layer, written in zip(net, official.layer, strict=True):
        for blob, stored in zip(layer.blobs, written.blobs, strict=True):
            assert tuple(stored.shape.dim) == blob.shape
            assert np.array(stored.data, np.float32).tobytes() == blob.tobytes()
        del written.blobs[:]
        assert written.SerializeToString() == layer.proto.SerializeToString()


def test_arrays_that_are_views_are_written_in_order(model: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    net = make_net(a=[array.transpose(2, 0, 1), array[:, ::2]])
    write_caffemodel(net, model)
    assert_same(net, read_caffemodel(model))


def test_nothing_of_the_weights_size_is_copied(model: Path) -> None:
    """Reading holds the arrays and no more; writing needs no memory at all."""
    size = 4_000_000
    net = make_net(a=[np.ones(size, np.float32)], b=[np.ones((size // 4, 2), np.float32)])
    tracemalloc.start()
    try:
        write_caffemodel(net, model)
        _, written = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        stored = read_caffemodel(model)
        _, read = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert_same(net, stored)
    assert written < 1_000_000
    assert read < model.stat().st_size + 1_000_000


def test_more_than_protobuf_can_hold_is_refused_before_writing(model: Path) -> None:
    huge = np.broadcast_to(np.float32(0), (2, 2))
    net = make_net(a=[huge])
    limit = caffemodel.MAX_FILE
    assert limit == 2**31 - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caffemodel, "MAX_FILE", 20)
        with pytest.raises(OutputError, match="2 GiB"):
            write_caffemodel(net, model)
    assert not model.exists()


def test_mean_image(tmp_path: Path, golden_dir: Path) -> None:
    path = tmp_path / "mean.binaryproto"
    mean = pb.BlobProto(num=1, channels=3, height=1, width=2, data=range(6))
    path.write_bytes(mean.SerializeToString())
    blob = read_binaryproto(path)
    assert blob.array.shape == (1, 3, 1, 2)
    with pytest.raises(FormatError, match="holds no layers"):
        read_caffemodel(path)
    with pytest.raises(FormatError, match="blob"):
        read_binaryproto(golden_dir / "legacy" / "input_dim.caffemodel")


# --- HDF5 -------------------------------------------------------------------------------------


def test_hdf5_weights_are_laid_out_as_caffe_does(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "net.caffemodel.h5"
    weights, bias = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)
    write_caffemodel(make_net(fc=[weights, bias], relu=[]), path)
    with h5py.File(path, "r") as file:
        assert list(file["data"]) == ["fc", "relu"]
        assert file["data/fc/0"].dtype == np.float32
        assert np.array_equal(file["data/fc/0"], weights)
    stored = read_caffemodel(path)
    assert stored.generation == "HDF5"
    assert [layer.name for layer in stored.layers] == ["fc", "relu"]
    assert np.array_equal(stored.layers[0].blobs[1].array, bias)


def test_hdf5_of_others_is_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = np.ones(3)
    with pytest.raises(FormatError, match='no group "data"'):
        read_caffemodel(path)
    with h5py.File(path, "w") as file:
        file["data/fc/1"] = np.ones(3)
    with pytest.raises(FormatError, match="lacks the floats of blob 0"):
        read_caffemodel(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FormatError, match="damaged HDF5"):
        read_caffemodel(path)


def test_counting_agrees_with_reading(golden_dir):
    files = sorted(golden_dir.glob("nets/*.caffemodel")) + sorted(golden_dir.glob("legacy/*model"))
    assert files
    for file in files:
        read, counted = read_caffemodel(file).layers, count_caffemodel(file)
        assert [(n.name, n.type) for n in read] == [(n.name, n.type) for n in counted]
        for layer, other in zip(read, counted, strict=True):
            for blob, count in zip(layer.blobs, other.blobs, strict=True):
                assert (blob.shape, blob.array.size) == (count.shape, count.values)
                assert np.count_nonzero(blob.array) == count.nonzeros


def test_counting_goes_on_after_a_piece(golden_dir, monkeypatch):
    file = golden_dir / "nets" / "lenet.caffemodel"
    want = count_caffemodel(file)
    monkeypatch.setattr("caffe_scnn.model.blob._PIECE", 7)
    assert count_caffemodel(file) == want
