"""A detector on many pictures: one result file a picture, so that a run may be killed and go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caffe_scnn.detect.cascade import Cascade, RunRecord
from caffe_scnn.detect.detector import Running, build
from caffe_scnn.detect.frame import Found
from caffe_scnn.detect.heads import Heads
from caffe_scnn.detect.model_folder import DetectorModel, DetectorSettings
from caffe_scnn.detect.picture import read_picture
from caffe_scnn.detect.proposals import Proposer
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.errors import OutputError
from caffe_scnn.evaluate.voc.results import Detections, write_results
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.model.net import Net
from caffe_scnn.preprocess import Preprocess

BATCH = 16  # pictures that a worker takes at a time
Pictures = Sequence[tuple[str, Path]]
"""Names and paths."""
PackedNet = tuple[str, list[list[Float32]]]
"""A prototxt, and the blobs of each layer."""


@dataclass(frozen=True)
class Job:
    """A detector with its windows and settings; workers get a copy each.

    Parameters
    ----------
    model : DetectorModel
    proposer : Proposer
    running : Running
    settings : dict
        What the detections depend on; a folder holds those of one set of settings.
    """

    model: DetectorModel
    proposer: Proposer
    running: Running
    settings: dict[str, Any]

    def key(self) -> str:
        """Return a short name of the settings."""
        text = json.dumps(self.settings, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Result:
    """What was found in one picture.

    Attributes
    ----------
    name : str
    path : Path
        Of the picture.
    found : Found
    record : RunRecord
    """

    name: str
    path: Path
    found: Found
    record: RunRecord

    def data(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return what JSON holds of it."""
        found = self.found
        rows = zip(found.labels, found.scores, found.boxes, strict=True)
        return {
            "image": self.name,
            "file": str(self.path),
            "detections": [
                {
                    "class": classes[label],
                    "score": float(score),
                    "box": [float(value) for value in box],
                }
                for label, score, box in rows
            ],
            "run": self.record.data(),
        }

    @classmethod
    def of(cls, data: dict[str, Any], classes: Sequence[str]) -> Result:
        """Return the result that :meth:`data` came from."""
        rows = data["detections"]
        number = {name: at for at, name in enumerate(classes)}
        return cls(
            data["image"],
            Path(data["file"]),
            Found(
                np.array([number[row["class"]] for row in rows], np.intp),
                np.full(len(rows), -1, np.intp),
                np.array([row["score"] for row in rows], np.float64),
                np.array([row["box"] for row in rows], np.float64).reshape(-1, 4),
            ),
            RunRecord.of(data["run"]),
        )


def detect_many(job: Job, pictures: Pictures, folder: Path, *, jobs: int = 1) -> Iterator[Result]:
    """Detect objects in pictures, leaving out those that are done already.

    Parameters
    ----------
    job : Job
    pictures : sequence of (name, Path)
        Names must differ: they name the result files.
    folder : Path
        Gets ``<name>.json`` for each.
    jobs : int
        Processes; each runs the detector with ``running.threads`` threads.

    Yields
    ------
    Result
        In the order of ``pictures``.

    Raises
    ------
    OutputError
        The folder holds detections of other settings, or cannot be written.
    FormatError, OSError
        A picture cannot be read, or has no windows in their file.
    """
    _claim(folder, job)
    waiting = [(n, p) for n, p in pictures if not (folder / f"{n}.json").exists()]
    work = _here(job, waiting, folder) if jobs == 1 else _in_processes(job, waiting, folder, jobs)
    for name, _ in pictures:
        while not (folder / f"{name}.json").exists():
            next(work)
        yield _read(folder / f"{name}.json", job)


def _here(job: Job, pictures: Pictures, folder: Path) -> Iterator[None]:
    """Detect in one picture after the other."""
    cascade = build(job.model, job.proposer, job.running)
    for name, path in pictures:
        _one(cascade, job.model.settings.classes, name, path, folder)
        yield


def _in_processes(job: Job, pictures: Pictures, folder: Path, jobs: int) -> Iterator[None]:
    """Detect in one batch of pictures after the other, in several processes."""
    from joblib import Parallel, delayed

    batches = [pictures[at : at + BATCH] for at in range(0, len(pictures), BATCH)]
    sent = _Sent.of(job)
    # Large arrays are written to shared memory once and mapped by all workers.
    run = Parallel(n_jobs=jobs, return_as="generator", max_nbytes="1M")
    found: Iterator[None] = run(delayed(_batch)(sent, batch, folder) for batch in batches)
    return found


def write_voc(
    results: Sequence[Result], classes: Sequence[str], folder: Path, image_set: str, year: int
) -> Path:
    """Write VOC result files, ``results/VOC<year>/Main/comp4_det_<set>_<class>.txt``.

    Returns
    -------
    Path
        Their folder.

    Raises
    ------
    OutputError
        The place cannot be written.
    """
    place = folder / "results" / f"VOC{year}" / "Main"
    with suppress(OSError):  # the message comes from write_results
        place.mkdir(parents=True, exist_ok=True)
    found: dict[str, Detections] = {}
    for label, name in enumerate(classes):
        own = [(result.name, result.found.keep(result.found.labels == label)) for result in results]
        found[name] = Detections(
            [image for image, kept in own for _ in range(len(kept))],
            np.concatenate([np.empty(0), *(kept.scores for _, kept in own)]),
            np.concatenate([np.empty((0, 4)), *(kept.boxes for _, kept in own)]),
        )
    write_results(place, image_set, found)
    return place


def write_run(results: Sequence[Result], settings: dict[str, Any], folder: Path) -> RunRecord:
    """Write ``run.json``: windows and time of every stage, summed over the pictures.

    Raises
    ------
    OutputError
        The place cannot be written.
    """
    total = RunRecord()
    for result in results:
        total.add(result.record)
    with atomic_write(folder / "run.json") as file:
        text = json.dumps({**total.data(), "settings": settings}, indent=1, default=str)
        file.write(f"{text}\n".encode())
    return total


_workers: dict[str, Cascade] = {}  # of this process, by key of the job


@dataclass(frozen=True)
class _Sent:
    """A job as another process gets it: nets are prototxts and arrays."""

    key: str
    settings: DetectorSettings
    preprocess: Preprocess
    heads: Heads
    backbone: PackedNet
    fc: PackedNet | None
    proposer: Proposer
    running: Running

    @classmethod
    def of(cls, job: Job) -> _Sent:
        model = job.model
        return cls(
            job.key(),
            model.settings,
            model.preprocess,
            model.heads,
            _packed(model.backbone),
            None if model.fc is None else _packed(model.fc),
            job.proposer,
            job.running,
        )

    def build(self) -> Cascade:
        fc = None if self.fc is None else _unpacked(self.fc)
        backbone = _unpacked(self.backbone)
        model = DetectorModel(self.settings, backbone, self.preprocess, fc, self.heads)
        return build(model, self.proposer, self.running)


def _packed(net: Net) -> PackedNet:
    return net.text(), [layer.blobs for layer in net]


def _unpacked(packed: PackedNet) -> Net:
    net = Net.parse(packed[0])
    for layer, blobs in zip(net, packed[1], strict=True):
        layer.blobs = list(blobs)
    return net


def _batch(sent: _Sent, pictures: Pictures, folder: Path) -> None:
    """Detect in some pictures, in a process that keeps its detector for the next ones."""
    if sent.key not in _workers:
        _workers.clear()
        _workers[sent.key] = sent.build()
    for name, path in pictures:
        _one(_workers[sent.key], sent.settings.classes, name, path, folder)


def _one(cascade: Cascade, classes: Sequence[str], name: str, path: Path, folder: Path) -> None:
    frame, record = cascade.run(name, read_picture(path))
    assert frame.found is not None
    result = Result(name, path, frame.found, record)
    with atomic_write(folder / f"{name}.json") as file:
        file.write(json.dumps(result.data(classes)).encode())


def _read(path: Path, job: Job) -> Result:
    return Result.of(json.loads(path.read_text(encoding="utf-8")), job.model.settings.classes)


def _claim(folder: Path, job: Job) -> None:
    """Write or compare the settings of the detections in a folder."""
    path = folder / "settings.key"
    if path.exists():
        if path.read_text(encoding="utf-8") == job.key():
            return
        if any(folder.glob("*.json")):
            raise OutputError(
                f"{folder}: holds detections of another model or other settings; choose another "
                "folder, or remove this one"
            )
    with suppress(OSError):  # the message comes from atomic_write
        folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(job.key().encode())
