"""The images that a prototxt's own data layer names."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from cli_support import answer, make_model

from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.data_layer import read_source

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


def test_what_is_missing_is_named(tmp_path: Path, pictures: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text('layer { name: "d" type: "Data" top: "data" top: "label" }')
    with pytest.raises(FormatError, match="databases are not read here"):
        read_source(path)
    path.write_text(HDF5)
    with pytest.raises(FormatError, match=r'names "files\.txt", which is not there'):
        read_source(path)
    (tmp_path / "files.txt").write_text("pictures/0.png")
    with pytest.raises(FormatError, match="cannot be read as HDF5"):
        read_source(path)
