"""A net made smaller by a recipe: select, take apart, choose what to keep, write, check, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from caffe_scnn.calibrate import Calibration
from caffe_scnn.decompose.base import Counts, Edit, LayerReport
from caffe_scnn.decompose.carry_out import carry_out, chosen_layers
from caffe_scnn.decompose.fit import OnLayer, Progress, Setting
from caffe_scnn.decompose.journal import Journal
from caffe_scnn.decompose.recipe import Recipe
from caffe_scnn.decompose.rivals import best_net, best_plan
from caffe_scnn.decompose.search import Check, Plan
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.shapes import Shapes, infer_shapes
from caffe_scnn.model.net import Layer, Net


@dataclass(frozen=True, eq=False)
class Compression:
    """A compressed net and what was done to it.

    Attributes
    ----------
    net : Net
        The new net; the one that was given is unchanged.
    reports : list of LayerReport
        One per compressed layer, in file order.
    recipe : Recipe
        The resolved recipe: the same net and this recipe give the same bytes.
    """

    net: Net
    reports: list[LayerReport]
    recipe: Recipe


def compress(
    net: Net,
    recipe: Recipe,
    *,
    calibration: Calibration | None = None,
    check: Check | None = None,
    on_layer: OnLayer | None = None,
    journal: Journal | None = None,
    threads: int | None = None,
) -> Compression:
    """Return a smaller net.

    Parameters
    ----------
    net : Net
        A net with its blobs, of one phase.
    recipe : Recipe
        What to do.
    calibration : Calibration, optional
        Images for methods that look at responses; without them they assume uncorrelated inputs
        of unit variance, so that response errors are weight errors.
    check : callable, optional
        Percent points that a net loses against this one; for a recipe with ``max_drop``.
    on_layer : callable, optional
        Told ``(index, total, name)`` before each layer; one that is measured first and fitted
        later counts twice, and the total grows where a search goes on.
    journal : Journal, optional
        Keeps finished pieces, and has those of a run that was interrupted.
    threads : int, optional
        Threads of the engine, where a recipe asks for a measured speed.

    Raises
    ------
    ModelError
        A layer cannot be compressed as asked; :func:`~caffe_scnn.decompose.select.select` lists
        why. Also an error that the method's parameters put out of reach, a density that the
        method's own fixed weights exceed, a target out of reach, and names that are taken.
    """
    setting = Setting(net, calibration, Progress(on_layer), journal or Journal())
    # One BLAS thread: the matrices are small, and sums must not depend on the machine's load.
    with threadpool_limits(limits=1, user_api="blas"):
        if recipe.searched:
            found = best_net(setting, recipe, check, threads)
            resolved, smaller, edits = found.recipe, found.net, found.edits
        else:
            resolved = recipe
            smaller, edits = carry_out(setting, recipe)
        before, after = infer_shapes(net), infer_shapes(smaller)
    originals = {layer.name: layer for layer in net}
    reports = [_report(originals[edit.layer.name], edit, before, after, resolved) for edit in edits]
    names = chosen_layers(net, resolved, edits)
    return Compression(smaller, reports, replace(resolved, layers=names, done=tuple(reports)))


def plan(
    net: Net,
    recipe: Recipe,
    *,
    calibration: Calibration | None = None,
    on_layer: OnLayer | None = None,
    journal: Journal | None = None,
    threads: int | None = None,
) -> Plan:
    """Return what :func:`compress` would do to reach a target of the whole net, without doing it.

    Parameters and errors are those of :func:`compress`. For ``max_drop`` the plan is the first
    net that would be tried.
    """
    setting = Setting(net, calibration, Progress(on_layer), journal or Journal())
    with threadpool_limits(limits=1, user_api="blas"):
        return best_plan(setting, recipe, threads)


def _report(
    original: Layer, edit: Edit, before: Shapes, after: Shapes, recipe: Recipe
) -> LayerReport:
    return LayerReport(
        layer=edit.layer.name,
        method=recipe.goal(edit.layer.name).method.name,
        written=tuple(part.name for part in edit.chain),
        before=_counts([original], before),
        after=_counts(edit.chain, after),
        weight_error=edit.weight_error,
        response_error=edit.response_error,
    )


def _counts(layers: Sequence[Layer], shapes: Shapes) -> Counts:
    weights = [layer.blobs[0] for layer in layers]
    kinds = [(layer, layer_type(layer), shapes.bottoms[layer]) for layer in layers]
    return Counts(
        macs=sum(kind.nonzero_macs(layer, bottoms) for layer, kind, bottoms in kinds),
        dense_macs=sum(kind.macs(layer, bottoms) for layer, kind, bottoms in kinds),
        nonzeros=sum(int(np.count_nonzero(blob)) for blob in weights),
        parameters=sum(blob.size for blob in weights),
    )
