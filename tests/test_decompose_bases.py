"""Bases of channels: optimality of PCA, full rank of dictionaries, gains and least squares."""

import numpy as np
import pytest

from caffe_scnn.decompose.bases import (
    INDEPENDENCE,
    dictionary_bases,
    pca_bases,
    pursuit_gains,
    ranks,
    solve_on_support,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def filters(rng):
    """Four channels of 20 filters with 9 taps: full rank, rank 2, all zero, one filter only."""
    stack = rng.standard_normal((4, 20, 9))
    stack[1] = rng.standard_normal((20, 2)) @ rng.standard_normal((2, 9))
    stack[2] = 0
    stack[3, 1:] = 0
    return stack


def learn(filters, counts, *, seed=0, alpha=0.1, iterations=5):
    return dictionary_bases(filters, counts, alpha=alpha, iterations=iterations, seed=seed)


def residual(filters, bases):
    return np.linalg.norm(filters - filters @ np.linalg.pinv(bases) @ bases, axis=(1, 2))


def test_full_rank_is_the_rank_of_each_channel(filters):
    assert ranks(filters, 1.0, None).tolist() == [9, 2, 0, 1]


def test_a_given_q_is_cut_to_the_rank(filters):
    assert ranks(filters, 1.0, 5).tolist() == [5, 2, 0, 1]


@pytest.mark.parametrize("energy", [0.3, 0.7, 0.99])
def test_energy_gives_the_fewest_bases_that_hold_it(filters, energy):
    for channel, q in zip(filters, ranks(filters, energy, None), strict=True):
        power = np.linalg.svd(channel, compute_uv=False) ** 2
        assert power[:q].sum() >= energy * power.sum()
        assert q == 0 or power[: q - 1].sum() < energy * power.sum()


@pytest.mark.parametrize("q", [1, 3, 8])
def test_pca_reaches_the_least_possible_error(filters, q):
    bases = pca_bases(filters, ranks(filters, 1.0, q))
    tails = np.linalg.svd(filters, compute_uv=False)[:, q:]
    np.testing.assert_allclose(
        residual(filters, bases), np.sqrt((tails**2).sum(axis=1)), rtol=1e-12, atol=1e-13
    )


def test_pca_bases_are_orthonormal_and_the_missing_ones_zero(filters):
    counts = ranks(filters, 1.0, None)
    for bases, q in zip(pca_bases(filters, counts), counts, strict=True):
        np.testing.assert_allclose(bases[:q] @ bases[:q].T, np.eye(q), atol=1e-14)
        assert not bases[q:].any()


def test_the_sign_of_a_basis_does_not_depend_on_the_solver(filters):
    counts = ranks(filters, 1.0, None)
    np.testing.assert_allclose(pca_bases(-filters, counts), pca_bases(filters, counts), atol=1e-10)


@pytest.mark.parametrize("alpha", [0.1, 2.0])
def test_a_dictionary_of_full_rank_spans_every_channel(filters, rng, alpha):
    """A strong penalty leaves atoms of weak directions idle; scikit-learn fills in noise."""
    filters[0] *= 2.0 ** -np.arange(9)
    filters[3] = rng.standard_normal((20, 4)) * 4.0 ** -np.arange(4) @ rng.standard_normal((4, 9))
    bases = learn(filters, ranks(filters, 1.0, None), alpha=alpha, iterations=20)
    assert residual(filters, bases).max() < 1e-13 * np.linalg.norm(filters)


@pytest.mark.parametrize("alpha", [0.1, 2.0])
def test_atoms_are_far_from_the_span_of_those_before(filters, alpha):
    filters[0] = filters[0, :1] + 1e-3 * filters[0]
    for atoms in learn(filters, ranks(filters, 1.0, None), alpha=alpha, iterations=20):
        atoms = atoms[atoms.any(axis=1)]
        outside = np.abs(np.diag(np.linalg.qr(atoms.T).R))
        assert (outside >= INDEPENDENCE * (1 - 1e-9)).all()


def test_atoms_have_unit_norm(filters):
    counts = ranks(filters, 1.0, 4)
    norms = np.linalg.norm(learn(filters, counts), axis=2)
    np.testing.assert_allclose(norms, np.arange(4) < counts[:, None], atol=1e-14)


def test_learning_changes_the_atoms_and_lowers_the_sparse_error(rng):
    """Filters made of two of six skew atoms each: a dictionary can find them, PCA cannot."""
    atoms = rng.standard_normal((6, 9))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    codes = rng.standard_normal((300, 6)) * (rng.random((300, 6)) < 0.25)
    filters = (codes @ atoms)[None]
    counts = np.array([6])
    best_two = [
        np.sort(pursuit_gains(filters[0], bases[0]), axis=1)[:, -2:].sum()
        for bases in (pca_bases(filters, counts), learn(filters, counts, alpha=0.3, iterations=50))
    ]
    assert best_two[1] > 1.05 * best_two[0]


def test_a_seed_fixes_the_dictionary(filters):
    counts = ranks(filters, 1.0, None)
    assert np.array_equal(learn(filters, counts, seed=3), learn(filters, counts, seed=3))


def test_gains_on_orthonormal_bases_are_squared_coefficients(filters):
    bases = pca_bases(filters[:1], np.array([9]))[0]
    gains = pursuit_gains(filters[0], bases)
    np.testing.assert_allclose(gains, (filters[0] @ bases.T) ** 2, atol=1e-12)


def test_gains_on_skew_atoms_add_up_to_what_they_explain(filters, rng):
    atoms = rng.standard_normal((5, 9))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    explained = filters[0] @ np.linalg.pinv(atoms) @ atoms
    gains = pursuit_gains(filters[0], atoms)
    np.testing.assert_allclose(gains.sum(axis=1), (explained**2).sum(axis=1), rtol=1e-10)


def test_the_first_atom_taken_is_the_best_single_one(rng):
    atoms = np.eye(3)[:2] + 0.4 * np.eye(3)[1:][::-1]
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    filters = rng.standard_normal((50, 3))
    alone = (filters @ atoms.T) ** 2
    best = alone.argmax(axis=1)
    gains = pursuit_gains(filters, atoms)
    rows = np.arange(50)
    np.testing.assert_allclose(gains[rows, best], alone[rows, best], rtol=1e-12)


def test_least_squares_keeps_the_support_and_is_optimal(filters, rng):
    atoms = rng.standard_normal((5, 9))
    keep = rng.random((20, 5)) < 0.5
    solved = solve_on_support(filters[0], atoms, keep)
    assert not solved[~keep].any()
    for row, support, target in zip(solved, keep, filters[0], strict=True):
        wanted = np.linalg.lstsq(atoms[support].T, target, rcond=None)[0]
        np.testing.assert_allclose(row[support], wanted, rtol=1e-9, atol=1e-11)
