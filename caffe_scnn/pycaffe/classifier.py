"""``caffe.Classifier``: class scores of pictures, averaged over ten crops or of the centre."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_scnn.pycaffe.blob import Values
from caffe_scnn.pycaffe.images import oversample as ten_crops
from caffe_scnn.pycaffe.images import resize_image
from caffe_scnn.pycaffe.net import TEST, Net
from caffe_scnn.pycaffe.transformer import Transformer


class Classifier(Net):
    """A net of one input that gives a score for each class.

    Parameters
    ----------
    model_file, pretrained_file : str
        Prototxt and caffemodel.
    image_dims : (height, width), optional
        Pictures are resized to this before they are cropped; the input's size by default.
    mean, input_scale, raw_scale, channel_swap
        See :class:`~caffe_scnn.pycaffe.transformer.Transformer`.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        image_dims: Sequence[int] | None = None,
        mean: ArrayLike | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = input_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = tuple(int(n) for n in (image_dims or self.crop_dims))

    def predict(self, inputs: Sequence[NDArray[Any]], oversample: bool = True) -> Values:
        """Return the scores (N, classes).

        Parameters
        ----------
        inputs : sequence of ndarray of shape (H, W, C)
        oversample : bool
            Average over four corners, the centre and their mirror images; else the centre alone.
        """
        pictures = np.stack([resize_image(picture, self.image_dims) for picture in inputs])
        if oversample:
            crops = ten_crops(list(pictures), self.crop_dims.tolist())
        else:
            top, left = ((np.array(self.image_dims) - self.crop_dims) / 2).astype(int)
            height, width = self.crop_dims
            crops = pictures[:, top : top + height, left : left + width]
        name = self.inputs[0]
        values = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        scores = self.forward_all(None, **{name: values})[self.outputs[0]]
        return scores.reshape(-1, 10, *scores.shape[1:]).mean(axis=1) if oversample else scores


def input_transformer(
    net: Net,
    mean: ArrayLike | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> Transformer:
    """Return the transformer of a net's first input, from (H, W, C)."""
    name = net.inputs[0]
    transformer = Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer
