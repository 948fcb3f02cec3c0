"""Take from this process what a model needs not: other files, network, other processes. Linux's Landlock and seccomp.

Landlock holds the thread that asks for it and those that it starts, so numpy and torch are imported afterwards. It
needs no program and no right, and works in a container and under systemd, too; what the kernel lacks is left out, and
said. Sources: landlock(7), seccomp(2). Next: reader.py (who asks).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import site
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""landlock_*: the same numbers on every machine."""
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
READ = EXECUTE | READ_FILE | READ_DIR
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/proc", "/sys", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
NVIDIA = ("nvidia*", "dxg")
"""Under /dev: what CUDA opens."""
FILE_LIMIT_BYTES = 1024**2
"""Of what it says to standard error, and of memory that has the form of a file."""
KEPT = (
    "PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VIRTUAL_ENV",
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER",
)  # fmt: skip
"""Of the environment; the rest may hold passwords."""
NOWHERE = "/nonexistent"
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, SET_MODE_FILTER, FILTER_FLAG_TSYNC, AF_UNIX = 1, 38, 1, 1, 1
CLONE_THREAD = 0x10000
CAPABILITY_VERSION = 0x20080522
FILES_OF_OTHERS = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root reads a model that belongs to a user. Landlock says which files."""
ALLOW, REFUSE, UNKNOWN = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, MACHINE, FIRST_ARGUMENT = 0, 4, 16
"""Where a filter finds them (struct seccomp_data)."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The numbers of a machine's system calls. ``refused``: connect, bind, listen, accept, accept4, sendto, sendmsg,
    sendmmsg (the network); fork, vfork, execve, execveat (other programs); ptrace, process_vm_readv and _writev, kill,
    tkill, rt_sigqueueinfo, rt_tgsigqueueinfo, pidfd_send_signal, pidfd_open, pidfd_getfd, kcmp, process_madvise,
    process_mrelease, setpriority, sched_setparam, _setscheduler, _setaffinity, _setattr, ioprio_set, migrate_pages,
    move_pages (other processes); shmget, mq_open (what outlives it); mount, unshare, setns, bpf, add_key, request_key,
    keyctl, io_uring_setup, perf_event_open, userfaultfd (the kernel)."""

    audit: int
    seccomp: int
    socket: int
    clone: int
    prctl: int
    tgkill: int
    prlimit: int
    refused: tuple[int, ...]


CLONE3 = 435
"""Its flags can't be looked at, so it is said to be unknown: the C library takes clone instead."""
_EVERYWHERE = (424, 425, 434, 438, 440, 448)
_X86_64 = (
    42, 49, 50, 43, 288, 44, 46, 307, 57, 58, 59, 322, 101, 310, 311, 62, 200, 129, 297, 312, 141, 142, 144, 203, 314,
    251, 256, 279, 29, 240, 165, 272, 308, 321, 248, 249, 250, 298, 323,
)  # fmt: skip
_AARCH64 = (
    203, 200, 201, 202, 242, 206, 211, 269, 221, 281, 117, 270, 271, 129, 130, 138, 240, 272, 140, 118, 119, 122, 274,
    30, 238, 239, 194, 180, 40, 97, 268, 280, 217, 218, 219, 241, 282,
)  # fmt: skip
MACHINES = {
    "x86_64": Machine(
        audit=0xC000003E, seccomp=317, socket=41, clone=56, prctl=157, tgkill=234, prlimit=302,
        refused=_X86_64 + _EVERYWHERE,
    ),
    "aarch64": Machine(
        audit=0xC00000B7, seccomp=277, socket=198, clone=220, prctl=167, tgkill=131, prlimit=261,
        refused=_AARCH64 + _EVERYWHERE,
    ),
}  # fmt: skip
LIBRARIES = ("site-packages", "dist-packages")
"""What folders of installed libraries are called."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a model may take."""

    seconds: float = 3600.0
    """For one volume."""
    load_seconds: float = 240.0
    memory_bytes: int = 0
    """0: three quarters of this machine's."""

    @property
    def most_memory_bytes(self) -> int:
        """In figures."""
        return self.memory_bytes or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4


def confine(readable: Iterable[Path], *, memory_bytes: int = 0, gpu: bool = False) -> str:
    """Confine this process for good: it reads these and Python, and writes nothing. Returns what holds it.

    ``memory_bytes`` (0: any) is address space, which with a GPU says nothing: there it is what it allocates.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_DATA if gpu else resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    if not gpu:
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT_BYTES, FILE_LIMIT_BYTES))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")  # the first to go where memory ends
    if _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return describe(0, filtered=False)
    _drop_capabilities()
    abi = landlock_abi()
    if abi > 0:
        _landlock(abi, [*readable, *python_places()], [*DEVICES, *(gpu_devices() if gpu else ())])
    return describe(abi, filtered=_seccomp())


def _drop_capabilities() -> None:
    """What root may beyond its own files: it may look into other processes, Landlock or not, and raise its limits."""
    header = struct.pack("=Ii", CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(24)  # effective, permitted, inheritable of 32 capabilities; the same of the rest
    if _libc.capget(header, held) == 0:
        permitted = struct.unpack("=6I", held.raw)[1] & FILES_OF_OTHERS
        _libc.capset(header, struct.pack("=6I", permitted, permitted, 0, 0, 0, 0))


def end_with_parent(parent: int) -> None:
    """The kernel ends this process when the thread that started it ends; one that has ended already ends it now."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(1)


def gpu_devices() -> list[str]:
    """The files of NVIDIA's GPUs here."""
    return [str(device) for pattern in NVIDIA for device in sorted(Path("/dev").glob(pattern))]


def landlock_abi() -> int:
    """The version of the kernel's Landlock; 0 where it has none."""
    return max(0, int(_libc.syscall(CREATE_RULESET, None, 0, 1)))


def describe(abi: int, *, filtered: bool) -> str:
    """What holds a foreign model, for people."""
    held = [f"Landlock {abi} (files)"] * (abi > 0) + ["seccomp (network, other processes)"] * filtered
    return " and ".join(held) if held else "a process of its own alone: this kernel has neither Landlock nor seccomp"


def available() -> str:
    """What a foreign model on this machine is held by, as far as can be told without running it."""
    return describe(
        landlock_abi(), filtered=platform.machine() in MACHINES and Path("/proc/sys/kernel/seccomp").exists()
    )


def python_places() -> list[Path]:
    """What Python, its libraries and this package are read from, without what may lie beside them.

    Libraries also lie elsewhere: those that a user installed without an environment, those that a .pth file names.
    """
    libraries = [Path(path).resolve() for path in sys.path if Path(path).name in LIBRARIES]
    return [Path(sys.prefix), Path(sys.base_prefix), *libraries, Path(__file__).resolve().parents[1]]


def environment() -> dict[str, str]:
    """The child's environment. Its user's name is asked for by torch, its user's libraries may be ours."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    libraries = {"PYTHONUSERBASE": site.getuserbase(), "PYTHONDONTWRITEBYTECODE": "1"}
    return {**kept, **libraries, "TMPDIR": NOWHERE, "HOME": NOWHERE, "LOGNAME": "model"}


def _landlock(abi: int, readable: Iterable[Path], devices: Iterable[str]) -> None:
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
    for place in map(Path, devices):
        _allow(ruleset, place, READ_FILE | READ_DIR | WRITE_FILE)
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
    machine = MACHINES.get(platform.machine())
    if machine is None:
        return False
    rules = _filter(machine)
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *rule) for rule in rules))
    program = struct.pack("@HP", len(rules), ctypes.addressof(code))
    return int(_libc.syscall(machine.seccomp, SET_MODE_FILTER, FILTER_FLAG_TSYNC, program)) == 0


Rule = tuple[int, int, int, int]
"""An instruction of the filter: what, how many to skip if so, how many if not, with which value."""


def _filter(machine: Machine) -> list[Rule]:
    rules: list[Rule] = [
        (LOAD, 0, 0, MACHINE),
        (EQUAL, 1, 0, machine.audit),
        (RETURN, 0, 0, REFUSE),
        (LOAD, 0, 0, NUMBER),
        (AT_LEAST, 0, 1, 0x40000000),  # x32's numbers
        (RETURN, 0, 0, REFUSE),
    ]
    for number in machine.refused:
        rules += [(EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    rules += [(EQUAL, 0, 1, CLONE3), (RETURN, 0, 0, UNKNOWN)]
    rules += _only_if(machine.socket, EQUAL, AF_UNIX)
    rules += _only_if(machine.clone, ANY_BIT, CLONE_THREAD)  # threads, no processes
    rules += _only_if(machine.tgkill, EQUAL, os.getpid())  # as abort() does
    rules += _only_if(machine.prlimit, EQUAL, 0)
    rules += _only_if(machine.prctl, EQUAL, PR_SET_PDEATHSIG, unless=True)
    return [*rules, (RETURN, 0, 0, ALLOW)]


def _only_if(number: int, test: int, value: int, *, unless: bool = False) -> list[Rule]:
    """Allow a call whose first argument passes (``unless``: does not pass) a test."""
    passed, failed = (0, 1) if unless else (1, 0)
    return [
        (EQUAL, 0, 4, number),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (test, passed, failed, value),
        (RETURN, 0, 0, REFUSE),
        (LOAD, 0, 0, NUMBER),
    ]
