"""Tell whether a process that holds a lease is dead, where that can be told: on the same machine.

A lease that runs out tells it of any process, but takes its time. Where holder and watcher share a host and a process
namespace, the kernel knows at once. Never a guess: in doubt a process is taken to live. Next: daemon/leader.py,
queue/sweeper.py.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def identity(pid: int | None = None) -> str:
    """What names a process (by default this one) for as long as it lives: host, namespace, pid and its start."""
    number = os.getpid() if pid is None else pid
    return f"{_place()}|{number}|{_started(number) or ''}"


def is_dead(process: str) -> bool:
    """True when the process named by ``identity`` ran here and runs no more; False also where nobody can tell."""
    place, _, rest = process.rpartition("|")[0].rpartition("|")
    started = process.rpartition("|")[2]
    if place != _place() or not rest.isdigit() or not started:
        return False
    now = _started(int(rest))
    return now != started and not (now is None and _is_hidden(int(rest)))


def _is_hidden(pid: int) -> bool:
    """Whether a process is there that /proc does not show to this user (its mount option hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not os.access(f"/proc/{pid}/stat", os.R_OK)
    except (OSError, OverflowError):
        pass
    return False


def _place() -> str:
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux: then nothing matches, and nobody is taken for dead
        namespace = f"unknown-{os.getpid()}"
    return f"{socket.gethostname()[:80]}/{_boot()}|{namespace}"


def _boot() -> str:
    """Names this start of this machine: two machines may have one name, and the same numbers of namespaces."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def _started(pid: int) -> str | None:
    """Clock ticks from boot to the process's start (proc(5), stat, field 22); None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]
