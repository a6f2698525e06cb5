"""The images that a prototxt's own data layer names."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_support import answer, make_model
from database_support import fill_lmdb

from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.data_layer import read_source
from caffe_scnn.proto import caffe_pb2 as pb

IMAGE_DATA = """
layer { name: "train" type: "ImageData" top: "data" top: "label" include { phase: TRAIN }
  image_data_param { source: "other.txt" batch_size: 1 } }
layer { name: "test" type: "ImageData" top: "data" top: "label" include { phase: TEST }
  image_data_param { source: "list.txt" root_folder: "pictures/" batch_size: 1 } }
"""
HDF5 = """
layer { name: "d" type: "HDF5Data" top: "data" top: "label"
  hdf5_data_param { source: "files.txt" batch_size: 1 } }
"""
DATA = """
layer { name: "d" type: "Data" top: "data" top: "label"
  data_param { source: "lmdb" backend: LMDB batch_size: 1 } }
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        path = tmp_path / "pictures" / f"{i}.png"
        cv2.imwrite(str(path), rng.integers(0, 255, (8, 8, 3), np.uint8))
    (tmp_path / "list.txt").write_text("\n".join(f"{i}.png {i % 3}" for i in range(10)))
    path = tmp_path / "train_val.prototxt"
    path.write_text(IMAGE_DATA)
    return path


def test_the_list_of_the_test_phase_counts(pictures: Path) -> None:
    images, labels = read_source(pictures)
    assert [path.name for path in images] == [f"{i}.png" for i in range(10)]
    assert all(path.exists() for path in images)
    assert labels is not None and labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def test_compress_looks_at_them(pictures: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model")
    files = [model.prototxt, model.caffemodel, "-o", tmp_path / "out", "--repeat", "0"]
    data = answer(
        *["compress", *files, "--method", "obs", "--density", "0.5", "--data-layer", pictures]
    )
    assert data["held_back"]["agreement"]["images"] == 1
    assert data["held_back"]["top1"] is not None


def test_hdf5_files_are_joined(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    x = np.random.default_rng(0).standard_normal((5, 3, 4, 4)).astype(np.float32)
    for name, part in (("a.h5", slice(0, 2)), ("b.h5", slice(2, 5))):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"], file["label"] = x[part], np.arange(5.0)[part, None]
    (tmp_path / "files.txt").write_text("a.h5\nb.h5\n")
    (tmp_path / "net.prototxt").write_text(HDF5)
    images, labels = read_source(tmp_path / "net.prototxt")
    assert np.array_equal(images, x)
    assert labels is not None and labels.tolist() == [0, 1, 2, 3, 4]


def test_a_database_is_looked_at_like_the_pictures_in_it(pictures: Path, tmp_path: Path) -> None:
    values = []
    for i in range(10):
        picture = cv2.imread(str(tmp_path / "pictures" / f"{i}.png"))
        data = picture.transpose(2, 0, 1).tobytes()
        values.append(pb.Datum(channels=3, height=8, width=8, data=data, label=i % 3))
    fill_lmdb(tmp_path / "lmdb", [value.SerializeToString() for value in values])
    (tmp_path / "data.prototxt").write_text(DATA)
    model = make_model(tmp_path / "model")
    places = [
        ["--data-layer", pictures],
        ["--data-layer", tmp_path / "data.prototxt"],
        ["--input", tmp_path / "lmdb"],
    ]
    made = []
    for number, place in enumerate(places):
        out = tmp_path / f"out{number}"
        files = [model.prototxt, model.caffemodel, "-o", out, "--repeat", "0"]
        options = ["--method", "obs", "--density", "0.5", "--channels", "rgb"]
        data = answer(*["compress", *files, *options, *place])
        made.append(((out / "weights.caffemodel").read_bytes(), data["held_back"]))
    assert made[0] == made[1] == made[2]


def test_what_is_missing_is_named(tmp_path: Path, pictures: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text('layer { name: "d" type: "DummyData" top: "data" top: "label" }')
    with pytest.raises(FormatError, match="has no layer of type Data or ImageData or HDF5Data"):
        read_source(path)
    path.write_text(DATA)
    with pytest.raises(FormatError, match=r'names "lmdb", which is not there'):
        read_source(path)
    (tmp_path / "lmdb").mkdir()
    with pytest.raises(FormatError, match="neither an LMDB nor a LevelDB folder"):
        read_source(path)
    path.write_text(HDF5)
    with pytest.raises(FormatError, match=r'names "files\.txt", which is not there'):
        read_source(path)
    (tmp_path / "files.txt").write_text("pictures/0.png")
    with pytest.raises(FormatError, match="cannot be read as HDF5"):
        read_source(path)
