"""What a worker's reading process uses of its machine: memory, cores, GPU and the disk under its scratch directory.

The processes of models that do not ship are its children, and count as it does. Each name ends in its unit. What a
machine does not have is left out. Next: app.py.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Load:
    """Looks at this process; ``cores_used`` is the mean since the look before."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._before = (time.monotonic(), _worked_s(_children()))

    def look(self) -> dict[str, float]:
        """What is used now."""
        return {**self._process(), **self._disk(), **gpu()}

    def _process(self) -> dict[str, float]:
        children = _children()
        now, before = (time.monotonic(), _worked_s(children)), self._before
        self._before = now
        wall_s = max(now[0] - before[0], 1e-3)
        pages = sum(_resident_pages(process) for process in ("self", *children))
        cores = max(0.0, round((now[1] - before[1]) / wall_s, 3))
        return {"memory_bytes": float(pages * PAGE_BYTES), "cores_used": cores}

    def _disk(self) -> dict[str, float]:
        try:
            usage = shutil.disk_usage(self._scratch)
        except OSError:  # the folder is made again with the next job
            return {}
        return {"scratch_free_bytes": float(usage.free), "scratch_size_bytes": float(usage.total)}


def _children() -> list[str]:
    """Numbers of the processes that this one has started."""
    found: list[str] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a thread that has ended meanwhile
            found += (task / "children").read_text(encoding="ascii").split()
    return found


def _resident_pages(process: str) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # it has ended meanwhile
        return 0


def _worked_s(children: list[str]) -> float:
    """Processor time of this process and of its children, those that have ended too."""
    ended = os.times()
    worked_s = time.process_time() + ended.children_user + ended.children_system
    for process in children:
        with suppress(OSError):
            after_name = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            worked_s += (int(after_name[11]) + int(after_name[12])) / TICKS_PER_S  # proc(5): utime, stime
    return worked_s


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
