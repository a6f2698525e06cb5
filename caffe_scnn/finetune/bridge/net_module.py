"""A Caffe net as a PyTorch module, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from caffe_scnn.errors import ModelError
from caffe_scnn.finetune.bridge.base import LayerModule
from caffe_scnn.finetune.bridge.bases import bases_before, composed
from caffe_scnn.finetune.bridge.recurrent import Recurrent
from caffe_scnn.finetune.bridge.table import layer_module, module_type
from caffe_scnn.layers.shapes import infer_shapes
from caffe_scnn.model.graph import Graph, is_fed
from caffe_scnn.model.net import Blob, Layer, Net


class NetModule(nn.Module):
    """A net that can be trained.

    Its blobs are parameters: those that layers share by name are one object, and what gradients
    do not reach (running statistics) does not require any. The net that was given stays as it is.

    Parameters
    ----------
    net : Net
        Of one phase, weights bound (see :func:`caffe_scnn.load`).

    Attributes
    ----------
    inputs, outputs : tuple of str
        Blobs that are fed, and blobs that nobody reads.

    Raises
    ------
    ModelError
        Caffe would refuse the net, or a layer has no weights.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        infer_shapes(net)
        self._net = net.copy()
        graph = Graph(self._net)
        self.inputs = tuple(graph.inputs)
        self.outputs = tuple(graph.outputs)
        parameters = _parameters(self._net)
        self.layers = nn.ModuleList(
            layer_module(layer, blobs)
            for layer, blobs in zip(self._net.layers, parameters, strict=True)
            if not is_fed(layer)
        )
        self._bases = bases_before(graph, [self._own(i) for i in range(len(self.layers))])
        self._plans: dict[tuple[object, ...], list[int]] = {}

    def layer(self, name: str) -> LayerModule:
        """Return the module of the first layer of this name.

        Raises
        ------
        ModelError
            There is none.
        """
        for module in self.layers:
            if isinstance(module, LayerModule) and module.layer.name == name:
                return module
        raise ModelError(f'the net has no layer "{name}" to train')

    def forward(
        self, inputs: Mapping[str, Tensor], blobs: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Compute blobs.

        Parameters
        ----------
        inputs : mapping of str to tensor
            The net's inputs, or any other blobs: what they depend on is then not computed.
        blobs : sequence of str, optional
            Blobs to return, the outputs by default. One that is changed in place has its last
            value. Only the layers that they need are computed.

        Raises
        ------
        ModelError
            The net has no such blob, or an input is missing.
        """
        wanted = tuple(self.outputs if blobs is None else blobs)
        values = dict(inputs)
        plan = self._plan(frozenset(inputs), wanted)
        held: dict[int, Tensor] = {}  # what bases that are not computed themselves were to read
        for index in plan:
            module = self._own(index)
            layer = module.layer
            if index in self._bases and self._bases[index] in held:
                bases = self._bases[index]
                values[layer.tops[0]] = composed(self._own(bases), module, held[bases])
                continue
            missing = [bottom for bottom in layer.bottoms if bottom not in values]
            if missing:
                raise ModelError(f'"{missing[0]}" is needed by layer "{layer.name}": feed it')
            if index in self._bases.values() and layer.tops[0] not in wanted:
                held[index] = values[layer.bottoms[0]]
                continue
            tops = module(*(values[bottom] for bottom in layer.bottoms))
            values.update(zip(layer.tops, tops, strict=True))
        unknown = [blob for blob in wanted if blob not in values]
        if unknown:
            raise ModelError(f'the net has no blob "{unknown[0]}"')
        return {blob: values[blob] for blob in wanted}

    def _own(self, index: int) -> LayerModule:
        module = self.layers[index]
        assert isinstance(module, LayerModule)
        return module

    def _plan(self, given: frozenset[str], wanted: tuple[str, ...]) -> list[int]:
        """Return the layers that make the wanted blobs out of the given ones, in order."""
        key = (given, wanted)
        if key not in self._plans:
            # An input may yet be changed in place; another blob that is given has its last value.
            final = given.difference(self.inputs)
            needed, plan = set(wanted) - final, []
            for index in reversed(range(len(self.layers))):
                module = self._own(index)
                if needed.intersection(module.layer.tops):
                    plan.append(index)
                    needed.update(set(module.layer.bottoms) - final)
            self._plans[key] = plan[::-1]
        return self._plans[key]

    def needed(self, blobs: Sequence[str]) -> list[LayerModule]:
        """Return the layers that make these blobs of the inputs, in order."""
        return [self.layers[i] for i in self._plan(frozenset(self.inputs), tuple(blobs))]  # type: ignore[misc]

    def reset_state(self) -> None:
        """Let recurrent layers begin with zeros again."""
        for module in self.modules():
            if isinstance(module, Recurrent):
                module.reset_state()

    def to_net(self) -> Net:
        """Return the net with the blobs as they are now, in float32.

        What was not trained is the same to the bit. Layers that share a blob share the array.
        """
        net = self._net.copy()
        arrays: dict[nn.Parameter, Blob] = {}
        modules = {id(module.layer): module for module in self.layers}
        for own, layer in zip(self._net.layers, net.layers, strict=True):
            module = modules.get(id(own))
            if isinstance(module, LayerModule):
                layer.blobs = [
                    _in_shape(_array(parameter, arrays), tuple(shape))
                    for parameter, shape in zip(module.blobs, module.shapes, strict=True)
                ]
        return net


def _array(parameter: nn.Parameter, arrays: dict[nn.Parameter, Blob]) -> Blob:
    if parameter not in arrays:
        values = parameter.detach().to("cpu", torch.float32).numpy()
        arrays[parameter] = np.array(values, np.float32, order="C")
    return arrays[parameter]


def _in_shape(array: Blob, shape: tuple[int, ...]) -> Blob:
    """Return the array itself where it can be: sharers are known by the object."""
    return array if array.shape == shape else array.reshape(shape)


def _parameters(net: Net) -> list[list[nn.Parameter]]:
    """Make the parameters of every layer, one object for each shared blob."""
    shared: dict[str, nn.Parameter] = {}
    made = []
    for layer in net.layers:
        fixed = module_type(layer).gradient_free(layer)
        own = []
        for index, blob in enumerate(layer.blobs):
            name = _shared_name(layer, index)
            parameter = shared.get(name)
            if parameter is None:
                parameter = nn.Parameter(torch.from_numpy(blob.copy()), index not in fixed)
            if name:
                shared[name] = parameter
            own.append(parameter)
        made.append(own)
    return made


def _shared_name(layer: Layer, index: int) -> str:
    return layer.proto.param[index].name if index < len(layer.proto.param) else ""
