"""What a port has that other machines connect to: who may, how many at a time, and for how long they may be silent.

Next: admission.py (how it is kept), tables.py (the ports).
"""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import Field
from pydantic.networks import IPvAnyNetwork

from medai.router.settings.section import Positive, Section

Count = Annotated[int, Field(ge=1, le=10_000)]


class SharedPort(Section):
    """A port that other machines connect to."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    allowed_peers: tuple[IPvAnyNetwork, ...] = ()
    """Addresses and networks that may connect, such as ["10.1.2.3", "10.2.0.0/16"]; empty: anybody who reaches the
    port."""
    connections: Count = 200
    """Connections at a time. Another one still gets in: the one that has been silent for longest ends for it, of those
    first that never sent a whole message."""
    connections_of_peer: Count = 50
    """Connections at a time from one address (IPv6: one /64), by the same rule."""
    idle_s: Positive = 3600.0
    """A connection that is silent for this long ends."""

    @property
    def on_loopback(self) -> bool:
        """Whether this machine alone reaches the port."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
