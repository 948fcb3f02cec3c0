"""Studies are found by what people know of them, and paged without gaps or repeats while others arrive."""

from __future__ import annotations

import pytest
from ledger_cases import T0, arrive, make, seen

from medai.router.contract import Failure, JobState, Priority
from medai.router.ledger import Ledger
from medai.router.reports import search
from medai.router.reports.search import Search, SearchFault


def uids(ledger: Ledger, **wanted: object) -> list[str]:
    return [row.study_uid for row in search.find(ledger, Search(**wanted)).studies]  # type: ignore[arg-type]


def several(ledger: Ledger) -> list[str]:
    """Three studies with a reading each; returns the job ids."""
    return [
        str(make(ledger, arrive(ledger, seen(uid=f"1.{n}"), at=T0 + n), at=T0 + n, route=route, priority=priority)[0])
        for n, (route, priority) in enumerate(
            [("brain", Priority.STAT), ("lungs", Priority.ROUTINE), ("brain", Priority.ROUTINE)]
        )
    ]


def test_all_studies_come_newest_first_with_their_readings(ledger: Ledger) -> None:
    jobs = several(ledger)
    page = search.find(ledger, Search())
    assert [row.study_uid for row in page.studies] == ["1.2", "1.1", "1.0"]
    assert [[reading.job_id for reading in row.readings] for row in page.studies] == [[j] for j in jobs[::-1]]
    assert page.studies[2].readings[0].priority == "stat"
    assert page.next is None


@pytest.mark.parametrize("few", [0, search.FEW], ids=["many readings fit", "few readings fit"])
def test_they_are_found_by_accession_study_job_route_state_priority_and_time(
    ledger: Ledger, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "FEW", few)
    jobs = several(ledger)
    claim = ledger.claims.take(jobs[1], worker="w", lease_s=20, now=T0 + 5)
    assert claim is not None
    ledger.claims.fail(jobs[1], claim.token, Failure.IMAGES, "no", T0 + 6)
    assert uids(ledger, text="A1.1") == ["1.1"]
    assert uids(ledger, text=" 1.2 ") == ["1.2"]
    assert uids(ledger, text=jobs[0][:8].upper()) == ["1.0"]
    assert uids(ledger, text=jobs[0].upper()) == ["1.0"]
    assert uids(ledger, text="A9.1") == uids(ledger, route="none") == []
    assert uids(ledger, route="brain") == ["1.2", "1.0"]
    assert uids(ledger, state=JobState.FAILED) == ["1.1"]
    assert uids(ledger, priority=Priority.STAT) == ["1.0"]
    assert uids(ledger, route="brain", priority=Priority.ROUTINE) == ["1.2"]
    assert uids(ledger, since=T0 + 1) == ["1.2", "1.1"]
    assert uids(ledger, until=T0 + 1) == ["1.0"]
    assert uids(ledger, text="%") == uids(ledger, text="_") == uids(ledger, route="none") == []


def test_pages_hold_every_study_once_also_where_several_came_at_one_moment(ledger: Ledger) -> None:
    for n in range(7):
        arrive(ledger, seen(uid=f"2.{n}"), at=T0 + n // 3)
    found: list[str] = []
    after = None
    for _ in range(4):
        page = search.find(ledger, Search(), limit=2, after=after)
        found += [row.study_uid for row in page.studies]
        after = page.next
        arrive(ledger, seen(uid=f"3.{len(found)}"), at=T0 + 100)
    assert found == [f"2.{n}" for n in (6, 5, 4, 3, 2, 1, 0)]
    assert after is None


@pytest.mark.parametrize("after", ["x", "1", "1:x", "nan:nan", ":"])
def test_a_page_that_does_not_exist_is_refused(ledger: Ledger, after: str) -> None:
    with pytest.raises(SearchFault, match="next"):
        search.find(ledger, Search(), after=after)
