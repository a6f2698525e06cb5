"""Proximal operators: against a convex solver, closed forms and the conditions of optimality."""

from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: the extra `train`")

from caffe_scnn.finetune import proximal  # noqa: E402
from caffe_scnn.finetune.proximal import GroupPenalty  # noqa: E402

ROWS, COLUMNS = (1,), (0,)


def draw(seed, shape=(3, 4)):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape))


def solve(values, l1, penalties):
    """The prox by projected gradients on the dual, all families at once.

    x = v − Σ ξ with ξ = argmin ‖v − Σ ξ‖²: one ξ for the l1 norm, in a box, and one for each
    family of groups, in balls.
    """
    v = values.numpy()
    duals = np.zeros((1 + len(penalties), *v.shape))
    for _ in range(5000):
        duals += (v - duals.sum(0)) / len(duals)
        duals[0] = duals[0].clip(-l1, l1)
        for dual, penalty in zip(duals[1:], penalties, strict=True):
            norms = np.sqrt((dual**2).sum(penalty.axes, keepdims=True))
            dual *= np.minimum(1.0, penalty.threshold / np.maximum(norms, 1e-300))
    return v - duals.sum(0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("l1", "l2"), [(0.3, 0.0), (0.0, 0.8), (0.2, 0.6)])
def test_sparse_group_lasso_is_what_a_solver_finds(seed, l1, l2):
    v = draw(seed)
    expected = solve(v, l1, [GroupPenalty(ROWS, l2)])
    np.testing.assert_allclose(
        proximal.sparse_group_prox(v, l1, l2, ROWS).numpy(), expected, atol=2e-5
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("strengths", [(0.3, 0.2), (0.6, 0.6), (0.1, 1.5)])
def test_rows_and_columns_together_are_what_a_solver_finds(seed, strengths):
    v = draw(seed)
    penalties = [GroupPenalty(a, s) for a, s in zip((COLUMNS, ROWS), strengths, strict=True)]
    found = proximal.overlapping_prox(v, penalties)
    np.testing.assert_allclose(found.numpy(), solve(v, 0.0, penalties), atol=2e-5)


def test_one_group_has_a_closed_form():
    v = torch.tensor([3.0, 4.0])
    assert proximal.shrink_groups(v, (0,), 1.0).tolist() == pytest.approx([2.4, 3.2])
    assert proximal.shrink_groups(v, (0,), 5.0).tolist() == [0.0, 0.0]
    assert proximal.shrink_groups(torch.zeros(2), (0,), 0.0).tolist() == [0.0, 0.0]
    parts = proximal.shrink_together([torch.tensor([3.0]), torch.tensor([[4.0]])], 1.0)
    assert [float(part) for part in parts] == pytest.approx([2.4, 3.2])
    assert [float(part) for part in proximal.shrink_together(parts, 4.0)] == [0.0, 0.0]


def test_groups_that_are_zero_are_exactly_zero():
    """With crossing families in float32: no value is left that rounding alone made."""
    v = draw(0, (12, 40)).float()
    v[3:6] *= 0.05
    v[:, 10:30] *= 0.05
    found = proximal.overlapping_prox(v, [GroupPenalty(COLUMNS, 0.4), GroupPenalty(ROWS, 0.6)])
    assert (found == 0).all(1).sum() == 3
    assert (found == 0).all(0).sum() == 20
    assert found[found != 0].abs().min() > 1e-5


@pytest.mark.parametrize("threshold", [0.0, 1e-9, 1e-7, 1e-4])
def test_short_steps_take_short_ways(threshold):
    """In float32 a threshold far below the weights' rounding must not look like a zero group."""
    v = draw(0, (20, 50)).float()
    found = proximal.overlapping_prox(
        v, [GroupPenalty(COLUMNS, threshold), GroupPenalty(ROWS, threshold)]
    )
    assert torch.count_nonzero(found) == v.numel()
    assert (found - v).norm() <= threshold * (50**0.5 + 20**0.5) + 1e-6


def test_nested_groups_take_one_round(monkeypatch):
    v = draw(1, (4, 5, 6))
    nested = [GroupPenalty((2,), 0.7), GroupPenalty((1, 2), 1.1)]
    full = proximal.overlapping_prox(v, nested)
    composed = proximal.shrink_groups(proximal.shrink_groups(v, (2,), 0.7), (1, 2), 1.1)
    torch.testing.assert_close(full, composed)
    monkeypatch.setattr(proximal, "ROUNDS", 1)
    torch.testing.assert_close(proximal.overlapping_prox(v, nested), full)


def test_the_order_of_families_does_not_matter():
    v = draw(2, (6, 7))
    penalties = [GroupPenalty(COLUMNS, 0.9), GroupPenalty(ROWS, 0.8)]
    torch.testing.assert_close(
        proximal.overlapping_prox(v, penalties),
        proximal.overlapping_prox(v, penalties[::-1]),
        atol=1e-5,
        rtol=0,
    )


def test_a_prox_is_firmly_nonexpansive():
    """‖p(a) − p(b)‖² ≤ ⟨p(a) − p(b), a − b⟩, which no operator that is no prox can promise."""
    penalties = [GroupPenalty(COLUMNS, 0.5), GroupPenalty(ROWS, 0.5)]
    for seed in range(20):
        a, b = draw(seed, (4, 5)), draw(seed + 100, (4, 5))
        moved = proximal.overlapping_prox(a, penalties) - proximal.overlapping_prox(b, penalties)
        assert (moved**2).sum() <= (moved * (a - b)).sum() + 1e-6


def test_projection_moves_only_what_is_outside_the_ball():
    v = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    assert proximal.project_to_ball(v, (1,)).tolist() == [
        pytest.approx([0.6, 0.8]),
        pytest.approx([0.3, 0.4]),
        [0.0, 0.0],
    ]


def test_stronger_penalties_leave_less():
    v = draw(3, (8, 9))
    counts = [
        int(torch.count_nonzero(proximal.sparse_group_prox(v, l1, l1, ROWS)))
        for l1 in (0.0, 0.3, 0.6, 1.2, 3.0)
    ]
    assert counts[0] == v.numel() and counts[-1] == 0
    assert all(a > b for a, b in pairwise(counts))
