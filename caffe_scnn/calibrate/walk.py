"""Images on their way up a net that is compressed from the bottom up: they wait where they are.

Every layer that is fitted wants to see what it reads. From the input on that would cost the square
of the net's depth; so what all images have come to is kept, and they go on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from caffe_scnn.calibrate.images import Images, Values
from caffe_scnn.engine import Executor
from caffe_scnn.errors import ModelError
from caffe_scnn.model.graph import is_fed
from caffe_scnn.model.net import Layer, Net
from caffe_scnn.proto import caffe_pb2 as pb

Blobs = Mapping[str, Values]
Batch = tuple[int, Blobs]  # the number of the first image

# What the images have come to is kept up to this many bytes; else they begin at the input again.
KEPT_BYTES = 2**29


@dataclass(frozen=True)
class _Halt:
    """What all images have come to before layer number ``place``, batch by batch.

    ``passed`` are the layers on the way: with others there it is worth nothing.
    """

    place: int
    passed: list[Layer]
    batches: list[Batch]


class Walk:
    """All images, layer by layer up a net.

    The net may change above the last halt. Halts are where it is cut for the engine, which may
    round a little differently across a cut; so that results do not depend on what is kept, the
    net is cut at all halts there have been, whether images go on from the last or begin again.

    Parameters
    ----------
    images : Images
    net : Net
        Of one input.
    threads : int, optional
        Threads of the engine.

    Raises
    ------
    ModelError
        The net has not one input.
    """

    def __init__(self, images: Images, net: Net, threads: int | None = None) -> None:
        read = [bottom for layer in net.layers if layer.blobs for bottom in layer.bottoms]
        fed = [top for layer in needed(net.layers, read) if is_fed(layer) for top in layer.tops]
        self._images, self._net, self._threads = images, net, threads
        self._input = one_input(fed)
        self._halts: list[int] = []
        self._last: _Halt | None = None

    def halt(self, layers: Sequence[Layer]) -> int:
        """Cut the net before the last of some layers, known by name; return its number."""
        names = {layer.name for layer in layers}
        place = max(i for i, layer in enumerate(self._net.layers) if layer.name in names)
        self._halts = sorted({*self._halts, place})
        return place

    def blobs(self, layers: Sequence[Layer]) -> Iterator[tuple[int, Blobs]]:
        """Let all images come up to some layers; yield what these read.

        Parameters
        ----------
        layers : sequence of Layer
            Those that share weights; the net has layers of their names.

        Yields
        ------
        (int, mapping of str to float32 ndarray)
            The number of a batch's first image, and blobs.
        """
        end = self.halt(layers)
        wanted = [bottom for layer in layers for bottom in layer.bottoms]
        begin, waiting = self._last_halt(end)
        places = [begin, *(place for place in self._halts if begin < place < end), end]
        parts = [
            _Part(self._net.layers[first:last], self._live(last, wanted))
            for first, last in pairwise(places)
        ]
        arrived: list[Batch] = []
        for start, blobs in waiting:
            for part in parts:
                blobs = part.run(blobs, self._threads)
            arrived.append((start, blobs))
            size = sum(values.nbytes for values in blobs.values()) / len(blobs[wanted[0]])
            if size * len(self._images) > KEPT_BYTES:
                arrived.clear()
            yield start, blobs
        if arrived:
            self._last = _Halt(end, self._net.layers[:end], arrived)

    def _last_halt(self, end: int) -> tuple[int, Iterable[Batch]]:
        """Return where images wait below layer number ``end``, and what they have come to."""
        last = self._last
        if last and last.place <= end and last.passed == self._net.layers[: last.place]:
            return last.place, last.batches
        self._last = None
        return 0, ((start, {self._input: values}) for start, values in self._images.batches())

    def _live(self, place: int, wanted: Sequence[str]) -> list[str]:
        """List the blobs that are there before a layer and read from it on, or wanted."""
        below, above = self._net.layers[:place], self._net.layers[place:]
        made = (top for layer in below if not is_fed(layer) for top in layer.tops)
        there = {self._input, *made}
        read = [*wanted, *(bottom for layer in above for bottom in layer.bottoms)]
        return [name for name in dict.fromkeys(read) if name in there]


class _Part:
    """Layers between two halts.

    Parameters
    ----------
    layers : sequence of Layer
    wanted : sequence of str
        Blobs that are to be there behind them.
    """

    def __init__(self, layers: Sequence[Layer], wanted: Sequence[str]) -> None:
        self._wanted = wanted
        self._layers = [layer for layer in needed(layers, wanted) if not is_fed(layer)]
        self._made = {top for layer in self._layers for top in layer.tops}
        self._executor: Executor | None = None

    def run(self, blobs: Blobs, threads: int | None) -> Blobs:
        """Return what is wanted: made here, or handed on."""
        made = [name for name in self._wanted if name in self._made]
        if self._executor is None:
            self._executor = self._prepare(blobs, threads)
        found = {}
        if made:
            found = self._executor.run({n: blobs[n] for n in self._executor.inputs}, made)
        return {name: found[name] if name in found else blobs[name] for name in self._wanted}

    def _prepare(self, blobs: Blobs, threads: int | None) -> Executor:
        """Make a net of the layers, fed with blobs of such shapes."""
        inputs, made = [], set()
        for layer in self._layers:
            inputs += [name for name in layer.bottoms if name not in made]
            made.update(layer.tops)
        fed = []
        for name in dict.fromkeys(inputs):
            proto = pb.LayerParameter(name=f"{name} ", type="Input", top=[name])
            proto.input_param.shape.add().dim.extend(blobs[name].shape)
            fed.append(Layer(proto))
        # exact: what is found must not depend on the kernels that this machine prefers
        net = Net(pb.NetParameter(), [*fed, *self._layers])
        return Executor(net, threads=threads, exact=True)


def needed(layers: Sequence[Layer], blobs: Sequence[str]) -> list[Layer]:
    """Return the layers that make some blobs, and the inputs."""
    wanted, found = set(blobs), []
    for layer in reversed(layers):
        if layer.type == "Input" or wanted.intersection(layer.tops):
            wanted.update(layer.bottoms)
            found.append(layer)
    return found[::-1]


def one_input(names: Sequence[str]) -> str:
    """Return the one input of a net.

    Raises
    ------
    ModelError
        It has not one.
    """
    if len(names) != 1:
        raise ModelError(
            f"calibration feeds nets of one input; this one has {len(names)}: {', '.join(names)}"
        )
    return names[0]
