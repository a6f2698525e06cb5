"""How good a net is while it is trained: on images held back."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from caffe_scnn.finetune.objective import Objective


@torch.no_grad()
def evaluate(
    objective: Objective, batches: Iterable[tuple[dict[str, Tensor], Tensor | None]]
) -> dict[str, float]:
    """Return means over all images.

    Returns
    -------
    dict of str to float
        ``held_back_loss``; ``held_back_agreement``, the percent for which teacher and student find
        the same class; ``held_back_top1``, the percent that is right, where there are labels.
    """
    objective.student.eval()
    images, loss, same, right = 0, 0.0, 0, 0
    compared = labelled = False
    for inputs, labels in batches:
        count = len(next(iter(inputs.values())))
        total, found, wanted = objective.judge(inputs, labels)
        images += count
        loss += float(total) * count
        if wanted is not None:
            compared = True
            same += int((found == wanted).flatten(1).all(1).sum())
        if labels is not None and found.shape[1:].numel() == 1:
            labelled = True
            right += int((found.flatten() == labels).sum())
    numbers = {"held_back_loss": loss / images}
    if compared:
        numbers["held_back_agreement"] = 100 * same / images
    if labelled:
        numbers["held_back_top1"] = 100 * right / images
    return numbers
