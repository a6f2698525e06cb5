"""What times are remembered by: the processor and the kernels; and the folder that keeps them."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from caffe_scnn import _kernels

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
SMALL_CACHES = {1: 32 << 10, 2: 256 << 10, 3: 4 << 20}  # bytes


def cache_folder() -> Path:
    """Return the folder of what was found out about this machine."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "caffe_scnn"


@cache
def processor() -> str:
    """Name the processor."""
    found = _cpuinfo("cpu family", "model\t", "model name")
    return " ".join([platform.machine(), *(found or [platform.processor()])])


@cache
def vendor() -> str:
    """Name who made the processor, as it does itself: GenuineIntel, AuthenticAMD."""
    return "".join(_cpuinfo("vendor_id"))


@cache
def cache_bytes(level: int) -> int:
    """Return the bytes of a core's cache of a level for data; of a small one if nobody tells."""
    for index in CACHES.glob("index*"):
        try:
            texts = [(index / name).read_text() for name in ("level", "type", "size")]
            found, kind, size = (text.strip() for text in texts)
            kilobytes = int(size.removesuffix("K"))
        except (OSError, ValueError):
            continue
        if found == str(level) and kind != "Instruction" and kilobytes:
            return kilobytes << 10
    return SMALL_CACHES[level]


def _cpuinfo(*wanted: str) -> list[str]:
    """Return what the system tells of the processors, each answer once."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    found = (line.split(":")[1].strip() for line in lines if line.startswith(wanted))
    return list(dict.fromkeys(found))


def timed_on() -> str:
    """Name all that the time of a layer depends on, the layer apart."""
    return f"{processor()} {_kernels.revision()}"
