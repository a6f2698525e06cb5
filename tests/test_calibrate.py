"""Statistics: the rows that layers multiply, their moments, and what does not change them."""

import numpy as np
import pytest
from sklearn.covariance import OAS
from test_decompose_compress import BRANCHES, CHAIN, INPUT, layer, net_of

from caffe_scnn._kernels import best_isa
from caffe_scnn.calibrate import Calibration, Images, LayerStatistics, Samples
from caffe_scnn.calibrate.agreement import agreement, divergence
from caffe_scnn.calibrate.patches import Patches, as_blob, weight_rows
from caffe_scnn.calibrate.statistics import Moments
from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Net

IMAGES = np.random.default_rng(1).standard_normal((7, 6, 9, 8)).astype(np.float32)


@pytest.mark.parametrize("name", BRANCHES)
def test_rows_times_weights_are_the_responses(name):
    net = net_of(INPUT, layer(name, "data", BRANCHES[name]))
    conv = net.layer(name)
    wanted = Executor(net).run({"data": IMAGES[:2]})[name]
    patches = Patches.of(conv)
    every = np.arange(patches.positions(IMAGES.shape))
    assert len(every) == wanted[0, 0].size
    rows = patches.rows(IMAGES[:2], [every, every[::2]])
    found = rows @ weight_rows(conv).swapaxes(1, 2)
    found = np.concatenate(found, axis=1) + (conv.blobs[1] if len(conv.blobs) > 1 else 0)
    flat = wanted.reshape(*wanted.shape[:2], -1).swapaxes(1, 2)
    expected = np.concatenate([flat[0], flat[1, ::2]])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parameters", ["", "transpose: true", "axis: 2"])
def test_rows_of_an_inner_product(parameters):
    net = net_of(INPUT, layer("fc", "data", "num_output: 4", "InnerProduct"))
    fc = net.layer("fc")
    fc.proto.inner_product_param.axis = 2 if "axis" in parameters else 1
    weights = np.random.default_rng(0).standard_normal((4, 72 if "axis" in parameters else 432))
    if "transpose" in parameters:
        fc.proto.inner_product_param.transpose = True
        weights = weights.T
    fc.blobs[0] = np.ascontiguousarray(weights, np.float32)
    wanted = Executor(net).run({"data": IMAGES})["fc"].reshape(-1, 4)
    patches = Patches.of(fc)
    every = [np.arange(patches.positions(IMAGES.shape))] * len(IMAGES)
    found = patches.rows(IMAGES, every)[0] @ weight_rows(fc)[0].T + fc.blobs[1]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert np.array_equal(as_blob(fc, weight_rows(fc)), fc.blobs[0])


def statistics(name="conv2", batch=3, **settings):
    net = net_of(*CHAIN)
    return net, Calibration(Images(IMAGES, batch=batch), **settings).of_layers(
        net, [net.layer(name)]
    )[name]


def test_moments_are_those_of_the_rows():
    net, found = statistics()
    blob = Executor(net).run({"data": IMAGES}, ["conv1"])["conv1"]
    patches = Patches.of(net.layer("conv2"))
    every = [np.arange(patches.positions(blob.shape))] * len(blob)
    rows = patches.rows(blob, every).astype(np.float64)
    assert found.count == rows.shape[1] == 7 * 5 * 4
    np.testing.assert_allclose(found.mean, rows.mean(axis=1), rtol=1e-6)
    for group, moment in zip(rows, found.inputs, strict=True):
        # scikit-learn leaves a term out that matters only for very few inputs.
        np.testing.assert_allclose(moment, OAS().fit(group).covariance_, atol=0.01 * moment.max())


def test_the_batch_size_does_not_matter_but_the_seed_does():
    _, one = statistics(batch=1, rows=40)
    _, many = statistics(batch=7, rows=40)
    _, other = statistics(batch=7, rows=40, seed=1)
    assert one.count == many.count == 7 * 6  # rounded up to a whole number per image
    np.testing.assert_allclose(one.inputs, many.inputs, rtol=1e-9)
    assert not np.allclose(one.inputs, other.inputs)


def responses_of_both(calibration, net, changed, conv):
    """What weights answer to single rows of both nets."""
    answers = calibration.responses(net, [[conv]])
    samples = calibration.samples(changed, [[conv]], answers)[conv.name]
    return samples.responses, samples.rows @ weight_rows(conv).swapaxes(1, 2).astype(np.float32)


def test_a_pair_of_equal_nets_has_no_error_and_a_changed_one_the_measured_error():
    net = net_of(*CHAIN)
    changed = net.copy()
    changed.layer("conv1").blobs[0] = net.layer("conv1").blobs[0] * np.float32(0.8)
    conv = net.layer("conv2")
    many = np.random.default_rng(2).standard_normal((150, 6, 9, 8)).astype(np.float32)
    calibration = Calibration(Images(many, batch=50))
    weights = weight_rows(conv)
    same = calibration.of_pair(net, net, [conv])
    assert same.relative_error(weights, weights) < 1e-7
    pair = calibration.of_pair(net, changed, [conv])
    y, y_hat = responses_of_both(calibration, net, changed, conv)
    off, full = (part - part.mean(axis=1, keepdims=True) for part in (y - y_hat, y))
    wanted = np.linalg.norm(off) / np.linalg.norm(full)
    assert pair.relative_error(weights, weights) == pytest.approx(wanted, rel=0.05)
    shift = pair.bias_shift(weights, weights)
    np.testing.assert_allclose(shift, (y - y_hat).mean(axis=1).ravel(), atol=1e-4 * np.abs(y).max())


def test_rows_and_responses_are_of_the_same_positions():
    net = net_of(*CHAIN)
    calibration = Calibration(Images(IMAGES, batch=3), rows=40)
    y, y_hat = responses_of_both(calibration, net, net, net.layer("conv2"))
    assert y.shape[1] == len(IMAGES) * -(-40 // len(IMAGES))
    np.testing.assert_allclose(y, y_hat, rtol=1e-5, atol=1e-5 * np.abs(y).max())


def test_rows_are_kept_as_memory_allows():
    net = net_of(*CHAIN)
    conv = net.layer("conv2")
    for limit in (60_000, 2**29):
        calibration = Calibration(Images(IMAGES), sample_bytes=limit)
        samples = calibration.samples(net, [[conv]], calibration.responses(net, [[conv]]))["conv2"]
        assert samples.rows.nbytes + 2 * samples.responses.nbytes <= limit
    assert calibration.sketch(4).sample_bytes == 2**28


@pytest.mark.parametrize(("count", "size"), [(40, 9), (9, 40), (4000, 600)])
def test_single_rows_are_shrunk_as_far_as_moments_are(count, size):
    rng = np.random.default_rng(count)
    rows = rng.standard_normal((1, count, size)) * np.exp(-3 * np.arange(size) / size) + 1
    rows = rows.astype(np.float32)
    total = Moments()
    total.add(rows, rows)
    drawn, variance = Samples(rows, rows[:, :, :1]).prior(0)
    centred = rows[0] - rows[0].mean(axis=0)
    moment = centred.T.astype(np.float64) @ centred / count
    wanted = (1 - drawn) * moment + drawn * variance * np.eye(size)
    # Above 512 rows and inputs the norm of the covariance is estimated.
    np.testing.assert_allclose(total.finish().inputs[0], wanted, atol=3e-4, rtol=0)
    assert 0 < drawn < 1


@pytest.mark.parametrize("images", [1, 2, 7])
def test_moments_of_a_pair_are_those_of_all_rows_whatever_the_batch(images):
    net = net_of(*CHAIN)
    smaller = net.copy()
    weights = smaller.layer("conv1").blobs
    weights[0] = weights[0] * (np.abs(weights[0]) > 0.1)
    target = [net.layer("conv2")]
    few, rows = Images(IMAGES[:images], batch=2), Moments()
    found = Calibration(few).of_pair(net, smaller, target)
    blobs = [Executor(one).run({"data": IMAGES[:images]}, ["conv1"]) for one in (net, smaller)]
    patches = Patches.of(target[0])
    every = [np.arange(patches.positions(blobs[0]["conv1"].shape))] * images
    pair = [patches.rows(blob["conv1"], every) for blob in blobs]
    rows.add(*pair)
    whole = rows.finish()
    for name in ("mean", "mean_original", "inputs", "cross", "original"):
        scale = np.abs(getattr(whole, name)).max()
        np.testing.assert_allclose(getattr(found, name), getattr(whole, name), atol=1e-6 * scale)
    other = Calibration(Images(IMAGES[:images], batch=5)).of_pair(net, smaller, target)
    np.testing.assert_allclose(other.cross, found.cross, rtol=1e-9, atol=1e-12)
    assert (found.halves is None) == (images == 1)
    if images > 1:
        for first, half, again in zip((0, 1), found.halves, other.halves, strict=True):
            alone = Moments()
            group, _, size = pair[0].shape
            apart = (rows.reshape(group, images, -1, size)[:, first::2] for rows in pair)
            alone.add(*(rows.reshape(group, -1, size) for rows in apart))
            np.testing.assert_allclose(half.cross, alone.finish().cross, rtol=1e-4, atol=1e-5)
            assert np.array_equal(half.inputs, again.inputs)
    assert Calibration(few).of_pair(net, net.copy(), target).halves is None


@pytest.mark.parametrize("alike", [0, 20, 40])
def test_what_one_half_learns_and_the_other_does_not_confirm_is_not_made_good(alike):
    """Of ``alike`` inputs earlier layers are wrong in the same way in all images."""
    rng = np.random.default_rng(5)
    size, halves = 40, (Moments(), Moments())
    always = 0.2 * rng.standard_normal((2, size, size))
    for image in range(8):
        x_hat = rng.standard_normal((2, 200, size)) * np.exp(-np.arange(size) / 10)
        wrong = always.copy()
        wrong[1, :, alike:] = 0.2 * rng.standard_normal((size, size - alike))
        halves[image % 2].add((x_hat + x_hat @ wrong).astype("f"), x_hat.astype("f"))
    found = Moments.of_halves(*halves)
    weights, every = rng.standard_normal((2, 4, size)), np.ones((2, 4))

    def shares():
        """Return how much of the way from ``inputs`` to ``cross`` is wanted, for each group."""
        way, taken = found.cross - found.inputs, found.wanted(weights, every, 0.01) - found.inputs
        share = (way * taken).sum(axis=(1, 2)) / (way * way).sum(axis=(1, 2))
        np.testing.assert_allclose(taken, share[:, None, None] * way, atol=1e-12)
        return share

    assert shares()[0] == pytest.approx(1)
    if alike != 20:
        assert shares()[1] == pytest.approx(1) if alike else 0 <= shares()[1] < 0.2
    else:  # an output that reads these alone has a say as far as it counts
        weights[1, 0, alike:] = weights[1, 1:, :alike] = 0
        every[1] = [1, 0, 0, 0]
        assert shares()[1] == pytest.approx(1)
        every[1] = [0, 1, 1, 1]
        assert 0 <= shares()[1] < 0.2


def test_without_images_errors_are_those_of_weights():
    conv = net_of(*CHAIN).layer("conv2")
    weights = weight_rows(conv)
    found = LayerStatistics.assumed(conv).relative_error(weights, 0.7 * weights)
    assert found == pytest.approx(0.3)


def test_many_images_are_reduced_by_the_seed():
    images = Images(np.arange(50.0))
    few = [image for _, batch in images.pick(5, seed=3).batches() for image in batch]
    assert len(few) == 5 and few == sorted(few)
    again = [image for _, batch in images.pick(5, seed=3).batches() for image in batch]
    assert few == again
    with pytest.raises(ModelError, match="no images"):
        Images([])


def test_nets_of_two_inputs_are_refused():
    second = INPUT.replace('"data"', '"more"')
    net = net_of(INPUT, second, *CHAIN[1:])
    with pytest.raises(ModelError, match="one input; this one has 2"):
        Calibration(Images(IMAGES)).of_layers(net, [net.layer("conv1")])


def test_agreement_counts_first_classes_and_diverges_from_zero():
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]])
    assert agreement(p, p, True).divergence == 0
    q = np.array([[0.5, 0.4, 0.1], [0.1, 0.4, 0.5]])
    found = agreement(p, q, True)
    assert found.same_top1 == 50
    assert found.divergence == pytest.approx(np.mean((p * np.log(p / q)).sum(axis=1)))
    assert divergence(p, 2 * p, False) == pytest.approx(1)


def test_halves_part_the_images():
    first, second = Images(np.arange(7.0)).halves()
    parts = [[image for _, batch in half.batches() for image in batch] for half in (first, second)]
    assert parts == [[0, 2, 4, 6], [1, 3, 5]]
    assert [len(half) for half in Images(["one"]).halves()] == [1, 1]


def test_what_is_found_does_not_depend_on_the_kernels_that_are_preferred():
    text = (
        'layer { name: "data" type: "Input" top: "data" input_param {\n'
        "  shape { dim: 1 dim: 64 dim: 56 dim: 56 } } }\n"
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param {\n'
        "  num_output: 64 kernel_size: 3 pad: 1 } }\n"
    )
    rng, net = np.random.default_rng(0), Net.parse(text)
    net.layer("c").blobs = [
        rng.standard_normal(shape).astype(np.float32) for shape in ((64, 64, 3, 3), (64,))
    ]
    x = rng.standard_normal((2, 64, 56, 56)).astype(np.float32)
    found = Calibration(Images(x), threads=1).outputs(net, "c", 2)
    assert np.array_equal(found, Executor(net, threads=1, exact=True).run({"data": x})["c"])
    fast = Executor(net, threads=1, isa=best_isa())  # without a matrix unit
    assert "winograd" in fast.plan().steps[0].kernel  # whose values are not the same to the bit
    assert not np.array_equal(found, fast.run({"data": x})["c"])
