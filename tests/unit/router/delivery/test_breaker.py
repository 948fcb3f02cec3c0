"""The circuit breaker: when it opens, how it probes, what closes it."""

from __future__ import annotations

from ledger_cases import T0

from medai.router.delivery.breaker import LONGEST_S, THRESHOLD, Breaker


def broken(times: int, at: float = T0) -> Breaker:
    breaker = Breaker()
    for n in range(times):
        breaker = breaker.failed(at + n, "away")
    return breaker


def test_it_opens_at_the_third_failure_in_a_row() -> None:
    assert [broken(n).open for n in range(4)] == [False, False, False, True]


def test_while_it_is_closed_everything_goes() -> None:
    assert broken(2).may_try(T0)


def test_an_open_one_lets_a_probe_through_at_growing_distances_that_have_an_end() -> None:
    waits = [broken(n).next_try_at - (T0 + n - 1) for n in range(THRESHOLD, THRESHOLD + 7)]
    assert waits == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    opened = broken(THRESHOLD + 2)
    assert not opened.may_try(opened.next_try_at - 0.1)
    assert opened.may_try(opened.next_try_at)


def test_an_outage_of_days_still_probes_every_few_seconds() -> None:
    breaker = broken(100_000)
    assert breaker.next_try_at == T0 + 99_999 + LONGEST_S


def test_it_remembers_when_the_trouble_began_and_the_last_reason() -> None:
    breaker = broken(2).failed(T0 + 50, "refused the connection")
    assert (breaker.since, breaker.reason) == (T0, "refused the connection")


def test_one_answer_closes_it_and_the_count_begins_anew() -> None:
    breaker = broken(5).worked(T0 + 60)
    assert (breaker.open, breaker.failures, breaker.since, breaker.reason) == (False, 0, T0 + 60, "")
    assert not breaker.failed(T0 + 61, "away").failed(T0 + 62, "away").open


def test_an_answer_changes_nothing_where_nothing_was_wrong() -> None:
    breaker = Breaker()
    assert breaker.worked(T0) is breaker


def test_a_probe_that_another_clock_planned_for_next_year_is_due_now() -> None:
    assert broken(3, at=T0 + 86400 * 365).may_try(T0)
