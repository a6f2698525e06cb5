"""Builds the one extension module and generates caffe_pb2; all metadata is in pyproject.toml."""

from __future__ import annotations

import os
import sys
from glob import glob
from hashlib import sha256
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
# The debug build (CAFFE_SCNN_DEBUG=1) checks every memory access of the kernels.
DEBUG = os.environ.get("CAFFE_SCNN_DEBUG") == "1"
OPENMP = os.environ.get("CAFFE_SCNN_NO_OPENMP") != "1"


def generate_protobuf() -> None:
    """Write caffe_scnn/proto/caffe_pb2.py and its stub from proto/caffe.proto."""
    from grpc_tools import protoc

    out = ROOT / "caffe_scnn" / "proto"
    status = protoc.main(
        ["protoc", f"-I{ROOT / 'proto'}", f"--python_out={out}", f"--pyi_out={out}", "caffe.proto"]
    )
    if status:
        sys.exit("setup.py: protoc failed on proto/caffe.proto")


class BuildPy(build_py):
    """Generates caffe_pb2 before the Python files are collected."""

    def run(self) -> None:
        """Generate, then build."""
        generate_protobuf()
        super().run()


class BuildExt(build_ext):
    """Generates caffe_pb2 for in-place and editable builds too."""

    def run(self) -> None:
        """Generate, then build."""
        generate_protobuf()
        super().run()


compile_args = ["-std=c11", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-Wall"]
link_args: list[str] = []
compile_args += ["-O1", "-g1", "-fsanitize=address,undefined"] if DEBUG else ["-O3"]
if DEBUG:
    link_args += ["-fsanitize=address,undefined"]
if OPENMP:
    compile_args += ["-fopenmp"]
    link_args += ["-fopenmp"]

sources = sorted(glob("kernels/*"))
# What was measured of the kernels is forgotten when they change.
revision = sha256(b"".join(Path(source).read_bytes() for source in sources)).hexdigest()[:12]

kernels = Extension(
    "caffe_scnn._kernels",
    sources=["caffe_scnn/_kernels.pyx", *sorted(glob("kernels/*.c"))],
    depends=sources,
    define_macros=[("SCNN_REVISION", f'"{revision}"')],
    include_dirs=["kernels"],
    extra_compile_args=compile_args,
    extra_link_args=link_args,
)

setup(
    ext_modules=cythonize(
        [kernels],
        include_path=["kernels"],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "embedsignature": True,
        },
    ),
    cmdclass={"build_py": BuildPy, "build_ext": BuildExt},
)
