"""What trains in pycaffe and is refused here, each with the same advice."""

from __future__ import annotations

from typing import Any, NoReturn

ADVICE = (
    "caffe_scnn runs nets forward only; train with Caffe itself (caffe train --solver=...) or "
    "another framework, and load the resulting .caffemodel here"
)


def refuse_training(what: str) -> NotImplementedError:
    """Return the error for a call that needs gradients or a solver; the caller raises it."""
    return NotImplementedError(f"{what}: {ADVICE}")


class _Refused:
    """A solver class by its name: making one is refused."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        raise refuse_training(type(self).__name__)


class SGDSolver(_Refused):
    """Stochastic gradient descent: refused."""


class NesterovSolver(_Refused):
    """Nesterov's accelerated gradient: refused."""


class AdaGradSolver(_Refused):
    """AdaGrad: refused."""


class RMSPropSolver(_Refused):
    """RMSProp: refused."""


class AdaDeltaSolver(_Refused):
    """AdaDelta: refused."""


class AdamSolver(_Refused):
    """Adam: refused."""


def get_solver(filename: str) -> NoReturn:
    """Refuse to make the solver of a file."""
    raise refuse_training(f"get_solver({filename!r})")
