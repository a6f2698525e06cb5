"""The net as a graph: which layer makes a blob and which layers read it.

A blob name may stand for several values, one after the other: a layer that works in place makes a
new value under the name of the one it reads. The graph is computed from the list of layers when it
is asked for, and checks what Caffe checks when it wires a net.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from caffe_scnn.errors import ModelError
from caffe_scnn.model.layer_names import FED_TYPES
from caffe_scnn.model.net import Layer, Net


@dataclass(eq=False)
class Value:
    """What one layer writes to one of its tops.

    Attributes
    ----------
    name : str
        The blob's name.
    producer : Layer
    consumers : list of Layer
        Once for each time a layer reads it.
    """

    name: str
    producer: Layer
    consumers: list[Layer] = field(default_factory=list)


class Graph:
    """Def-use view of a net.

    Attributes
    ----------
    reads, writes : dict of Layer to list of Value
        Values of a layer's bottoms and tops, in order.
    blobs : dict of str to Value
        The last value of every blob name.
    inputs : list of str
        Tops of the Input and data layers, in file order.
    outputs : list of str
        Blobs that nobody reads, in alphabetical order as Caffe lists them.

    Raises
    ------
    ModelError
        A bottom that no earlier layer makes, a top that two layers make, or a layer that
        overwrites in place what another one reads too.
    """

    def __init__(self, net: Net) -> None:
        self.net = net
        self.reads: dict[Layer, list[Value]] = {}
        self.writes: dict[Layer, list[Value]] = {}
        self.blobs: dict[str, Value] = {}
        for layer in net.layers:
            self._add(layer)
        self._check_in_place()
        self.inputs = [top for layer in net.layers if is_fed(layer) for top in layer.tops]
        self.outputs = sorted(name for name, value in self.blobs.items() if not value.consumers)

    def producer(self, blob: str) -> Layer:
        """Return the layer that writes the last value of a blob."""
        return self.blobs[blob].producer

    def consumers(self, blob: str) -> list[Layer]:
        """Return the layers that read the last value of a blob."""
        return self.blobs[blob].consumers

    def _add(self, layer: Layer) -> None:
        reads = []
        for bottom in layer.bottoms:
            if bottom not in self.blobs:
                raise self._unknown_bottom(layer, bottom)
            value = self.blobs[bottom]
            value.consumers.append(layer)
            reads.append(value)
        self.reads[layer] = reads
        self.writes[layer] = []
        made: dict[str, Value] = {}
        for index, top in enumerate(layer.tops):
            in_place = index < len(layer.bottoms) and layer.bottoms[index] == top
            if top in made or (top in self.blobs and not in_place):
                first = made.get(top) or self.blobs[top]
                raise ModelError(
                    f'{place(layer)}: top "{top}" is made by layer '
                    f'"{first.producer.name}" already; rename one'
                )
            made[top] = Value(top, layer)
            self.writes[layer].append(made[top])
        self.blobs.update(made)

    def _unknown_bottom(self, layer: Layer, bottom: str) -> ModelError:
        later = [other for other in self.net.layers if bottom in other.tops]
        if later:
            return ModelError(
                f'{place(layer)}: bottom "{bottom}" is made only later, by layer '
                f'"{later[0].name}"; layers run in file order'
            )
        near = difflib.get_close_matches(bottom, self.blobs, 1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        return ModelError(f'{place(layer)}: no layer makes its bottom "{bottom}"{hint}')

    def _check_in_place(self) -> None:
        """Refuse to overwrite what somebody else reads: Caffe would split the blob first."""
        for layer in self.net.layers:
            for value, written in zip(self.reads[layer], self.writes[layer], strict=False):
                others = [other for other in value.consumers if other is not layer]
                if value.name == written.name and others:
                    raise ModelError(
                        f'{place(layer)}: works in place on "{value.name}", which layer '
                        f'"{others[0].name}" reads too; give the top another name'
                    )


def is_fed(layer: Layer) -> bool:
    """Tell whether a layer's tops come from outside the net; a data layer may be in Python."""
    return layer.type in FED_TYPES or (layer.type == "Python" and not layer.bottoms)


def place(layer: Layer) -> str:
    """Name a layer, with its line where it was read from a file."""
    line = f" (line {layer.line})" if layer.line else ""
    return f'layer "{layer.name}"{line}'
