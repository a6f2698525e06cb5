"""caffe.io, Classifier and Detector: pictures become the values that pycaffe documents."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from cli_support import BRIGHTEST, make_model

from caffe_scnn import pycaffe as caffe
from caffe_scnn.errors import FormatError

RNG = np.random.default_rng(2)


def write(path, pixels):
    assert cv2.imwrite(str(path), pixels)
    return str(path)


def test_pictures_are_rgb_from_0_to_1(tmp_path):
    pixels = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    file = write(tmp_path / "a.png", pixels)
    assert np.array_equal(caffe.io.load_image(file), pixels[:, :, ::-1].astype("f4") / 255)
    luminance = (pixels[:, :, ::-1] / 255) @ [0.2125, 0.7154, 0.0721]
    gray = caffe.io.load_image(file, color=False)
    assert gray.shape == (4, 6, 1) and np.allclose(gray[:, :, 0], luminance)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_transparent_and_deep_pictures(tmp_path, channels, dtype):
    pixels = RNG.integers(0, np.iinfo(dtype).max, (3, 5, channels), dtype=dtype)
    image = caffe.io.load_image(write(tmp_path / "a.png", pixels))
    want = np.repeat(pixels, 3, 2) if channels == 1 else pixels[:, :, 2::-1]
    assert np.allclose(image, want / np.iinfo(dtype).max)


def test_what_is_no_picture_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(FormatError, match="not a picture"):
        caffe.io.load_image(tmp_path / "a.png")


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_resizing_maps_centres_of_pixels(channels):
    ramp = np.broadcast_to(np.arange(8.0)[None, :, None], (4, 8, channels))
    resized = caffe.io.resize_image(ramp, (2, 16))
    assert resized.shape == (2, 16, channels)
    assert np.allclose(resized[:, 1:-1], np.linspace(0.25, 6.75, 14)[None, :, None])


def test_ten_crops_in_order():
    image = RNG.random((6, 8, 3)).astype(np.float32)
    crops = caffe.io.oversample([image, image + 1], (4, 4))
    assert crops.shape == (20, 4, 4, 3)
    for at, (top, left) in enumerate([(0, 0), (0, 4), (2, 0), (2, 4), (1, 2)]):
        want = image[top : top + 4, left : left + 4]
        assert np.array_equal(crops[at], want)
        assert np.array_equal(crops[5 + at], want[:, ::-1])
        assert np.array_equal(crops[10 + at], want + 1)


def test_the_transformer_does_its_steps_in_order_and_back():
    transformer = caffe.io.Transformer({"data": (1, 3, 4, 5)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_channel_swap("data", (2, 1, 0))
    transformer.set_raw_scale("data", 255)
    transformer.set_mean("data", np.array([1.0, 2, 3]))
    transformer.set_input_scale("data", 0.5)
    image = RNG.random((4, 5, 3)).astype(np.float32)
    values = transformer.preprocess("data", image)
    bgr = image.transpose(2, 0, 1)[::-1] * 255
    assert np.allclose(values, (bgr - [[[1]], [[2]], [[3]]]) * 0.5, atol=1e-4)
    assert np.allclose(transformer.deprocess("data", values[None]), image, atol=1e-6)
    assert transformer.preprocess("data", RNG.random((9, 7, 3))).shape == (3, 4, 5)


def test_a_mean_picture_of_another_size_is_resized():
    transformer = caffe.io.Transformer({"data": (1, 3, 4, 4)})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", np.full((3, 8, 8), 7.0))
    assert np.allclose(transformer.preprocess("data", np.zeros((4, 4, 3))), -7)


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.set_raw_scale("image", 1),
        lambda t: t.set_transpose("data", (0, 1)),
        lambda t: t.set_channel_swap("data", (1, 0)),
        lambda t: t.set_mean("data", np.zeros(4)),
    ],
)
def test_settings_that_do_not_fit_are_refused(call):
    with pytest.raises(ValueError, match="data"):
        call(caffe.io.Transformer({"data": (1, 3, 4, 4)}))


def test_arrays_as_messages():
    array = RNG.random((2, 3, 4)).astype(np.float32)
    assert np.array_equal(caffe.io.blobproto_to_array(caffe.io.array_to_blobproto(array)), array)
    text = caffe.io.arraylist_to_blobprotovector_str([array, array[0]])
    back = caffe.io.blobprotovector_str_to_arraylist(text)
    assert [one.shape for one in back] == [(2, 3, 4), (3, 4)]
    old = caffe.proto.caffe_pb2.BlobProto(num=1, channels=2, height=1, width=2, data=[1, 2, 3, 4])
    assert caffe.io.blobproto_to_array(old).tolist() == [[[[1, 2]], [[3, 4]]]]
    pixels = (array * 255).astype(np.uint8)
    datum = caffe.io.array_to_datum(pixels, 4)
    assert datum.label == 4 and np.array_equal(caffe.io.datum_to_array(datum), pixels)
    assert np.allclose(caffe.io.datum_to_array(caffe.io.array_to_datum(array)), array)


@pytest.fixture
def brightest(tmp_path):
    """The scores of a picture are the means of its blue, green and red."""
    model = make_model(tmp_path, BRIGHTEST)
    return str(model.prototxt), str(model.caffemodel)


@pytest.mark.parametrize("oversample", [True, False])
def test_classifier(brightest, oversample):
    options = {"raw_scale": 255, "channel_swap": (2, 1, 0), "mean": np.array([10.0, 0, 0])}
    net = caffe.Classifier(*brightest, image_dims=(6, 6), **options)
    images = [np.full((9, 7, 3), colour) for colour in ([1.0, 0, 0], [0, 0.5, 1])]
    scores = net.predict(images, oversample=oversample).reshape(2, 3)
    assert np.allclose(scores, [[-10, 0, 255], [245, 127.5, 0]], atol=1e-3)


def test_detector(brightest, tmp_path):
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :15, 0] = 200  # blue above on the left
    pixels[10:, 15:, 2] = 100  # red below on the right
    file = write(tmp_path / "a.png", pixels)
    net = caffe.Detector(*brightest, raw_scale=255, channel_swap=(2, 1, 0))
    windows = [(0, 0, 10, 15), (10, 15, 20, 30)]
    found = net.detect_windows([(file, windows)])
    assert [one["filename"] for one in found] == [file, file]
    assert [tuple(one["window"]) for one in found] == windows
    scores = np.array([one["prediction"] for one in found])
    assert np.allclose(scores, [[200, 0, 0], [0, 0, 100]], atol=1e-3)
    assert net.detect_windows([]) == []
    with pytest.raises(NotImplementedError, match="detect_windows"):
        net.detect_selective_search([file])


def test_context_of_a_window_is_its_surroundings_or_the_mean(brightest):
    options = {"raw_scale": 255, "channel_swap": (2, 1, 0), "mean": np.array([51.0, 51, 51])}
    net = caffe.Detector(*brightest, context_pad=1, **options)
    image = np.ones((8, 8, 3), np.float32)
    inside = net.crop(image, (2, 2, 6, 6))  # grows to the whole picture
    assert np.allclose(inside, 1)
    corner = net.crop(image, (0, 0, 4, 4))  # grows by two pixels, one of the crop's four
    assert np.allclose(corner[1:, 1:], 1)
    assert np.allclose(corner[0], 0.2) and np.allclose(corner[:, 0], 0.2)
