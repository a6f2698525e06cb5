"""A detector of MATLAB's SPP_net as a folder of our own."""

from __future__ import annotations

from pathlib import Path

from caffe_scnn.detect.geometry import map_geometry
from caffe_scnn.detect.heads import Heads
from caffe_scnn.detect.matlab import SppModel, fc_net, read_spp_model
from caffe_scnn.detect.model_folder import DetectorModel, DetectorSettings
from caffe_scnn.errors import ModelError
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Preprocess

RELEASED_SCALES = (480, 576, 688, 874, 1200)
"""Shorter sides in the released code; the paper has 864 in place of 874."""
MEAN = 128.0


def import_spp_net(
    path: Path,
    backbone: Net,
    blob: str | None = None,
    scales: tuple[int, ...] = RELEASED_SCALES,
) -> DetectorModel:
    """Make a detector of ``spp_model.mat`` and the convolutions it was made with.

    Thresholds and the limit of detections are those of SPP_net's test; there is no rejection of
    windows and no box regression, which SPP_net keeps in another file.

    Parameters
    ----------
    path : Path
        ``spp_model.mat``.
    backbone : Net
        With its weights; layers behind the feature map do no harm.
    blob : str, optional
        The feature map; None: the net's only output.
    scales : tuple of int
        Shorter sides of the scaled pictures.

    Raises
    ------
    FormatError
        The file is not as SPP_net writes it.
    ModelError
        Net and file do not fit together.
    """
    model = read_spp_model(path)
    outputs = Graph(backbone).outputs
    if blob is None and len(outputs) != 1:
        raise ModelError(
            f"the net has the outputs {', '.join(outputs)}; name the feature map (--blob)"
        )
    blob = blob or outputs[0]
    _check_geometry(model, backbone, blob, path)
    settings = DetectorSettings(
        model.classes, blob, scales, model.levels, "spp-net", rounding=model.rounding
    )
    return DetectorModel(
        settings,
        backbone,
        Preprocess(mean=(MEAN,), channels="bgr"),
        fc_net(model),
        Heads(model.weights, model.bias),
    )


def _check_geometry(model: SppModel, backbone: Net, blob: str, path: Path) -> None:
    geometry = map_geometry(backbone, blob, model.rounding)
    if (geometry.stride, geometry.offset) != (model.step, model.offset):
        raise ModelError(
            f'the net\'s blob "{blob}" has a stride of {geometry.stride} and an offset of '
            f"{geometry.offset:g}, {path} says {model.step:g} and {model.offset:g}: it belongs to "
            f"another net ({model.definition})"
        )
    first = model.fc[0].weights if model.fc else model.weights
    bins = sum(level * level for level in model.levels)
    channels = infer_shapes(backbone).blobs[blob][1]
    if first.shape[1] != channels * bins:
        raise ModelError(
            f'blob "{blob}" has {channels} channels, which makes {channels * bins} pooled values; '
            f"{path} wants {first.shape[1]}: it belongs to another net ({model.definition})"
        )
