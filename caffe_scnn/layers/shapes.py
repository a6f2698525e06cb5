"""Shapes of every blob of a net, with the checks that Caffe makes while it builds one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from caffe_scnn.errors import FormatError, ModelError, UnsupportedLayer
from caffe_scnn.layers import layer_type
from caffe_scnn.layers.base import LayerType, Param, Shape, count, refuse
from caffe_scnn.model.graph import Graph
from caffe_scnn.model.net import Layer, Net, refuse_unknown
from caffe_scnn.proto import caffe_pb2 as pb

LARGEST_BLOB = 2**31 - 1  # values; Caffe counts in int


@dataclass
class Shapes:
    """Shapes of a net's blobs.

    Attributes
    ----------
    bottoms, tops : dict of Layer to list of shape
    blobs : dict of str to shape
        By blob name; the last value of a blob that is changed in place.
    """

    bottoms: dict[Layer, list[Shape]] = field(default_factory=dict)
    tops: dict[Layer, list[Shape]] = field(default_factory=dict)
    blobs: dict[str, Shape] = field(default_factory=dict)


def infer_shapes(net: Net, inputs: Mapping[str, Shape] | None = None) -> Shapes:
    """Propagate shapes through a net.

    Parameters
    ----------
    net : Net
        Phase selected.
    inputs : mapping of str to shape, optional
        Shapes of tops of layers without bottoms, where they differ from those of the prototxt and
        from ``net.input_shapes``.

    Raises
    ------
    ModelError
        Caffe would refuse to build the net, or ``inputs`` names something that is no input.
    UnsupportedLayer
        A layer type is not known.
    """
    building = _Building(net, inputs)
    for layer in net.layers:
        building.add(layer)
    return building.finished()


def infer_known(
    net: Net, inputs: Mapping[str, Shape] | None = None
) -> tuple[Shapes, dict[Layer, str]]:
    """Propagate shapes as far as layers are understood.

    Returns
    -------
    Shapes
        Without layers that are not understood, and all that read what those make.
    dict of Layer to str
        Why a layer is not understood: its type is unknown, or a field may change what it computes.

    Raises
    ------
    ModelError
        As :func:`infer_shapes`.
    """
    building, reasons = _Building(net, inputs), not_understood(net)
    known = building.shapes.blobs
    for layer in net.layers:
        if layer in reasons or any(bottom not in known for bottom in layer.bottoms):
            for top in layer.tops:
                known.pop(top, None)  # in place
        else:
            building.add(layer)
    return building.finished(), reasons


def not_understood(net: Net) -> dict[Layer, str]:
    """Return the layers that cannot be run, and why: their type is unknown, or a fork's field.

    Raises
    ------
    FormatError
        A layer has a field that no fork is known to have: it is misspelt.
    """
    reasons = {}
    for layer in net.layers:
        try:
            layer_type(layer)
            refuse_unknown(layer)
        except UnsupportedLayer as error:
            reasons[layer] = str(error)
        except FormatError as error:
            if not all(field.fork for field in layer.unknown):
                raise
            reasons[layer] = str(error)
    return reasons


class _Building:
    """The shapes of a net, layer by layer."""

    def __init__(self, net: Net, inputs: Mapping[str, Shape] | None) -> None:
        wanted = {**net.input_shapes, **(inputs or {})}
        self._given = {name: tuple(int(n) for n in shape) for name, shape in wanted.items()}
        self._unused = set(self._given)
        self._shared = _SharedParams()
        self.shapes = Shapes()
        Graph(net)

    def add(self, layer: Layer) -> None:
        """Infer one layer, behind those it reads."""
        shapes, kind = self.shapes, layer_type(layer)
        bottoms = [shapes.blobs[bottom] for bottom in layer.bottoms]
        _check_arity(layer, kind)
        _check_in_place(layer, kind)
        tops = kind.infer(layer, bottoms) if bottoms else kind.feed(layer, self._given)
        if not bottoms:
            self._unused -= set(layer.tops)
        for top, shape in zip(layer.tops, tops, strict=True):
            _check_extent(layer, top, shape)
        self._shared.check(layer, kind.params(layer, bottoms))
        shapes.bottoms[layer], shapes.tops[layer] = bottoms, tops
        shapes.blobs.update(zip(layer.tops, tops, strict=True))

    def finished(self) -> Shapes:
        """Return the shapes; all that were given must have been those of inputs."""
        if self._unused:
            inputs = [n for layer in self.shapes.tops if not layer.bottoms for n in layer.tops]
            raise ModelError(
                f'"{min(self._unused)}" is not an input of the net; it has {", ".join(inputs)}'
            )
        return self.shapes


def _check_arity(layer: Layer, kind: LayerType) -> None:
    for what, found, (least, most) in (
        ("bottom", len(layer.bottoms), kind.bottoms),
        ("top", len(layer.tops), kind.tops),
    ):
        if found < least or (most is not None and found > most):
            wanted = str(least) if least == most else f"{least} to {most}" if most else f"{least}+"
            raise refuse(layer, f"has {found} {what}s, the type takes {wanted}")


def _check_in_place(layer: Layer, kind: LayerType) -> None:
    in_place = set(layer.bottoms) & set(layer.tops)
    if in_place and not kind.in_place:
        raise refuse(
            layer, f'cannot work in place on "{in_place.pop()}"; give the top another name'
        )


def _check_extent(layer: Layer, top: str, shape: Shape) -> None:
    if any(n < 1 for n in shape):
        raise refuse(
            layer,
            f'top "{top}" would have shape {shape}; every extent must be positive '
            "(is a kernel larger than its padded input?)",
        )
    if count(shape) > LARGEST_BLOB:
        raise refuse(layer, f'top "{top}" of shape {shape} has more than {LARGEST_BLOB} values')


class _SharedParams:
    """Parameters that several layers use under one name."""

    def __init__(self) -> None:
        self.owners: dict[str, tuple[Layer, Param, pb.ParamSpec]] = {}

    def check(self, layer: Layer, params: list[Param]) -> None:
        """Compare a layer's parameters with those of the same name before it."""
        specs = layer.proto.param
        if len(specs) > len(params):
            raise refuse(layer, f"has {len(specs)} param entries for {len(params)} learnt blobs")
        for spec, param in zip(specs, params, strict=False):
            if not spec.name:
                continue
            if spec.name not in self.owners:
                self.owners[spec.name] = layer, param, spec
                continue
            owner, owned, owner_spec = self.owners[spec.name]
            permissive = spec.share_mode == pb.ParamSpec.PERMISSIVE
            if permissive:
                same = count(param.shape) == count(owned.shape)
            else:
                same = param.shape == owned.shape
            if not same:
                raise refuse(
                    layer,
                    f'shares "{spec.name}" with layer "{owner.name}", but their shapes are '
                    f"{param.shape} and {owned.shape}",
                )
            for field_name in ("lr_mult", "decay_mult"):
                both = spec.HasField(field_name) and owner_spec.HasField(field_name)
                if both and getattr(spec, field_name) != getattr(owner_spec, field_name):
                    raise refuse(
                        layer,
                        f'shares "{spec.name}" with layer "{owner.name}", but with another '
                        f"{field_name}",
                    )
