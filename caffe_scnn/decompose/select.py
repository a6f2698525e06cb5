"""Which layers are compressed: by name, or all convolutions but the first and the depthwise ones.

Layers that share their weights by a parameter name are one target: they are decomposed alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from caffe_scnn.decompose.recipe import Goal, Recipe
from caffe_scnn.errors import ModelError
from caffe_scnn.model.net import Layer, Net, refuse_unknown


@dataclass(frozen=True, eq=False)
class Target:
    """Layers of one set of weights, and what is asked of them.

    Attributes
    ----------
    layers : tuple of Layer
        The layer, and those that share its weights, in file order.
    goal : Goal
        Method and size.
    """

    layers: tuple[Layer, ...]
    goal: Goal

    @property
    def name(self) -> str:
        """Name of the first layer."""
        return self.layers[0].name

    @property
    def size(self) -> int:
        """Number of weights, shared ones counted once."""
        return int(self.layers[0].blobs[0].size)


def select(net: Net, recipe: Recipe) -> list[Target]:
    """Return what a recipe compresses of a net, in file order.

    Raises
    ------
    ModelError
        Repeated layer names; a name or glob that fits nothing; nothing to compress; sharers that
        cannot be decomposed alike; weights that are missing; values that are not finite,
        in any layer.
    FormatError
        Unknown fields in a layer that is to be compressed.
    """
    check_net(net)
    names = _selected(net, recipe)
    targets = [
        Target(tuple(sharers), recipe.goal(sharers[0].name))
        for sharers in _sharing(net)
        if _agree(sharers, names, recipe)
    ]
    for target in targets:
        for layer in target.layers:
            check_weights(layer)
            _refuse_objected(layer, target.goal)
    return targets


def check_net(net: Net) -> None:
    """Refuse a net with repeated names of layers, or values that are not finite."""
    _refuse_repeated(net)
    for layer in net:
        _refuse_not_finite(layer)


def check_weights(layer: Layer) -> None:
    """Refuse a layer without weights, or with fields that nobody understands."""
    refuse_unknown(layer)
    if not layer.blobs:
        raise ModelError(f'layer "{layer.name}" ({layer.type}) has no weights; load a caffemodel')


def is_depthwise(layer: Layer) -> bool:
    """Tell whether every input channel of a convolution is a group of its own."""
    return (
        bool(layer.blobs)
        and layer.blobs[0].shape[1] == 1
        and (
            layer.proto.convolution_param.group > 1
            or layer.type in ("DepthwiseConvolution", "ConvolutionDepthwise")
        )
    )


def _selected(net: Net, recipe: Recipe) -> set[str]:
    able = [layer for layer in net if layer.type in recipe.goal(layer.name).method.types]
    named = set(recipe.overrides)
    objected = {layer.name for layer in able if _objection(layer, recipe.goal(layer.name))}
    for glob in (*recipe.overrides, *(recipe.layers or ())):
        _require_match(net, recipe, glob, able)
    if recipe.layers is not None:
        globs = recipe.layers
        return named | {part.name for part in able if any(_matches(part, glob) for glob in globs)}
    chosen = named | (_default(able) - objected)
    if not chosen:
        convolutions = sum(layer.type == "Convolution" for layer in net)
        raise ModelError(
            "nothing to compress: by default the first convolution, depthwise ones and those that "
            f"{recipe.goal_of_all.method.name} does not suit are left alone, and the net has "
            f"{convolutions} in all; name layers to compress them anyway"
        )
    return chosen


def _matches(layer: Layer, glob: str) -> bool:
    # A resolved recipe lists names, and a name may hold glob characters.
    return layer.name == glob or fnmatchcase(layer.name, glob)


def _default(able: Iterable[Layer]) -> set[str]:
    """Return all convolutions but the first one (with its sharers) and the depthwise ones."""
    convolutions = [layer for layer in able if layer.type == "Convolution"]
    first = {_weights_name(layer) or layer.name for layer in convolutions[:1]}
    return {
        layer.name
        for layer in convolutions
        if not is_depthwise(layer) and (_weights_name(layer) or layer.name) not in first
    }


def _require_match(net: Net, recipe: Recipe, glob: str, able: Iterable[Layer]) -> None:
    if any(_matches(layer, glob) for layer in able):
        return
    matched = [layer for layer in net if _matches(layer, glob)]
    method = recipe.goal(matched[0].name if matched else glob).method
    found = (
        f"matches {', '.join(f'{layer.name} ({layer.type})' for layer in matched[:5])}"
        if matched
        else "matches no layer"
    )
    names = ", ".join(layer.name for layer in able)
    raise ModelError(
        f'"{glob}" {found}; {method.name} works on {", ".join(method.types)}: {names or "none"}'
    )


def _weights_name(layer: Layer) -> str:
    return layer.proto.param[0].name if layer.proto.param else ""


def _shape(layer: Layer) -> tuple[int, ...]:
    return layer.blobs[0].shape if layer.blobs else ()


def _group(layer: Layer) -> int:
    return layer.proto.convolution_param.group


def _sharing(net: Net) -> list[list[Layer]]:
    """Return the layers in groups of one set of weights."""
    groups: dict[tuple[str, str], list[Layer]] = {}
    for layer in net:
        shared = _weights_name(layer)
        groups.setdefault(("param", shared) if shared else ("layer", layer.name), []).append(layer)
    return list(groups.values())


def _agree(sharers: list[Layer], names: set[str], recipe: Recipe) -> bool:
    """Tell whether the sharers are compressed; refuse them when they cannot be treated alike."""
    chosen = [layer for layer in sharers if layer.name in names]
    if not chosen:
        return False
    first = sharers[0]
    reasons = {
        "only some of them are selected": len(chosen) < len(sharers),
        "their types differ": any(s.type != first.type for s in sharers),
        "their goals differ": any(recipe.goal(s.name) != recipe.goal(first.name) for s in sharers),
        "their weights have different shapes": any(_shape(s) != _shape(first) for s in sharers),
        "their groups differ": any(_group(s) != _group(first) for s in sharers),
    }
    for reason, applies in reasons.items():
        if applies:
            everyone = ", ".join(f'"{layer.name}"' for layer in sharers)
            raise ModelError(
                f'layers {everyone} share the weights "{_weights_name(first)}" and can only '
                f"be compressed alike, but {reason}"
            )
    return True


def _refuse_repeated(net: Net) -> None:
    repeated = [name for name, times in Counter(layer.name for layer in net).items() if times > 1]
    if repeated:
        raise ModelError(
            f"layer names must be unique to be compressed; repeated: {', '.join(repeated)}"
        )


def _objection(layer: Layer, goal: Goal) -> str | None:
    return goal.method.objection(layer) if layer.blobs else None


def _refuse_objected(layer: Layer, goal: Goal) -> None:
    objection = goal.method.objection(layer)
    if objection:
        raise ModelError(
            f'layer "{layer.name}": {objection}; leave it out of {goal.method.name}, or give it '
            "another method in a recipe"
        )


def _refuse_not_finite(layer: Layer) -> None:
    for i, blob in enumerate(layer.blobs):
        bad = blob.size - int(np.count_nonzero(np.isfinite(blob)))
        if bad:
            raise ModelError(
                f'layer "{layer.name}": {bad} of {blob.size} values of blob {i} are NaN or '
                "infinite; is the caffemodel damaged?"
            )
