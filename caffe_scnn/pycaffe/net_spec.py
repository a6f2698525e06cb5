"""``caffe.NetSpec``, ``layers`` and ``params``: writing a prototxt as Python expressions.

>>> from caffe_scnn.pycaffe import NetSpec, layers as L, params as P
>>> n = NetSpec()
>>> n.data = L.Input(shape=dict(dim=[1, 3, 32, 32]))
>>> n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=8)
>>> n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
>>> [layer.name for layer in n.to_proto().layer]
['data', 'conv1', 'pool1']
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.message import Message

from caffe_scnn.model.messages import fields_of
from caffe_scnn.proto import caffe_pb2 as pb

_LAYER = fields_of(pb.LayerParameter.DESCRIPTOR)
# Layer type → the field with its parameters: ConvolutionParameter is convolution_param.
_FIELDS = {
    field.message_type.name.removesuffix("Parameter"): name
    for name, field in _LAYER.items()
    if field.message_type is not None and name.endswith("_param")
}
_FIELDS |= {"Deconvolution": "convolution_param", "DepthwiseConvolution": "convolution_param"}


class Top:
    """One output of a layer that is being written."""

    def __init__(self, fn: Function, n: int) -> None:
        self.fn, self.n = fn, n

    def to_proto(self) -> pb.NetParameter:
        """Return the net that computes it."""
        return to_proto(self)


class Function:
    """A layer that is being written.

    Parameters
    ----------
    type_name : str
    inputs : tuple of Top
    params : dict
        Fields of the layer or of its type's parameters; ``ntop`` and ``in_place`` are taken out.
    """

    def __init__(self, type_name: str, inputs: tuple[Any, ...], params: dict[str, Any]) -> None:
        for index, top in enumerate(inputs):
            if not isinstance(top, Top):
                raise TypeError(
                    f"{type_name}: input {index} is {type(top).__name__}, not a Top; a layer of "
                    "several tops returns a tuple of them"
                )
        self.type_name, self.inputs = type_name, inputs
        self.params = dict(params)
        count = self.params.pop("ntop", 1)
        self.in_place = self.params.pop("in_place", False)
        if self.in_place and (count != 1 or len(inputs) != 1):
            raise ValueError(f"{type_name}: only a layer of one bottom and one top is in place")
        self.tops = tuple(Top(self, n) for n in range(count))

    def write(self, names: _Names) -> pb.LayerParameter:
        """Return the layer."""
        layer = pb.LayerParameter(type=self.type_name, name=names.layer(self))
        layer.bottom.extend(names.top(top) for top in self.inputs)
        if self.in_place:
            layer.top.extend(layer.bottom)
        else:
            layer.top.extend(names.top(top) for top in self.tops)
        for name, value in self.params.items():
            _assign(_owner(layer, name), name, value)
        return layer


class _Names:
    """Names of tops: those a NetSpec gave, numbered ones for the rest."""

    def __init__(self, given: Mapping[Top, str]) -> None:
        self.given = dict(given)
        self.counts: dict[str, int] = {}

    def top(self, top: Top) -> str:
        if top.fn.in_place:
            return self.top(top.fn.inputs[0])
        if top not in self.given:
            self.given[top] = self.number(top.fn) + (str(top.n) if len(top.fn.tops) > 1 else "")
        return self.given[top]

    def layer(self, function: Function) -> str:
        for top in function.tops:
            if top in self.given:
                return self.given[top]
        return self.top(function.tops[0]) if function.tops else self.number(function)

    def number(self, function: Function) -> str:
        kind = function.type_name
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return f"{kind}{self.counts[kind]}"


class NetSpec:
    """The tops of a net by name: assigning one names it and its layer."""

    tops: OrderedDict[str, Top]

    def __init__(self) -> None:
        object.__setattr__(self, "tops", OrderedDict())

    def __setattr__(self, name: str, value: Top) -> None:
        self.tops[name] = value

    def __getattr__(self, name: str) -> Top:
        if name.startswith("__") or name not in self.tops:
            raise AttributeError(f'the net has no top "{name}" yet')
        return self.tops[name]

    def __setitem__(self, name: str, value: Top) -> None:
        self.tops[name] = value

    def __getitem__(self, name: str) -> Top:
        return self.tops[name]

    def __delattr__(self, name: str) -> None:
        del self.tops[name]

    def __delitem__(self, name: str) -> None:
        del self.tops[name]

    def to_proto(self) -> pb.NetParameter:
        """Return the net."""
        return _net(list(self.tops.values()), {top: name for name, top in self.tops.items()})


def to_proto(*tops: Top) -> pb.NetParameter:
    """Return the net that computes these tops; layers are numbered by type."""
    return _net(list(tops), {})


def _net(tops: list[Top], given: Mapping[Top, str]) -> pb.NetParameter:
    names = _Names(given)
    net = pb.NetParameter()
    done: set[Function] = set()
    for top in tops:
        for function in _before(top.fn, done):
            net.layer.append(function.write(names))
    return net


def _before(function: Function, done: set[Function]) -> Iterator[Function]:
    """Yield a layer after all that it needs, each once; deep nets are no deep recursion."""
    stack = [(function, iter(function.inputs))]
    while stack:
        current, inputs = stack[-1]
        if current in done:
            stack.pop()
            continue
        waiting = next((top.fn for top in inputs if top.fn not in done), None)
        if waiting is not None:
            stack.append((waiting, iter(waiting.inputs)))
            continue
        done.add(current)
        stack.pop()
        yield current


def _owner(layer: pb.LayerParameter, name: str) -> Message:
    """Return the message that a keyword belongs to: the type's parameters, or the layer."""
    field = _FIELDS.get(layer.type)
    if field is not None and name in fields_of(_LAYER[field].message_type):
        message: Message = getattr(layer, field)
        return message
    if name not in _LAYER:
        owners = f"{field} or LayerParameter" if field else "LayerParameter"
        raise AttributeError(f'{layer.type}: there is no field "{name}" in {owners}')
    return layer


def _assign(message: Message, name: str, value: Any) -> None:
    """Set a field from a value, a dict for a message, or a list of either."""
    field = fields_of(message.DESCRIPTOR).get(name)
    if field is None:
        raise AttributeError(f'{message.DESCRIPTOR.name} has no field "{name}"')
    target = getattr(message, name)
    if field.is_repeated:
        for item in value if isinstance(value, list | tuple) else [value]:
            if field.message_type is None:
                target.append(item)
            else:
                _fill(target.add(), item)
    elif field.message_type is not None:
        target.SetInParent()
        _fill(target, value)
    else:
        setattr(message, name, value)


def _fill(message: Message, values: Any) -> None:
    if isinstance(values, Message):
        message.CopyFrom(values)
        return
    for name, value in values.items():
        _assign(message, name, value)


class Layers:
    """``caffe.layers``: every attribute makes layers of that type."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def layer(*inputs: Top, **params: Any) -> Any:
            tops = Function(name, inputs, params).tops
            return tops[0] if len(tops) == 1 else tops

        return layer


class Parameters:
    """``caffe.params``: ``params.Pooling.MAX`` is that value of Caffe's enumeration."""

    def __getattr__(self, name: str) -> Any:
        message = getattr(pb, f"{name}Parameter", None)
        if message is None:
            raise AttributeError(f'Caffe has no "{name}Parameter"')
        return message


layers = Layers()
params = Parameters()
