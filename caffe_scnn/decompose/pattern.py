"""Which weights are kept or dropped together."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from caffe_scnn.decompose.base import require
from caffe_scnn.decompose.sparsify import Array, Mask, largest


@dataclass(frozen=True)
class Pattern:
    """Single weights, blocks over output channels, or N of every M inputs.

    Attributes
    ----------
    block : int
        Weights of this many neighbouring output channels on one input go together.
    n, m : int
        At most n of m neighbouring inputs of an output channel are kept; 0: any number.
    """

    block: int = 1
    n: int = 0
    m: int = 0

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read ``4x1`` (blocks of four output channels) or ``2:4``.

        Raises
        ------
        CaffeScnnError
            Neither.
        """
        blocks = re.fullmatch(r"(\d{1,3})x1", text)
        if blocks and int(blocks[1]):
            return cls(block=int(blocks[1]))
        some = re.fullmatch(r"(\d{1,3}):(\d{1,3})", text)
        require(
            some is not None and 0 < int(some[1]) < int(some[2]),
            f'a pattern is B x 1 as in "4x1" (output channels in a block), or N:M as in "2:4" '
            f'(inputs kept of neighbouring ones), not "{text}"',
        )
        assert some is not None
        return cls(n=int(some[1]), m=int(some[2]))

    def largest(self, weights: Array, count: int) -> Mask:
        """Mark the (about) ``count`` weights that matter most by their squares.

        Parameters
        ----------
        weights : ndarray of shape (n, d)
        count : int
            Never exceeded.
        """
        if self.m:
            return self._some_of_many(weights, count)
        if self.block == 1:
            return largest(np.square(weights).ravel(), count).reshape(weights.shape)
        return self._blocks(np.square(weights), count)

    def _blocks(self, squares: Array, count: int) -> Mask:
        n, d = squares.shape
        padded = np.pad(squares, ((0, -n % self.block), (0, 0)))
        energy = padded.reshape(-1, self.block, d).sum(axis=1)
        chosen = largest(energy.ravel(), count // self.block).reshape(energy.shape)
        return np.repeat(chosen, self.block, axis=0)[:n]

    def _some_of_many(self, weights: Array, count: int) -> Mask:
        n, d = weights.shape
        squares = np.pad(np.square(weights), ((0, 0), (0, -d % self.m)))
        parts = squares.reshape(n, -1, self.m)
        order = np.argsort(np.argsort(-parts, axis=2, kind="stable"), axis=2)
        allowed = np.where(order < self.n, parts, 0.0).reshape(n, -1)[:, :d]
        return largest(allowed.ravel(), count).reshape(n, d)
