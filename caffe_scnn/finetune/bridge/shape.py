"""Layers that rearrange, select, join or resize."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe_scnn.finetune.bridge.base import LayerModule
from caffe_scnn.layers.base import canonical_axis, refuse
from caffe_scnn.layers.crop import Crop as CropType
from caffe_scnn.layers.permute import Permute as PermuteType


class View(LayerModule):
    """Reshape and Flatten: another shape for the same values."""

    types: ClassVar[tuple[str, ...]] = ("Reshape", "Flatten")

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Reshape."""
        return (bottoms[0].reshape(self.infer(bottoms)[0]),)


class Split(LayerModule):
    """Its bottom under several names; Silence has none."""

    types: ClassVar[tuple[str, ...]] = ("Split", "Silence", "HDF5Output")

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Pass on."""
        return [bottoms[0]] * len(self.layer.tops)


class Concat(LayerModule):
    """Blobs side by side along an axis."""

    types: ClassVar[tuple[str, ...]] = ("Concat",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Concatenate."""
        self.infer(bottoms)
        param = self.layer.proto.concat_param
        return (
            torch.cat(bottoms, param.concat_dim if param.HasField("concat_dim") else param.axis),
        )


class Slice(LayerModule):
    """A blob cut along an axis."""

    types: ClassVar[tuple[str, ...]] = ("Slice",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Cut."""
        param = self.layer.proto.slice_param
        axis = int(param.slice_dim) if param.HasField("slice_dim") else param.axis
        return torch.split(bottoms[0], [shape[axis] for shape in self.infer(bottoms)], axis)


class Crop(LayerModule):
    """The first bottom cut to the size of the second."""

    types: ClassVar[tuple[str, ...]] = ("Crop",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Cut."""
        (shape,) = self.infer(bottoms)
        axis, offsets = CropType().offsets(self.layer, tuple(bottoms[0].shape))
        index = tuple(slice(o, o + n) for o, n in zip(offsets, shape[axis:], strict=True))
        return (bottoms[0][(slice(None),) * axis + index],)


class Tile(LayerModule):
    """A blob repeated along an axis."""

    types: ClassVar[tuple[str, ...]] = ("Tile",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Repeat whole blocks."""
        self.infer(bottoms)
        param = self.layer.proto.tile_param
        return (torch.cat([bottoms[0]] * param.tiles, param.axis),)


class Permute(LayerModule):
    """Axes in another order."""

    types: ClassVar[tuple[str, ...]] = ("Permute",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Transpose."""
        return (bottoms[0].permute(PermuteType().order(self.layer, bottoms[0].ndim)),)


class ShuffleChannel(LayerModule):
    """Channels of all groups in turn."""

    types: ClassVar[tuple[str, ...]] = ("ShuffleChannel",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Swap group and place in the group."""
        self.infer(bottoms)
        x, group = bottoms[0], int(self.layer.proto.shuffle_channel_param.group)
        parts = x.reshape(len(x), group, x.shape[1] // group, -1)
        return (parts.transpose(1, 2).reshape(x.shape),)


class BatchReindex(LayerModule):
    """Items of the first bottom in the order of the second."""

    types: ClassVar[tuple[str, ...]] = ("BatchReindex",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Gather along the first axis."""
        self.infer(bottoms)
        index = bottoms[1].long()
        wrong = index[(index < 0) | (index >= len(bottoms[0]))]
        if len(wrong):
            raise refuse(
                self.layer, f"index {int(wrong[0])} is not one of the {len(bottoms[0])} items"
            )
        return (bottoms[0][index],)


class Filter(LayerModule):
    """The items of each bottom where the last bottom is not zero."""

    types: ClassVar[tuple[str, ...]] = ("Filter",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Select."""
        *blobs, selector = bottoms
        return [blob[selector.reshape(-1) != 0] for blob in blobs]


class Interp(LayerModule):
    """Bilinear resizing that maps corner pixels to corner pixels (forks)."""

    types: ClassVar[tuple[str, ...]] = ("Interp",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Cut the borders, then interpolate."""
        param, x = self.layer.proto.interp_param, bottoms[0]
        (shape,) = self.infer(bottoms)
        rows, columns = (n + param.pad_end for n in x.shape[2:])
        inner = x[:, :, -param.pad_beg : rows, -param.pad_beg : columns]
        return (F.interpolate(inner, shape[2:], mode="bilinear", align_corners=True),)


class Upsample(LayerModule):
    """Undo a pooling: repeat pixels, or put values to the places of a mask (forks)."""

    types: ClassVar[tuple[str, ...]] = ("Upsample",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Repeat, or scatter."""
        x = bottoms[0]
        (shape,) = self.infer(bottoms)
        if len(bottoms) == 2:
            return (self._scattered(x, bottoms[1].long(), shape),)
        rows, columns = (
            torch.arange(n, device=x.device) * m // n
            for n, m in zip(shape[2:], x.shape[2:], strict=True)
        )
        return (x[:, :, rows][:, :, :, columns],)

    def _scattered(self, x: Tensor, mask: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Of several values for one place the last one stays."""
        if int(mask.min()) < 0 or int(mask.max()) >= shape[2] * shape[3]:
            raise refuse(
                self.layer, f"the mask points to {int(mask.max())}, outside {shape[2]}x{shape[3]}"
            )
        values, at = x.flatten(2), mask.flatten(2)
        turn = torch.arange(values.shape[2], device=x.device).expand_as(at)
        none = torch.full((*shape[:2], shape[2] * shape[3]), -1, device=x.device)
        last = none.scatter_reduce(2, at, turn, "amax")
        chosen = values.gather(2, last.clamp(min=0))
        return torch.where(last < 0, 0.0, chosen).reshape(shape)


class Eltwise(LayerModule):
    """Sum with coefficients, product or maximum."""

    types: ClassVar[tuple[str, ...]] = ("Eltwise",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Fold over the bottoms."""
        self.infer(bottoms)
        param = self.layer.proto.eltwise_param
        operation = param.EltwiseOp.Name(param.operation)
        total = bottoms[0]
        if operation == "SUM":
            coefficients = list(param.coeff) or [1.0] * len(bottoms)
            total = coefficients[0] * total
            for coefficient, x in zip(coefficients[1:], bottoms[1:], strict=True):
                total = total + coefficient * x
            return (total,)
        fold = torch.mul if operation == "PROD" else torch.maximum
        for x in bottoms[1:]:
            total = fold(total, x)
        return (total,)


class Reduction(LayerModule):
    """Sum, absolute sum, sum of squares or mean over the last axes."""

    types: ClassVar[tuple[str, ...]] = ("Reduction",)

    def forward(self, *bottoms: Tensor) -> Sequence[Tensor]:
        """Reduce, then multiply by coeff."""
        param = self.layer.proto.reduction_param
        axis = canonical_axis(self.layer, param.axis, bottoms[0].ndim)
        x = bottoms[0].reshape(*bottoms[0].shape[:axis], -1)
        kind = param.ReductionOp.Name(param.operation)
        values = x.abs() if kind == "ASUM" else x.square() if kind == "SUMSQ" else x
        total = values.mean(-1) if kind == "MEAN" else values.sum(-1)
        return (param.coeff * total,)
