"""Python: a layer whose code is not in the model's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from caffe_scnn.errors import UnsupportedLayer
from caffe_scnn.layers.base import Array, Coupling, LayerType, OpSpec, RaggedSpec, Shape, refuse
from caffe_scnn.layers.data import name_the_shape
from caffe_scnn.layers.proposal import Proposals
from caffe_scnn.model.net import Layer


class Python(LayerType):
    """A layer in Python (``python_layer.hpp``): data layers are fed, others have no code here.

    One is known by its name: the ProposalLayer of py-faster-rcnn, which makes the regions of
    Faster R-CNN. How many there are is known when it runs; ``infer`` gives the most.
    """

    type: ClassVar[str] = "Python"
    bottoms: ClassVar[tuple[int, int | None]] = (0, None)
    tops: ClassVar[tuple[int, int | None]] = (0, None)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Know the tops of a ProposalLayer."""
        if not bottoms:
            param = layer.proto.python_param
            raise refuse(
                layer,
                f"its shapes are made by {param.module}.{param.layer}; "
                f"{name_the_shape(*layer.tops)}",
            )
        return self._proposals(layer).infer(layer, bottoms)

    def feed(self, layer: Layer, given: Mapping[str, Shape]) -> list[Shape]:
        """Take the shapes; none can be known without running the code."""
        if any(top not in given for top in layer.tops):
            return self.infer(layer, [])
        return [given[top] for top in layer.tops]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Find the regions of one image."""
        scores, deltas, info = bottoms
        return list(self._proposals(layer).compute(scores, deltas, info))[: len(layer.tops)]

    def lower(self, layer: Layer, bottoms: Sequence[Shape]) -> OpSpec:
        """Have as many rows as are found."""
        return RaggedSpec(axis=0)

    def coupling(self, layer: Layer) -> Coupling:
        """Nothing is known."""
        return Coupling.BLOCKS

    def _proposals(self, layer: Layer) -> Proposals:
        """Return the settings of a ProposalLayer; the code of any other is not here."""
        param = layer.proto.python_param
        if param.layer == "ProposalLayer":
            return Proposals.of(layer)
        where = f", line {layer.line}" if layer.line else ""
        raise UnsupportedLayer(
            f'layer "{layer.name}" (Python{where}): its code, {param.module}.{param.layer}, is not '
            "part of the model; give the layer a type of its own and register that with "
            "caffe_scnn.register_layer"
        )
