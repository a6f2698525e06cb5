"""Spatial bases of every input channel: ``A_i ≈ C_i B_i`` (Liu et al. 2015, step 2).

``A_i`` (n × d) holds the n filters that read channel i, each flattened to d = k_h·k_w taps.
The rows of ``B_i`` (q × d) are its bases, of unit norm; ``C_i`` (n × q) are the coefficients.
Stacks over channels are padded to one q with zero bases.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caffe_scnn.decompose.sparsify import Array, Mask

# Atoms whose component outside the span of the others is smaller than this are replaced: the
# coefficients of nearly parallel atoms would grow without bound and lose float32 digits.
INDEPENDENCE = 0.05


def ranks(filters: Array, energy: float, q: int | None) -> NDArray[np.int64]:
    """Return the number of bases of every channel.

    Parameters
    ----------
    filters : ndarray of shape (channels, n, d)
        The stacked ``A_i``.
    energy : float
        With ``q`` None: the fewest bases that hold this fraction of ``‖A_i‖²``; 1 is full rank.
    q : int or None
        The number itself, cut to the rank of the channel.

    Returns
    -------
    int ndarray of shape (channels,)
        0 for a channel that is all zero.
    """
    spectrum = np.linalg.svd(filters, compute_uv=False)
    tolerance = spectrum[:, :1] * max(filters.shape[1:]) * np.finfo(np.float64).eps
    full = np.count_nonzero(spectrum > tolerance, axis=1)
    if q is not None:
        return np.asarray(np.minimum(full, q))
    power = np.cumsum(spectrum**2, axis=1)
    enough = np.count_nonzero(power < energy * power[:, -1:], axis=1) + 1
    return np.asarray(np.minimum(full, enough) if energy < 1 else full)


def pca_bases(filters: Array, counts: NDArray[np.int64]) -> Array:
    """Uncentred PCA: the leading right singular vectors of every ``A_i``.

    The best bases of their number in the sense of least squares (Eckart-Young), orthonormal.
    Uncentred, because a mean would have to be added back by a term the net does not have.

    Parameters
    ----------
    filters : ndarray of shape (channels, n, d)
        The stacked ``A_i``.
    counts : int ndarray of shape (channels,)
        Bases per channel.

    Returns
    -------
    ndarray of shape (channels, max(1, counts), d)
        Signs are fixed by the largest component, so that they do not depend on the solver.
    """
    _, _, right = np.linalg.svd(filters, full_matrices=False)
    right = right[:, : max(1, counts.max(initial=0))].copy()
    right[np.arange(right.shape[1]) >= counts[:, None]] = 0.0
    peak = np.abs(right).argmax(axis=2)[..., None]
    right *= np.where(np.take_along_axis(right, peak, axis=2) < 0, -1.0, 1.0)
    return right


def dictionary_bases(
    filters: Array, counts: NDArray[np.int64], *, alpha: float, iterations: int, seed: int
) -> Array:
    """Sparse dictionary learning (Mairal et al. 2009), one dictionary per channel.

    Starts from the PCA bases, so that equal seeds and full rank are well defined; atoms that
    learning made (nearly) dependent are replaced by principal directions of what they miss.

    Parameters
    ----------
    filters : ndarray of shape (channels, n, d)
        The stacked ``A_i``.
    counts : int ndarray of shape (channels,)
        Atoms per channel.
    alpha : float
        Weight of the l1 penalty, relative to the root mean square norm of a channel's filters.
    iterations : int
        Passes over a channel's filters.
    seed : int
        Of scikit-learn's random choices.

    Returns
    -------
    ndarray of shape (channels, max(1, counts), d)
        Rows of unit norm.
    """
    start = pca_bases(filters, counts)
    space = pca_bases(filters, ranks(filters, 1.0, None))
    learnt = np.zeros_like(start)
    for i, count in enumerate(counts):
        if count:
            scale = np.sqrt((filters[i] ** 2).sum() / len(filters[i]))
            atoms = _learn(filters[i] / scale, start[i, :count], alpha, iterations, seed)
            # scikit-learn replaces idle atoms by noise, which may leave the filters' space.
            learnt[i, :count] = _independent(atoms @ space[i].T @ space[i], filters[i])
    return learnt


def _learn(filters: Array, start: Array, alpha: float, iterations: int, seed: int) -> Array:
    # scikit-learn takes seconds to import and is needed here only.
    from sklearn.decomposition import MiniBatchDictionaryLearning

    model = MiniBatchDictionaryLearning(
        n_components=len(start),
        alpha=alpha,
        max_iter=iterations,
        batch_size=min(256, len(filters)),
        dict_init=start,
        tol=0.0,  # with max_no_improvement None: all the iterations that were asked for
        max_no_improvement=None,
        random_state=seed,
    )
    return np.asarray(model.fit(filters).components_, np.float64)


def _independent(atoms: Array, filters: Array) -> Array:
    """Return unit atoms, those nearly in the span of the earlier ones replaced."""
    kept: list[Array] = []
    span = np.zeros((0, atoms.shape[1]))
    for atom in atoms:
        norm = np.linalg.norm(atom)
        unit = atom / norm if norm else atom
        outside = unit - unit @ span.T @ span
        if np.linalg.norm(outside) < INDEPENDENCE:
            unit = outside = _principal(filters - filters @ span.T @ span)
        kept.append(unit)
        span = np.vstack([span, outside / np.linalg.norm(outside)])
    return np.array(kept)


def _principal(residual: Array) -> Array:
    """Return the first right singular vector."""
    return np.asarray(np.linalg.svd(residual, full_matrices=False)[2][0])


def pursuit_gains(filters: Array, bases: Array) -> Array:
    """How much squared error each atom removes, for every filter, chosen greedily.

    Order-recursive matching pursuit: each step takes the atom that, together with those taken
    before, lowers the residual most. For orthonormal bases the gains are the squared
    coefficients in any order.

    Parameters
    ----------
    filters : ndarray of shape (n, d)
        One channel's filters.
    bases : ndarray of shape (q, d)
        Its bases.

    Returns
    -------
    ndarray of shape (n, q)
        Gains of the step in which each atom was taken.
    """
    rows = np.arange(len(filters))
    residual = filters.copy()
    atoms = np.repeat(bases[None], len(filters), axis=0)
    gains = np.zeros((len(filters), len(bases)))
    for _ in range(len(bases)):
        norms = np.einsum("nqd,nqd->nq", atoms, atoms)
        scores = np.einsum("nqd,nd->nq", atoms, residual) ** 2 / np.where(norms > 1e-12, norms, 1)
        scores[norms <= 1e-12] = -1.0
        best = scores.argmax(axis=1)
        gains[rows, best] += np.maximum(scores[rows, best], 0.0)
        unit = atoms[rows, best] / np.sqrt(np.maximum(norms[rows, best], 1e-12))[:, None]
        residual -= (residual * unit).sum(axis=1, keepdims=True) * unit
        atoms -= np.einsum("nqd,nd->nq", atoms, unit)[..., None] * unit[:, None]
        atoms[rows, best] = 0.0
    return gains


def solve_on_support(filters: Array, bases: Array, keep: Mask) -> Array:
    """Least-squares coefficients that are zero outside their support.

    Parameters
    ----------
    filters : ndarray of shape (n, d)
        One channel's filters.
    bases : ndarray of shape (q, d)
        Its bases.
    keep : bool ndarray of shape (n, q)
        The support; the bases a row keeps must be independent.

    Returns
    -------
    ndarray of shape (n, q)
        For every row the minimum of ``‖a − c B‖`` over its support.
    """
    gram = bases @ bases.T
    both = keep[:, :, None] & keep[:, None, :]
    systems = np.where(both, gram, 0.0) + np.eye(len(bases)) * ~keep[:, :, None]
    solved = np.linalg.solve(systems, (filters @ bases.T)[..., None])[..., 0]
    return np.where(keep, solved, 0.0)
