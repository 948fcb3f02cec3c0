"""Start a server that listens on every interface and can't be told otherwise, and close its ports to other machines.

Orthanc is such a one, with both of its ports (docs/orthanc.md). A process beside it waits until they are there, takes
each listening socket over for a moment (pidfd_getfd, Linux 5.6) and gives it a packet filter, which asks for no rights:
what does not come from 127.0.0.1 is dropped. Where the kernel refuses, the server's log says so, and a firewall must
do it. Next: supervisor.py (which starts Orthanc so).
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

WITHIN_S = 120.0
"""A server that does not listen by then is left alone."""
_LOOK_S = 0.05
_PR_SET_PTRACER = 0x59616D61
_PIDFD_GETFD = 438
_SO_ATTACH_FILTER = 26
_LISTENS = "0A"
_SOURCE = 0xFFF00000 + 12
"""SKF_NET_OFF, from which a filter counts in the IP header: there is the source's address."""
_FILTER = (
    (0x20, 0, 0, _SOURCE),  # load it
    (0x15, 0, 1, 0x7F000001),  # 127.0.0.1: go on, else skip one
    (0x06, 0, 0, 0xFFFFFFFF),  # take the whole packet
    (0x06, 0, 0, 0),  # drop it
)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m medai.router.onebox.closed PORT[,PORT] COMMAND...``: becomes the command."""
    ports, *command = sys.argv[1:] if argv is None else argv
    watcher = _beside(os.getpid(), {int(port) for port in ports.split(",")})
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(watcher), 0, 0, 0)  # where Yama asks for it
    os.execv(command[0], command)  # noqa: S606 - the command that we are told


def _beside(server: int, ports: set[int]) -> int:
    """Start the process that closes the ports; not as a child, of which the server would know nothing."""
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        watcher = os.fork()
        if watcher == 0:
            os.close(telling)
            _watch(server, ports)
            os._exit(0)
        os.write(telling, str(watcher).encode())
        os._exit(0)
    os.close(telling)
    os.waitpid(child, 0)
    watcher = int(os.read(told, 32))
    os.close(told)
    return watcher


def _watch(server: int, ports: set[int]) -> None:
    """Close each port once it is there."""
    until = time.monotonic() + WITHIN_S
    reason = "it did not listen in time"
    pidfd = os.pidfd_open(server)
    while ports and time.monotonic() < until and not select.select([pidfd], [], [], _LOOK_S)[0]:  # it has not ended
        try:
            for port, descriptor in list(_listening(server, ports)):
                _close(pidfd, descriptor)
                ports.discard(port)
        except OSError as error:
            reason = error.strerror or type(error).__name__
    if select.select([pidfd], [], [], 0)[0]:
        return
    for port in sorted(ports):
        print(f"medai: port {port} stays open to other machines ({reason}): close it by a firewall", file=sys.stderr)


def _listening(server: int, ports: set[int]) -> Iterator[tuple[int, int]]:
    """Which of the ports the server listens on, and by which of its descriptors."""
    inodes = {}
    for line in Path(f"/proc/{server}/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        port = int(fields[1].rpartition(":")[2], 16)
        if fields[3] == _LISTENS and port in ports:
            inodes[f"socket:[{fields[9]}]"] = port
    for entry in Path(f"/proc/{server}/fd").iterdir():
        found = inodes.get(str(entry.readlink()))
        if found is not None:
            yield found, int(entry.name)


def _close(pidfd: int, descriptor: int) -> None:
    """Give a listening socket of another process the filter; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    ours = libc.syscall(_PIDFD_GETFD, pidfd, descriptor, 0)
    if ours < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    code = ctypes.create_string_buffer(b"".join(struct.pack("@HBBI", *each) for each in _FILTER))
    with socket.socket(fileno=ours) as listener:
        program = struct.pack("@HP", len(_FILTER), ctypes.addressof(code))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


if __name__ == "__main__":
    sys.exit(main())
