"""Who is connected to a port, and who must go when another comes: no one keeps others out by being there.

A newcomer ends the connection that has been silent for longest: of its own address where that has as many as it may
have, else of those that never sent a whole message, else of the address that has the most. What unfinished messages
hold in memory is bounded over all connections in the same way. Pure but for the lock: clocks are the caller's.
Next: hl7/listener.py and announcements/listener.py (who ask), settings/ports.py (the limits).
"""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
TOLD_AGAIN_S = 60.0
"""Of one address and one reason the log tells once in so many seconds: a flood must not fill the disk."""
TOLD_LIMIT = 1_000
REASONS = ("peer", "sender", "limit", "memory", "too_long", "idle", "often", "tls")
"""Why a connection or a sender is turned away: not in the list of addresses, or of senders; others need its place, or
its memory; a message that is too long or does not end; silence; more announcements than are
taken in an hour; no TLS, or not the right one."""


@dataclass(eq=False, kw_only=True)
class Guest:
    """A connection. ``proven``: it sent a whole message that was taken; ``busy``: one of it is worked on now."""

    peer: str
    end: Callable[[str], None]
    """Ends it, for a reason: "limit" or "memory"."""
    heard_at: float
    proven: bool = False
    busy: bool = False
    held_bytes: int = 0
    began_at: float = 0.0
    """When the message that it holds a part of began."""


class Admission:
    """The connections of one port, and what was turned away, by reason (``REASONS``)."""

    def __init__(
        self, *, allowed: Sequence[Network], total: int, of_peer: int, held_bytes: int, turned_away: Counter[str]
    ) -> None:
        self._allowed = tuple(allowed)
        self._total = total
        self._of_peer = of_peer
        self._held_bytes = held_bytes
        self._turned_away = turned_away
        self._guests: set[Guest] = set()
        self._told: dict[tuple[str, str], float] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._guests)

    def allows(self, address: str) -> bool:
        """Whether an address may connect at all."""
        found = _address(address)
        if not self._allowed:
            return True
        return found is not None and any(found in network for network in self._allowed)

    def enter(self, address: str, now: float, end: Callable[[str], None]) -> Guest | None:
        """A new connection, for which another one may end; None where all the others are being worked on."""
        guest = Guest(peer=group_of(address), end=end, heard_at=now)
        with self._lock:
            mine = [each for each in self._guests if each.peer == guest.peer]
            if len(mine) >= self._of_peer and not self._end_one(mine):
                return None
            if len(self._guests) >= self._total and not self._end_one(self._guests):
                return None
            self._guests.add(guest)
        return guest

    def leave(self, guest: Guest) -> None:
        """It has ended; harmless where it is known."""
        with self._lock:
            self._guests.discard(guest)

    def hold(self, guest: Guest, size: int, now: float) -> None:
        """So many bytes of an unfinished message are kept for it; where all together are too many, one must go."""
        with self._lock:
            if size and not guest.held_bytes:
                guest.began_at = now
            guest.held_bytes = size
            while sum(each.held_bytes for each in self._guests) > self._held_bytes:
                holders = [each for each in self._guests if each.held_bytes and not each.busy]
                if not holders:
                    return
                sizes = _sums(holders)
                most = [each for each in holders if sizes[each.peer] == max(sizes.values())]
                self._end(min(most, key=lambda each: each.began_at), "memory")

    def turn_away(self, address: str, reason: str, now: float) -> bool:
        """Count one that was turned away; whether the log should tell of it."""
        with self._lock:
            self._turned_away[reason] += 1
            key = (group_of(address), reason)
            if now - self._told.get(key, float("-inf")) < TOLD_AGAIN_S:
                return False
            self._told.pop(key, None)
            if len(self._told) >= TOLD_LIMIT:
                del self._told[next(iter(self._told))]
            self._told[key] = now
            return True

    def _end_one(self, among: Iterable[Guest]) -> bool:
        """End the one that others miss least; False where each is being worked on."""
        idle = [each for each in among if not each.busy]
        if not idle:
            return False
        unproven = [each for each in idle if not each.proven]
        if not unproven:
            counts = Counter(each.peer for each in idle)
            unproven = [each for each in idle if counts[each.peer] == max(counts.values())]
        self._end(min(unproven, key=lambda each: each.heard_at), "limit")
        return True

    def _end(self, guest: Guest, reason: str) -> None:
        self._guests.discard(guest)
        guest.end(reason)


class Allowance:
    """So much of something in an hour for each peer: what was not used comes back little by little, up to an hour's."""

    def __init__(self, per_hour: float) -> None:
        self._per_hour = per_hour
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def take(self, address: str, amount: float, now: float) -> bool:
        """Whether a peer has so much left; it is used then. More than there is for a whole hour never is."""
        peer = group_of(address)
        with self._lock:
            left, at = self._left.pop(peer, (self._per_hour, now))
            left = min(self._per_hour, left + max(0.0, now - at) * self._per_hour / 3600.0)
            enough = amount <= left
            if len(self._left) >= TOLD_LIMIT:  # the peer that was heard of longest ago, by now with most of its hour
                del self._left[next(iter(self._left))]
            self._left[peer] = (left - amount if enough else left, now)
        return enough


def group_of(address: str) -> str:
    """Who counts as one peer: an IPv4 address, and of IPv6 a network of 64 bits, of which one machine has all."""
    found = _address(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found) if found else address


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address as it is compared: one of IPv4 that came in by an IPv6 socket is one of IPv4."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _sums(guests: Iterable[Guest]) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for each in guests:
        sizes[each.peer] += each.held_bytes
    return sizes
