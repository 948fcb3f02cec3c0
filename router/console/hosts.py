"""Under which names the console answers, so that a page of another name in a browser does not reach it (DNS rebinding).

Next: app.py.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

from medai.router.settings.tables import ConsoleSettings

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
ANYWHERE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not listened on


def answers_to(settings: ConsoleSettings) -> Callable[[str], bool]:
    """Whether a Host header is one of ours.

    Where the console listens on every address, any address will do, as no page comes from one by a trick, and so will
    this machine's name and names without a dot, which no server outside gives.
    """
    given = {name.lower() for name in settings.allowed_hosts}
    known = LOOPBACK | given | {settings.host.lower()}
    if settings.host not in ANYWHERE:
        return lambda header: "*" in given or _name(header) in known
    own = {socket.gethostname().lower(), socket.getfqdn().lower()}
    return lambda header: "*" in given or _name(header) in known | own or _is_here(_name(header))


def _name(header: str) -> str:
    """The host of ``host:port`` or ``[::1]:port``."""
    name = header.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _is_here(name: str) -> bool:
    if not name:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." not in name
    return True
