"""Images that a compression looks at: some to calibrate on, some held back to judge it by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from caffe_scnn.calibrate import Calibration, Images
from caffe_scnn.calibrate.agreement import Agreement, agreement
from caffe_scnn.calibrate.agreement import answer as answer_blob
from caffe_scnn.cli.grouped import grouped
from caffe_scnn.cli.models import FILE
from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.arrays import ONLY, read_arrays
from caffe_scnn.evaluate.labels import read_labelled_arrays, read_list
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Transformer

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

# Of so many images the last one is held back.
HELD_BACK = 10


@dataclass(frozen=True)
class Pictures:
    """Pictures or arrays of pixels, with labels or without."""

    images: list[Path] | NDArray[Any]
    labels: NDArray[np.int64] | None
    batch: int

    def _part(self, transformer: Transformer, chosen: NDArray[np.bool_]) -> Images:
        at = np.flatnonzero(chosen)
        if isinstance(self.images, list):
            return Images([self.images[i] for i in at], transformer.pictures, self.batch)
        return Images(self.images[at], transformer.pixels, self.batch)

    def _held_back(self) -> NDArray[np.bool_]:
        return np.asarray(np.arange(len(self.images)) % HELD_BACK == HELD_BACK - 1)

    def calibration(self, transformer: Transformer, seed: int, threads: int | None) -> Calibration:
        """Return the images to calibrate on."""
        images = self._part(transformer, ~self._held_back())
        return Calibration(images, seed=seed, threads=threads)

    def judge(
        self, before: Net, after: Net, transformer: Transformer, threads: int | None
    ) -> Judgement | None:
        """Compare both nets on the images held back; None where there are none."""
        held = self._held_back()
        if not held.any():
            return None
        judge = Calibration(self._part(transformer, held), threads=threads)
        blob, softmax = answer_blob(before)
        first, second = (judge.outputs(net, blob, int(held.sum())) for net in (before, after))
        accuracy = None
        if self.labels is not None:
            wanted = self.labels[held]
            accuracy = [
                100 * float((scores.reshape(len(scores), -1).argmax(axis=1) == wanted).mean())
                for scores in (first, second)
            ]
        return Judgement(agreement(first, second, softmax), softmax, accuracy)


@dataclass(frozen=True)
class Judgement:
    """What the images held back say.

    Attributes
    ----------
    agreement : Agreement
    softmax : bool
        The divergence is Kullback and Leibler's.
    top1 : list of float, optional
        Percent right before and after, where labels are known.
    """

    agreement: Agreement
    softmax: bool
    top1: list[float] | None

    def text(self) -> str:
        """Say it in one line."""
        name = "KL divergence" if self.softmax else "relative squared difference"
        right = (
            ""
            if self.top1 is None
            else "; top-1 {:.2f} % before, {:.2f} % after".format(*self.top1)
        )
        return (
            f"on {self.agreement.images} images held back: same first class on "
            f"{self.agreement.same_top1:.2f} %, {name} {self.agreement.divergence:.4g}{right}"
        )


def _make(
    folder: Path | None, list_path: Path | None, input_path: Path | None, batch: int
) -> Pictures | None:
    if input_path is not None and (folder is not None or list_path is not None):
        raise click.UsageError("give --images and --list, or --input, not both")
    if input_path is not None:
        return Pictures(*_arrays(input_path), batch)
    if list_path is not None:
        listed = read_list(list_path, folder or list_path.parent)
        labels = np.array([picture.label for picture in listed], np.int64)
        return Pictures([picture.path for picture in listed], labels, batch)
    if folder is not None:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise FormatError(f"no pictures ({', '.join(SUFFIXES)}) in this folder", str(folder))
        return Pictures(found, None, batch)
    return None


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    arrays = read_arrays(path)
    if {"x", "y"} <= arrays.keys():
        return read_labelled_arrays(path)
    only = arrays.get("x", arrays.get(ONLY))
    if only is None or only.dtype.kind not in "biuf" or not len(only):
        raise FormatError("images are an npy, or an npz with x (and y, their classes)", str(path))
    return only, None


calibrating_options = grouped(
    "pictures",
    _make,
    click.option(
        "--images",
        "folder",
        type=FILE,
        metavar="DIR",
        help="Pictures to look at, for methods that need it; labels are not needed.",
    ),
    click.option(
        "--list",
        "list_path",
        type=FILE,
        metavar="FILE",
        help="Which of them: name, blank, class a line; accuracy is shown then.",
    ),
    click.option(
        "--input",
        "input_path",
        type=FILE,
        metavar="FILE",
        help="Instead of pictures: npz with x, pixels (N, C, H, W), and perhaps y, classes; "
        "or an npy of pixels.",
    ),
    click.option(
        "--batch",
        type=click.IntRange(min=1),
        default=8,
        show_default=True,
        help="Pictures that go through the net together.",
    ),
)
