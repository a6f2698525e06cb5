"""Pictures to train on: their objects, their windows, and how much the two overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.detect.boxes import Boxes, overlap
from caffe_scnn.detect.picture import Picture, read_picture
from caffe_scnn.detect.proposals import Proposer
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.voc.annotation import Annotation
from caffe_scnn.evaluate.voc.classes import same_class
from caffe_scnn.evaluate.voc.devkit import Devkit


@dataclass(frozen=True)
class TrainingPicture:
    """One picture with its windows; the objects themselves are the first windows.

    Attributes
    ----------
    name : str
    windows : ndarray of shape (objects + proposals, 4)
    labels : ndarray of shape (objects,)
        Number of the class.
    difficult : bool ndarray of shape (objects,)
        Neither positive nor negative.
    overlaps : float32 ndarray of shape (windows, classes)
        With the best object of each class.
    nearest : ndarray of shape (windows, classes)
        Number of that object; −1 where there is none.
    """

    name: str
    windows: Boxes
    labels: NDArray[np.intp]
    difficult: NDArray[np.bool_]
    overlaps: Float32
    nearest: NDArray[np.intp]

    @classmethod
    def of(
        cls, annotation: Annotation, classes: Sequence[str], proposals: Boxes
    ) -> TrainingPicture:
        """Compare the windows of a picture with its objects of these classes."""
        number = {same_class(name): at for at, name in enumerate(classes)}
        objects = [thing for thing in annotation.objects if same_class(thing.name) in number]
        boxes = np.array([thing.box for thing in objects], np.float64).reshape(-1, 4)
        labels = np.array([number[same_class(thing.name)] for thing in objects], np.intp)
        windows = np.concatenate([boxes, proposals])
        shared = overlap(windows[:, None], boxes[None])
        overlaps = np.zeros((len(windows), len(classes)), np.float32)
        nearest = np.full(overlaps.shape, -1)
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            overlaps[:, label] = shared[:, own].max(axis=1)
            nearest[:, label] = own[shared[:, own].argmax(axis=1)]
        difficult = np.array([thing.difficult for thing in objects], bool)
        return cls(annotation.image, windows, labels, difficult, overlaps, nearest)

    @property
    def objects(self) -> Boxes:
        """Boxes of the objects."""
        return self.windows[: len(self.labels)]

    def targets(self, chosen: NDArray[np.intp], negative: float) -> NDArray[np.int8]:
        """Say for windows whether they are an object of each class.

        Parameters
        ----------
        chosen : ndarray of shape (n,)
        negative : float
            A window that overlaps every object of a class by less is none of that class.

        Returns
        -------
        int8 ndarray of shape (n, classes)
            1 for an object that is not difficult, −1 for windows that are none, else 0.
        """
        result = np.where(self.overlaps[chosen] < negative, -1, 0).astype(np.int8)
        for row, window in enumerate(chosen):
            if window < len(self.labels):
                result[row, self.labels[window]] = 0 if self.difficult[window] else 1
        return result


@dataclass(frozen=True)
class TrainingSet:
    """The pictures of an image set.

    Parameters
    ----------
    devkit : Devkit
    pictures : sequence of TrainingPicture
    """

    devkit: Devkit
    pictures: Sequence[TrainingPicture]

    def read(self, index: int) -> Picture:
        """Read the pixels of a picture."""
        return read_picture(self.devkit.picture_path(self.pictures[index].name))


def training_pictures(
    devkit: Devkit, image_set: str, classes: Sequence[str], proposer: Proposer
) -> Iterator[TrainingPicture]:
    """Read annotations and ask for windows, picture by picture.

    Raises
    ------
    FormatError
        The set, an annotation or a picture is not what it should be, or no object is of any of
        the classes.
    """
    found = 0
    for annotation in devkit.annotations(image_set):
        picture = read_picture(devkit.picture_path(annotation.image))
        windows = proposer.boxes(annotation.image, picture)
        made = TrainingPicture.of(annotation, classes, windows)
        found += len(made.labels)
        yield made
    if not found:
        path = str(devkit.image_set_path(image_set))
        raise FormatError(f"no object of {', '.join(classes)} in any picture", path)
