"""Where nets run: always on the CPU. Choices of scripts are accepted and mean nothing."""

from __future__ import annotations


def set_mode_cpu() -> None:
    """Accept the choice of the CPU."""


def set_mode_gpu() -> None:
    """Accept the choice of a GPU; nets run on the CPU all the same."""


def set_device(device: int) -> None:
    """Accept the number of a GPU; it means nothing here."""


def has_nccl() -> bool:
    """Tell that there is no training on several GPUs."""
    return False
