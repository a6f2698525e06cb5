"""Time of a detector per picture: all windows through dense nets, against cascade and sparse nets.

    python benchmarks/experiments/detection_timing.py DATA WORK [PICTURES [THREADS]]

WORK is that of detection_accuracy.py (its detectors and windows; rows ``mobilenet-conv12-688``,
``…-faster``, ``…-reduced`` and ``…-reduced-faster``). All forms of a detector run alternately on
each picture, in one process; a first round on every picture makes the plans and is not counted, of
three more the median counts. Windows come from a file and are not counted. For ZF-5 and CaffeNet
there are no weights to be had: they are random, and the fc layers get the zeros of the SCNN paper
(85 and 68 %). CaffeNet's sparse convolutions are those of DATA/caffenet_conv, which were really
trained; ZF-5's get as many zeros, at random. Times do not depend on the values; of the random ones
10 windows a picture are made to score, as many as a trained detector finds.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from caffe_scnn.detect.cascade import RunRecord
from caffe_scnn.detect.detector import Running, build
from caffe_scnn.detect.fc_net import cut_fc_net
from caffe_scnn.detect.heads import Heads
from caffe_scnn.detect.model_folder import PAPER_SCALES, DetectorModel, DetectorSettings
from caffe_scnn.detect.picture import read_picture
from caffe_scnn.detect.proposals import make_proposer
from caffe_scnn.detect.pyramid import Backbone
from caffe_scnn.detect.rejector import SHAPE_FEATURES, Rejector
from caffe_scnn.evaluate.voc import VOC_CLASSES, Devkit
from caffe_scnn.layers.binding import bind
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Preprocess

MODELS = Path(__file__).parents[2] / "models"
ROUNDS = 3  # of each picture and form, of which the median counts
KEEP = 0.1  # of the windows pass the rejection
TINY = np.float32(1e-12)  # in the place of a zero: dense to the engine, the same to the result


def dense(net: Net | None) -> Net | None:
    """Return a net without zero weights; depthwise layers keep theirs, which are padding."""
    if net is None:
        return None
    result = net.copy()
    for layer in result:
        if not layer.blobs or layer.proto.convolution_param.group != len(layer.blobs[0]):
            layer.blobs = [np.where(blob == 0, TINY, blob) for blob in layer.blobs]
    return result


def sparse(net: Net, zeros: dict[str, float]) -> Net:
    """Return a net with random weights of some layers set to zero."""
    random = np.random.default_rng(0)
    result = net.copy()
    for layer in result:
        if layer.name in zeros:
            weights = layer.blobs[0].copy()
            weights[random.random(weights.shape) < zeros[layer.name]] = 0
            layer.blobs = [weights, *layer.blobs[1:]]
    return result


def random_net(name: str) -> Net:
    """Return a net of models/ with random weights of a size that keeps activations in range."""
    random = np.random.default_rng(0)
    net = Net.read(MODELS / f"{name}.prototxt")
    bind(net, None)
    for layer in net:
        if layer.blobs:
            shape = layer.blobs[0].shape
            spread = np.sqrt(2 / np.prod(shape[1:]))
            layer.blobs[0] = (spread * random.standard_normal(shape)).astype(np.float32)
    return net


def random_detector(name: str, levels: tuple[int, ...]) -> tuple[DetectorModel, DetectorModel]:
    """Return a detector with dense random weights, and one with the paper's zeros in its fc."""
    random = np.random.default_rng(0)
    net = random_net(name)
    settings = DetectorSettings(VOC_CLASSES, "conv5", (688,), levels)
    backbone = Backbone(net, "conv5", Preprocess(), threads=1)
    pooled = backbone.channels * sum(level * level for level in levels)
    fc = cut_fc_net(net, "fc7", pooled)
    values = backbone.channels * 5 + SHAPE_FEATURES
    heads = Heads(
        (random.standard_normal((20, 4096)) / 64).astype(np.float32),
        np.zeros(20, np.float32),
        None,
        Rejector(random.standard_normal((21, values)).astype(np.float32), np.zeros(21, np.float32)),
    )
    model = DetectorModel(settings, backbone.net, Preprocess(mean=(128.0,)), fc, heads)
    zeros = sparse(fc, {"fc6": 0.85, "fc7": 0.68})
    return model, replace(model, fc=zeros)


def with_sparse_convolutions(name: str, model: DetectorModel, data: Path) -> DetectorModel:
    """Return a detector with the convolutions of a trained sparse CaffeNet, or as many zeros."""
    with np.load(data / "caffenet_conv" / "top1_0.56256_L1.npz") as file:
        trained = {key: file[key].astype(np.float32) for key in file}
    if name != "caffenet":
        zeros = {key: float(np.mean(weights == 0)) for key, weights in trained.items()}
        return replace(model, backbone=sparse(model.backbone, zeros))
    net = model.backbone.copy()
    for layer in net:
        if layer.name in trained:
            layer.blobs = [trained[layer.name], *layer.blobs[1:]]
    return replace(model, backbone=net)


def calibrated(model: DetectorModel, picture, proposer) -> DetectorModel:
    """Move the bias so that about 10 windows of a picture score in all classes together."""
    settings = replace(model.settings, threshold=-np.inf, keep=None, limit=10_000, overlap=1.0)
    frame, _ = build(replace(model, settings=settings), proposer, Running(threads=1)).run(*picture)
    least = np.sort(frame.scores.ravel())[-10]
    bias = np.full(20, model.settings.threshold - least, np.float32)
    return replace(model, heads=replace(model.heads, bias=bias))


def milliseconds(record: RunRecord) -> float:
    """Return the time a picture takes, proposals apart."""
    seconds = record.seconds()
    return 1e3 * (sum(seconds.values()) - seconds["proposals"]) / record.images


def compare(name: str, forms: dict[str, DetectorModel], pictures, proposer, threads: int) -> None:
    """Print a line of milliseconds a picture for each form, and the ratio to the first."""
    built = {key: build(model, proposer, Running(threads=threads)) for key, model in forms.items()}
    totals = {key: RunRecord() for key in forms}
    for picture in pictures:
        for cascade in built.values():  # plans for this size of picture
            cascade.run(*picture)
        records: dict[str, list[RunRecord]] = {key: [] for key in forms}
        for _ in range(ROUNDS):
            for key, cascade in built.items():
                records[key].append(cascade.run(*picture)[1])
        for key, found in records.items():
            totals[key].add(sorted(found, key=milliseconds)[ROUNDS // 2])
    first = None
    for key, total in totals.items():
        parts = {part: 1e3 * s / total.images for part, s in total.seconds().items()}
        del parts["proposals"]
        whole = milliseconds(total)
        first = first or whole
        cells = " | ".join(f"{value:.1f}" for value in parts.values())
        windows = [stage for stage in total.stages if stage.name == "reject"]
        kept = windows[0].windows_out / windows[0].windows_in if windows else 1
        print(
            f"| {name} | {key} | {kept:.0%} | {cells} | {whole:.1f} | {first / whole:.2f} |",
            flush=True,
        )


def forms_of(model: DetectorModel, small: DetectorModel, scales) -> dict[str, DetectorModel]:
    """Return the dense full model, the cascade alone, and the cascade on sparse layers."""
    settings = replace(model.settings, scales=scales, keep=KEEP)
    full = replace(settings, keep=None)
    solid = replace(model, backbone=dense(model.backbone), fc=dense(model.fc))
    sparse_fc = {"sparse fc, cascade": replace(solid, settings=settings, fc=small.fc)}
    return {
        "dense, all windows": replace(solid, settings=full),
        "dense, cascade": replace(solid, settings=settings),
        **(sparse_fc if model.fc is not None else {}),
        "sparse, all windows": replace(small, settings=full),
        "sparse, cascade": replace(small, settings=settings),
    }


def main() -> None:
    """Print the table."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    data, work = Path(sys.argv[1]), Path(sys.argv[2])
    number = int(sys.argv[3]) if len(sys.argv) > 3 else 20
    threads = int(sys.argv[4]) if len(sys.argv) > 4 else 1
    kit = Devkit.open(data / "VOCdevkit")
    names = kit.image_ids("test")[:number]
    pictures = [(name, read_picture(kit.picture_path(name))) for name in names]
    proposer = make_proposer(str(work / "windows-test.npz"))
    print("| net, scales | form | windows | conv | pooling | fc | rest | all [ms] | times faster |")
    print("|---|---|---|---|---|---|---|---|---|")
    pairs: dict[str, tuple[DetectorModel, DetectorModel]] = {}
    for name in ("mobilenet-conv12-688", "mobilenet-conv12-688-reduced"):
        places = [work / each / "detector" for each in (name, f"{name}-faster")]
        if all(place.exists() for place in places):
            pairs[name] = DetectorModel.read(places[0]), DetectorModel.read(places[1])
    for name, levels in (("zf5_spp", (1, 2, 3, 6)), ("caffenet", (6,))):
        model, small = random_detector(name, levels)
        model = calibrated(model, pictures[0], proposer)
        small = with_sparse_convolutions(name, replace(small, heads=model.heads), data)
        pairs[name] = model, small
    for name, (model, small) in pairs.items():
        for label, scales in (("688", (688,)), ("five scales", PAPER_SCALES)):
            compare(f"{name}, {label}", forms_of(model, small, scales), pictures, proposer, threads)


if __name__ == "__main__":
    main()
