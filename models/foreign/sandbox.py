"""Take from this process what a model needs not: other files, network, other processes. Linux's Landlock and seccomp.

Landlock holds the thread that asks for it and those that it starts, so numpy and torch are imported afterwards. It
needs no program and no right, and works in a container and under systemd, too; what the kernel lacks is left out, and
said. Sources: landlock(7), seccomp(2). Next: confined.py (who asks).
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""landlock_*: the same numbers on every machine."""
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
READ = EXECUTE | READ_FILE | READ_DIR
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/proc", "/sys", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
FILE_LIMIT_BYTES = 1024**3
KEPT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VIRTUAL_ENV")
"""Of the environment; the rest may hold passwords."""
PR_SET_NO_NEW_PRIVS, SET_MODE_FILTER, FILTER_FLAG_TSYNC, EPERM = 38, 1, 1, 1
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | EPERM
_X86_64 = (42, 49, 50, 43, 288, 44, 46, 101, 310, 311, 62, 165, 272, 308, 321, 250, 425)
_AARCH64 = (203, 200, 201, 202, 242, 206, 211, 117, 270, 271, 129, 40, 97, 268, 280, 219, 425)
MACHINES = {"x86_64": (0xC000003E, 317, 41, _X86_64), "aarch64": (0xC00000B7, 277, 198, _AARCH64)}
"""Per machine: its audit number, seccomp(2), socket(2), and what is refused: connect, bind, listen, accept, accept4,
sendto, sendmsg, ptrace, process_vm_readv and _writev, kill, mount, unshare, setns, bpf, keyctl, io_uring_setup."""
AF_UNIX = 1
LIBRARIES = ("site-packages", "dist-packages")
"""What folders of installed libraries are called."""

_libc = ctypes.CDLL(None, use_errno=True)


def confine(readable: Iterable[Path], scratch: Path) -> str:
    """Confine this process for good: it reads these and Python, writes into ``scratch``. Returns what holds it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT_BYTES, FILE_LIMIT_BYTES))
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return describe(0, filtered=False)
    abi = landlock_abi()
    if abi > 0:
        _landlock(abi, [*readable, *python_places()], scratch)
    return describe(abi, filtered=_seccomp())


def landlock_abi() -> int:
    """The version of the kernel's Landlock; 0 where it has none."""
    return max(0, int(_libc.syscall(CREATE_RULESET, None, 0, 1)))


def describe(abi: int, *, filtered: bool) -> str:
    """What holds a foreign model, for people."""
    held = [f"Landlock {abi} (files)"] * (abi > 0) + ["seccomp (network, other processes)"] * filtered
    return " and ".join(held) if held else "a process of its own alone: this kernel has neither Landlock nor seccomp"


def available() -> str:
    """What a dry run on this machine is held by, as far as can be told without doing it."""
    return describe(
        landlock_abi(), filtered=platform.machine() in MACHINES and Path("/proc/sys/kernel/seccomp").exists()
    )


def python_places() -> list[Path]:
    """What Python, its libraries and this package are read from, without what may lie beside them.

    Libraries also lie elsewhere: those that a user installed without an environment, those that a .pth file names.
    """
    libraries = [Path(path).resolve() for path in sys.path if Path(path).name in LIBRARIES]
    return [Path(sys.prefix), Path(sys.base_prefix), *libraries, Path(__file__).resolve().parents[1]]


def environment(scratch: Path) -> dict[str, str]:
    """The child's environment."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return {**kept, "TMPDIR": str(scratch), "HOME": str(scratch), "LOGNAME": "model"}  # torch asks for its user's name


def _landlock(abi: int, readable: Iterable[Path], scratch: Path) -> None:
    rights = (1 << 13) - 1 | (1 << 13 if abi >= 2 else 0) | (1 << 14 if abi >= 3 else 0)
    attributes = struct.pack("<QQQ", rights, 3, 3)[: 8 if abi < 4 else 16 if abi < 6 else 24]
    ruleset = int(_libc.syscall(CREATE_RULESET, attributes, len(attributes), 0))
    if ruleset < 0:
        raise OSError(ctypes.get_errno(), "landlock_create_ruleset")
    for place in (*map(Path, SYSTEM), *readable):
        _allow(ruleset, place, READ)
    for place in (Path(path) for path in sys.path if path):
        _allow(ruleset, place.resolve(), READ_DIR)  # where packages are looked for
    _allow(ruleset, python_places()[-1].parent, READ_DIR)
    for place in map(Path, DEVICES):
        _allow(ruleset, place, READ_FILE | WRITE_FILE)
    _allow(ruleset, scratch, rights)
    if _libc.syscall(RESTRICT_SELF, ruleset, 0) != 0:
        raise OSError(ctypes.get_errno(), "landlock_restrict_self")
    os.close(ruleset)


def _allow(ruleset: int, place: Path, rights: int) -> None:
    if not place.exists():
        return
    if not place.is_dir():
        rights &= EXECUTE | READ_FILE | WRITE_FILE
    descriptor = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        _libc.syscall(ADD_RULE, ruleset, 1, struct.pack("<Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _seccomp() -> bool:
    """Refuse (EPERM) what reaches other machines and processes; False where this machine or kernel doesn't know how."""
    if platform.machine() not in MACHINES:
        return False
    audit, seccomp, socket, refused = MACHINES[platform.machine()]
    rules = [
        (0x20, 0, 0, 4),
        (0x15, 1, 0, audit),
        (0x06, 0, 0, REFUSE),
        (0x20, 0, 0, 0),
    ]  # machine, then number
    for number in refused:
        rules += [(0x15, 0, 1, number), (0x06, 0, 0, REFUSE)]
    rules += [(0x35, 0, 1, 0x40000000), (0x06, 0, 0, REFUSE)]  # x32's numbers
    rules += [(0x15, 0, 3, socket), (0x20, 0, 0, 16), (0x15, 1, 0, AF_UNIX), (0x06, 0, 0, REFUSE)]
    rules += [(0x06, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *rule) for rule in rules))
    program = struct.pack("@HP", len(rules), ctypes.addressof(code))
    return int(_libc.syscall(seccomp, SET_MODE_FILTER, FILTER_FLAG_TSYNC, program)) == 0
