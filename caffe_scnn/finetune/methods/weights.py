"""The weights that a method works on: of chosen layers, as matrices, shared ones once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from caffe_scnn.errors import ModelError
from caffe_scnn.finetune.bridge import LayerModule, NetModule
from caffe_scnn.model.net import Layer

WEIGHTED = ("Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "InnerProduct")


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of a layer (and of those that share them).

    Attributes
    ----------
    layer : Layer
        The first layer that has them.
    parameter : nn.Parameter
    """

    layer: Layer
    parameter: nn.Parameter

    def matrix(self, values: Tensor | None = None) -> Tensor:
        """Return the weights, or other values of their shape, as (num_output, d): a view."""
        values = self.parameter.detach() if values is None else values
        if self.layer.type == "InnerProduct" and self.layer.proto.inner_product_param.transpose:
            return values.T
        return values.view(len(self.layer.blobs[0]), -1)


def choose(
    module: NetModule, layers: Sequence[str] | None, default: Callable[[Layer], bool]
) -> list[Weights]:
    """Return the weights of the chosen layers.

    Parameters
    ----------
    module : NetModule
    layers : sequence of str, optional
        Names or globs.
    default : callable
        Tells of a layer whether it is chosen when there are no names.

    Raises
    ------
    ModelError
        A name or glob fits no layer with weights, or nothing is chosen.
    """
    able = list(weighted(module))
    for glob in layers or ():
        if not any(_matches(own.layer, glob) for own in able):
            names = ", ".join(own.layer.name for own in able)
            raise ModelError(f'"{glob}" matches no layer with weights; those are {names}')
    if layers is None:
        chosen = [own for own in able if default(own.layer)]
    else:
        chosen = [own for own in able if any(_matches(own.layer, glob) for glob in layers)]
    if not chosen:
        raise ModelError("the method finds no layer to work on; name some: layers = [...]")
    return list({id(own.parameter): own for own in reversed(chosen)}.values())[::-1]


def weighted(module: NetModule) -> Iterator[Weights]:
    """Yield the weights of all convolutions and inner products, shared ones as often as used."""
    for own in module.layers:
        if isinstance(own, LayerModule) and own.layer.type in WEIGHTED:
            yield Weights(own.layer, own.blobs[0])


def is_pointwise(layer: Layer) -> bool:
    """Tell whether a layer is a 1×1 convolution that is not depthwise."""
    shape = layer.blobs[0].shape
    return (
        layer.type == "Convolution"
        and len(shape) == 4
        and shape[2:] == (1, 1)
        and (shape[1] > 1 or layer.proto.convolution_param.group == 1)
    )


def _matches(layer: Layer, glob: str) -> bool:
    return layer.name == glob or fnmatchcase(layer.name, glob)
