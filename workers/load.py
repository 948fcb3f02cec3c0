"""What a worker's reading process uses of its machine: memory, cores, GPU and the disk under its scratch directory.

Each name ends in its unit. What a machine does not have is left out. Next: app.py.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Load:
    """Looks at this process; ``cores_used`` is the mean since the look before."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._before = (time.monotonic(), time.process_time())

    def look(self) -> dict[str, float]:
        """What is used now."""
        return {**self._process(), **self._disk(), **gpu()}

    def _process(self) -> dict[str, float]:
        now, before = (time.monotonic(), time.process_time()), self._before
        self._before = now
        wall_s = max(now[0] - before[0], 1e-3)
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return {"memory_bytes": float(resident * PAGE_BYTES), "cores_used": round((now[1] - before[1]) / wall_s, 3)}

    def _disk(self) -> dict[str, float]:
        try:
            usage = shutil.disk_usage(self._scratch)
        except OSError:  # the folder is made again with the next job
            return {}
        return {"scratch_free_bytes": float(usage.free), "scratch_size_bytes": float(usage.total)}


def gpu() -> dict[str, float]:
    """Memory of the GPU, all processes' together, and how busy it was lately; empty without one."""
    import torch

    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    found = {"gpu_memory_used_bytes": float(total - free), "gpu_memory_size_bytes": float(total)}
    with suppress(ModuleNotFoundError, RuntimeError):  # nvidia-ml-py is not installed, or the driver does not count
        found["gpu_busy_ratio"] = torch.cuda.utilization() / 100.0
    return found
