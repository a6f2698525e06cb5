"""The choice of what to keep: exact counts, ties, prices against brute force, error limits."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from caffe_scnn.decompose.sparsify import Offer, for_budget, for_error, largest

# Few distinct values, so that ties are common.
VALUES = arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 5).map(float))
GAINS = arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(1, 5)),
    elements=st.integers(0, 20).map(float),
)


def offer(gains, costs=0):
    return Offer(gains, np.full(len(gains), costs, np.int64))


@given(VALUES, st.integers(-2, 35))
def test_largest_marks_exactly_the_count_and_the_first_of_equals(values, count):
    keep = largest(values, count)
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    wanted = [i for i in order if values[i] > 0][: max(count, 0)]
    assert sorted(wanted) == list(np.flatnonzero(keep))


@given(GAINS, st.integers(0, 6), st.floats(0.1, 20))
def test_a_price_gives_the_best_of_all_choices(gains, cost, price):
    def value(keep):
        paid = np.count_nonzero(keep) + cost * np.count_nonzero(keep.any(axis=1))
        return gains[keep].sum() - price * paid

    chosen = offer(gains, cost).at_price(price)
    best = max(
        value((gains > price) & np.array(used, bool)[:, None])
        for used in product((0, 1), repeat=len(gains))
    )
    assert value(chosen) == pytest.approx(best, abs=1e-9)


@given(GAINS, GAINS, st.integers(0, 6), st.integers(0, 60))
def test_a_budget_is_never_exceeded_and_spent_on_open_bases(first, second, cost, budget):
    offers = [offer(first, cost), offer(second, cost)]
    keeps = for_budget(offers, budget)
    spent = sum(o.non_zeros(keep) for o, keep in zip(offers, keeps, strict=True))
    assert spent <= budget
    for o, keep in zip(offers, keeps, strict=True):
        left = (o.gains > 0) & ~keep & keep.any(axis=1)[:, None]
        assert spent == budget or not left.any()


@given(GAINS, st.integers(0, 25))
def test_without_costs_a_budget_keeps_the_largest(gains, budget):
    (keep,) = for_budget([offer(gains)], budget)
    assert np.array_equal(keep.ravel(), largest(gains.ravel(), budget))


def test_a_common_budget_goes_where_it_helps_most():
    rich, poor = np.full((2, 10), 100.0), np.full((2, 10), 1.0)
    keeps = for_budget([offer(poor, 3), offer(rich, 3)], 26)
    assert [np.count_nonzero(keep) for keep in keeps] == [0, 20]


def test_a_basis_that_costs_more_than_it_gives_is_left_out():
    gains = np.array([[10.0, 10.0, 10.0, 0.1], [9.0, 0.0, 0.0, 0.0]])
    (keep,) = for_budget([offer(gains, 4)], 8)
    assert keep.tolist() == [[True] * 4, [False] * 4]


@given(GAINS, st.floats(0, 0.99))
def test_an_error_is_met_with_the_fewest_coefficients(gains, limit):
    total = gains.sum()

    def error(keep):
        return (total - gains[keep].sum()) / total if total else 0.0

    keep = for_error(offer(gains), error, limit)
    assert keep is not None
    assert error(keep) <= limit + 1e-12
    if keep.any():
        # All coefficients of the least kept gain go together, for they have one price.
        fewer = keep & (gains > gains[keep].min())
        assert error(fewer) > limit - 1e-12


def test_an_error_out_of_reach_is_none():
    assert for_error(offer(np.ones((2, 2))), lambda keep: 0.5, 0.4) is None
