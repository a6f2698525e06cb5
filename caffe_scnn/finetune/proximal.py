"""Proximal operators of the penalties that make weights zero, and projections onto norm balls.

The proximal operator of a penalty h is ``prox(v) = argmin_x ½‖x − v‖² + h(x)``. After a gradient
step of length η on the loss, ``prox`` of η·h is a step on the penalty that makes exact zeros; a
sub-gradient step only makes small values (Parikh and Boyd, "Proximal Algorithms", 2014).

Groups are given by axes: ``axes`` (1, 2) of a tensor (n, c, d) are its n groups of c·d values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Axes = tuple[int, ...]
Threshold = float | Tensor

# A family of groups that crosses others needs several rounds; this many only where thresholds
# are as large as the weights, which no step of a training run has.
ROUNDS = 200
TOLERANCE = 1e-6  # largest change of a round, relative to the largest value
INSIDE = 1e-5  # a dual this far (relative) inside its ball belongs to a group that is zero


@dataclass(frozen=True)
class GroupPenalty:
    """``threshold · Σ_g ‖x_g‖₂`` over the groups of one family.

    Attributes
    ----------
    axes : tuple of int
        The axes that a group extends over.
    threshold : float or Tensor
        Strength times step length; not negative. A tensor has one for each group, the axes that
        groups extend over of size 1.
    """

    axes: Axes
    threshold: Threshold


def shrink_values(values: Tensor, threshold: Threshold) -> Tensor:
    """Return ``sign(v)·max(|v| − threshold, 0)``: the prox of ``threshold·‖x‖₁``."""
    return values.sign() * (values.abs() - threshold).clamp(min=0.0)


def group_norms(values: Tensor, axes: Axes) -> Tensor:
    """Return ``‖x_g‖₂`` of every group, the summed axes kept with size 1."""
    return values.square().sum(axes, keepdim=True).sqrt()


def shrink_groups(values: Tensor, axes: Axes, threshold: Threshold) -> Tensor:
    """Return ``v_g·max(1 − threshold/‖v_g‖, 0)``: the prox of ``threshold·Σ‖x_g‖₂``."""
    norms = group_norms(values, axes)
    kept = (1 - threshold / norms.clamp(min=torch.finfo(values.dtype).tiny)).clamp(min=0)
    return values * torch.where(norms > threshold, kept, torch.zeros_like(kept))


def sparse_group_prox(values: Tensor, l1: Threshold, l2: Threshold, axes: Axes) -> Tensor:
    """Return the prox of ``l1·‖x‖₁ + l2·Σ‖x_g‖₂`` for groups that do not overlap.

    Values are shrunk first, then groups (Friedman, Hastie and Tibshirani, "A note on the group
    lasso and a sparse group lasso", 2010).

    Parameters
    ----------
    values : Tensor
    l1, l2 : float or Tensor
        Strengths times step length, of all values and groups or of each.
    axes : tuple of int
        The axes that a group extends over.
    """
    return shrink_groups(shrink_values(values, l1), axes, l2)


def overlapping_prox(values: Tensor, penalties: Sequence[GroupPenalty]) -> Tensor:
    """Return the prox of a sum of group penalties whose groups may overlap.

    Block coordinate ascent on the dual, a family of groups at a time: ``x = v − Σ_f ξ_f`` with
    ``‖(ξ_f)_g‖ ≤ threshold_f``. Families in an order such that each group lies inside those of
    later families are done after one round (Jenatton, Mairal, Obozinski, Bach, "Proximal methods
    for hierarchical sparse coding", 2011); families that cross, as rows and columns do, take a few.

    Parameters
    ----------
    values : Tensor
    penalties : sequence of GroupPenalty
        One for each family; each family parts the values into groups that do not overlap.

    Returns
    -------
    Tensor
        Groups that the penalties put to zero are exactly zero.
    """
    if len(penalties) == 1:
        return shrink_groups(values, penalties[0].axes, penalties[0].threshold)
    duals = [torch.zeros_like(values) for _ in penalties]
    rest = values.clone()
    enough = TOLERANCE * float(values.abs().max()) if values.numel() else 0.0
    for _ in range(ROUNDS):
        change = 0.0
        for dual, penalty in zip(duals, penalties, strict=True):
            rest += dual
            # not rest - shrink_groups(...): a difference would lose the digits of short steps
            norms = group_norms(rest, penalty.axes)
            factor = (penalty.threshold / norms).clamp(max=1.0)
            projected = rest * factor.where(norms > 0, 0.0)
            rest -= projected
            change = max(change, float((projected - dual).abs().max())) if enough else 0.0
            dual.copy_(projected)
        if change <= enough:
            break
    return _with_exact_zeros(rest, duals, penalties)


def _with_exact_zeros(
    values: Tensor, duals: Sequence[Tensor], penalties: Sequence[GroupPenalty]
) -> Tensor:
    """Clear the groups that are zero at the optimum: those whose dual is inside its ball."""
    for dual, penalty in zip(duals, penalties, strict=True):
        inside = group_norms(dual, penalty.axes) < penalty.threshold * (1 - INSIDE)
        values = values.masked_fill(inside, 0.0)
    return values


def shrink_together(values: Sequence[Tensor], threshold: float) -> list[Tensor]:
    """Shrink tensors that are one group: the prox of ``threshold·√(Σ‖x_t‖²)``."""
    norm = float(torch.stack([part.square().sum() for part in values]).sum().sqrt())
    factor = 1 - threshold / norm if norm > threshold else 0.0
    return [part * factor for part in values]


def project_to_ball(values: Tensor, axes: Axes) -> Tensor:
    """Return the nearest tensor whose groups have norm 1 at most."""
    return values / group_norms(values, axes).clamp(min=1.0)
