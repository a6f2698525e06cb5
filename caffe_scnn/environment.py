"""What the machine and the installation offer: instruction sets, kernels, threads, versions."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import caffe_scnn
from caffe_scnn import _kernels

PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "protobuf",
    "opencv-contrib-python-headless",
    "click",
    "rich",
)


@dataclass(frozen=True)
class Environment:
    """What was found.

    Attributes
    ----------
    version, python : str
    isas : tuple of str
        Instruction sets this processor has, best first.
    isa : str
        The one in use: the best, unless CAFFE_SCNN_ISA caps it.
    kernels : dict
        Instruction set → operation → names of the kernels.
    openmp : bool
        Was the extension built with OpenMP?
    processors : int
        Threads that OpenMP would use.
    blas : tuple of dict
        BLAS libraries in this process, as threadpoolctl reports them.
    packages : dict
        Package → version.
    """

    version: str
    python: str
    isas: tuple[str, ...]
    isa: str
    kernels: dict[str, dict[str, list[str]]]
    openmp: bool
    processors: int
    blas: tuple[dict[str, Any], ...]
    packages: dict[str, str]


def inspect_environment() -> Environment:
    """Look around.

    Raises
    ------
    KernelError
        CAFFE_SCNN_ISA names an unknown or absent instruction set.
    """
    import scipy.linalg  # noqa: F401  (loads its own BLAS, which is to be listed)
    import threadpoolctl

    return Environment(
        version=caffe_scnn.__version__,
        python=platform.python_version(),
        isas=(*(["amx"] if _kernels.has_amx("amx") else []), *_kernels.isas()),
        isa="amx" if _kernels.has_amx() else _kernels.best_isa(),
        kernels=_kernels_by_isa(),
        openmp=_kernels.openmp(),
        processors=_kernels.processors(),
        blas=tuple(
            library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"
        ),
        packages={name: _version(name) for name in PACKAGES},
    )


def _kernels_by_isa() -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = {}
    for name, operation, isa, *_ in _kernels.kernels():
        found.setdefault(isa, {}).setdefault(operation, []).append(name)
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"
