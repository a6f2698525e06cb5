"""A detector's stages put in order: with and without rejection, with and without fc layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from caffe_scnn.detect.cascade import Cascade
from caffe_scnn.detect.content_cache import ContentCache
from caffe_scnn.detect.model_folder import HEADS, DetectorModel
from caffe_scnn.detect.proposals import Proposer
from caffe_scnn.detect.pyramid import Backbone
from caffe_scnn.detect.stages import (
    Classify,
    Fc,
    Nms,
    Propose,
    Pyramid,
    Regress,
    Reject,
    SppPool,
    Stage,
)
from caffe_scnn.detect.stages.fc import FC
from caffe_scnn.detect.stages.spp_pool import POOLED
from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.layers.base import count
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Net


@dataclass(frozen=True)
class Running:
    """How a detector is run.

    Parameters
    ----------
    threads : int, optional
        All processors by default. Detections do not depend on it.
    tune : bool
        See :class:`~caffe_scnn.engine.Executor`.
    cache : Path, optional
        A folder that keeps feature maps.
    cache_limit : int
        Its size in bytes.
    """

    threads: int | None = None
    tune: bool = False
    cache: Path | None = None
    cache_limit: int = 8 << 30


def build(model: DetectorModel, proposer: Proposer, running: Running | None = None) -> Cascade:
    """Put the stages of a detector in order.

    Parameters
    ----------
    model : DetectorModel
        Its settings say whether windows are rejected.
    proposer : Proposer
    running : Running, optional

    Raises
    ------
    ModelError
        The files of the model do not fit together.
    """
    running = running or Running()
    settings, heads = model.settings, model.heads
    backbone = Backbone(
        model.backbone,
        settings.blob,
        model.preprocess,
        rounding=settings.rounding,
        threads=running.threads,
        tune=running.tune,
    )
    cache = ContentCache(running.cache, running.cache_limit) if running.cache else None

    pooled, coarse = (
        backbone.channels * sum(level * level for level in levels)
        for levels in (settings.levels, settings.coarse_levels)
    )
    values = pooled if model.fc is None else fc_values(model.fc, pooled)
    softmax = settings.scores == "softmax"
    heads.check(len(settings.classes), softmax, values, pooled, coarse, Path(HEADS))
    stages: list[Stage] = [Propose(proposer), Pyramid(backbone, settings.scales, cache)]
    if settings.rejects:
        if heads.rejector is None:
            raise ModelError("the detector has no rejection classifier; run it without a cascade")
        stages.append(SppPool.of(backbone, settings, running.threads, coarse=True))
        stages.append(
            Reject(heads.rejector, settings.keep, settings.reject_below, settings.reject_overlap)
        )
    stages.append(SppPool.of(backbone, settings, running.threads))
    if model.fc is not None:
        executor = Executor(model.fc, threads=running.threads, tune=running.tune)
        stages.append(Fc(executor))
    source = POOLED if model.fc is None else FC
    stages.append(Classify(source, heads.weights, heads.bias, softmax))
    thin = Nms(settings.threshold, settings.overlap, settings.limit)
    stages.append(thin)
    if heads.regression is not None:
        stages += [Regress(heads.regression), thin]
    return Cascade(stages)


def fc_values(net: Net, pooled: int) -> int:
    """Values a window has behind the fully connected layers.

    Raises
    ------
    ModelError
        The net has several inputs or outputs, or takes no pooled windows.
    """
    graph, shapes = Graph(net), infer_shapes(net).blobs
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise ModelError(
            f"the fc net has inputs {graph.inputs} and outputs {graph.outputs}; it needs one each"
        )
    found = count(shapes[graph.inputs[0]][1:])
    if found != pooled:
        raise ModelError(
            f"the fc net takes {found} values a window, the pyramid gives {pooled}; do its levels "
            "and the backbone's channels fit?"
        )
    return count(shapes[graph.outputs[0]][1:])
