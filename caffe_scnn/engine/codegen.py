"""The structure of one sparse matrix encoded in a program (Liu 2015, section 4).

A table kernel reads where each weight belongs; here the positions are constants of the program, and
the rows of a block are registers. A vector of pixels is loaded once for all rows of a block that
read it, which no table kernel can do: it cannot pick a register by its number. Weights stay data,
so that one program serves all weights of a pattern.

The generator writes assembler rather than C: a compiler takes a minute for what the assembler does
in half a second, and needs encodings three times as long, which could not be fetched in time.
Programs are kept in the user's cache folder, named by their content.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from caffe_scnn._kernels import Convolution, Program
from caffe_scnn.engine.machine import cache_folder
from caffe_scnn.engine.packing import (
    AHEAD,
    Finish,
    Float32,
    Int64,
    Run,
    Taps,
    block_channels,
    by_row,
    place_vectors,
)
from caffe_scnn.engine.tile import Tile
from caffe_scnn.errors import KernelError
from caffe_scnn.layers.nonzeros import count_nonzeros

MOST_NONZEROS = 400_000  # some 16 bytes of code each
CHUNK = 12_000  # non-zeros whose code and weights stay in the second-level cache over all pixels
DENSEST = 0.4  # fuller matrices had better share offsets between rows
# Of pixels: every one runs the code once, which in a net comes from far at first.
LEAST_VECTORS = 24
SYMBOL = "scnn_program"
# The function of a block is called as (pixels, weights, bias, sums): rdi, rsi, rdx, rcx.
PIXELS, WEIGHTS, BIAS, SUMS = "%rdi", "%rsi", "%rdx", "%rcx"


@dataclass(frozen=True)
class Dialect:
    """How an instruction set spells what a program does.

    Attributes
    ----------
    rows : int
        The most rows of a block, a register each; what is left holds pixels (and a weight).
    lanes : int
    register : str
        Prefix of the registers' names.
    pixels : str
        The register of the pixels.
    reach : int
        Bytes from a pointer that the shortest encoding of a load of pixels can address.
    weights_reach : int
        The same for weights.
    multiply_add : tuple of str
        Adds the weight at ``{at}`` times the pixels to register ``{row}``.
    """

    rows: int
    lanes: int
    register: str
    pixels: str
    reach: int
    weights_reach: int
    multiply_add: tuple[str, ...]


DIALECTS = {
    "avx512": Dialect(
        28, 16, "%zmm", "%zmm31", 127 * 64, 127 * 4,
        (f"vfmadd231ps {{at}}({WEIGHTS}){{{{1to16}}}}, %zmm31, %zmm{{row}}",),
    ),
    "avx2": Dialect(
        14, 8, "%ymm", "%ymm15", 127, 127,
        (f"vbroadcastss {{at}}({WEIGHTS}), %ymm14", "vfmadd231ps %ymm14, %ymm15, %ymm{row}"),
    ),
}  # fmt: skip


def can_program(isa: str, weights: Float32, skip: NDArray[np.bool_] | None, vectors: int) -> bool:
    """Whether a program for this matrix is worth a trial, on so many vectors of pixels."""
    nonzeros = count_nonzeros(weights)
    few = 0 < nonzeros <= min(MOST_NONZEROS, DENSEST * weights.size)
    return few and skip is None and isa in DIALECTS and vectors >= LEAST_VECTORS


def program_tile(isa: str) -> Tile:
    """Return the tile of a program: all rows of a block × one vector of pixels."""
    dialect = DIALECTS[isa]
    return Tile("program", dialect.rows, 1, 1, 0.0, dialect.lanes, "")


def program_convolution(
    isa: str, weights: Float32, taps: Taps, run: Run, finish: Finish, base: int
) -> tuple[Convolution, int]:
    """Make the kernel object of a convolution whose sums a program computes.

    Parameters
    ----------
    isa : str
    weights : float32 ndarray of shape (channels, columns)
        Group after group; columns are those of the group.
    taps, run, finish, base
        As :func:`caffe_scnn.engine.packing.convolution` takes them.

    Returns
    -------
    Convolution, and the bytes of code and weights

    Raises
    ------
    KernelError
        There is no assembler, or it fails.
    """
    dialect = DIALECTS[isa]
    groups = len(taps.offset)
    together = _even(len(weights) // groups, dialect.rows)
    channel = block_channels(weights, groups, together, np.zeros(len(weights), bool))
    program, nbytes = _program(dialect, weights, taps, channel)
    rows = channel.ravel()
    bias = by_row(finish.bias, rows)
    nothing = np.zeros(len(rows) + 1, np.int64)
    empty = (nothing, 0, np.zeros(AHEAD, np.uint16), np.zeros(0, np.float32))
    tasks = max(1, min(len(channel), count_nonzeros(weights) // CHUNK))
    chunk = np.arange(tasks + 1) * len(channel) // tasks * together
    kernel = Convolution(
        isa,
        1,
        1,
        0,
        [empty],
        np.zeros(len(rows), np.float32) if bias is None else bias,
        by_row(finish.slope, rows),
        rows,
        chunk.astype(np.int32),
        place_vectors(run, dialect.lanes),
        base,
        taps.reach,
        finish.low,
        finish.high,
        True,
        program,
    )
    return kernel, nbytes


def _even(rows: int, most: int) -> int:
    """Return the rows of a block if they are dealt evenly: every block pays for all its rows."""
    return -(-rows // -(-rows // most))


def _program(
    dialect: Dialect, weights: Float32, taps: Taps, channel: NDArray[np.int32]
) -> tuple[Program, int]:
    """Write, assemble and load the program of a matrix in blocks of channels."""
    per_group = len(weights) // len(taps.offset)
    blocks = [
        _Block(
            weights[np.maximum(rows, 0)] * (rows >= 0)[:, None], taps.offset[rows[0] // per_group]
        )
        for rows in channel
    ]
    path = _assembled("\n".join(_assembler(dialect, blocks)) + "\n")
    values = [block.values() for block in blocks]
    start = np.cumsum([0, *(len(value) for value in values)])[:-1].astype(np.int64)
    library = ctypes.CDLL(str(path))
    address = ctypes.addressof(ctypes.c_char.in_dll(library, SYMBOL))
    program = Program(library, address, channel.shape[1], start, np.concatenate(values))
    return program, path.stat().st_size + sum(value.nbytes for value in values)


@dataclass(frozen=True)
class _Block:
    """Rows of a matrix that run together, and the offsets of its columns."""

    weights: Float32
    offset: Int64

    def columns(self) -> Int64:
        return np.flatnonzero(self.weights.any(axis=0))

    def values(self) -> Float32:
        """Return the non-zeros in the order of the program: column after column."""
        by_column = self.weights.T
        return np.ascontiguousarray(by_column[by_column != 0])


def _assembler(dialect: Dialect, blocks: list[_Block]) -> Iterator[str]:
    """Write a function for each block, and a table of them."""
    yield ".text"
    for number, block in enumerate(blocks):
        yield f"b{number}:"
        yield from _function(dialect, block)
    yield f'.section .data.rel.ro,"aw"\n.balign 8\n.globl {SYMBOL}\n{SYMBOL}:'
    for number in range(len(blocks)):
        yield f".quad b{number}"
    yield '.section .note.GNU-stack,"",@progbits'


def _function(dialect: Dialect, block: _Block) -> Iterator[str]:
    """Add up the rows of a block: bias, then every non-zero, column after column."""
    name, rows = dialect.register, range(len(block.weights))
    for row in rows:
        yield f"vbroadcastss {4 * row}({BIAS}), {name}{row}"
    pixels = weights = 0  # how far the pointers have moved
    at = 0
    for column in block.columns():
        offset = 4 * int(block.offset[column])
        if not 0 <= offset - pixels <= dialect.reach:
            yield f"add ${offset - pixels}, {PIXELS}"
            pixels = offset
        yield f"vmovups {offset - pixels}({PIXELS}), {dialect.pixels}"
        for row in np.flatnonzero(block.weights[:, column]).tolist():
            if at - weights > dialect.weights_reach:
                yield f"add ${at - weights}, {WEIGHTS}"
                weights = at
            for line in dialect.multiply_add:
                yield line.format(at=at - weights, row=row)
            at += 4
    for row in rows:
        yield f"vmovups {name}{row}, {4 * dialect.lanes * row}({SUMS})"
    yield "ret"


def _assembled(text: str) -> Path:
    """Return the shared library of a program, from the cache where it is known."""
    folder = cache_folder() / "programs"
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.so"
    if path.exists():
        return path
    command = _compiler()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as scratch:
            source, made = Path(scratch, "program.s"), Path(scratch, "program.so")
            source.write_text(text)
            call = [*command, "-shared", "-nostdlib", "-o", str(made), str(source)]
            result = subprocess.run(call, capture_output=True, text=True, check=False)
            if result.returncode:
                raise KernelError(f"{shlex.join(call)} failed: {result.stderr.strip()[:500]}")
            os.replace(made, path)
    except OSError as error:
        raise KernelError(f"no program can be made in {folder}: {error}") from error
    return path


def _compiler() -> list[str]:
    """Return the command that assembles and links."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise KernelError("programs are made for Linux on x86-64 only; leave codegen off")
    command = shlex.split(os.environ.get("CC", "cc"))
    if not command or shutil.which(command[0]) is None:
        raise KernelError(
            f"codegen needs a C compiler, and {command or ['$CC']} is not installed; "
            "install gcc or clang, set CC, or leave codegen off"
        )
    return command
