"""Data layers: their tops are fed, whatever database or file Caffe would have read them from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from caffe_scnn.layers.base import Array, Coupling, LayerType, Shape, refuse
from caffe_scnn.model.net import Layer

Image = tuple[int | None, int | None, int | None, int | None]  # N, C, H, W; None: not in the file


class Fed(LayerType):
    """Base of the layers that Caffe reads data with; here the caller feeds their tops.

    The prototxt often leaves sizes to the database: then the caller names the shape. What the
    layer would do to its data (crop, mean, scale) is the caller's to do, too.
    """

    bottoms: ClassVar[tuple[int, int | None]] = (0, 0)
    tops: ClassVar[tuple[int, int | None]] = (1, 2)

    @abstractmethod
    def image(self, layer: Layer) -> Image:
        """Return what the prototxt says about the first top."""

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Return images and, as second top, one label each."""
        shape = self.image(layer)
        known = [n for n in shape if n]
        if len(known) < len(shape):
            said = ", ".join("?" if not n else str(n) for n in shape)
            raise refuse(
                layer,
                f'the shape of its top "{layer.tops[0]}" is not in the prototxt: it says ({said}), '
                f"and the rest is in the data; {name_the_shape(layer.tops[0])}",
            )
        return [tuple(known), (known[0],)][: len(layer.tops)]

    def feed(self, layer: Layer, given: Mapping[str, Shape]) -> list[Shape]:
        """Return the shapes given; labels are as many as images."""
        images = given.get(layer.tops[0])
        if images is None:
            return super().feed(layer, given)
        return [
            given.get(top, images if n == 0 else images[:1]) for n, top in enumerate(layer.tops)
        ]

    def reference(self, layer: Layer, bottoms: Sequence[Array]) -> list[Array]:
        """Refuse: data are given, not computed."""
        raise refuse(layer, "its values must be given")

    def coupling(self, layer: Layer) -> Coupling:
        """Make new channels."""
        return Coupling.PRODUCES


class Data(Fed):
    """A LevelDB or LMDB (``data_layer.cpp``)."""

    type: ClassVar[str] = "Data"

    def image(self, layer: Layer) -> Image:
        """Return batch and crop size; channels where mean values or a forced colour tell them."""
        param, transform = layer.proto.data_param, layer.proto.transform_param
        crop = int(transform.crop_size) or None
        channels = None
        if transform.force_gray:
            channels = 1
        elif transform.force_color or param.force_encoded_color:
            channels = 3
        elif len(transform.mean_value) > 1:
            channels = len(transform.mean_value)
        return int(param.batch_size) or None, channels, crop, crop


class ImageData(Fed):
    """A list of image files (``image_data_layer.cpp``)."""

    type: ClassVar[str] = "ImageData"
    tops: ClassVar[tuple[int, int | None]] = (2, 2)

    def image(self, layer: Layer) -> Image:
        """Return the crop, or else the size that images are brought to."""
        param, crop = layer.proto.image_data_param, layer.proto.transform_param.crop_size
        height, width = (crop, crop) if crop else (param.new_height, param.new_width)
        channels = 3 if param.is_color else 1
        return int(param.batch_size), channels, int(height) or None, int(width) or None


class MemoryData(Fed):
    """The caller's memory (``memory_data_layer.cpp``)."""

    type: ClassVar[str] = "MemoryData"
    tops: ClassVar[tuple[int, int | None]] = (2, 2)

    def image(self, layer: Layer) -> Image:
        """Return all four sizes; Caffe wants them."""
        param = layer.proto.memory_data_param
        sizes = int(param.batch_size), int(param.channels), int(param.height), int(param.width)
        if min(sizes) < 1:
            raise refuse(layer, f"batch_size, channels, height, width are {sizes}; give all four")
        return sizes


class WindowData(Fed):
    """Windows of images for R-CNN (``window_data_layer.cpp``)."""

    type: ClassVar[str] = "WindowData"
    tops: ClassVar[tuple[int, int | None]] = (2, 2)

    def image(self, layer: Layer) -> Image:
        """Return batch and crop size, of colour images."""
        param = layer.proto.window_data_param
        crop = int(layer.proto.transform_param.crop_size or param.crop_size) or None
        return int(param.batch_size) or None, 3, crop, crop


class AnnotatedData(Data):
    """A database of images with boxes (fork weiliu89/caffe, branch ssd)."""

    type: ClassVar[str] = "AnnotatedData"
    stock: ClassVar[bool] = False


class HDF5Data(Fed):
    """Data sets of HDF5 files, one for each top, under its name (``hdf5_data_layer.cpp``)."""

    type: ClassVar[str] = "HDF5Data"
    tops: ClassVar[tuple[int, int | None]] = (1, None)

    def image(self, layer: Layer) -> Image:
        """Return the batch size."""
        return int(layer.proto.hdf5_data_param.batch_size) or None, None, None, None

    def infer(self, layer: Layer, bottoms: Sequence[Shape]) -> list[Shape]:
        """Refuse: only the files say."""
        raise refuse(
            layer,
            f"the shapes of its tops are in the HDF5 files it lists; {name_the_shape(*layer.tops)}",
        )

    def feed(self, layer: Layer, given: Mapping[str, Shape]) -> list[Shape]:
        """Take the shapes; each top has its own."""
        missing = [top for top in layer.tops if top not in given]
        return self.infer(layer, []) if missing else [given[top] for top in layer.tops]


def name_the_shape(*tops: str) -> str:
    """Say how a shape is given, in a message."""
    python = ", ".join(f'"{top}": (…)' for top in tops)
    cli = " ".join(f"--input-shape {top}=…" for top in tops)
    return f"give it: load(…, inputs={{{python}}}), or {cli} (sizes with commas)"
