"""Training images: where they come from, how they are changed, in which order they come."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from database_support import fill_leveldb, fill_lmdb

from caffe_scnn.errors import CaffeScnnError, FormatError
from caffe_scnn.finetune.data import Arrays, Augmentation, Files, Loader, Part, open_source
from caffe_scnn.preprocess import Preprocess, Transformer
from caffe_scnn.proto import caffe_pb2 as pb

PLAIN = Transformer(Preprocess(resize="none"), "data", (1, 3, 6, 8))
RNG = np.random.default_rng(0)


def pictures(folder, count=5, size=(6, 8)):
    folder.mkdir(parents=True, exist_ok=True)
    made = RNG.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    for index, picture in enumerate(made):
        cv2.imwrite(str(folder / f"{index}.png"), picture)
    return made


def test_a_folder_is_pictures_without_labels(tmp_path):
    made = pictures(tmp_path / "a" / "b")
    source = open_source(tmp_path, PLAIN)
    assert len(source) == 5
    assert source.labels is None
    assert np.array_equal(source.read(3), made[3])


def test_a_list_is_pictures_with_labels(tmp_path):
    made = pictures(tmp_path / "pictures")
    (tmp_path / "list.txt").write_text("4.png 7\n1.png 2\n")
    source = open_source(tmp_path / "list.txt", PLAIN, tmp_path / "pictures")
    assert source.labels.tolist() == [7, 2]
    assert np.array_equal(source.read(1), made[1])


def test_arrays_with_and_without_labels(tmp_path):
    x = RNG.standard_normal((4, 3, 6, 8)).astype(np.float32)
    np.savez(tmp_path / "both.npz", x=x, y=np.array([3, 1, 2, 0]))
    np.save(tmp_path / "only.npy", x)
    both, only = (open_source(tmp_path / name, PLAIN) for name in ("both.npz", "only.npy"))
    assert both.labels.tolist() == [3, 1, 2, 0]
    assert only.labels is None
    for source in (both, only):
        assert np.array_equal(source.read(2), x[2].transpose(1, 2, 0))
    np.savez(tmp_path / "bad.npz", z=x)
    with pytest.raises(FormatError, match=r"bad\.npz: images are an npy"):
        open_source(tmp_path / "bad.npz", PLAIN)
    np.save(tmp_path / "flat.npy", x[0, 0])
    with pytest.raises(FormatError, match=r"\(N, C, H, W\)"):
        open_source(tmp_path / "flat.npy", PLAIN)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(FormatError, match="neither pictures"):
        open_source(tmp_path, PLAIN)


def datums(made):
    yield pb.Datum(
        channels=3, height=6, width=8, data=made[0].transpose(2, 0, 1).tobytes(), label=4
    )
    _, encoded = cv2.imencode(".png", made[1])
    yield pb.Datum(encoded=True, data=encoded.tobytes(), label=9)
    floats = made[2].transpose(2, 0, 1).ravel().astype(float)
    yield pb.Datum(channels=3, height=6, width=8, float_data=floats, label=1)


@pytest.mark.parametrize("fill", [fill_lmdb, fill_leveldb])
def test_databases_hold_datum_messages(tmp_path, fill):
    made = pictures(tmp_path / "pictures", 3)
    fill(tmp_path / "db", [datum.SerializeToString() for datum in datums(made)])
    source = open_source(tmp_path / "db", PLAIN)
    assert source.labels.tolist() == [4, 9, 1]
    for index in range(3):
        assert np.array_equal(source.read(index), made[index])


def test_rgb_nets_get_a_database_turned_round(tmp_path):
    made = pictures(tmp_path / "pictures", 3)
    fill_lmdb(tmp_path / "db", [datum.SerializeToString() for datum in datums(made)])
    rgb = Transformer(Preprocess(resize="none", channels="rgb"), "data", (1, 3, 6, 8))
    for source in (open_source(tmp_path / "db", rgb), open_source(tmp_path / "pictures", rgb)):
        assert np.array_equal(source.read(1), made[1][:, :, ::-1])


def test_damaged_databases_are_named(tmp_path):
    short = pb.Datum(channels=3, height=6, width=8, data=b"1")
    fill_lmdb(tmp_path / "short", [short.SerializeToString()])
    with pytest.raises(FormatError, match=r"short: the value of key b'00000000' is no picture"):
        open_source(tmp_path / "short", PLAIN).read(0)
    fill_lmdb(tmp_path / "wrong", [b"\xff\xff"])
    with pytest.raises(FormatError, match="is no Datum"):
        open_source(tmp_path / "wrong", PLAIN)
    fill_lmdb(tmp_path / "empty", [])
    with pytest.raises(FormatError, match="the database is empty"):
        open_source(tmp_path / "empty", PLAIN)


# --- augmentation ----------------------------------------------------------------------------


def changed(augmentation, pixels, transformer, count=200):
    return [augmentation(pixels, transformer, np.random.default_rng(i)) for i in range(count)]


def test_crops_are_all_places_and_nothing_else():
    transformer = Transformer(Preprocess(crop=4), "data", (1, 3, 4, 4))
    pixels = RNG.integers(0, 256, (6, 5, 3)).astype(np.float32)
    planes = pixels.transpose(2, 0, 1)
    wanted = {planes[:, t : t + 4, w : w + 4].tobytes() for t in range(3) for w in range(2)}
    found = {each.tobytes() for each in changed(Augmentation(), pixels, transformer)}
    assert found == wanted
    fixed = {each.tobytes() for each in changed(Augmentation(crop=False), pixels, transformer)}
    assert fixed == {transformer.values(pixels).tobytes()}


def test_a_mean_picture_is_cut_where_the_picture_is_and_mirrored_with_it(tmp_path):
    mean = RNG.uniform(0, 255, (3, 6, 5)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    settings = Preprocess(mean=tmp_path / "mean.npy", scale=0.5, resize="none", crop=4)
    transformer = Transformer(settings, "data", (1, 3, 4, 4))
    pixels = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    # data_transformer.cpp: the mean at the place in the uncut picture, then the mirror
    whole = (pixels.transpose(2, 0, 1) - mean) * np.float32(0.5)
    parts = [whole[:, t : t + 4, w : w + 4] for t in range(3) for w in range(2)]
    wanted = {np.ascontiguousarray(p[:, :, ::turn]).tobytes() for p in parts for turn in (1, -1)}
    found = {each.tobytes() for each in changed(Augmentation(mirror=True), pixels, transformer)}
    assert found == wanted


def test_mirrors_are_half():
    pixels = RNG.integers(0, 256, (6, 8, 3)).astype(np.float32)
    found = changed(Augmentation(mirror=True), pixels, PLAIN)
    planes = pixels.transpose(2, 0, 1)
    mirrored = [np.array_equal(each, planes[:, :, ::-1]) for each in found]
    assert all(m or np.array_equal(each, planes) for m, each in zip(mirrored, found, strict=True))
    assert 70 < sum(mirrored) < 130
    assert all(np.array_equal(each, planes) for each in changed(Augmentation(), pixels, PLAIN))


def test_rectangles_show_parts_of_the_picture():
    row, column = np.mgrid[0:60, 0:80].astype(np.float32)
    pixels = np.stack([row, column, row], axis=2)
    found = changed(Augmentation(area=(0.25, 0.5), aspect=1.5), pixels, PLAIN)
    areas = []
    for planes in found:
        assert planes.shape == (3, 6, 8)
        height, width = (np.ptp(planes[0]) * 6 / 5, np.ptp(planes[1]) * 8 / 7)
        areas.append(height * width / 4800)
        assert np.all(np.diff(planes[0], axis=0) > 0)
    assert 0.2 < min(areas) < 0.3
    assert 0.45 < max(areas) < 0.56


def test_colours_stay_within_their_share():
    pixels = np.full((6, 8, 3), 100.0, np.float32)
    found = np.stack(changed(Augmentation(colour=0.2), pixels, PLAIN))
    assert 79.9 < found.min() < 85
    assert 115 < found.max() < 120.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"area": (0.5, 0.2)}, "area"), ({"aspect": 0.5}, "aspect"), ({"colour": 1.0}, "colour")],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(CaffeScnnError, match=message):
        Augmentation(**settings)


# --- batches ---------------------------------------------------------------------------------


def loader(**settings):
    x = np.arange(10, dtype=np.float32)[:, None, None, None] * np.ones((3, 6, 8), np.float32)
    source = Arrays(x, np.arange(10))
    return Loader(**{"source": source, "transformer": PLAIN, "batch": 4, **settings})


def order(loader, epoch, skip=0):
    return [labels.tolist() for _, labels in loader.epoch(epoch, skip)]


def test_evaluation_takes_all_in_order():
    assert order(loader(), 0) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for values, labels in loader().epoch(0):
        assert values[:, 0, 0, 0].tolist() == labels.tolist()


def test_training_order_is_given_by_seed_and_epoch():
    training = loader(augmentation=Augmentation(), seed=5)
    first, again, second = order(training, 0), order(training, 0), order(training, 1)
    assert first == again != second
    assert order(loader(augmentation=Augmentation(), seed=6), 0) != first
    assert [len(batch) for batch in first] == [4, 4]
    assert len({i for batch in first for i in batch}) == 8
    assert order(training, 0, skip=1) == first[1:]


def test_an_image_is_another_one_in_every_epoch():
    training = loader(augmentation=Augmentation(colour=0.5), batch=10)
    first, second = (
        {int(n): x.tobytes() for x, n in zip(values, labels, strict=True)}
        for epoch in (0, 1)
        for values, labels in training.epoch(epoch)
    )
    assert first.keys() == second.keys() == set(range(10))
    assert all(first[n] != second[n] for n in range(1, 10))


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers):
    settings = {"augmentation": Augmentation(mirror=True, colour=0.3), "seed": 1}
    alone = list(loader(**settings).epoch(2))
    for (x, y), (other, labels) in zip(
        alone, loader(**settings, workers=workers).epoch(2), strict=True
    ):
        assert np.array_equal(x, other)
        assert np.array_equal(y, labels)


def test_processes_share_a_batch():
    settings = {"augmentation": Augmentation(mirror=True, colour=0.3), "seed": 1}
    parts = [list(loader(**settings, rank=rank, world=2).epoch(0)) for rank in range(2)]
    for (x, _), (first, _), (second, _) in zip(loader(**settings).epoch(0), *parts, strict=True):
        assert np.array_equal(x[::2], first)
        assert np.array_equal(x[1::2], second)


def test_a_worker_s_error_reaches_the_caller(tmp_path):
    pictures(tmp_path, 3)
    (tmp_path / "9.png").write_bytes(b"no picture")
    files = Files(sorted(tmp_path.glob("*.png")), PLAIN)
    with pytest.raises(FormatError, match=r"9\.png: not a picture"):
        list(Loader(files, PLAIN, 2, workers=2).epoch(0))


def test_a_part_has_its_own_labels():
    part = Part(Arrays(np.zeros((4, 3, 6, 8)), np.arange(4) * 10), np.array([3, 1]))
    assert len(part) == 2
    assert part.labels.tolist() == [30, 10]
