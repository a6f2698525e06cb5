"""A whole training: from a classification net and an image set to a detector."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from caffe_scnn.detect.checkpoint import Checkpoint
from caffe_scnn.detect.content_cache import ContentCache
from caffe_scnn.detect.detector import Running, fc_values
from caffe_scnn.detect.fc_net import cut_fc_net
from caffe_scnn.detect.features import FeatureSource
from caffe_scnn.detect.model_folder import DetectorModel, DetectorSettings
from caffe_scnn.detect.pyramid import Backbone
from caffe_scnn.detect.recall_target import share_for
from caffe_scnn.detect.samples import TrainingSet
from caffe_scnn.detect.stages import Fc, Pyramid, SppPool
from caffe_scnn.detect.train import Notify, Training, TrainSettings
from caffe_scnn.engine import Executor
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Preprocess

SOFTMAX_THRESHOLD = 0.05  # least probability of a detection; Fast R-CNN's


@dataclass(frozen=True)
class Plan:
    """What is to be trained.

    Parameters
    ----------
    net : Net
        A classification net with weights.
    preprocess : Preprocess
    settings : DetectorSettings
    fc_blob : str, optional
        Classify this blob, behind the fully connected layers of the net.
    training : TrainSettings
    recall : float, optional
        Choose how many windows pass the rejection: so many that this fraction of the objects that
        the full model finds in held-out pictures stays.
    """

    net: Net
    preprocess: Preprocess
    settings: DetectorSettings
    fc_blob: str | None
    training: TrainSettings
    recall: float | None = None

    def parts(self, threads: int | None) -> tuple[Backbone, Net | None]:
        """Cut the net where the settings say: the convolutions, and fully connected layers.

        Raises
        ------
        ModelError
            The blobs are not in the net, or do not fit the settings.
        """
        settings = self.settings
        backbone = Backbone(
            self.net,
            settings.blob,
            self.preprocess,
            rounding=settings.rounding,
            threads=threads,
        )
        if self.fc_blob is None:
            return backbone, None
        pooled = backbone.channels * sum(level * level for level in settings.levels)
        fc = cut_fc_net(self.net, self.fc_blob, pooled)
        fc_values(fc, pooled)
        return backbone, fc


def train_detector(
    plan: Plan, data: TrainingSet, work: Path, running: Running, notify: Notify
) -> tuple[DetectorModel, int]:
    """Train a detector, or go on where that was interrupted.

    Parameters
    ----------
    plan : Plan
    data : TrainingSet
    work : Path
        A folder for steps and maps.
    running : Running
        Of its cache only the size counts.
    notify : callable

    Returns
    -------
    model : DetectorModel
    samples : int
        Windows that the classifiers were learnt from.

    Raises
    ------
    ModelError
        The blobs are not in the net, or do not fit the settings.
    OutputError
        The work folder cannot be written, or holds another training.
    """
    settings = plan.settings
    backbone, fc = plan.parts(running.threads)
    layers = [Fc(Executor(fc, threads=running.threads))] if fc is not None else []
    cache = ContentCache(work / "maps", running.cache_limit)
    pyramid = Pyramid(backbone, settings.scales, cache)
    training = Training(
        data,
        len(settings.classes),
        FeatureSource(data, [pyramid, SppPool.of(backbone, settings, running.threads), *layers]),
        FeatureSource(
            data, [pyramid, SppPool.of(backbone, settings, running.threads, coarse=True)]
        ),
        fc is not None,
        plan.training,
        Checkpoint(work / "steps", _fingerprint(plan, data, backbone, fc)),
        notify,
        settings.reject_overlap,
    )
    trained = training.run()
    if plan.training.softmax:
        settings = replace(settings, scores="softmax", threshold=SOFTMAX_THRESHOLD)
    if trained.shares is None:
        settings = replace(settings, keep=None, reject_below=None)
    elif plan.recall is not None:
        settings = replace(settings, keep=share_for(plan.recall, trained.shares))
    model = DetectorModel(settings, backbone.net, plan.preprocess, fc or trained.fc, trained.heads)
    return model, trained.samples


def _fingerprint(
    plan: Plan, data: TrainingSet, backbone: Backbone, fc: Net | None
) -> dict[str, Any]:
    """All that the steps of a training depend on."""
    windows = hashlib.sha256()
    for picture in data.pictures:
        windows.update(picture.name.encode())
        for array in (picture.windows, picture.labels, picture.difficult):
            windows.update(array.tobytes())
    weights = hashlib.sha256()
    for layer in fc or ():
        for blob in layer.blobs:
            weights.update(blob.tobytes())
    settings = asdict(plan.settings)
    for name in ("keep", "reject_below", "scores", "threshold", "overlap", "limit"):
        del settings[name]  # only detection looks at them
    return {
        "settings": settings,
        "training": asdict(plan.training),
        "backbone": backbone.digest(),
        "fc": [fc.text() if fc else None, weights.hexdigest()],
        "windows": windows.hexdigest(),
    }
