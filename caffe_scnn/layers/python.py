"""Python: a layer whose code is not in the model's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from caffe_scnn.errors import UnsupportedLayer
from caffe_scnn.layers.base import Array, Coupling, LayerType, Shape, refuse
from caffe_scnn.layers.data import name_the_shape
from caffe_scnn.model.net import Layer

# Proposals that py-faster-rcnn keeps of an image at TEST (RPN_POST_NMS_TOP_N).
PROPOSALS = 300


class Python(LayerType):
    """A layer in Python (``python_layer.hpp``): data layers are fed, others have no code here.

    Shapes are known for the ProposalLayer of py-faster-rcnn, which makes the regions of Faster
    R-CNN: 300 of them, unless fewer survive.
    """

    type: ClassVar[str] = "Python"
    bottoms: ClassVar[tuple[int, int | None]] = (0, None)
    tops: ClassVar[tuple[int, int | None]] = (0, None)

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Know the tops of a ProposalLayer: regions and, if wanted, their scores."""
        param = layer.proto.python_param
        if not bottoms:
            raise refuse(
                layer,
                f"its shapes are made by {param.module}.{param.layer}; "
                f"{name_the_shape(*layer.tops)}",
            )
        if param.layer != "ProposalLayer" or len(layer.tops) > 2:
            raise self._no_code(layer)
        shapes: list[Shape] = [(PROPOSALS, 5), (PROPOSALS, 1)]
        return shapes[: len(layer.tops)]

    def feed(self, layer: Layer, given: Mapping[str, Shape]) -> list[Shape]:
        """Take the shapes; none can be known without running the code."""
        if any(top not in given for top in layer.tops):
            return self.infer(layer, [])
        return [given[top] for top in layer.tops]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Refuse."""
        raise self._no_code(layer)

    def coupling(self, layer: Layer) -> Coupling:
        """Nothing is known."""
        return Coupling.BLOCKS

    def _no_code(self, layer: Layer) -> UnsupportedLayer:
        param = layer.proto.python_param
        where = f", line {layer.line}" if layer.line else ""
        return UnsupportedLayer(
            f'layer "{layer.name}" (Python{where}): its code, {param.module}.{param.layer}, is not '
            "part of the model; give the layer a type of its own and register that with "
            "caffe_scnn.register_layer"
        )
