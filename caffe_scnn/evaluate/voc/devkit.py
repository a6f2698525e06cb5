"""The folders of a VOCdevkit: image sets, annotations, pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.labels import read_lines
from caffe_scnn.evaluate.voc.annotation import Annotation, read_annotation

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


@dataclass(frozen=True)
class Devkit:
    """One year's folder of a VOCdevkit.

    Parameters
    ----------
    folder : Path
        The folder with ``Annotations``, ``ImageSets`` and ``JPEGImages``: ``VOCdevkit/VOC2007``.
    year : int
        2007 for ``VOC2007``.
    """

    folder: Path
    year: int

    @classmethod
    def open(cls, path: Path, year: int | None = None) -> Devkit:
        """Find a year's folder.

        Parameters
        ----------
        path : Path
            A VOCdevkit, or the folder of one year.
        year : int, optional
            Needed where a VOCdevkit holds several years.

        Raises
        ------
        FormatError
            No folder ``VOC<year>``, several of them and no year, or another year's folder.
        """
        own = re.fullmatch(r"VOC(\d{4})", path.resolve().name)
        if own and not any(path.glob("VOC[0-9][0-9][0-9][0-9]")):
            found = {int(own[1]): path}
        else:
            folders = [f for f in sorted(path.glob("VOC*")) if re.fullmatch(r"VOC\d{4}", f.name)]
            found = {int(folder.name[3:]): folder for folder in folders}
        years = ", ".join(map(str, found)) or "none"
        if year is None and len(found) == 1:
            year = next(iter(found))
        if year is None or year not in found:
            wanted = "VOC<year>" if year is None else f"VOC{year}"
            raise FormatError(
                f"one folder {wanted} is wanted here (years found: {years}); give the VOCdevkit "
                "and --year",
                str(path),
            )
        return cls(found[year], year)

    def image_set_path(self, image_set: str) -> Path:
        """Return ``ImageSets/Main/<set>.txt``."""
        return self.folder / "ImageSets" / "Main" / f"{image_set}.txt"

    def image_ids(self, image_set: str) -> list[str]:
        """Read the ids of an image set, in its order: ``train``, ``val``, ``trainval``, ``test``.

        Raises
        ------
        FormatError
            No such set, an id twice, a line that is no id, or no id at all.
        """
        return [image for image, _ in self._lines(image_set)]

    def labels(self, name: str, image_set: str) -> dict[str, int]:
        """Read ``<class>_<set>.txt``: whether the pictures of a set show a class.

        Returns
        -------
        dict
            Id → 1 (shown), 0 (only difficult ones) or -1 (not shown).

        Raises
        ------
        FormatError
            No such file, or a line that is no id and label.
        """
        path = self.image_set_path(f"{name}_{image_set}")
        labels = {}
        for number, words in self._words(path):
            if len(words) != 2 or words[1] not in ("1", "+1", "0", "-1"):
                raise FormatError(
                    f'each line is an id and -1, 0 or 1, not "{" ".join(words)}"', str(path), number
                )
            labels[words[0]] = int(words[1])
        return labels

    def annotation_path(self, image: str) -> Path:
        """Return ``Annotations/<id>.xml``."""
        return self.folder / "Annotations" / f"{image}.xml"

    def annotations(self, image_set: str) -> Iterator[Annotation]:
        """Read the annotations of an image set, one after the other.

        Raises
        ------
        FormatError
            As :meth:`image_ids` and :func:`read_annotation`; or there is no annotation of an id.
        """
        for image, number in self._lines(image_set):
            path = self.annotation_path(image)
            if not path.is_file():
                raise FormatError(
                    f'the set names image "{image}", but there is no {path}',
                    str(self.image_set_path(image_set)),
                    number,
                )
            yield read_annotation(path)

    def picture_path(self, image: str) -> Path:
        """Return ``JPEGImages/<id>.jpg``; sets made at home have other suffixes too.

        Raises
        ------
        FormatError
            No picture of that id.
        """
        folder = self.folder / "JPEGImages"
        for suffix in PICTURE_SUFFIXES:
            path = folder / f"{image}{suffix}"
            if path.is_file():
                return path
        raise FormatError(f'no picture of image "{image}" here', str(folder))

    def _lines(self, image_set: str) -> Iterator[tuple[str, int]]:
        path = self.image_set_path(image_set)
        first: dict[str, int] = {}
        for number, words in self._words(path):
            image = words[0]
            if len(words) > 2 or "/" in image:
                raise FormatError(
                    f'each line is the id of an image, not "{" ".join(words)}"', str(path), number
                )
            if image in first:
                raise FormatError(
                    f'image "{image}" stands on line {first[image]} already', str(path), number
                )
            first[image] = number
            yield image, number
        if not first:
            raise FormatError("the image set is empty", str(path))

    def _words(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        if not path.is_file():
            known = ", ".join(self._known_sets()) or "none"
            raise FormatError(f"no such image set; sets here: {known}", str(path))
        for number, line in enumerate(read_lines(path), start=1):
            if line.strip():
                yield number, line.split()

    def _known_sets(self) -> list[str]:
        """Names of the sets of ids; those of one class (``cat_test``) would be a long list."""
        names = sorted(path.stem for path in self.image_set_path("x").parent.glob("*.txt"))
        return [name for name in names if not any(name.endswith(f"_{other}") for other in names)]
