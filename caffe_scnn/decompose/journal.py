"""Finished pieces of a compression, kept on disk: after an interruption it goes on from there.

A piece is a dictionary of numbers (what a layer loses and costs at some sizes) or the edits of a
layer. Each is a file that appears whole, named by what it is a function of; pieces of another
net, recipe, set of pictures or version are never taken up, because the folder carries the
identity of what it belongs to.
"""

from __future__ import annotations

import json
import shutil
from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.decompose.base import Edit
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.model.net import Layer
from caffe_scnn.proto import caffe_pb2 as pb

IDENTITY = "identity"
HEAD = "head"


class Journal:
    """Keeps pieces in a folder, or nothing at all.

    Parameters
    ----------
    folder : Path, optional
        Made when the first piece is kept; None: nothing is kept.
    identity : str
        All that the pieces depend on. A folder of another identity is emptied.
    """

    def __init__(self, folder: Path | None = None, identity: str = "") -> None:
        self.folder = folder
        self._identity = identity
        if folder is not None and folder.is_dir() and not self._belongs(folder):
            shutil.rmtree(folder)

    def _belongs(self, folder: Path) -> bool:
        try:
            return (folder / IDENTITY).read_text(encoding="utf-8") == self._identity
        except (OSError, UnicodeDecodeError):
            return False

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        if self.folder is None or not self.folder.is_dir():
            return 0
        return sum(path.suffix in (".json", ".npz") for path in self.folder.iterdir())

    def numbers(self, key: str) -> dict[str, Any] | None:
        """Return the numbers kept under a key; None where there are none."""
        content = self._read(key, ".json")
        return None if content is None else dict(json.loads(content))

    def keep_numbers(self, key: str, numbers: dict[str, Any]) -> None:
        """Keep numbers; floats come back with all their digits."""
        self._write(key, ".json", json.dumps(numbers).encode())

    def edits(self, key: str, layers: Sequence[Layer]) -> list[Edit] | None:
        """Return the edits kept under a key, of these layers; None where there are none."""
        content = self._read(key, ".npz")
        if content is None:
            return None
        with np.load(BytesIO(content)) as arrays:
            known = [blob for layer in layers for blob in layer.blobs]
            fresh = [arrays[f"blob{i}"] for i in range(len(arrays.files) - 1)]
            head = json.loads(arrays[HEAD].tobytes())
        blobs = known + fresh
        return [_edit(entry, layer, blobs) for entry, layer in zip(head, layers, strict=True)]

    def keep_edits(self, key: str, edits: Sequence[Edit]) -> None:
        """Keep edits; blobs that were one array, or the original's own, will be so again."""
        if self.folder is None:
            return
        blobs = [blob for edit in edits for blob in edit.layer.blobs]
        known, places = len(blobs), {id(blob): i for i, blob in enumerate(blobs)}
        for part in (part for edit in edits for part in edit.chain):
            for blob in part.blobs:
                if id(blob) not in places:
                    places[id(blob)] = len(blobs)
                    blobs.append(blob)
        head = json.dumps([_entry(edit, places) for edit in edits]).encode()
        arrays: dict[str, NDArray[Any]] = {f"blob{i}": b for i, b in enumerate(blobs[known:])}
        buffer = BytesIO()
        np.savez(buffer, allow_pickle=False, **{HEAD: np.frombuffer(head, np.uint8)}, **arrays)
        self._write(key, ".npz", buffer.getvalue())

    def discard(self) -> None:
        """Forget everything: the work is done."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, key: str, suffix: str) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / f"{sha256(key.encode()).hexdigest()[:32]}{suffix}"

    def _read(self, key: str, suffix: str) -> bytes | None:
        path = self._path(key, suffix)
        return path.read_bytes() if path is not None and path.exists() else None

    def _write(self, key: str, suffix: str, content: bytes) -> None:
        path = self._path(key, suffix)
        if path is None:
            return
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            with atomic_write(path.parent / IDENTITY) as file:
                file.write(self._identity.encode())
        with atomic_write(path) as file:
            file.write(content)


def _entry(edit: Edit, places: dict[int, int]) -> dict[str, Any]:
    return {
        "weight_error": edit.weight_error,
        "response_error": edit.response_error,
        "chain": [
            {
                "proto": b64encode(part.proto.SerializeToString(deterministic=True)).decode(),
                "blobs": [places[id(blob)] for blob in part.blobs],
                "text": part.source is not None,
            }
            for part in edit.chain
        ],
    }


def _edit(entry: dict[str, Any], layer: Layer, blobs: Sequence[NDArray[Any]]) -> Edit:
    chain = tuple(
        Layer(
            pb.LayerParameter.FromString(b64decode(part["proto"])),
            [blobs[i] for i in part["blobs"]],
            layer.source if part["text"] else None,
        )
        for part in entry["chain"]
    )
    return Edit(layer, chain, entry["weight_error"], entry["response_error"])
