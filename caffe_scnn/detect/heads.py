"""What a detector has learnt on top of its features: classifiers, regression, rejection."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffe_scnn.detect.regression import BoxRegression
from caffe_scnn.detect.rejector import SHAPE_FEATURES, Rejector
from caffe_scnn.engine.tensor import Float32
from caffe_scnn.errors import FormatError, ModelError
from caffe_scnn.model.atomic import atomic_write


@dataclass(frozen=True)
class Heads:
    """Learnt arrays; see ``heads.npz`` in ``docs/detection.md``.

    Parameters
    ----------
    weights : float32 ndarray of shape (classes, values)
        Of the classifiers; values are those of the fc net's output, or pooled ones.
    bias : float32 ndarray of shape (classes,)
    regression : BoxRegression, optional
        On pooled features.
    rejector : Rejector, optional
    """

    weights: Float32
    bias: Float32
    regression: BoxRegression | None = None
    rejector: Rejector | None = None

    def write(self, path: Path) -> None:
        """Write ``heads.npz``.

        Raises
        ------
        OutputError
            The place cannot be written.
        """
        arrays = {"weights": self.weights, "bias": self.bias}
        if self.regression is not None:
            arrays["regression_weights"] = self.regression.weights
            arrays["regression_bias"] = self.regression.bias
        if self.rejector is not None:
            arrays["rejector_weights"] = self.rejector.weights
            arrays["rejector_bias"] = self.rejector.bias
        with atomic_write(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path) -> Heads:
        """Read ``heads.npz``.

        Raises
        ------
        FormatError
            Not such a file, or an array is missing.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: np.ascontiguousarray(file[name], np.float32) for name in file}
            return cls(
                arrays["weights"],
                arrays["bias"],
                BoxRegression(arrays["regression_weights"], arrays["regression_bias"])
                if "regression_weights" in arrays
                else None,
                Rejector(arrays["rejector_weights"], arrays["rejector_bias"])
                if "rejector_weights" in arrays
                else None,
            )
        except KeyError as error:
            raise FormatError(f"has no array {error}; see detect-train", str(path)) from error
        except (ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise FormatError(f"not the heads of a detector: {error}", str(path)) from error

    def check(
        self, classes: int, background: bool, values: int, pooled: int, coarse: int, path: Path
    ) -> None:
        """Compare shapes with what the detector computes.

        Parameters
        ----------
        background : bool
            A row of the weights is the background's.
        classes, values, pooled, coarse : int
            Number of classes; lengths of the classified, the pooled and the coarse features.
        path : Path
            For messages.

        Raises
        ------
        ModelError
            An array has another shape.
        """
        wanted: dict[str, tuple[Float32, tuple[int, ...]]] = {
            "weights": (self.weights, (classes + background, values)),
            "bias": (self.bias, (classes + background,)),
        }
        if self.regression is not None:
            wanted["regression_weights"] = (self.regression.weights, (classes, 4, pooled))
            wanted["regression_bias"] = (self.regression.bias, (classes, 4))
        if self.rejector is not None:
            rejector = self.rejector
            shape = (len(rejector.bias), coarse + SHAPE_FEATURES)
            wanted["rejector_weights"] = (rejector.weights, shape)
        for name, (array, expected) in wanted.items():
            if array.shape != expected:
                raise ModelError(
                    f"{path}: {name} has the shape {array.shape}, the detector's nets and settings "
                    f"need {expected}; was one of its files replaced?"
                )
