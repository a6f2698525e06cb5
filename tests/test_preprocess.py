"""Pictures become what Caffe makes of them: resize, crop, (pixel − mean) · scale."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_scnn.errors import CaffeScnnError, FormatError, ModelError
from caffe_scnn.preprocess import FILE_NAME, Preprocess, Transformer, parse_mean, read_mean
from caffe_scnn.proto import caffe_pb2 as pb

RNG = np.random.default_rng(3)
INPUT = (1, 3, 5, 5)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A 9x12 picture (height x width) without symmetry, stored without loss."""
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(cv2.imread(str(path)))


def fitted(shape: tuple[int, ...] = INPUT, **settings: object) -> Transformer:
    return Transformer(Preprocess(**settings), "data", shape)  # type: ignore[arg-type]


# --- sizes and channels ---------------------------------------------------------------------------


def test_a_crop_is_centred_with_the_offset_rounded_down(picture: Path) -> None:
    got = fitted(crop=5).picture(picture)
    wanted = pixels(picture)[2:7, 3:8].transpose(2, 0, 1)  # (9-5)//2, (12-5)//2
    np.testing.assert_array_equal(got, wanted)


def test_resizing_is_opencv_s_bilinear_without_keeping_proportions(picture: Path) -> None:
    got = fitted(resize="7", crop=5).picture(picture)
    wanted = cv2.resize(pixels(picture), (7, 7))[1:6, 1:6].transpose(2, 0, 1)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(("rule", "size"), [("keep", (5, 7)), ("keep:6", (6, 8))])
def test_keep_scales_the_shorter_side_and_crops(
    picture: Path, rule: str, size: tuple[int, int]
) -> None:
    got = fitted(resize=rule).picture(picture)
    resized = cv2.resize(pixels(picture), size[::-1])
    top, left = (size[0] - 5) // 2, (size[1] - 5) // 2
    wanted = resized[top : top + 5, left : left + 5].transpose(2, 0, 1)
    np.testing.assert_array_equal(got, wanted)


def test_by_default_a_picture_is_resized_to_the_input(picture: Path) -> None:
    got = fitted((1, 3, 4, 6)).picture(picture)
    np.testing.assert_array_equal(got, cv2.resize(pixels(picture), (6, 4)).transpose(2, 0, 1))


def test_channels_are_bgr_unless_asked_otherwise(picture: Path) -> None:
    bgr, rgb = (fitted(crop=5, channels=c).picture(picture) for c in (None, "rgb"))
    np.testing.assert_array_equal(bgr, rgb[::-1])
    assert not np.array_equal(bgr, rgb)


def test_a_net_of_one_channel_gets_gray(picture: Path) -> None:
    got = fitted((1, 1, 9, 9), crop=9).picture(picture)
    gray = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(got, np.asarray(gray)[None, :, 1:10])


def test_value_is_pixel_minus_mean_times_scale(picture: Path) -> None:
    got = fitted(crop=5, mean=(10.0, 20.0, 30.0), scale=0.5).picture(picture)
    plain = fitted(crop=5).picture(picture)
    np.testing.assert_array_equal(got, (plain - np.float32([[[10]], [[20]], [[30]]])) * 0.5)


# --- means ----------------------------------------------------------------------------------------


def test_a_mean_picture_is_subtracted_before_the_crop(picture: Path, tmp_path: Path) -> None:
    mean = RNG.uniform(0, 255, (3, 9, 12)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    got = fitted(crop=5, mean=tmp_path / "mean.npy").picture(picture)
    whole = pixels(picture).transpose(2, 0, 1).astype(np.float32) - mean
    np.testing.assert_array_equal(got, whole[:, 2:7, 3:8])


def test_a_mean_picture_follows_the_resizing(picture: Path, tmp_path: Path) -> None:
    mean = RNG.uniform(0, 255, (3, 20, 20)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    got = fitted(resize="7", crop=5, mean=tmp_path / "mean.npy").picture(picture)
    small = cv2.resize(mean.transpose(1, 2, 0), (7, 7)).transpose(2, 0, 1)
    whole = cv2.resize(pixels(picture), (7, 7)).transpose(2, 0, 1).astype(np.float32) - small
    np.testing.assert_array_equal(got, whole[:, 1:6, 1:6])


def test_a_mean_picture_of_the_net_s_size_is_subtracted_after_the_crop(
    picture: Path, tmp_path: Path
) -> None:
    mean = RNG.uniform(0, 255, (3, 5, 5)).astype(np.float32)
    np.save(tmp_path / "mean.npy", mean)
    got = fitted(crop=5, mean=tmp_path / "mean.npy").picture(picture)
    np.testing.assert_array_equal(got, fitted(crop=5).picture(picture) - mean)


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        ((3,), (3,)),
        ((1, 3), (3,)),
        ((3, 1, 1), (3,)),
        ((1, 3, 1, 1), (3,)),
        ((), (1,)),
        ((3, 4, 6), (3, 4, 6)),
        ((1, 3, 4, 6), (3, 4, 6)),
        ((4, 6), (1, 4, 6)),
    ],
)
def test_means_of_all_shapes_are_read(
    tmp_path: Path, stored: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    values = RNG.uniform(0, 255, stored)
    np.save(tmp_path / "mean.npy", values)
    got = read_mean(tmp_path / "mean.npy")
    assert got.shape == wanted
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got.ravel(), values.astype(np.float32).ravel())


def test_a_mean_with_the_channels_last_is_turned(tmp_path: Path) -> None:
    values = RNG.uniform(0, 255, (4, 6, 3)).astype(np.float32)
    np.save(tmp_path / "mean.npy", values)
    np.testing.assert_array_equal(read_mean(tmp_path / "mean.npy"), values.transpose(2, 0, 1))


@pytest.mark.parametrize("legacy", [True, False])
def test_a_binaryproto_is_read(tmp_path: Path, legacy: bool) -> None:
    values = RNG.uniform(0, 255, (3, 2, 4)).astype(np.float32)
    blob = pb.BlobProto(data=values.ravel().tolist())
    if legacy:
        blob.num, blob.channels, blob.height, blob.width = 1, 3, 2, 4
    else:
        blob.shape.dim.extend((1, 3, 2, 4))
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    np.testing.assert_array_equal(read_mean(tmp_path / "mean.binaryproto"), values)


def test_values_or_a_file() -> None:
    assert parse_mean("104,117,123") == (104.0, 117.0, 123.0)
    assert parse_mean("127.5") == (127.5,)
    assert parse_mean("mean.npy") == Path("mean.npy")


@pytest.mark.parametrize(
    "content", [b"", b"layer { }", bytes(range(200, 256)), b"\x93NUMPY garbage"]
)
def test_a_foreign_mean_file_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mean.file"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"mean\.file"):
        read_mean(path)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 3, 4, 4)),
        np.zeros((7,)),
        np.full((3,), np.nan),
        np.array(["a"]),
        np.zeros((5, 4, 4)),
    ],
)
def test_an_array_that_is_no_mean_is_refused(tmp_path: Path, values: np.ndarray) -> None:
    np.save(tmp_path / "mean.npy", values)
    with pytest.raises(FormatError, match=r"mean\.npy"):
        read_mean(tmp_path / "mean.npy")


# --- what does not fit ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "phrase"),
    [
        ({"crop": 4}, "--crop 5"),
        ({"resize": "7"}, "--crop 5"),
        ({"resize": "4", "crop": 5}, "does not fit"),
        ({"channels": "gray"}, "--channels"),
        ({"mean": (1.0, 2.0)}, "3 channels"),
    ],
)
def test_settings_that_cannot_lead_to_the_input_are_refused_at_once(
    settings: dict[str, object], phrase: str
) -> None:
    with pytest.raises(CaffeScnnError, match=phrase):
        fitted(**settings)


def test_a_picture_too_small_or_of_another_size_is_named(picture: Path) -> None:
    with pytest.raises(FormatError, match=r"picture\.png.*9x12 pixels are too few.*crop of 11"):
        fitted((1, 3, 11, 11), crop=11).picture(picture)
    with pytest.raises(FormatError, match=r"picture\.png.*9x12 pixels.*takes 5x5"):
        fitted(resize="none").picture(picture)


def test_a_mean_picture_of_another_size_is_an_error(picture: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.zeros((3, 8, 8)))
    with pytest.raises(FormatError, match=r"picture\.png.*9x12.*8x8"):
        fitted(crop=5, mean=tmp_path / "mean.npy").picture(picture)
    with pytest.raises(FormatError, match=r"mean\.npy.*8x8"):
        fitted(resize="none", mean=tmp_path / "mean.npy")


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_an_unreadable_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(FormatError, match=r"bad\.jpg"):
        fitted().picture(tmp_path / "bad.jpg")


def test_an_input_that_is_no_picture_is_refused() -> None:
    with pytest.raises(ModelError, match="pictures need"):
        fitted((1, 3))


# --- arrays ---------------------------------------------------------------------------------------


def test_arrays_get_mean_and_scale_only() -> None:
    x = RNG.integers(0, 17, (4, 1, 8, 8))
    transformer = fitted((1, 1, 8, 8), mean=(8.0,), scale=1 / 16)
    wanted = (x.astype(np.float32) - np.float32(8)) * np.float32(1 / 16)
    np.testing.assert_array_equal(transformer.pixels(x), wanted)
    np.testing.assert_array_equal(transformer.pixels(x[:, 0]), wanted)


def test_arrays_of_another_shape_are_refused() -> None:
    with pytest.raises(ModelError, match=r"\(4, 3, 5, 6\)"):
        fitted().pixels(np.zeros((4, 3, 5, 6)))


# --- preprocess.toml ------------------------------------------------------------------------------


def test_settings_survive_their_file(tmp_path: Path) -> None:
    for settings in (
        Preprocess(),
        Preprocess((104.0, 117.0, 123.0), 0.017, "256", 224, "rgb"),
        Preprocess(tmp_path / "sub" / "mean.npy", resize="keep:256"),
    ):
        path = settings.save(tmp_path)
        assert path.name == FILE_NAME
        assert Preprocess.beside(tmp_path) == settings
    assert 'mean = "sub/mean.npy"' in path.read_text()


def test_defaults_where_there_is_no_file(tmp_path: Path) -> None:
    assert Preprocess.beside(tmp_path) == Preprocess()


def test_numbers_may_be_written_as_one_would_expect(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("mean = 127.5\nresize = 256\nscale = 1\n")
    assert Preprocess.beside(tmp_path) == Preprocess((127.5,), 1.0, "256")


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("mean = [", FILE_NAME),
        ("means = 3", 'unknown key "means"; known are mean'),
        ("scale = true", "scale has the wrong type"),
        ("crop = 2.5", "crop has the wrong type"),
        ("crop = 0", "at least 1"),
        ("scale = 0", "other than 0"),
        ("scale = nan", "other than 0"),
        ('channels = "hsv"', "bgr, rgb or gray"),
        ('resize = "big"', "keep:SIZE"),
        ("mean = [true]", "mean must be numbers"),
        ("mean = []", "mean must be numbers"),
        ("mean = [inf]", "finite"),
    ],
)
def test_a_bad_file_is_refused_with_its_name(tmp_path: Path, text: str, phrase: str) -> None:
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(FormatError, match=phrase) as caught:
        Preprocess.beside(tmp_path)
    assert FILE_NAME in str(caught.value)


def test_the_description_says_what_is_subtracted() -> None:
    said = fitted(resize="7", crop=5, mean=(104.0, 117.0, 123.0), scale=0.5).describe()
    assert said == (
        "bgr pixels, resized to 7x7, 5x5 in the middle, (pixel - [104, 117, 123]) * 0.5"
    )


@pytest.mark.parametrize(
    ("resize", "expected"),
    [("256", "512"), ("keep:256", "keep:512"), ("keep", "keep"), (None, None)],
)
def test_settings_for_an_input_of_another_size_take_the_same_part(
    resize: str | None, expected: str | None
) -> None:
    found = Preprocess(crop=128, resize=resize).of_size(256, 256)
    assert (found.crop, found.resize) == (256, expected)


def test_a_crop_cannot_lead_to_an_oblong_input() -> None:
    with pytest.raises(FormatError, match="128 does not lead to 300x200"):
        Preprocess(crop=128).of_size(200, 300)
    assert Preprocess(scale=2.0).of_size(200, 300) == Preprocess(scale=2.0)
