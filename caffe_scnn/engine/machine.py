"""What measured results are remembered by: the processor; and the folder where they are kept."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of what was found out about this machine."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "caffe_scnn"


@cache
def processor() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("cpu family", "model\t", "model name")
    found = [line.split(":")[1].strip() for line in lines if line.startswith(wanted)]
    return " ".join([platform.machine(), *dict.fromkeys(found)])
