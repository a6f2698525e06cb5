"""The processes that train one net together, as ``torchrun`` starts them; usually it is one."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from caffe_scnn.errors import CaffeScnnError


@dataclass(frozen=True)
class Team:
    """One process and its device among all of them.

    Attributes
    ----------
    rank, world : int
        It is number ``rank`` of ``world``.
    device : torch.device
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Tell whether it is the one that writes files and speaks."""
        return self.rank == 0

    def share(self, module: nn.Module) -> nn.Module:
        """Let the gradients of a module be averaged over all processes."""
        if self.world == 1:
            return module
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes."""
        if self.world > 1:
            dist.all_reduce(values)
            values /= self.world
        return values

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is up in any process."""
        if self.world == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(value)
        return bool(value)


def default_device(rank: int = 0) -> torch.device:
    """Return a GPU if there is one, the CPU otherwise."""
    if torch.cuda.is_available():
        return torch.device("cuda", rank % torch.cuda.device_count())
    return torch.device("cpu")


@contextmanager
def join_team(device: Literal["auto", "cpu", "cuda"] = "auto") -> Iterator[Team]:
    """Join the processes that ``torchrun`` started; without it this process is the whole team.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        ``auto`` takes a GPU if there is one.

    Raises
    ------
    CaffeScnnError
        A GPU is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise CaffeScnnError("there is no GPU that PyTorch can use; leave --device out")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch.device("cpu") if device == "cpu" else default_device(local)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Team(chosen)
        return
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Team(chosen, dist.get_rank(), world)
        dist.barrier()  # the first one writes files when the others are done: all leave together
    finally:
        gc.collect()  # what is shared holds on to the group, and would go when its threads are gone
        dist.destroy_process_group()
