"""Windows: found, laid over a picture, read from files of every kind, kept, and their recall."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.io
from mat73 import write_mat73

from caffe_scnn.detect.boxes import heights, overlaps, widths
from caffe_scnn.detect.content_cache import ContentCache
from caffe_scnn.detect.picture import read_picture
from caffe_scnn.detect.proposals import (
    Coverage,
    FromFile,
    Kept,
    SelectiveSearch,
    SlidingWindows,
    make_proposer,
    read_proposals,
    tidy,
    write_proposals,
)
from caffe_scnn.errors import FormatError, OutputError
from caffe_scnn.evaluate.voc import Annotation, Object

# x1 y1 x2 y2, from 1
BOXES = {"000001": [[1, 2, 30, 40], [5, 6, 70, 80]], "000002": [[9.5, 9, 99, 99]]}
EXPECTED = {image: np.array(boxes, np.float32) for image, boxes in BOXES.items()}


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for image, boxes in expected.items():
        np.testing.assert_array_equal(found[image], boxes)
        assert found[image].dtype == np.float32


def a_picture(height=120, width=160):
    """A blue rectangle (columns 41 to 100, rows 31 to 90, from 1) on a noisy ground."""
    rng = np.random.default_rng(0)
    picture = rng.integers(150, 180, (height, width, 3)).astype(np.uint8)
    picture[30:90, 40:100] = (200, 40, 30)
    return picture


@pytest.mark.parametrize("mode", ["fast", "quality"])
def test_selective_search_finds_an_object_to_the_pixel(mode):
    found = SelectiveSearch(mode).boxes("", a_picture())
    best = found[overlaps(found, np.array([[41, 31, 100, 90]], np.float32)).argmax()]
    np.testing.assert_allclose(best, [41, 31, 100, 90], atol=1)
    assert found.min() >= 1
    assert found[:, 2].max() == 160
    assert found[:, 3].max() == 120
    assert len(np.unique(found, axis=0)) == len(found)
    assert min(widths(found).min(), heights(found).min()) >= 20


def test_selective_search_is_the_same_each_time():
    first, second = (SelectiveSearch().boxes("", a_picture()) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (2, 2, 3), (30, 30, 3)])
def test_selective_search_of_almost_nothing(shape):
    found = SelectiveSearch(minimum_side=1).boxes("", np.zeros(shape, np.uint8))
    assert found.shape[1:] == (4,)


def test_sliding_windows_cover_the_picture():
    found = SlidingWindows(minimum_side=10).boxes("", a_picture())
    assert found.min() == 1
    assert found[:, 2].max() == 160
    assert found[:, 3].max() == 120
    assert (found == np.round(found)).all()
    assert len(np.unique(found, axis=0)) == len(found)
    covered = np.zeros((120, 160), bool)
    for x1, y1, x2, y2 in found[(widths(found) < 40) & (heights(found) < 40)].astype(int):
        covered[y1 - 1 : y2, x1 - 1 : x2] = True
    assert covered.all()


def test_a_sliding_window_is_never_larger_than_the_picture():
    found = SlidingWindows(scales=(0.9,), ratios=(4.0,), step=0.5).boxes("", a_picture(50, 100))
    assert found.tolist() == [[1, y, 100, y + 31] for y in (1, 10, 19)]


def test_tidy_keeps_the_first_of_equals_and_drops_the_small():
    boxes = np.array([[5, 5, 30, 30], [1, 1, 20, 20], [5, 5, 30, 30], [1, 1, 19, 30], [9, 9, 1, 1]])
    np.testing.assert_array_equal(tidy(boxes), [[5, 5, 30, 30], [1, 1, 20, 20]])
    assert tidy(np.zeros((0, 4))).shape == (0, 4)


def matlab_cell(values):
    cell = np.empty((len(values), 1), object)
    for index, value in enumerate(values):
        cell[index, 0] = value
    return cell


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_selective_search_data_sets(tmp_path, version):
    rows = [np.array(boxes, float)[:, [1, 0, 3, 2]] for boxes in BOXES.values()]
    path = tmp_path / "voc_2007_test.mat"
    if version == "5":
        cells = {"images": matlab_cell(list(BOXES)), "boxes": matlab_cell(rows)}
        scipy.io.savemat(path, cells)
    else:
        write_mat73(path, {"images": list(BOXES), "boxes": rows})
    assert_equal(read_proposals(path), EXPECTED)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_images_without_windows_and_with_folders_in_their_names(tmp_path, version):
    path = tmp_path / "voc.mat"
    images, rows = ["a/x.jpg", "a/y.jpg"], [np.zeros((0, 4)), np.array([[2.0, 1, 4, 3]])]
    if version == "5":
        scipy.io.savemat(path, {"images": matlab_cell(images), "boxes": matlab_cell(rows)})
    else:
        write_mat73(path, {"images": images, "boxes": rows})
    expected = {"x": np.zeros((0, 4), np.float32), "y": np.array([[1, 2, 3, 4]], np.float32)}
    assert_equal(read_proposals(path), expected)


def test_demo_pictures_count_from_zero(tmp_path):
    path = tmp_path / "000004_boxes.mat"
    scipy.io.savemat(path, {"boxes": np.array([[0, 0, 23, 15]], np.uint16)})
    assert_equal(read_proposals(path), {"000004": np.array([[1, 1, 24, 16]], np.float32)})


WINDOWS = """# 0
/data/000001.jpg
3
375
500
2
1 0.75 0 1 29 39
0 0.1 4 5 69 79
# 1
/data/000002.jpg
3
375
500
1
7 1 8.5 8 98 98
"""
VOC_CSV = """image,x1,y1,x2,y2
000001,1,2,30,40
000001,5,6,70,80

000002,9.5,9,99,99
"""
PYCAFFE_CSV = """filename,ymin,xmin,ymax,xmax
dir/000001.jpg,1,0,40,30
dir/000001.jpg,5,4,80,70
dir/000002.jpg,8,8.5,99,99
"""


@pytest.mark.parametrize(
    ("name", "text"), [("w.txt", WINDOWS), ("voc.csv", VOC_CSV), ("pycaffe.csv", PYCAFFE_CSV)]
)
def test_text_files_of_windows(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert_equal(read_proposals(tmp_path / name), EXPECTED)


@pytest.mark.parametrize("name", ["w.npz", "w.csv"])
def test_written_windows_come_back(tmp_path, name):
    rng = np.random.default_rng(0)
    windows = {"file": rng.uniform(1, 500, (20, 4)).astype(np.float32), **EXPECTED}
    write_proposals(tmp_path / name, windows)
    assert_equal(read_proposals(tmp_path / name), windows)


def refused(tmp_path, name, content):
    path = tmp_path / name
    if isinstance(content, str):
        path.write_text(content)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, content)
    else:
        np.savez(path, **content)
    with pytest.raises(FormatError) as caught:
        read_proposals(path)
    return str(caught.value).removeprefix(f"{path}:").strip()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.xml", "", "windows are read from .mat, .txt, .csv, .npz files"),
        ("w.csv", "a,b\n", "1: the first line must be image,x1,y1,x2,y2 (pixels from 1"),
        ("w.csv", "", "1: the first line must be"),
        ("w.csv", VOC_CSV + "x,1,2,3\n", '6: a window is image,x1,y1,x2,y2, not "x,1,2,3"'),
        ("w.csv", VOC_CSV + "x,1,2,3,inf\n", "6: a window is"),
        ("w.txt", WINDOWS.replace("# 1", "1"), '9: a block begins with "# <index>", not "1"'),
        ("w.txt", WINDOWS.replace("000002", "000001"), '9: a second block of picture "000001"'),
        ("w.txt", WINDOWS.replace("375", "tall", 1), '4: height should stand here, not "tall"'),
        ("w.txt", WINDOWS.replace("29 39", "29"), "7: a window is class overlap x1 y1 x2 y2, not"),
        ("w.txt", WINDOWS.rsplit("7 1")[0], "14: the file ends before window 1 of 1"),
        ("w.txt", "# 0\n", "1: the file ends before the picture's path"),
        ("w.npz", {"a": np.zeros((2, 5))}, 'the windows of "a" are float64 of shape (2, 5)'),
        ("w.npz", "no zip", "not a readable .npz"),
        ("w.mat", "no mat", "not a readable MATLAB file"),
        ("w.mat", {"rois": 1}, 'no variable "boxes"; variables: rois'),
        ("w.mat", {"boxes": np.zeros((2, 3))}, "boxes is float64 of shape (2, 3); windows are"),
        ("w.mat", {"boxes": "text"}, '"boxes" is neither a matrix nor a cell'),
        ("w.mat", {"boxes": matlab_cell([np.ones((1, 4))])}, 'no variable "images"'),
        (
            "w.mat",
            {"boxes": matlab_cell([np.ones((1, 4))]), "images": matlab_cell(["a", "b"])},
            "2 images, but windows of 1",
        ),
        (
            "w.mat",
            {"boxes": matlab_cell([np.ones((1, 3))]), "images": matlab_cell(["a"])},
            "boxes{1} is float64 of shape (1, 3)",
        ),
    ],
)
def test_files_that_are_wrong(tmp_path, name, content, message):
    assert refused(tmp_path, name, content).startswith(message)


def test_a_damaged_hdf5_file(tmp_path):
    path = write_mat73(tmp_path / "w.mat", {"images": ["a"], "boxes": [np.ones((1, 4))]})
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(FormatError, match="damaged HDF5"):
        read_proposals(path)


def test_windows_from_a_file_are_cut_at_the_border(tmp_path):
    path = tmp_path / "w.npz"
    write_proposals(path, {"a": np.array([[-5, 1, 30, 500], [1, 1, 30, 120], [200, 1, 300, 50]])})
    proposer = make_proposer(str(path))
    assert isinstance(proposer, FromFile)
    assert proposer.boxes("a", a_picture()).tolist() == [[1, 1, 30, 120]]
    with pytest.raises(FormatError, match=r'w\.npz: no windows of image "b"'):
        proposer.boxes("b", a_picture())


def test_windows_are_written_only_where_they_can_be_read_again(tmp_path):
    with pytest.raises(OutputError, match=r"w\.mat: windows are written as \.npz or \.csv"):
        write_proposals(tmp_path / "w.mat", {})


class Counting:
    def __init__(self):
        self.calls = 0

    @property
    def fingerprint(self):
        return "counting"

    def boxes(self, image, picture):
        self.calls += 1
        return np.full((3, 4), float(picture.mean()), np.float32)


def test_the_cache_goes_by_content(tmp_path):
    proposer = Counting()
    kept = Kept(proposer, ContentCache(tmp_path / "deep" / "cache", 10**6))
    one, other = a_picture(), a_picture() + 1
    first = kept.boxes("a", one)
    np.testing.assert_array_equal(kept.boxes("another name", one.copy()), first)
    assert proposer.calls == 1
    kept.boxes("a", other)
    kept.boxes("a", one.reshape(160, 120, 3))
    assert proposer.calls == 3
    for file in (tmp_path / "deep" / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:-7])  # as after a full disk
    np.testing.assert_array_equal(kept.boxes("a", one), first)
    assert proposer.calls == 4


def test_the_cache_forgets_what_was_not_used_for_longest(tmp_path):
    cache = ContentCache(tmp_path, 3 * (128 + 800))
    pictures = [np.full((1, 1, 3), shade, np.uint8) for shade in range(4)]
    made = []

    def use(index):
        cache.get("m", pictures[index], lambda: made.append(index) or np.zeros(100))

    for index in (0, 1, 2, 0, 3, 0, 1):  # 3 pushes 1 out, since 0 was used after it
        use(index)
    assert made == [0, 1, 2, 3, 1]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        ContentCache(tmp_path / "file", 10).get("m", a_picture(), lambda: np.zeros(1))


def test_names_of_proposers(tmp_path):
    assert make_proposer("quality", 5) == SelectiveSearch("quality", 5)
    assert make_proposer("sliding", 7) == SlidingWindows(minimum_side=7)
    assert isinstance(make_proposer("fast", cache=tmp_path), Kept)
    with pytest.raises(OSError, match=r"slow\.npz"):
        make_proposer("slow.npz")
    prints = [
        make_proposer(name, side).fingerprint for name in ("fast", "quality") for side in (1, 2)
    ]
    assert len(set(prints)) == 4


def test_recall_counts_covered_objects():
    objects = (
        Object("cat", (1, 1, 10, 10)),
        Object("dog", (1, 1, 10, 10), difficult=True),
        Object("Dog", (101, 1, 110, 10)),
    )
    annotations = [Annotation("a", 200, 99, objects), Annotation("b", 9, 9, ())]
    windows = {"a": np.array([[1, 1, 5, 10], [101, 1, 110, 8]], np.float32), "b": np.zeros((0, 4))}
    coverage = Coverage.of(annotations, windows)
    assert coverage.best.tolist() == [0.5, 0.8]
    assert [coverage.recall(t) for t in (0.5, 0.6, 0.9)] == [1.0, 0.5, 0.0]
    assert coverage.mean_best_overlap == 0.65
    assert (coverage.images, coverage.windows) == (2, 2)
    assert coverage.of_class("dog").recall(0.5) == 1.0
    assert coverage.of_class("dog").best.tolist() == [0.8]


def test_real_selective_search_boxes(data_dir):
    folder = data_dir / "selective_search"
    picture = read_picture(folder / "000004.jpg")
    proposer = make_proposer(str(folder / "000004_boxes.mat"))
    found = proposer.boxes("000004", picture)
    assert 1000 < len(found) <= 2888
    assert found.max(axis=0)[2:].tolist() == [500, 406]
    ours = SelectiveSearch().boxes("", cv2.resize(picture, None, fx=0.5, fy=0.5)) * 2
    # both look for the same regions: most of ours have a near counterpart among the originals
    assert np.mean(overlaps(ours, found).max(axis=1) > 0.5) > 0.8
