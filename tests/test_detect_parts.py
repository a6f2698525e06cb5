"""Parts of a detector: SVMs, box regression, rejection, stages, files."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from detect_support import CLASSES, colour_net

from caffe_scnn import Executor
from caffe_scnn.detect import pyramid
from caffe_scnn.detect.checkpoint import Checkpoint
from caffe_scnn.detect.content_cache import ContentCache
from caffe_scnn.detect.fc_net import cut_fc_net, reduction_net
from caffe_scnn.detect.features import FeatureSource
from caffe_scnn.detect.frame import Found, Frame
from caffe_scnn.detect.heads import Heads
from caffe_scnn.detect.mining import MiningSettings, first_samples, hard_samples
from caffe_scnn.detect.model_folder import DetectorModel, DetectorSettings
from caffe_scnn.detect.pyramid import Backbone, scaled
from caffe_scnn.detect.recall_target import best_first, found_shares, share_for
from caffe_scnn.detect.regression import BoxRegression, changes, moved, train_regression
from caffe_scnn.detect.rejector import Rejector, RejectorFit, shape_features
from caffe_scnn.detect.samples import TrainingPicture
from caffe_scnn.detect.softmax import probabilities, train_softmax
from caffe_scnn.detect.stages import STAGES, Classify, Fc, Nms, Pyramid, Regress, Reject, SppPool
from caffe_scnn.detect.stages.fc import equal_batches
from caffe_scnn.detect.svm import ProductMatrix, SvmSettings, stretch, train_svms
from caffe_scnn.errors import FormatError, ModelError, OutputError
from caffe_scnn.evaluate.voc import Annotation
from caffe_scnn.evaluate.voc.annotation import Object
from caffe_scnn.preprocess import Preprocess


def objective(weights, bias, x, y, settings):
    """SVM's primal: ½‖w‖² + C Σ weight · hinge."""
    hinge = np.maximum(0, 1 - y * (x @ weights + bias))
    cost = np.where(y > 0, settings.positive_weight, 1)
    return 0.5 * weights @ weights + settings.c * (cost * hinge).sum()


def test_svms_minimise_their_objective():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 10)).astype(np.float32)
    y = np.where(x[:, 0] + rng.standard_normal(60) > 0, 1, -1).astype(np.int8)
    settings = SvmSettings(c=0.1, positive_weight=2)
    matrix = ProductMatrix(10)
    matrix.add(x[:25])
    matrix.add(x[25:])
    assert np.allclose(matrix.products, x @ x.T, atol=1e-4)
    weights, bias = train_svms(matrix, y[:, None], settings)
    best = objective(weights[0], bias[0], x, y, settings)
    for other in (SvmSettings(0.1, 1), SvmSettings(0.1, 4), SvmSettings(0.2, 1)):
        worse, moved_bias = train_svms(matrix, y[:, None], other)
        for share in (0.02, 0.1, 1):
            step = share * (worse[0] - weights[0]), share * (moved_bias[0] - bias[0])
            assert objective(weights[0] + step[0], bias[0] + step[1], x, y, settings) > best
    for _ in range(50):
        step = 1e-2 * rng.standard_normal(10)
        assert objective(weights[0] + step, bias[0], x, y, settings) > best


def test_a_class_without_positives_never_scores():
    matrix = ProductMatrix(3)
    matrix.add(np.eye(3, dtype=np.float32))
    targets = np.array([[1, -1], [-1, -1], [0, 0]], np.int8)
    weights, bias = train_svms(matrix, targets, SvmSettings(c=1))
    assert bias[1] == -np.inf and not weights[1].any()
    assert bias[0] > -np.inf and weights[0, 0] > 0 and weights[0, 2] == 0  # 0: not used


def test_stretched_scores_keep_their_order_and_the_margin_of_negatives():
    rng = np.random.default_rng(0)
    matrix = ProductMatrix(20)
    matrix.add(rng.standard_normal((40, 20)).astype(np.float32))
    targets = np.full((40, 2), -1, np.int8)
    targets[:4, 0] = 1  # nothing of the second class
    plain = train_svms(matrix, targets, SvmSettings(c=0.02))
    weights, bias = stretch(matrix, targets, *plain)
    before, after = (matrix.samples @ w[0] + b[0] for w, b in (plain, (weights, bias)))
    assert abs(after[:4].mean() - 1) < 1e-4
    assert (np.argsort(before) == np.argsort(after)).all()
    assert ((before > -1) == (after > -1)).all()
    assert bias[1] == -np.inf and not weights[1].any()


def test_softmax_minimises_its_objective():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 30)).astype(np.float32)
    labels = x[:, :3].argmax(axis=1)  # 0: background
    targets = np.full((50, 2), -1, np.int8)
    targets[labels > 0, labels[labels > 0] - 1] = 1
    targets[0] = [0, -1]  # not used
    settings = SvmSettings(c=0.1, positive_weight=2)
    matrix = ProductMatrix(30)
    matrix.add(x)
    weights, bias = train_softmax(matrix, targets, settings)

    def loss(w, b):
        logits = x[1:] @ w.T + b
        log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        cost = np.where(labels[1:] > 0, 2, 1)
        return 0.5 * (w**2).sum() - 0.1 * (cost * log[np.arange(49), labels[1:]]).sum()

    best = loss(weights, bias)
    for _ in range(30):
        step = 0.02 * rng.standard_normal((3, 31))
        assert loss(weights + step[:, 1:], bias + step[:, 0]) > best
    assert np.allclose(probabilities(np.array([[0.0, np.log(3)]])), [[0.25, 0.75]])


def test_changes_and_moves_are_inverse():
    rng = np.random.default_rng(0)
    boxes, objects = (
        np.hstack([corner, corner + 20 + 50 * rng.random((30, 2))])
        for corner in (100 * rng.random((30, 2)), 100 * rng.random((30, 2)))
    )
    assert np.allclose(moved(boxes, changes(boxes, objects)), objects)
    # By hand: the object is twice as wide, its centre a quarter of the width to the right.
    change = changes(np.array([[10.0, 10, 30, 50]]), np.array([[5.0, 10, 45, 50]]))
    assert np.allclose(change, [[0.25, 0, np.log(2), 0]])


def test_regression_learns_what_features_tell():
    rng = np.random.default_rng(0)
    boxes = np.tile([[50.0, 50, 90, 90]], (200, 1))
    wanted = 0.1 * rng.standard_normal((200, 4))
    features = (wanted @ rng.standard_normal((4, 300)) * 10).astype(np.float32)
    objects = moved(boxes, wanted)
    weights, bias = train_regression(features[:150], boxes[:150], objects[:150], 0.1)
    regression = BoxRegression(weights[None], bias[None])
    rows = np.arange(50)
    found = regression.apply(features[150:], rows, np.zeros(50, np.intp), boxes[150:])
    assert np.abs(found - objects[150:]).max() < 0.1
    strong, _ = train_regression(features[:150], boxes[:150], objects[:150], 1e7)
    assert np.abs(strong).max() < 0.1 * np.abs(weights).max()


def picture_with(boxes, labels, proposals, difficult=()):
    objects = tuple(
        Object(CLASSES[label], box, difficult=at in difficult)
        for at, (label, box) in enumerate(zip(labels, boxes, strict=True))
    )
    return TrainingPicture.of(Annotation("a", 0, 0, objects), CLASSES, np.array(proposals, float))


def test_windows_are_compared_with_the_objects_of_each_class():
    picture = picture_with(
        [(1, 1, 20, 20), (41, 1, 60, 20), (1, 41, 20, 60)],
        [0, 0, 2],
        [(1, 1, 20, 10), (41, 1, 60, 20), (70, 70, 90, 90)],
        difficult=(1,),
    )
    assert np.allclose(picture.overlaps[3], [0.5, 0, 0])
    assert picture.nearest[4].tolist() == [1, -1, 2]
    targets = picture.targets(np.arange(6), 0.3).tolist()
    assert targets[0] == [1, -1, -1]
    assert targets[1] == [0, -1, -1]  # difficult
    assert targets[2] == [-1, -1, 1]
    assert targets[3] == [0, -1, -1]  # overlaps too much to be negative
    assert targets[5] == [-1, -1, -1]


def test_hard_negatives_score_well_far_from_their_class_and_from_each_other():
    picture = picture_with(
        [(1, 1, 20, 20)],
        [0],
        [(1, 1, 20, 19), (60, 60, 80, 80), (60, 60, 80, 81), (1, 60, 20, 80), (30, 30, 50, 50)],
    )
    scores = np.full((6, 3), -2, np.float32)
    scores[:, 0] = [3, 2, 1, 0.9, 0.5, -1.5]  # object, near it, hard, its double, hard, not hard
    settings = MiningSettings(hard=2)
    none = np.empty((0, 2), np.int64)
    found = hard_samples([picture], none, lambda _: scores, settings)
    assert found.tolist() == [[0, 2], [0, 4]]
    again = hard_samples([picture], found, lambda _: scores, settings)
    assert again.tolist() == []
    assert len(hard_samples([picture], none, lambda _: scores, replace(settings, hard=1))) == 1
    first = first_samples([picture], MiningSettings(chance=2), 0)
    assert first[0].tolist() == [0, 0] and len(first) == 3
    assert set(first[1:, 1]) <= {2, 3, 4, 5}


def test_rejection_ranks_windows_that_fit_first():
    rng = np.random.default_rng(0)
    fit = RejectorFit(5, 2)
    boxes = np.tile([[10.0, 10, 40, 50]], (300, 1)) + rng.integers(0, 40, (300, 1))
    labels = rng.integers(-1, 2, 300)
    coarse = rng.random((300, 5)).astype(np.float32)
    coarse[np.arange(300), labels] += 3 * (labels >= 0)
    overlaps = np.zeros((300, 2), np.float32)
    overlaps[labels >= 0, labels[labels >= 0]] = 0.8
    for part in np.split(np.arange(300), 3):
        fit.add(coarse[part], boxes[part], (100, 120, 3), overlaps[part])
    scores = fit.solve().score(coarse, boxes, (100, 120, 3))
    assert scores[labels >= 0].min() > scores[labels < 0].max()
    assert shape_features(boxes, (100, 120)).shape == (300, 11)


def test_near_copies_are_rejected_before_others():
    corner = np.array([[1, 1], [1, 1], [2, 1], [40, 40], [70, 5]])
    size = np.array([[40, 40], [40, 41], [40, 40], [20, 20], [15, 15]])
    boxes = np.hstack([corner, corner + size])
    rejector = Rejector(np.eye(1, 12, dtype=np.float32), np.zeros(1, np.float32))
    scores = np.array([[5], [4], [3], [2], [1]], np.float32)

    def kept(**options):
        picture = np.zeros((90, 90, 3), np.uint8)
        frame = Frame("a", picture, boxes.astype(float), features={"coarse": scores})
        Reject(rejector, **options).run(frame)
        return [boxes.tolist().index(box) for box in frame.boxes.tolist()]

    assert kept(keep=3) == [0, 3, 4]
    assert kept(keep=4) == [0, 1, 3, 4]  # a copy, where others are missing
    assert kept(keep=3, different=1.0) == [0, 1, 2]
    assert kept(threshold=1.5) == [0, 1, 2, 3]
    assert kept(keep=9) == [0, 1, 2, 3, 4]
    assert kept(keep=0.6) == [0, 3, 4]
    assert kept(keep=0.79) == [0, 3, 4]
    assert kept(keep=0.01) == [0]
    assert kept(keep=1.0) == [0, 1, 2, 3, 4]


def test_the_recall_target_counts_windows_that_must_pass():
    picture = picture_with(
        [(1, 1, 20, 20), (41, 1, 60, 20), (1, 41, 20, 60)],
        [0, 0, 2],
        [(1, 1, 20, 19), (41, 1, 60, 20), (70, 70, 90, 90), (1, 43, 20, 60), (1, 41, 20, 60)],
        difficult=(1,),
    )
    scores = np.full((8, 3), 1, np.float32)
    scores[7, 2] = -2  # the best window of the third object is not found
    shares = found_shares(picture, scores, np.array([5, 7, 4, 3, 6]), -1.0)
    assert shares.tolist() == [0.8, 1.0]
    assert [share_for(r, np.array([0.1, 0.9, 0.3, 0.5])) for r in (0.25, 0.5, 0.75, 0.99, 1)] == [
        0.1, 0.3, 0.5, 0.9, 0.9,
    ]  # fmt: skip
    boxes = np.array([[1, 1, 40, 40], [50, 1, 80, 40], [1, 1, 40, 41]], float)
    scores = np.array([3, 1, 2], np.float32)
    assert best_first(boxes, scores, 0.9).tolist() == [0, 1, 2]
    assert best_first(boxes, scores, 1.0).tolist() == [0, 2, 1]


def stages():
    """One of each stage, on the colour net."""
    net = colour_net()
    backbone = Backbone(net, "pool", Preprocess(mean=(128.0,)), threads=1)
    rng = np.random.default_rng(0)
    fit = RejectorFit(6, 3)
    fit.products[:] = np.eye(len(fit.products[0]))
    fit.responses = rng.standard_normal(fit.responses.shape)
    fit.counts[:] = 1
    fc = cut_fc_net(net, "fc6", 54)
    weights = rng.standard_normal((3, 8)).astype(np.float32)
    regression = rng.standard_normal((3, 4, 54)).astype(np.float32) / 100
    return [
        Pyramid(backbone, (48, 96)),
        SppPool(backbone.geometry, 6, (48, 96), (1,), target="coarse", threads=1),
        Reject(fit.solve(), keep=4),
        SppPool(backbone.geometry, 6, (48, 96), (3,), threads=1),
        Fc(Executor(fc, threads=1)),
        Classify("fc", weights, np.zeros(3, np.float32)),
        Nms(),
        Regress(BoxRegression(regression, np.zeros((3, 4), np.float32))),
    ]


@pytest.mark.parametrize("windows", [0, 1, 7])
def test_a_stage_only_drops_windows_or_adds_fields(windows):
    rng = np.random.default_rng(windows)
    corner = rng.integers(1, 40, (windows, 2))
    boxes = np.hstack([corner, corner + rng.integers(10, 50, (windows, 2))]).astype(np.float64)
    frame = Frame("a", rng.integers(0, 256, (96, 128, 3)).astype(np.uint8), boxes)
    seen = set()
    for stage in stages():
        before = frame.boxes.copy()
        stage.run(frame)
        seen.add(type(stage))
        kept = [next(i for i, b in enumerate(before) if (b == box).all()) for box in frame.boxes]
        assert kept == sorted(set(kept)), stage.name
        assert all(len(values) == len(frame.boxes) for values in frame.features.values())
        if frame.scores is not None:
            assert frame.scores.shape == (len(frame.boxes), 3)
    assert len(frame.boxes) == min(windows, 4)
    assert frame.found is not None
    assert (frame.found.windows < len(frame.boxes)).all()
    assert (frame.found.boxes >= 1).all() and (frame.found.boxes <= [128, 96, 128, 96]).all()
    assert seen | {STAGES[0]} == set(STAGES)


def test_features_of_one_picture_outlive_those_of_the_next(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 40, 40, 3)).astype(np.uint8)
    boxes = np.array([[1, 1, 20, 20], [5, 5, 40, 40], [3, 1, 30, 9]], np.float64)
    data = SimpleNamespace(
        pictures=[SimpleNamespace(name=name, windows=boxes) for name in "ab"],
        read=lambda index: pixels[index],
    )
    first, pooling = stages()[0], stages()[3]
    for cache in (None, ContentCache(tmp_path, 1 << 20)):
        source = FeatureSource(data, [Pyramid(first.backbone, first.scales, cache), pooling])
        for _ in range(2):  # computed, then from the cache
            both = source.gather(np.array([[0, 0], [0, 2], [1, 1], [1, 2]]), "pooled")
            parts = [source.gather(np.array([pair]), "pooled") for pair in ([0, 2], [1, 1])]
            assert np.array_equal(both[1:3], np.concatenate(parts))
            assert not np.array_equal(both[1], both[3])


@pytest.mark.parametrize("windows", [0, 7, 129, 300])
def test_fc_layers_compute_the_same_in_batches(windows):
    net = cut_fc_net(colour_net(), "fc6", 54)
    x = np.random.default_rng(0).random((windows, 54)).astype(np.float32)
    boxes = np.zeros((windows, 4))
    frame = Frame("a", np.zeros((9, 9, 3), np.uint8), boxes, features={"pooled": x})
    Fc(Executor(net)).run(frame)
    weights, bias = net.layers[1].blobs
    assert np.allclose(frame.features["fc"], np.maximum(x @ weights.T + bias, 0), atol=1e-5)


def test_fc_layers_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="takes 54 values, the pyramid gives 60"):
        cut_fc_net(colour_net(), "fc6", 60)
    with pytest.raises(ModelError, match='no fully connected layer leads to blob "pool"'):
        cut_fc_net(colour_net(), "pool", 54)


def test_a_reduction_is_one_plain_layer():
    weights = np.random.default_rng(0).random((4, 10)).astype(np.float32)
    net = reduction_net(weights)
    x = np.ones((2, 10), np.float32)
    assert np.allclose(Executor(net).run({"pooled": x})["fc6"], x @ weights.T)
    assert [layer.type for layer in net] == ["Input", "InnerProduct"]


def test_nms_of_detections_keeps_their_windows():
    boxes = np.array([[1, 1, 20, 20], [1, 1, 20, 21], [50, 50, 70, 70]], float)
    scores = np.array([[0.5, -2], [0.7, 0.1], [-1, -2]], np.float32)
    frame = Frame("a", np.zeros((90, 90, 3), np.uint8), boxes, scores=scores)
    Nms(threshold=-1.5).run(frame)
    found = frame.found
    assert found.labels.tolist() == [0, 0, 1] and found.windows.tolist() == [1, 2, 1]
    frame.found = Found(found.labels, found.windows, found.scores, np.tile(boxes[:1], (3, 1)))
    Nms().run(frame)
    assert frame.found.windows.tolist() == [1, 1]  # the two of class 0 now overlap


def test_pictures_are_scaled_to_the_shorter_side():
    assert scaled(np.zeros((375, 500, 3), np.uint8), 688).shape == (688, 918, 3)
    assert scaled(np.zeros((500, 375, 3), np.uint8), 480).shape == (640, 480, 3)


def test_the_maps_are_those_of_the_net_on_the_scaled_picture():
    net = colour_net()
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    for channels, pixels in (("bgr", picture), ("rgb", picture[:, :, ::-1])):
        settings = Preprocess(mean=(1.0, 2.0, 3.0), scale=0.5, channels=channels)
        found = Backbone(net, "conv", settings, threads=1).map(picture, 30)
        x = ((pixels.astype(np.float32) - [1, 2, 3]) * 0.5).transpose(2, 0, 1)[None]
        upper = net.copy()
        upper.layers = upper.layers[:3]
        assert np.array_equal(found, Executor(upper).run({"data": x.astype(np.float32)})["conv"][0])


def test_many_sizes_do_not_fill_the_memory(monkeypatch):
    executor = Backbone(colour_net(), "pool", Preprocess(), threads=1).executor
    largest = executor.plan({"data": (1, 3, 30, 60)}, ["pool"]).nbytes
    monkeypatch.setattr(pyramid, "PLAN_BYTES", 8 * largest)
    backbone = Backbone(colour_net(), "pool", Preprocess(), threads=1)
    for width in range(40, 60):
        backbone.map(np.zeros((30, width, 3), np.uint8), 30)
    assert 8 <= len(backbone.executor._plans) <= 12


def tiny_model(**settings):
    net = colour_net()
    backbone = Backbone(net, "pool", Preprocess(mean=(128.0,)), threads=1)
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((3, 30)).astype(np.float32)
    return DetectorModel(
        DetectorSettings(CLASSES, "pool", (48,), (1, 2), **settings),
        backbone.net,
        Preprocess(mean=(128.0,)),
        None,
        Heads(weights, np.zeros(3, np.float32)),
    )


def test_a_folder_holds_the_whole_detector(tmp_path):
    model = tiny_model(rounding=1.5, limit=7)
    model.write(tmp_path)
    found = DetectorModel.read(tmp_path)
    assert found.settings == model.settings
    assert found.preprocess == model.preprocess
    assert found.digest() == model.digest()
    assert np.array_equal(found.heads.weights, model.heads.weights)
    assert found.heads.regression is None and found.fc is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('pooling = "spp-net"', 'pooling = "mean"', 'pooling "mean" is none of spp-net'),
        ("limit = 100", "limt = 100", 'unknown key "limt"'),
        ("scales = [48]", "scales = 48", "scales has the wrong type: 48"),
        ("limit = 100", "limit = true", "limit has the wrong type: True"),
        ('blob = "pool"\n', "", "blob is missing"),
        ("levels = [1, 2]", "levels = [0]", "numbers of bins, from 1"),
    ],
)
def test_wrong_settings_are_named(tmp_path, old, new, message):
    model = tiny_model()
    model.write(tmp_path)
    text = (tmp_path / "detect.toml").read_text()
    assert old in text
    (tmp_path / "detect.toml").write_text(text.replace(old, new))
    with pytest.raises(FormatError, match=r"detect\.toml") as error:
        DetectorModel.read(tmp_path)
    assert message in str(error.value)


def test_spoilt_heads_are_named(tmp_path):
    model = tiny_model()
    model.write(tmp_path)
    np.savez(tmp_path / "heads.npz", weights=np.zeros((3, 30)))
    with pytest.raises(FormatError, match="no array 'bias'"):
        DetectorModel.read(tmp_path)
    (tmp_path / "heads.npz").write_bytes(b"PK nonsense")
    with pytest.raises(FormatError, match="not the heads of a detector"):
        DetectorModel.read(tmp_path)


def test_a_checkpoint_computes_a_step_once(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"a": np.arange(3)}

    for _ in range(2):
        found = Checkpoint(tmp_path / "steps", {"seed": 1}).step("one", compute)
        assert found["a"].tolist() == [0, 1, 2]
    assert len(calls) == 1
    (tmp_path / "steps" / "one.npz").write_bytes(b"half")
    Checkpoint(tmp_path / "steps", {"seed": 1}).step("one", compute)
    assert len(calls) == 2
    with pytest.raises(OutputError, match="other settings"):
        Checkpoint(tmp_path / "steps", {"seed": 2})


@pytest.mark.parametrize(
    ("windows", "size"), [(1, 32), (90, 96), (110, 128), (128, 128), (129, 96), (300, 128)]
)
def test_batches_are_filled_evenly(windows: int, size: int) -> None:
    assert equal_batches(windows) == size
