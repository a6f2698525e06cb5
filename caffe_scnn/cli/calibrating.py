"""Images that a compression looks at: some to calibrate on, some held back to judge it by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from math import prod
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
from caffe_scnn.errors import ModelError
from caffe_scnn.evaluate.data_layer import read_source
from caffe_scnn.evaluate.database import Database
from caffe_scnn.evaluate.images import Images as ImageSource
from caffe_scnn.evaluate.images import Labels, read_images
from caffe_scnn.evaluate.labels import check_labels
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Transformer
from caffe_scnn.preprocess.transformer import Values

# Of so many images the last one is held back, and these are checked on while a drop is searched.
HELD_BACK = 10
CHECKED = (2, 6)


@dataclass(frozen=True)
class Pictures:
    """Pictures, arrays of pixels or a database, with labels or without."""

    images: ImageSource
    labels: Labels
    batch: int

    def part(self, transformer: Transformer, chosen: NDArray[np.bool_]) -> Images:
        """Return some of them, as inputs of a net."""
        at = np.flatnonzero(chosen)
        if isinstance(self.images, list):
            return Images([self.images[i] for i in at], transformer.pictures, self.batch)
        if isinstance(self.images, Database):
            return Images(list(at), partial(_records, self.images, transformer), self.batch)
        return Images(self.images[at], transformer.pixels, self.batch)

    def identity(self) -> str:
        """Return what tells these pictures from others: their files' names, sizes and times."""
        if isinstance(self.images, list):
            files = [(path, path.stat()) for path in self.images if path.exists()]
            return repr([(str(path), s.st_size, s.st_mtime_ns) for path, s in files])
        if isinstance(self.images, Database):
            return self.images.identity()
        return sha256(np.ascontiguousarray(self.images).tobytes()).hexdigest()


def _records(database: Database, transformer: Transformer, at: list[int]) -> Values:
    """Return some values of a database as inputs of a net."""
    pixels = [database.read(index, transformer.channels) for index in at]
    return np.stack([transformer.values(transformer.resized(each)) for each in pixels])


class Sighted:
    """Pictures as one model sees them: some to calibrate on, some to check on, some held back.

    Parameters
    ----------
    net : Net
        The original.
    pictures : Pictures
    transformer : Transformer
    seed : int
    threads : int, optional
    checked : bool
        Keep some from calibration, to check nets on while one is searched.

    Raises
    ------
    ModelError
        Too few pictures to keep some for a check, or labels that are no classes of the net.
    """

    def __init__(
        self,
        net: Net,
        pictures: Pictures,
        transformer: Transformer,
        seed: int,
        threads: int | None,
        checked: bool,
    ) -> None:
        self._net = net
        self._pictures = pictures
        self._transformer = transformer
        self._threads = threads
        blob, self._softmax = answer_blob(net)
        if pictures.labels is not None:
            check_labels(pictures.labels, prod(infer_shapes(net).blobs[blob][1:]))
        at = np.arange(len(pictures.images)) % HELD_BACK
        self._held = at == HELD_BACK - 1
        self._checked = np.isin(at, CHECKED) & checked
        if checked and not self._checked.any():
            raise ModelError(
                f"{len(at)} images are too few to keep some for a check: give 10 or more"
            )
        images = pictures.part(transformer, ~self._held & ~self._checked)
        self.calibration = Calibration(images, seed=seed, threads=threads)

    def identity(self) -> str:
        """Return all that the model sees depends on."""
        return f"{self._transformer.describe()}\n{self._pictures.identity()}\n{self._checked.sum()}"

    def drop(self, net: Net) -> float:
        """Measure what a net loses on the images of the check: see :attr:`Judgement.drop`."""
        return self._judge(
            self._checked_before, self._answers(net, self._checked), self._checked
        ).drop

    @cached_property
    def _checked_before(self) -> NDArray[Any]:
        return self._answers(self._net, self._checked)

    def judgements(self, after: Net) -> list[Judgement]:
        """Compare both nets on the images held back, and on those of the check."""
        found = []
        for kind, chosen in (("held back", self._held), ("of the check", self._checked)):
            if chosen.any():
                first, second = (self._answers(net, chosen) for net in (self._net, after))
                found.append(self._judge(first, second, chosen, kind))
        return found

    def _answers(self, net: Net, chosen: NDArray[np.bool_]) -> NDArray[Any]:
        part = self._pictures.part(self._transformer, chosen)
        judge = Calibration(part, threads=self._threads)
        return judge.outputs(net, answer_blob(net)[0], int(chosen.sum()))

    def _judge(
        self,
        first: NDArray[Any],
        second: NDArray[Any],
        chosen: NDArray[np.bool_],
        kind: str = "",
    ) -> Judgement:
        accuracy = None
        if self._pictures.labels is not None:
            wanted = self._pictures.labels[chosen]
            accuracy = [
                100 * float((scores.reshape(len(scores), -1).argmax(axis=1) == wanted).mean())
                for scores in (first, second)
            ]
        return Judgement(agreement(first, second, self._softmax), self._softmax, accuracy, kind)


@dataclass(frozen=True)
class Judgement:
    """What images say that no layer was fitted to.

    Attributes
    ----------
    agreement : Agreement
    softmax : bool
        The divergence is Kullback and Leibler's.
    top1 : list of float, optional
        Percent right before and after, where labels are known.
    kind : str
        Of the images.
    """

    agreement: Agreement
    softmax: bool
    top1: list[float] | None
    kind: str = "held back"

    @property
    def drop(self) -> float:
        """Percent points lost: of accuracy, or where no label is known of agreement."""
        if self.top1 is None:
            return 100 - self.agreement.same_top1
        return self.top1[0] - self.top1[1]

    def text(self) -> str:
        """Say it in one line."""
        name = "KL divergence" if self.softmax else "relative squared difference"
        right = (
            ""
            if self.top1 is None
            else "; top-1 {:.2f} % before, {:.2f} % after".format(*self.top1)
        )
        return (
            f"on {self.agreement.images} images {self.kind}: same first class on "
            f"{self.agreement.same_top1:.2f} %, {name} {self.agreement.divergence:.4g}{right}"
        )


def _make(
    folder: Path | None,
    list_path: Path | None,
    input_path: Path | None,
    source_path: Path | None,
    batch: int,
) -> Pictures | None:
    given = [folder is not None or list_path is not None, input_path is not None]
    if sum([*given, source_path is not None]) > 1:
        raise click.UsageError("give --images and --list, or --input, or --data-layer, not both")
    if source_path is not None:
        return Pictures(*read_source(source_path), batch)
    path = list_path or input_path or folder
    return None if path is None else Pictures(*read_images(path, folder), batch)


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
        "an npy of pixels; or a folder with an LMDB or LevelDB of Caffe's Datum messages.",
    ),
    click.option(
        "--data-layer",
        "source_path",
        type=FILE,
        metavar="PROTOTXT",
        help="Or what the data layer of this prototxt names: the database of a Data layer, the "
        "list of an ImageData layer, the files of an HDF5Data layer.",
    ),
    click.option(
        "--batch",
        type=click.IntRange(min=1),
        default=8,
        show_default=True,
        help="Pictures that go through the net together.",
    ),
)
