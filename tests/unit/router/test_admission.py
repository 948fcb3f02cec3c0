"""Who must go when another comes, by a clock of the test's own."""

from __future__ import annotations

from collections import Counter
from ipaddress import ip_network

import pytest

from medai.router.admission import TOLD_AGAIN_S, TOLD_LIMIT, Admission, Allowance, Guest, group_of


class Port:
    """An Admission, and which connections it ended."""

    def __init__(self, *networks: str, total: int = 4, of_peer: int = 3, held_bytes: int = 100) -> None:
        self.turned_away: Counter[str] = Counter()
        allowed = [ip_network(each) for each in networks]
        self.admission = Admission(
            allowed=allowed, total=total, of_peer=of_peer, held_bytes=held_bytes, turned_away=self.turned_away
        )
        self.ended: list[tuple[str, str]] = []

    def enter(self, name: str, peer: str, at: float) -> Guest:
        guest = self.admission.enter(peer, at, lambda reason: self.ended.append((name, reason)))
        assert guest is not None
        return guest


def test_a_peer_that_is_full_ends_its_own_longest_silent_connection() -> None:
    port = Port()
    for at, name in enumerate("abc"):
        port.enter(name, "10.0.0.1", at).proven = name == "a"
    port.enter("other", "10.0.0.2", 3)
    port.enter("d", "10.0.0.1", 4)
    assert port.ended == [("b", "limit")]
    assert len(port.admission) == 4


def test_a_full_port_ends_the_longest_silent_that_never_sent_a_message() -> None:
    port = Port()
    names = ("old", "silent", "newer", "newest")
    guests = [port.enter(name, f"10.0.0.{at}", at) for at, name in enumerate(names)]
    guests[0].proven = True
    port.enter("one more", "10.0.0.9", 9)
    assert port.ended == [("silent", "limit")]


def test_where_all_have_sent_messages_the_address_with_the_most_gives_one_up() -> None:
    port = Port()
    for at, (name, peer) in enumerate((("only", "10.0.0.1"), ("a", "10.0.0.2"), ("b", "10.0.0.2"), ("c", "10.0.0.3"))):
        port.enter(name, peer, at).proven = True
    port.enter("one more", "10.0.0.9", 9)
    assert port.ended == [("a", "limit")]


def test_nothing_that_is_worked_on_is_ended() -> None:
    port = Port(total=1)
    port.enter("a", "10.0.0.1", 0).busy = True
    assert port.admission.enter("10.0.0.2", 1, lambda _: None) is None
    assert port.ended == []


def test_the_oldest_unfinished_message_of_the_address_that_holds_the_most_gives_way() -> None:
    port = Port(total=10, of_peer=10)
    flood = [port.enter(f"flood {n}", "10.0.0.1", n) for n in range(3)]
    mine = port.enter("mine", "10.0.0.2", 5)
    port.admission.hold(mine, 40, 5)
    for at, guest in enumerate(flood, start=6):
        port.admission.hold(guest, 25, at)
    assert port.ended == [("flood 0", "memory")]
    port.admission.hold(mine, 0, 10)
    port.admission.hold(mine, 50, 11)
    assert port.ended == [("flood 0", "memory")]


def test_a_message_that_is_kept_right_now_is_never_given_up() -> None:
    port = Port()
    guest = port.enter("a", "10.0.0.1", 0)
    guest.busy = True
    port.admission.hold(guest, 1000, 1)
    assert port.ended == []


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("10.1.3.1", False), ("fe80::1%eth0", True), ("", False),
        ("nobody", False),
    ],
)  # fmt: skip
def test_the_list_of_addresses_holds_for_every_way_to_write_one(address: str, allowed: bool) -> None:
    assert Port("10.1.2.0/24", "fe80::/10").admission.allows(address) is allowed
    assert Port().admission.allows(address)


def test_one_machine_has_all_addresses_of_its_ipv6_network() -> None:
    assert group_of("2001:db8::1") == group_of("2001:db8::ffff:1") != group_of("2001:db8:0:1::1")
    assert group_of("::ffff:10.0.0.1") == "10.0.0.1" != group_of("10.0.0.2")


def test_a_flood_is_counted_whole_and_told_once_a_minute() -> None:
    port = Port()
    told = [port.admission.turn_away("10.0.0.1", "peer", float(at)) for at in range(int(TOLD_AGAIN_S) + 1)]
    assert [at for at, each in enumerate(told) if each] == [0, int(TOLD_AGAIN_S)]
    assert port.turned_away == {"peer": len(told)}
    for number in range(2 * TOLD_LIMIT):
        port.admission.turn_away(f"10.0.{number // 256}.{number % 256}", "peer", 100.0)
    assert len(port.admission._told) == TOLD_LIMIT


def test_what_was_used_of_an_hour_comes_back_little_by_little() -> None:
    allowance = Allowance(60)
    assert [allowance.take("10.0.0.1", 20, 0) for _ in range(4)] == [True, True, True, False]
    assert allowance.take("10.0.0.2", 60, 0), "another peer has an hour of its own"
    assert not allowance.take("10.0.0.1", 20, 1199)
    assert allowance.take("10.0.0.1", 20, 1201)
    assert not allowance.take("10.0.0.1", 61, 10_000_000), "an hour's at most"
