"""Who gets a place at the archive, by a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from medai.router.dicom_front import places as module
from medai.router.dicom_front.places import Holder, Places


class Archive:
    """Places, and who was ended."""

    def __init__(self, *, total: int = 2, of_peer: int = 2, silent_s: float = 10.0) -> None:
        self.now = 0.0
        self.places = Places(total=total, of_peer=of_peer, silent_s=silent_s, clock=lambda: self.now)
        self.ended: list[str] = []

    def at_work(self, holder: Holder | None) -> None:
        """The archive has not answered yet to what came."""
        assert holder
        holder.moved_at += 0.1

    def holder(self, name: str, peer: str) -> Holder:
        return Holder(peer=peer, end=lambda _: self.ended.append(name), moved_at=self.now)

    async def takes(self, name: str, peer: str, *, wait_s: float = 0.0) -> Holder | None:
        holder = self.holder(name, peer)
        return holder if await self.places.take(holder, wait_s) else None


def play(steps: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(steps())  # type: ignore[arg-type]  # a coroutine function


async def until_they_wait(archive: Archive, *, count: int) -> None:
    while len(archive.places._waiting) < count:
        await asyncio.sleep(0)


def test_there_are_so_many_places_and_no_more() -> None:
    async def steps() -> None:
        archive = Archive(total=2)
        first = await archive.takes("a", "10.0.0.1")
        assert first
        assert await archive.takes("b", "10.0.0.2")
        assert await archive.takes("c", "10.0.0.3") is None
        archive.places.give_back(first)
        archive.places.give_back(first)
        assert await archive.takes("d", "10.0.0.3")
        assert len(archive.places) == 2

    play(steps)


def test_one_address_leaves_some_for_others() -> None:
    async def steps() -> None:
        archive = Archive(total=3, of_peer=2)
        assert all([await archive.takes("a", "10.0.0.1"), await archive.takes("b", "10.0.0.1")])
        assert await archive.takes("c", "10.0.0.1") is None
        assert await archive.takes("d", "10.0.0.2")

    play(steps)


def test_a_free_place_goes_to_who_has_fewest_and_then_to_who_came_first() -> None:
    async def steps() -> None:
        archive = Archive(total=3, of_peer=3)
        held = [await archive.takes("busy", "10.0.0.1") for _ in range(3)]
        order: list[str] = []

        async def wait(name: str, peer: str) -> None:
            if await archive.takes(name, peer, wait_s=60.0):
                order.append(name)

        names = (("busy again", "10.0.0.1"), ("second", "10.0.0.2"), ("third", "10.0.0.3"))
        tasks = [asyncio.create_task(wait(*each)) for each in names]
        await until_they_wait(archive, count=3)
        for holder in held:
            assert holder
            archive.places.give_back(holder)
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)
        assert order == ["second", "third", "busy again"]

    play(steps)


def test_while_somebody_waits_the_one_in_which_nothing_moved_for_longest_ends() -> None:
    async def steps() -> None:
        archive = Archive(total=2, silent_s=10.0)
        moving = await archive.takes("moving", "10.0.0.1")
        assert moving
        assert await archive.takes("silent", "10.0.0.2")
        archive.now = 9.0
        assert await archive.takes("too early", "10.0.0.3") is None
        archive.now = 11.0
        moving.moved_at = moving.answered_at = 11.0
        assert archive.ended == [], "nobody waits"
        assert await archive.takes("next", "10.0.0.3", wait_s=1.0)
        assert archive.ended == ["silent"]

    play(steps)


def test_an_association_on_which_the_archive_works_is_given_longer() -> None:
    async def steps() -> None:
        archive = Archive(total=1, silent_s=10.0)
        archive.at_work(await archive.takes("large object", "10.0.0.1"))
        archive.now = 59.0
        assert await archive.takes("too early", "10.0.0.2") is None
        archive.now = 61.0
        assert await archive.takes("next", "10.0.0.2", wait_s=1.0)
        assert archive.ended == ["large object"]

    play(steps)


def test_who_has_as_many_as_one_address_may_ends_one_of_its_own_alone() -> None:
    async def steps() -> None:
        archive = Archive(total=3, of_peer=1)
        assert await archive.takes("other", "10.0.0.1")
        assert await archive.takes("own", "10.0.0.2")
        archive.now = 20.0
        assert await archive.takes("own again", "10.0.0.2", wait_s=1.0)
        assert archive.ended == ["own"]

    play(steps)


def test_who_stops_waiting_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 60.0)

    async def steps() -> None:
        archive = Archive(total=1)
        held = await archive.takes("held", "10.0.0.1")
        assert held
        gone = asyncio.create_task(archive.takes("gone", "10.0.0.2", wait_s=60.0))
        await until_they_wait(archive, count=1)
        later = asyncio.create_task(archive.takes("later", "10.0.0.3", wait_s=60.0))
        await until_they_wait(archive, count=2)
        archive.places.give_back(held)
        gone.cancel()
        assert await asyncio.wait_for(later, 5.0)

    play(steps)
