"""The evaluation of detections on an image set: average precision per class, and their mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caffe_scnn.errors import FormatError, ModelError
from caffe_scnn.evaluate.voc.annotation import Annotation, Object
from caffe_scnn.evaluate.voc.average_precision import METRICS, Curve
from caffe_scnn.evaluate.voc.classes import same_class
from caffe_scnn.evaluate.voc.match import RULES, Indices, Matches, Rules, Truths, match
from caffe_scnn.evaluate.voc.results import Detections


@dataclass(frozen=True)
class Measure:
    """How average precision is computed.

    Parameters
    ----------
    metric : {"voc07", "area"}
        Eleven points (VOC 2007 to 2009), or the area under the curve (since 2010).
    rules : {"devkit", "py-faster-rcnn"}
    overlap : float
        The overlap that makes a hit.
    """

    metric: str = "voc07"
    rules: str = "devkit"
    overlap: float = 0.5

    def average_precision(self, curve: Curve) -> float:
        """Return the average precision of a class, from 0 to 1."""
        return METRICS[self.metric](curve, self.assignment)

    @property
    def assignment(self) -> Rules:
        """The rules themselves."""
        return RULES[self.rules]


@dataclass(frozen=True)
class ImageSet:
    """The images of a set and the objects of each class in them.

    Attributes
    ----------
    images : dict
        Id → index, in the order of the set.
    truths : dict
        Class → its objects.
    """

    images: dict[str, int]
    truths: dict[str, Truths]

    @classmethod
    def of(cls, annotations: Iterable[Annotation], classes: Sequence[str]) -> ImageSet:
        """Collect the objects of some classes; those of other classes are left out.

        Parameters
        ----------
        annotations : iterable of Annotation
            One an image.
        classes : sequence of str
            Names; upper and lower case are the same.
        """
        found: dict[str, list[tuple[int, Object]]] = {same_class(name): [] for name in classes}
        images: dict[str, int] = {}
        for index, annotation in enumerate(annotations):
            images[annotation.image] = index
            for item in annotation.objects:
                if (name := same_class(item.name)) in found:
                    found[name].append((index, item))
        return cls(images, {name: _truths(found[same_class(name)]) for name in classes})

    def indices(self, detections: Detections) -> Indices:
        """Return the index of each detection's image.

        Raises
        ------
        FormatError
            An image that is not in the set, with file and line.
        """
        found = np.array([self.images.get(image, -1) for image in detections.images], np.intp)
        strange = np.flatnonzero(found < 0)
        if strange.size:
            at = int(strange[0])
            raise FormatError(
                f'image "{detections.images[at]}" is not among the {len(self.images)} of the set; '
                "are these results of another set?",
                str(detections.path) if detections.path else None,
                detections.lines[at] if detections.lines else None,
            )
        return found


def _truths(found: list[tuple[int, Object]]) -> Truths:
    return Truths(
        np.array([index for index, _ in found], np.intp),
        np.array([item.box for _, item in found], np.float64).reshape(-1, 4),
        np.array([item.difficult for _, item in found], np.bool_),
    )


@dataclass(frozen=True)
class ClassResult:
    """How well one class was found.

    Attributes
    ----------
    name : str
    ap : float or None
        Average precision from 0 to 1; None where the set has no object of the class to find.
    matches : Matches
    curve : Curve or None
        As ``ap``.
    """

    name: str
    ap: float | None
    matches: Matches
    curve: Curve | None


@dataclass(frozen=True)
class Evaluation:
    """Average precision of all classes.

    Attributes
    ----------
    classes : sequence of ClassResult
    measure : Measure
    """

    classes: Sequence[ClassResult]
    measure: Measure

    @property
    def ap(self) -> dict[str, float | None]:
        """Class → average precision from 0 to 1, None where there is nothing to find."""
        return {result.name: result.ap for result in self.classes}

    @property
    def mean(self) -> float:
        """The plain mean over the classes that have objects."""
        return float(np.mean([ap for ap in self.ap.values() if ap is not None]))


def evaluate(
    image_set: ImageSet, results: Mapping[str, Detections], measure: Measure | None = None
) -> Evaluation:
    """Measure detections against the objects of an image set.

    Parameters
    ----------
    image_set : ImageSet
    results : mapping
        Class → detections, for every class of ``image_set``.
    measure : Measure, optional
        None: eleven points, the devkit's rules, overlap 0.5.

    Raises
    ------
    FormatError
        A detection in an image that is not in the set.
    ModelError
        The set has no object of any class.
    """
    measure = measure or Measure()
    if not any(truths.positives for truths in image_set.truths.values()):
        raise ModelError(
            f"no object of {', '.join(image_set.truths)} in the {len(image_set.images)} images: "
            "are the classes named as in the annotations? (--classes)"
        )
    classes = [_class_result(name, image_set, results[name], measure) for name in image_set.truths]
    return Evaluation(classes, measure)


def _class_result(
    name: str, image_set: ImageSet, detections: Detections, measure: Measure
) -> ClassResult:
    matches = match(
        image_set.indices(detections),
        detections.scores,
        detections.boxes,
        image_set.truths[name],
        measure.assignment,
        measure.overlap,
    )
    if not matches.positives:
        return ClassResult(name, None, matches, None)
    curve = Curve.of(matches.hits, matches.false_alarms, matches.positives)
    return ClassResult(name, measure.average_precision(curve), matches, curve)
