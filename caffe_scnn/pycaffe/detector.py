"""``caffe.Detector``: class scores of windows in pictures, as R-CNN takes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe_scnn.pycaffe.blob import Values
from caffe_scnn.pycaffe.classifier import input_transformer
from caffe_scnn.pycaffe.images import load_image, resize_image
from caffe_scnn.pycaffe.net import TEST, Net

Windows = Sequence[Sequence[float]]  # (top, left, bottom, right) each


class Detector(Net):
    """A net of one input that scores windows of pictures.

    Parameters
    ----------
    model_file, pretrained_file : str
        Prototxt and caffemodel.
    mean, input_scale, raw_scale, channel_swap
        See :class:`~caffe_scnn.pycaffe.transformer.Transformer`.
    context_pad : int, optional
        Pixels of the input that show what surrounds a window, on each side (16 in R-CNN). What
        lies outside the picture shows the mean.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        mean: ArrayLike | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, TEST, weights=pretrained_file)
        self.transformer = input_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.context_pad = context_pad or 0
        name = self.inputs[0]
        # The mean as a picture: what becomes zero once it is subtracted.
        zeros = np.zeros(self.blobs[name].shape[1:], np.float32)
        self.crop_mean = self.transformer.deprocess(name, zeros).reshape(*zeros.shape[1:], -1)

    def detect_windows(
        self, images_windows: Iterable[tuple[str | Path, Windows]]
    ) -> list[dict[str, Any]]:
        """Score windows.

        Parameters
        ----------
        images_windows : iterable of (file, windows)
            Windows as (top, left, bottom, right) in pixels.

        Returns
        -------
        list of dict
            ``filename``, ``window`` and ``prediction`` (the scores) for each window.
        """
        name = self.inputs[0]
        asked: list[tuple[str | Path, NDArray[Any]]] = []
        crops = []
        for file, windows in images_windows:
            picture = load_image(file)
            for window in windows:
                asked.append((file, np.asarray(window)))
                crops.append(self.transformer.preprocess(name, self.crop(picture, window)))
        if not crops:
            return []
        scores = self.forward_all(None, **{name: np.stack(crops)})[self.outputs[0]]
        scores = scores.reshape(len(crops), -1)
        return [
            {"window": window, "prediction": row, "filename": file}
            for (file, window), row in zip(asked, scores, strict=True)
        ]

    def detect_selective_search(self, image_fnames: Iterable[str | Path]) -> NoReturn:
        """Refuse: Caffe's own calls MATLAB code."""
        raise NotImplementedError(
            "selective search: compute windows yourself, for example with cv2.ximgproc"
            ".segmentation, and give them to detect_windows"
        )

    def crop(self, im: NDArray[Any], window: Sequence[float]) -> Values:
        """Cut a window out, with its surroundings if ``context_pad`` is set."""
        top, left, bottom, right = (float(n) for n in window)
        if not self.context_pad:
            return np.asarray(im[int(top) : int(bottom), int(left) : int(right)], np.float32)
        height, width = self.crop_mean.shape[:2]
        grow = np.array([height, width]) / (np.array([height, width]) - 2 * self.context_pad)
        half = grow * [bottom - top, right - left] / 2
        centre = np.array([top + bottom, left + right]) / 2
        begin, end = np.rint(centre - half).astype(int), np.rint(centre + half).astype(int)
        inner_begin = np.maximum(begin, 0)
        inner_end = np.minimum(end, im.shape[:2])
        # The part inside the picture, at its place and scale in the crop.
        scale = np.array([height, width]) / (end - begin)
        at = np.rint((inner_begin - begin) * scale).astype(int)
        to = np.minimum(np.rint((inner_end - begin) * scale).astype(int), [height, width])
        result: Values = self.crop_mean.copy()
        part = im[inner_begin[0] : inner_end[0], inner_begin[1] : inner_end[1]]
        if part.size and (to > at).all():
            result[at[0] : to[0], at[1] : to[1]] = resize_image(part, (to - at).tolist())
        return result
