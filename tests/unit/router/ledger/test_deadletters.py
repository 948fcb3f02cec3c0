"""Dead letters: what is listed, what a retry and a drop do, and the commands with their exit codes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ledger_cases as cases
import pytest
from ledger_cases import T0, arrive, make, seen
from reading_cases import told

from medai.router.cli import main as cli
from medai.router.contract import Failure, JobState
from medai.router.ledger import Claim, Ledger
from medai.router.reports import readings
from medai.router.reports.readings import delivery_tries


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.upper().startswith("MEDAI_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger, with a medai.toml in the current directory that names it."""
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    (tmp_path / "medai.toml").write_text(f'[ledger]\nurl = "{url}"\n')
    ledger = Ledger(url)
    ledger.migrate()
    yield ledger
    ledger.close()


def reading(ledger: Ledger, uid: str = "1.1") -> tuple[str, Claim]:
    job_id, _ = make(ledger, arrive(ledger, seen(uid=uid)))
    claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0)
    assert claim is not None
    return job_id, claim


def failed(ledger: Ledger, uid: str = "1.1", why: Failure = Failure.CRASH, at: float = T0 + 1) -> str:
    job_id, claim = reading(ledger, uid)
    ledger.claims.fail(job_id, claim.token, why, "it broke", at)
    return job_id


def refused(ledger: Ledger, uid: str = "1.1", at: float = T0 + 3) -> str:
    """A reading whose ORU the RIS will not have."""
    job_id, claim = reading(ledger, uid)
    cases.store(ledger, claim, T0 + 1)
    park(ledger, job_id, "ris", at)
    return job_id


def park(ledger: Ledger, job_id: str, destination: str, at: float = T0 + 3) -> None:
    (owed,) = [item for item in cases.due(ledger, destination) if item.job_id == job_id]
    assert ledger.deliveries.begin_try(owed, at)
    ledger.deliveries.park(owed, "the answer was no", at)


def not_archived(ledger: Ledger, uid: str = "1.1") -> str:
    """A reading that the archive refused for good; its ORU waits for it."""
    job_id, claim = reading(ledger, uid)
    cases.keep(ledger, claim)
    ledger.claims.hand_over(job_id, claim.token, T0 + 2)
    park(ledger, job_id, "archive")
    return job_id


def row(ledger: Ledger, job_id: str) -> dict[str, Any]:
    (found,) = readings.jobs(ledger, job_id=job_id)
    return told(found)


def letter(ledger: Ledger, prefix: str = "") -> Any:
    (found,) = ledger.dead.letters(prefix=prefix)
    return found


# -- the list


def test_readings_and_deliveries_are_listed_with_what_went_wrong_newest_first(ledger: Ledger) -> None:
    first, second = failed(ledger, "1.1", at=T0 + 1), refused(ledger, "1.2", at=T0 + 9)
    assert [(item.id, item.kind, item.failure, item.reason) for item in ledger.dead.letters()] == [
        (f"{second}/ris", "result", "delivery", "the answer was no"),
        (first, "reading", "crash", "it broke"),
    ]
    assert [item.id for item in ledger.dead.letters(limit=1)] == [f"{second}/ris"]


def test_what_goes_well_is_no_dead_letter(ledger: Ledger) -> None:
    _, claim = reading(ledger)
    cases.store(ledger, claim)
    cases.acknowledge(ledger, claim, T0 + 9)
    assert ledger.dead.letters() == []


def test_the_first_characters_of_an_id_find_it(ledger: Ledger) -> None:
    first, second = failed(ledger, "1.1"), refused(ledger, "1.2")
    assert letter(ledger, first[:8]).job_id == first
    assert letter(ledger, second[:8]).id == f"{second}/ris"
    assert letter(ledger, f"{second[:8]}/ris").id == f"{second}/ris"
    assert ledger.dead.letters(prefix=f"{second[:8]}/archive") == []
    assert ledger.dead.letters(prefix=f"{first[:8]}/ris") == []


@pytest.mark.parametrize("prefix", ["%", "_", "%/ris", "nothing"])
def test_a_prefix_is_taken_by_its_letters(ledger: Ledger, prefix: str) -> None:
    refused(ledger)
    assert ledger.dead.letters(prefix=prefix) == []


def test_a_result_and_its_withdrawal_have_ids_of_their_own(ledger: Ledger) -> None:
    job_id, claim = reading(ledger)
    cases.store(ledger, claim)
    (owed,) = cases.due(ledger, "ris")
    ledger.deliveries.begin_try(owed, T0 + 3)
    ledger.deliveries.put_off(owed, "no answer", next_try_at=0.0, refused=False, now=T0 + 3)
    ledger.removals.study_removed("o-1.1", T0 + 4, within_s=60, withdrawn={"ris": lambda data, _number: data})
    park(ledger, job_id, "ris", T0 + 5)
    park(ledger, job_id, "ris", T0 + 6)
    ids = [item.id for item in ledger.dead.letters()]
    assert ids == [f"{job_id}/ris/withdrawal", f"{job_id}/ris"]
    assert ledger.dead.retry(letter(ledger, ids[0]), T0 + 7)
    assert [item.id for item in ledger.dead.letters()] == [f"{job_id}/ris"]


# -- another try


def test_a_reading_that_is_tried_again_is_sent_and_read_as_if_it_were_new(ledger: Ledger) -> None:
    job_id = failed(ledger)
    assert ledger.dead.retry(letter(ledger), T0 + 100)
    assert [job.id for job in ledger.jobs.unsent(T0 + 100, resend_before=0)] == [job_id]
    claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 100)
    assert claim is not None
    assert (claim.give_up_from, ledger.claims.crashes(job_id)) == (T0 + 100, 0)
    cases.store(ledger, claim, T0 + 101)
    cases.acknowledge(ledger, claim, T0 + 102)
    assert (row(ledger, job_id)["state"], ledger.dead.letters()) == ("done", [])
    told = [item.reason for item in readings.decisions(ledger, job_id=job_id)]
    assert told[-1] == "a person asked for another try"


def test_a_delivery_that_is_tried_again_costs_no_reading(ledger: Ledger) -> None:
    job_id = refused(ledger)
    assert ledger.dead.retry(letter(ledger), T0 + 100)
    assert row(ledger, job_id)["state"] == "delivering"
    assert ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 100) is None
    (owed,) = cases.due(ledger, "ris", T0 + 101)
    assert (owed.refusals, owed.since) == (0, T0 + 100)
    ledger.deliveries.begin_try(owed, T0 + 101)
    ledger.deliveries.delivered(owed, "AA", T0 + 102)
    assert row(ledger, job_id)["state"] == "done"


def test_an_archive_that_is_tried_again_lets_the_others_follow(ledger: Ledger) -> None:
    job_id = not_archived(ledger)
    assert cases.due(ledger, "ris") == []
    assert ledger.dead.retry(letter(ledger), T0 + 100)
    (owed,) = cases.due(ledger, "archive", T0 + 101)
    assert len(ledger.deliveries.kept_objects(job_id)) == 1
    ledger.deliveries.begin_try(owed, T0 + 101)
    ledger.deliveries.delivered(owed, "stored", T0 + 102)
    assert [item.job_id for item in cases.due(ledger, "ris", T0 + 103)] == [job_id]


def test_two_people_at_once_do_it_once(ledger: Ledger) -> None:
    failed(ledger)
    old = letter(ledger)
    assert ledger.dead.retry(old, T0 + 5)
    assert not ledger.dead.retry(old, T0 + 6)
    assert not ledger.dead.drop(old, "me too", T0 + 7)


def test_a_result_that_was_kept_is_never_read_again_however_its_reading_ended(ledger: Ledger) -> None:
    job_id, claim = reading(ledger)
    cases.keep(ledger, claim)
    assert ledger.claims.fail(job_id, claim.token, Failure.CRASH, "it broke", T0 + 5) is JobState.DELIVERING
    assert ledger.dead.letters() == []
    assert [item.job_id for item in cases.due(ledger, "archive")] == [job_id]
    assert [item.outcome for item in readings.attempts(ledger, job_id)] == ["read"]


# -- settled without a result


def test_a_reading_that_is_dropped_keeps_the_reason_and_is_not_done_again(ledger: Ledger) -> None:
    job_id = failed(ledger)
    assert ledger.dead.drop(letter(ledger), "phantom", T0 + 9)
    story = row(ledger, job_id)
    assert (story["state"], story["reason"], ledger.dead.letters()) == ("cancelled", "dropped: phantom", [])
    last = readings.decisions(ledger, job_id=job_id)[-1]
    assert (last.verdict, last.reason) == ("skip", "dropped: phantom")
    assert ledger.jobs.unsent(T0 + 99, resend_before=T0 + 99) == []


def test_a_delivery_that_is_dropped_ends_its_job(ledger: Ledger) -> None:
    job_id = refused(ledger)
    assert ledger.dead.drop(letter(ledger), "entered by hand", T0 + 9)
    assert row(ledger, job_id)["state"] == "done"
    assert readings.decisions(ledger, job_id=job_id)[-1].reason == "dropped: entered by hand"


def test_of_two_that_are_parked_the_other_stays_a_dead_letter(ledger: Ledger) -> None:
    job_id, claim = reading(ledger)
    cases.keep(ledger, claim, destinations=("pacs2",))
    ledger.claims.hand_over(job_id, claim.token, T0 + 2, archived=True)
    park(ledger, job_id, "ris")
    assert row(ledger, job_id)["state"] == "delivering", "one that is refused holds up no other"
    park(ledger, job_id, "pacs2")
    assert row(ledger, job_id)["state"] == "failed"
    ledger.dead.drop(letter(ledger, f"{job_id}/ris"), "no", T0 + 9)
    assert row(ledger, job_id)["state"] == "failed"
    assert [item.destination for item in ledger.dead.letters()] == ["pacs2"]
    assert ledger.dead.retry(letter(ledger), T0 + 10)
    assert row(ledger, job_id)["state"] == "delivering"


def test_without_the_archives_copy_nothing_else_is_sent(ledger: Ledger) -> None:
    job_id = not_archived(ledger)
    assert ledger.dead.drop(letter(ledger), "wrong patient", T0 + 9)
    assert cases.due(ledger, "ris", T0 + 99) == []
    assert ledger.deliveries.owed_to() == []
    assert ledger.dead.letters() == []
    assert row(ledger, job_id)["state"] not in ("delivering", "failed")


# -- the history


def test_the_history_counts_the_same_answer_instead_of_repeating_it(ledger: Ledger) -> None:
    job_id, claim = reading(ledger)
    cases.store(ledger, claim)
    for n, words in enumerate(["no answer"] * 4 + ["busy"] * 2 + ["no answer"]):
        (owed,) = cases.due(ledger, "ris", T0 + 100 * n)
        ledger.deliveries.begin_try(owed, T0 + 100 * n)
        ledger.deliveries.put_off(owed, words, next_try_at=0.0, refused=False, now=T0 + 100 * n)
    rows = delivery_tries(ledger, job_id)
    assert [(item.text, item.count) for item in rows] == [("no answer", 4), ("busy", 2), ("no answer", 1)]
    assert (rows[0].first_at, rows[0].last_at) == (T0, T0 + 300)


# -- the commands


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_dead_lists_and_tells_one_with_its_history(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = refused(ledger)
    assert cli.main(["dead"]) == 0
    assert job_id[:8] in capsys.readouterr().out
    assert cli.main(["dead", job_id[:8]]) == 0
    assert "the answer was no" in capsys.readouterr().out
    assert cli.main(["dead", "--json"]) == 0
    (told,) = printed(capsys)["dead_letters"]
    assert (told["id"], told["retry_helps"]) == (f"{job_id}/ris", True)
    assert cli.main(["dead", job_id, "--json"]) == 0
    (told,) = printed(capsys)["dead_letters"]
    assert [item["outcome"] for item in told["deliveries_tried"]] == ["parked"]
    assert [item["outcome"] for item in told["attempts_made"]] == ["read"]


def test_dead_with_nothing_dead_is_good_and_with_an_unknown_id_is_not(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["dead"]) == 0
    assert cli.main(["dead", "--json"]) == 0
    assert cli.main(["dead", "beef"]) == 1
    assert "'beef'" in capsys.readouterr().err
    assert ledger.dead.letters() == []


def test_retry_of_one(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = failed(ledger)
    assert cli.main(["retry", job_id[:8], "--json"]) == 0
    assert printed(capsys) == {"retried": [job_id], "left": 0}
    assert cli.main(["retry", job_id[:8]]) == 1
    assert "no dead letter" in capsys.readouterr().err


def test_retry_of_all_leaves_images_that_can_not_be_read(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    hopeless = failed(ledger, "1.1", Failure.IMAGES)
    crashed, gave_up = failed(ledger, "1.2"), failed(ledger, "1.3", Failure.GAVE_UP)
    unsent = refused(ledger, "1.4")
    assert cli.main(["retry", "--all", "--json"]) == 0
    told = printed(capsys)
    assert (sorted(told["retried"]), told["left"]) == (sorted([crashed, gave_up, f"{unsent}/ris"]), 1)
    assert [item.id for item in ledger.dead.letters()] == [hopeless]
    assert cli.main(["retry", "--all"]) == 0
    assert "0 tried again; 1 left" in capsys.readouterr().out
    assert cli.main(["retry", hopeless]) == 0, "a person who names it means it"


def test_an_ambiguous_prefix_changes_nothing_and_names_those_that_it_fits(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    job_id, claim = reading(ledger)
    cases.keep(ledger, claim, destinations=("pacs2",))
    ledger.claims.hand_over(job_id, claim.token, T0 + 2, archived=True)
    park(ledger, job_id, "ris")
    park(ledger, job_id, "pacs2")
    for command in (["retry", job_id], ["drop", job_id, "--reason", "no"]):
        assert cli.main(command) == 1
        words = capsys.readouterr().err
        assert f"{job_id}/ris" in words
        assert f"{job_id}/pacs2" in words
    assert len(ledger.dead.letters()) == 2


@pytest.mark.parametrize("command", [["retry", ""], ["drop", "", "--reason", "no"]])
def test_an_empty_id_is_nobodys(ledger: Ledger, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    job_id = failed(ledger)
    assert cli.main(command) == 1
    assert "no id was given" in capsys.readouterr().err
    assert [item.id for item in ledger.dead.letters()] == [job_id]


def test_drop_keeps_the_reason_and_works_once(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    job_id = refused(ledger)
    assert cli.main(["drop", f"{job_id}/ris", "--reason", "entered by hand", "--json"]) == 0
    assert printed(capsys) == {"dropped": [f"{job_id}/ris"]}
    assert "dropped: entered by hand" in [item.reason for item in readings.decisions(ledger, job_id=job_id)]
    assert cli.main(["drop", f"{job_id}/ris", "--reason", "again"]) == 1


@pytest.mark.parametrize("command", [["retry"], ["retry", "1f", "--all"], ["drop", "1f"], ["drop", "--reason", "x"]])
def test_wrong_usage_is_told(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    assert ended.value.code == 2
    assert "usage: medai" in capsys.readouterr().err
