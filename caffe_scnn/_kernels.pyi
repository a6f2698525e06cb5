"""Types of the extension module; ``_kernels.pyx`` documents it."""

from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Store = tuple[
    NDArray[np.uint32], bool, int, Int32, Int32, Int32, NDArray[np.uint32], NDArray[np.uint8]
]

def isas() -> list[str]: ...
def best_isa(cap: str | None = None) -> str: ...
def has_amx(cap: str | None = None) -> bool: ...
def kernels() -> list[tuple[str, str, str, int, int, int]]: ...
def revision() -> str: ...
def openmp() -> bool: ...
def processors() -> int: ...

@final
class FlushToZero:
    def __init__(self, threads: int) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *failure: object) -> None: ...

@final
class Planes:
    at: int
    channels: int
    height: int
    width: int
    pitch: int
    lead: int
    plane: int
    item: int
    def __init__(
        self,
        at: int,
        channels: int,
        height: int,
        width: int,
        pitch: int,
        lead: int,
        plane: int,
        item: int | None = None,
    ) -> None: ...
    def end(self, items: int) -> int: ...

@final
class Phases:
    def __init__(
        self,
        isa: str,
        offsets: Int32,
        stride: tuple[int, int],
        pad: tuple[int, int],
        rows: int,
        columns: int,
        plane: int,
    ) -> None: ...
    def run(
        self,
        memory: Float32,
        src: Planes,
        target: Float32,
        dst: Planes,
        items: int,
        threads: int,
        row: int = 0,
    ) -> None: ...

class Program:
    def __init__(
        self, owner: object, address: int, rows: int, start: Int64, value: Float32
    ) -> None: ...

class Convolution:
    def __init__(
        self,
        isa: str,
        rows: int,
        vectors: int,
        unit: int,
        parts: list[tuple[Int64, int, NDArray[Any], Float32]],
        bias: Float32,
        slope: Float32 | None,
        channel: Int32,
        chunk: Int32,
        store: Store,
        base: int,
        reach: int,
        low: float,
        high: float,
        blocks_first: bool,
        program: Program | None = None,
    ) -> None: ...
    def bind(
        self,
        memory: Float32,
        src: Planes,
        target: Float32,
        dst: Planes,
        residual: Planes | None,
        items: int,
        threads: int,
        halo: bool = True,
    ) -> Callable[[], None]: ...

class PanelConvolution:
    def __init__(
        self,
        isa: str,
        rows: int,
        columns: int,
        unit: int,
        parts: list[tuple[Int64, int, NDArray[Any], Float32]],
        bias: Float32,
        slope: Float32 | None,
        channel: Int32,
        chunk: Int32,
        low: float,
        high: float,
        group: Int32,
        source: Int64,
        bound: Int32,
        start: Int64,
        beyond: Int32,
        across: Int32,
        bands: int,
        height: int,
        width: int,
        pitch: int,
        base: int,
        share_tiles: bool,
    ) -> None: ...
    def bind(
        self,
        memory: Float32,
        src: Planes,
        target: Float32,
        dst: Planes,
        residual: Planes | None,
        items: int,
        threads: int,
        halo: bool = True,
    ) -> Callable[[], None]: ...

class DenseConvolution:
    def __init__(
        self,
        isa: str,
        pixels: int,
        vectors: int,
        start: Int64,
        offset: Int32,
        weight: Float32,
        bias: Float32,
        slope: Float32 | None,
        channel: Int32,
        base: int,
        low: float,
        high: float,
    ) -> None: ...
    def bind(
        self,
        memory: Float32,
        src: Planes,
        target: Float32,
        dst: Planes,
        residual: Planes | None,
        items: int,
        threads: int,
        halo: bool = True,
    ) -> Callable[[], None]: ...

class Bf16Convolution:
    def __init__(
        self,
        parts: int,
        offset: Int32,
        shift: Int32,
        steps: int,
        weight: NDArray[np.uint16],
        row: Int64,
        source: Int32,
        bias: Float32,
        slope: Float32 | None,
        channel: Int32,
        store: Store,
        base: int,
        band: int,
        pitch: int,
        scratch: int,
        low: float,
        high: float,
    ) -> None: ...
    def bind(
        self,
        memory: Float32,
        src: Planes,
        target: Float32,
        dst: Planes,
        residual: Planes | None,
        items: int,
        threads: int,
        halo: bool = True,
    ) -> Callable[[], None]: ...

class Winograd:
    def __init__(
        self,
        isa: str,
        m: int,
        tiles_y: int,
        tiles_x: int,
        rows: int,
        pad: Sequence[int],
        bias: Float32 | None,
        slope: Float32 | None,
        low: float,
        high: float,
    ) -> None: ...
    def scatter(
        self,
        memory: Float32,
        src: Planes,
        target: Float32,
        dst: Planes,
        first: int,
        last: int,
        items: int,
        threads: int,
    ) -> None: ...
    def gather(
        self,
        memory: Float32,
        src: Planes,
        target: Float32,
        dst: Planes,
        residual: Planes | None,
        first: int,
        last: int,
        items: int,
        threads: int,
    ) -> None: ...

class Depthwise:
    def __init__(
        self,
        isa: str,
        weights: Float32,
        bias: Float32 | None,
        slope: Float32 | None,
        stride: tuple[int, int],
        dilation: tuple[int, int],
        pad: tuple[int, int],
        low: float,
        high: float,
    ) -> None: ...
    def bind(
        self,
        arena: Float32,
        src: Planes,
        dst: Planes,
        items: int,
        threads: int,
        halo: bool = True,
    ) -> Callable[[], None]: ...

@final
class Gemv:
    def __init__(
        self, isa: str, w: Float32, bias: Float32 | None, x: Float32, y: Float32, threads: int
    ) -> None: ...
    def __call__(self) -> None: ...

def spmv(
    isa: str,
    start: Int64,
    column: NDArray[np.uint16],
    value: Float32,
    bias: Float32 | None,
    x: Float32,
    y: Float32,
    threads: int,
) -> None: ...
def window_counts(w: Float32, columns: int) -> NDArray[np.int32]: ...
def split_rows(
    w: Float32, counts: NDArray[np.int32], steps: NDArray[np.uint8], columns: int
) -> tuple[NDArray[np.uint8], Float32, Int64, NDArray[np.uint16], Float32]: ...

class Ell:
    def __init__(
        self,
        isa: str,
        steps: NDArray[np.uint8],
        column: NDArray[np.uint8],
        value: Float32,
        columns: int,
    ) -> None: ...
    def run(self, bias: Float32 | None, x: Float32, y: Float32, threads: int) -> None: ...

@final
class Pooling:
    def __init__(
        self,
        isa: str,
        method: str,
        arena: Float32,
        src: Planes,
        dst: Planes,
        kernel: Sequence[int],
        stride: Sequence[int],
        pad: Sequence[int],
        items: int,
        scratch: Float32,
        threads: int,
        halo: bool = True,
    ) -> None: ...
    def __call__(self) -> None: ...

def lrn(
    isa: str,
    arena: Float32,
    src: Planes,
    dst: Planes,
    local_size: int,
    alpha: float,
    beta: float,
    k: float,
    items: int,
    threads: int,
) -> None: ...
def lrn_within(
    isa: str,
    arena: Float32,
    src: Planes,
    dst: Planes,
    half: int,
    share: float,
    beta: float,
    items: int,
    scratch: Float32,
    threads: int,
) -> None: ...

@final
class Softmax:
    def __init__(
        self, isa: str, arena: Float32, src: Planes, dst: Planes, size: int, threads: int
    ) -> None: ...
    def __call__(self) -> None: ...

def affine(
    isa: str,
    arena: Float32,
    src: Planes,
    dst: Planes,
    scale: Float32,
    shift: Float32,
    slope: Float32,
    low: float,
    high: float,
    items: int,
    threads: int,
) -> None: ...
def binary(
    isa: str,
    op: int,
    arena: Float32,
    a: Planes,
    b: Planes,
    dst: Planes,
    ca: float,
    cb: float,
    low: float,
    high: float,
    items: int,
    threads: int,
) -> None: ...
def spp(
    isa: str,
    maps: Float32,
    channels: int,
    bins: Int32,
    source: Int32,
    at: Int64,
    bounds: Int32,
    index: Int64,
    lowest: float,
    out: Float32,
    threads: int,
) -> None: ...
def clear_rows(arena: Float32, planes: Planes, first: int, count: int) -> None: ...
def slide_rows(arena: Float32, planes: Planes, first: int, count: int, threads: int) -> None: ...

@final
class Feed:
    def __init__(self, isa: str, arena: Float32, dst: Planes, items: int, threads: int) -> None: ...
    def __call__(self, values: Float32) -> None: ...

def clear_halo(arena: Float32, dst: Planes, items: int, threads: int) -> None: ...
