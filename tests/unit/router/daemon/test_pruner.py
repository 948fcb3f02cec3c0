"""Pages are turned one a second and a round a day, and a page that fails holds up nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from ledger_cases import T0
from structlog.testing import capture_logs

from medai.router.daemon.pruner import FIRST_S, PAUSE_S, Pruner
from medai.router.errors import LedgerUnreachable
from medai.router.ledger import Ledger
from medai.router.ledger.retention import KINDS, Limits, Mark, Page
from medai.router.settings.retention import DAY_S, RetentionSettings


class Pages:
    """Stands for the ledger: two pages of orders, one of everything else."""

    def __init__(self) -> None:
        self.turned: list[tuple[str, Mark | None]] = []
        self.fails = ""

    def page(self, kind: str, after: Mark | None, limits: Limits, _now: float) -> Page:
        assert limits.orders == T0 - 730 * DAY_S
        self.turned.append((kind, after))
        if kind == self.fails:
            raise LedgerUnreachable("away")
        went = Counter(orders=3) if kind == "orders" else Counter()
        return Page(end=200 if kind == "orders" and after is None else None, pruned=went)


class Time:
    def __init__(self) -> None:
        self.now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def counts() -> Counter[str]:
    return Counter()


@pytest.fixture
def pruner(pages: Pages, time: Time, counts: Counter[str]) -> Pruner:
    keep = RetentionSettings()
    return Pruner(pages, keep, counts, clock=lambda: T0, monotonic=time)  # type: ignore[arg-type]  # a stand-in


def turn(pruner: Pruner, time: Time, seconds: int) -> int:
    pages = 0
    for _ in range(seconds):
        pages += pruner.tick()
        assert not pruner.tick(), "one at a time"
        time.now += PAUSE_S
    return pages


ROUND = [("orders", None), ("orders", 200), *((kind, None) for kind in KINDS if kind != "orders")]


def test_a_round_begins_a_minute_after_the_start_and_again_a_day_later(
    pruner: Pruner, pages: Pages, time: Time, counts: Counter[str]
) -> None:
    assert not pruner.tick()
    time.now += FIRST_S
    with capture_logs() as logs:
        assert turn(pruner, time, 100) == len(ROUND)
    assert pages.turned == ROUND
    assert counts == {"orders": 6}
    assert [(line["event"], line["orders"]) for line in logs] == [("pruned", 6)]
    time.now = 5.0 + FIRST_S + DAY_S
    turn(pruner, time, 100)
    assert pages.turned == ROUND * 2


@pytest.mark.parametrize("kind", ["orders", "readings", "audit"])
def test_a_page_that_fails_waits_for_the_next_round_alone(pruner: Pruner, pages: Pages, time: Time, kind: str) -> None:
    pages.fails = kind
    time.now += FIRST_S
    with capture_logs() as logs:
        turn(pruner, time, 100)
    assert [each for each, after in pages.turned if after is None] == list(KINDS)
    assert [(line["event"], line["what"]) for line in logs if line["log_level"] == "warning"] == [("not_pruned", kind)]


def test_it_turns_the_pages_of_a_ledger(ledger: Ledger, time: Time) -> None:
    ledger.accounts.note_action("ana", "login", T0 - 11 * 365 * DAY_S)
    ledger.accounts.note_action("ana", "login", T0)
    counts: Counter[str] = Counter()
    pruner = Pruner(ledger.retention, RetentionSettings(), counts, clock=lambda: T0, monotonic=time)
    time.now += FIRST_S
    turn(pruner, time, 20)
    assert counts == {"audit": 1}
    assert ledger.verify_audit().faults == ()
