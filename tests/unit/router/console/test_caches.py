"""What was costly to make is made once for all who ask, and not kept for ever."""

from __future__ import annotations

from medai.router.console.caches import Fresh, Shelf


def test_a_thing_is_made_once_for_all_who_look_and_again_when_it_is_old() -> None:
    now, made = [100.0], [0]

    def make() -> int:
        made[0] += 1
        return made[0]

    fresh = Fresh(make, fresh_s=5.0, timer=lambda: now[0])
    assert [fresh.look(), fresh.look()] == [1, 1]
    now[0] += 4.9
    assert fresh.look() == 1
    now[0] += 0.1
    assert fresh.look() == 2


def test_of_more_things_than_fit_the_one_that_was_asked_for_longest_ago_goes() -> None:
    made: list[str] = []

    def get(name: str) -> str:
        return shelf.get(name, lambda: made.append(name) or name)  # type: ignore[func-returns-value]

    shelf: Shelf[str] = Shelf(2)
    for name in ("a", "b", "a", "c"):
        assert get(name) == name
    assert ("a" in shelf, "b" in shelf, "c" in shelf) == (True, False, True)
    assert get("b") == "b"
    assert made == ["a", "b", "c", "b"]
