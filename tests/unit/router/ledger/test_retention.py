"""What is old goes, page by page; what is owed, in work or waits for a person stays; and the trail proves what is left."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import edit_rows
import ledger_cases as cases
import pytest
from ledger_cases import T0, arrive, make, said, seen
from sqlalchemy import func, select, text, update
from structlog.testing import capture_logs

from medai.router.contract import Decision, DeliveryState, Order, Verdict
from medai.router.files.parcel import Parcel, pack
from medai.router.hl7.order_patient import Doubt
from medai.router.hl7.orders_in import Action
from medai.router.hl7.patients_in import PatientMessage
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.held_orders import HoldState
from medai.router.ledger.retention import KINDS, PRUNABLE, Limits
from medai.router.settings.retention import DAY_S, RetentionSettings

ROOT = Path(__file__).resolve().parents[4]
EVERYTHING = RetentionSettings(messages_d=1, orders_d=1, merges_d=1, history_d=1, readings_d=1, audit_d=1)
LATER = T0 + 10 * DAY_S


def prune(ledger: Ledger, keep: RetentionSettings = EVERYTHING, now: float = LATER) -> dict[str, int]:
    """A whole round."""
    went: Counter[str] = Counter()
    for kind in KINDS:
        page = ledger.retention.page(kind, None, Limits.of(keep, now), now)
        went.update(page.pruned)
        while page.end is not None:
            page = ledger.retention.page(kind, page.end, Limits.of(keep, now), now)
            went.update(page.pruned)
    assert went.keys() <= set(PRUNABLE)
    return {what: count for what, count in went.items() if count}


def count(ledger: Ledger, table: str) -> int:
    with ledger.begin(reads_only=True) as db:
        return int(db.execute(select(func.count()).select_from(t.metadata.tables[table])).scalar_one())


def settled(ledger: Ledger, uid: str = "1.2.3") -> str:
    """A reading whose study was decided on, and all of whose results arrived."""
    job_id = edit_rows.read(ledger, uid)
    with ledger.begin() as db:
        study_id = db.execute(select(t.jobs.c.study_id).where(t.jobs.c.id == job_id)).scalar_one()
        db.execute(update(t.studies).where(t.studies.c.id == study_id).values(due_at=None))
    ledger.studies.record(study_id, [Decision(verdict=Verdict.ROUTE, reason="because")], T0, outcome=uid)
    return job_id


def order(ledger: Ledger, number: str = "1", at: float = T0, **changes: str) -> None:
    new = Order(placer=f"P{number}", accession=f"X{number}", patient_id="7", patient_name="Doe^Jane")
    ledger.orders.take([said(replace(new, **changes), Action.NEW, digest=number)], at)  # type: ignore[arg-type]


# -- the page


def test_the_page_says_of_every_table_how_long_its_rows_live() -> None:
    page = (ROOT / "docs" / "retention.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    named = [name for names, _ in rows for name in re.findall(r"`(\w+)`", names)]
    assert sorted(named) == sorted(t.metadata.tables)
    known = set(RetentionSettings.model_fields)
    assert set(re.findall(r"\b\w+_d\b", " ".join(said for _, said in rows))) == known


# -- readings


def test_of_a_study_that_the_archive_has_stays_which_model_read_it_and_what_its_results_are(ledger: Ledger) -> None:
    job_id = settled(ledger)
    before = ledger.deliveries.known_results([f"sr-{job_id}"])
    went = prune(ledger)
    assert went.keys() >= {"messages", "history", "details", "decisions"}
    assert [count(ledger, each) for each in ("stamp", "attempt", "decision", "delivery_try")] == [0, 0, 0, 0]
    assert [count(ledger, each) for each in ("study", "series", "job", "result_object")] == [1, 1, 1, 1]
    assert ledger.deliveries.known_results([f"sr-{job_id}"]) == before == {f"sr-{job_id}"}
    with ledger.begin(reads_only=True) as db:
        assert set(db.execute(select(t.deliveries.c.payload)).scalars()) == {None}
    assert prune(ledger).keys() <= {"audit"}, "what went is not counted twice"


@pytest.mark.parametrize("state", [DeliveryState.PENDING, DeliveryState.PARKED])
def test_what_is_owed_keeps_its_message_its_history_and_its_study(ledger: Ledger, state: DeliveryState) -> None:
    row = arrive(ledger, seen())
    job_id, _ = make(ledger, row)
    claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0)
    assert claim is not None
    cases.store(ledger, claim)
    if state is DeliveryState.PARKED:
        (owed,) = cases.due(ledger, "ris")
        ledger.deliveries.park(owed, "AE", T0 + 5)
    order(ledger, accession=row.accession)
    with ledger.begin() as db:
        db.execute(update(t.studies).values(deleted_at=T0, due_at=None))
    assert prune(ledger) == {}
    with ledger.begin(reads_only=True) as db:
        assert b"MSH|" in set(db.execute(select(t.deliveries.c.payload)).scalars())


def test_a_study_goes_whole_long_after_the_archive_deleted_it_but_for_the_newest_number(ledger: Ledger) -> None:
    job_id = settled(ledger)
    edit_rows.compared(ledger, job_id, [edit_rows.brain(0.9)])
    settled(ledger, "1.2.4")
    with ledger.begin() as db:
        db.execute(update(t.studies).values(deleted_at=T0))
    assert prune(ledger, RetentionSettings(readings_d=30)) == {}
    assert prune(ledger, RetentionSettings(readings_d=1))["studies"] == 1
    assert [count(ledger, each) for each in ("study", "series", "job", "edit", "delivery")] == [1, 1, 1, 0, 2]
    assert arrive(ledger, seen(uid="1.2.5")).id == 3, "no number is given twice: the audit trail names them"


def test_a_rejection_note_outlives_the_texts_of_messages(ledger: Ledger) -> None:
    settled(ledger)
    note = pack(Parcel(note=b"note"))
    with ledger.begin() as db:
        db.execute(update(t.deliveries).where(t.deliveries.c.destination == "archive").values(payload=note))
    assert prune(ledger, RetentionSettings(messages_d=8)) == {"messages": 1}
    with ledger.begin(reads_only=True) as db:
        assert set(db.execute(select(t.deliveries.c.payload)).scalars()) == {None, note}
    assert prune(ledger, RetentionSettings(messages_d=8, readings_d=5))["details"] >= 1


def test_answers_and_comparisons_go_and_the_edit_stays_lest_it_be_compared_anew(ledger: Ledger) -> None:
    job_id = settled(ledger)
    edit_rows.compared(ledger, job_id, [edit_rows.brain(0.9)])
    ledger.surveys.answer_usefulness("ana", job_id, {"correct": 5}, "saw Jane Doe before", T0)
    assert prune(ledger, RetentionSettings(readings_d=1)) == {"details": 4}
    assert [count(ledger, each) for each in ("edit", "edit_comparison", "usefulness_answer")] == [1, 0, 0]


# -- orders and patients


def test_orders_and_what_became_of_held_ones_go_together(ledger: Ledger) -> None:
    for number in ("1", "2"):
        order(ledger, number)
        doubt = Doubt(key=number, placer=f"P{number}", accession=f"X{number}", differs=("name",))
        assert not ledger.held.released("9.9", doubt, T0)
    assert ledger.held.decide(1, HoldState.REJECTED, "wrong", T0, by="ana")
    order(ledger, "3", LATER)
    assert prune(ledger) == {"orders": 1, "held_orders": 1, "audit": 1}
    assert ledger.orders.of_study(study_uid="", accession="X1") == ()
    assert [bool(ledger.orders.of_study(study_uid="", accession=f"X{each}")) for each in "23"] == [True, True]
    assert [each.placer for each in ledger.held.waiting()] == ["P2"]


def test_an_order_whose_study_arrives_stays(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    order(ledger, "1", accession=row.accession)
    order(ledger, "2", study_uid=row.study_uid)
    assert prune(ledger) == {}
    ledger.studies.set_due(row.id, None)
    assert prune(ledger) == {"orders": 2}


def test_what_is_in_work_keeps_nothing_of_other_studies(ledger: Ledger) -> None:
    settled(ledger)
    settled(ledger, "1.2.4")
    row = arrive(ledger, seen(uid="1.2.5"))
    make(ledger, row)
    ledger.studies.set_due(row.id, None)
    for number, accession in enumerate(("A1.2.3", "A1.2.5")):
        order(ledger, str(number), accession=accession)
    with ledger.begin() as db:
        db.execute(update(t.studies).values(deleted_at=T0))
    went = prune(ledger)
    assert (went["orders"], went["studies"]) == (1, 2)
    assert ledger.orders.of_study(study_uid="", accession="A1.2.5")
    assert count(ledger, "job") == 1


def test_when_a_patients_data_were_told_is_forgotten_and_merges_are_kept_unless_the_site_says_otherwise(
    ledger: Ledger,
) -> None:
    told = PatientMessage(
        control_id="C", sender=("RIS", "H"), kind="update", patient_id="7", patient_id_authority="", prior_id="",
        prior_id_authority="", patient_name="Doe^Jane", birth_date="", sex="", digest="d", sent_at=T0,
    )  # fmt: skip
    merge = replace(told, prior_id="6", digest="e", patient_name="", kind="merge")
    ledger.identities.patient_changed([told, merge], T0)
    ledger.identities.patient_changed([replace(told, patient_id="8", sent_at=LATER)], LATER)
    key = ledger.log_key()
    assert prune(ledger, RetentionSettings(orders_d=1)) == {"patient_updates": 1}
    assert ledger.log_key() == key
    assert len(ledger.identities.aliases().targets) == 1
    assert prune(ledger, RetentionSettings(merges_d=1)) == {"merges": 1}


def test_nothing_goes_where_everything_is_kept_for_ever(ledger: Ledger) -> None:
    settled(ledger)
    order(ledger)
    ledger.accounts.note_action("ana", "study", T0)
    assert prune(ledger, RetentionSettings(**dict.fromkeys(RetentionSettings.model_fields, 0.0))) == {}


def test_pages_are_turned_until_all_is_read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medai.router.ledger.retention.PAGE", 2)
    for number in range(5):
        order(ledger, str(number))
        settled(ledger, f"1.2.{number}")
    went = prune(ledger)
    assert (went["orders"], went["messages"], went["decisions"]) == (5, 5, 10)


# -- the audit trail


def written(ledger: Ledger, lines: int = 6, at: float = T0) -> None:
    for number in range(lines):
        ledger.accounts.note_action(f"ana{number}", "study", at + number, study_id=number)


def lines(ledger: Ledger) -> list[int]:
    with ledger.begin(reads_only=True) as db:
        return list(db.execute(select(t.audit.c.id).order_by(t.audit.c.id)).scalars())


def test_the_trail_that_is_left_is_proved_from_where_it_begins(ledger: Ledger) -> None:
    written(ledger)
    written(ledger, 3, LATER)
    assert prune(ledger) == {"audit": 6}
    found = ledger.verify_audit()
    assert lines(ledger) == [7, 8, 9, 10]
    assert (found.lines, found.faults) == (4, ())
    assert found.notes == ("6 older lines, up to number 6, were pruned as [retention] says",)
    written(ledger, 1, LATER)
    assert prune(ledger, now=LATER + 20 * DAY_S) == {"audit": 4}, "the newest stays"
    assert ledger.verify_audit().faults == ()
    assert "10 older lines" in ledger.verify_audit().notes[0]


def test_a_line_that_a_receiver_has_not_got_yet_stays(ledger: Ledger) -> None:
    written(ledger)
    written(ledger, 1, LATER)

    def pruned() -> int:
        limits = Limits.of(EVERYTHING, LATER, ("audit-syslog", "audit-fhir"))
        return ledger.retention.page("audit", None, limits, LATER).pruned.get("audit", 0)

    assert pruned() == 0
    ledger.audit.has("audit-syslog", 5, LATER)
    assert pruned() == 0, "the other one has nothing"
    ledger.audit.has("audit-fhir", 3, LATER)
    assert (pruned(), lines(ledger)[0]) == (3, 4)
    assert [line.id for line in ledger.audit.after(3)][:3] == [4, 5, 6]
    assert ledger.verify_audit().faults == ()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("DELETE FROM audit WHERE id = 7", "line 8 was changed"),
        ("DELETE FROM audit WHERE id < 9", "line 9 was changed"),
        ("DELETE FROM audit WHERE action = 'audit pruned'", "line 7 was changed"),
        ("UPDATE audit SET detail = replace(detail, '6 lines', '7 lines') WHERE id = 10", "line 10 was changed"),
        ("UPDATE audit SET detail = replace(detail, 'number 6', 'number 7') WHERE id = 10", "line 10 was changed"),
        ("INSERT INTO audit SELECT 6, at, account, action, study_id, job_id, detail, seal, address FROM audit WHERE id = 7",
         "line 6 was changed"),
        ("INSERT INTO audit SELECT 11, at, account, action, study_id, job_id, detail, seal, address FROM audit WHERE id = 10",
         "line 11 was changed"),
    ],
)  # fmt: skip
def test_pruning_hides_nothing_that_is_done_to_what_is_left(ledger: Ledger, how: str, words: str) -> None:
    written(ledger)
    written(ledger, 3, LATER)
    prune(ledger)
    with ledger.database.engine.begin() as db:
        db.execute(text(how))
    assert words in " | ".join(ledger.verify_audit().faults)


def test_a_trail_that_is_not_whole_is_not_cut(ledger: Ledger) -> None:
    written(ledger)
    with ledger.database.engine.begin() as db:
        db.execute(text("UPDATE audit SET account = 'bob' WHERE id = 3"))
    with capture_logs() as logs:
        assert prune(ledger) == {}
    assert [line["event"] for line in logs] == ["audit_trail_broken"]
    assert lines(ledger) == [1, 2, 3, 4, 5, 6]


def test_lines_of_before_there_were_seals_go_with_the_first_that_has_one(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger.database.engine.begin() as db:
        for _ in range(4):
            db.execute(t.audit.insert().values(at=T0, account="ana", action="study", detail=""))
    monkeypatch.setattr("medai.router.ledger.retention.AUDIT_PAGE", 2)
    limits = Limits.of(EVERYTHING, LATER)
    assert ledger.retention.page("audit", None, limits, LATER).pruned == {}
    written(ledger, 2)
    assert ledger.verify_audit().faults == ()
    assert ledger.retention.page("audit", None, limits, LATER).pruned == {"audit": 5}
    assert ledger.verify_audit().faults == ()
    assert lines(ledger) == [6, 7]


def test_a_process_that_ends_before_it_kept_the_newest_seal_leaves_a_trail_that_is_whole(ledger: Ledger) -> None:
    written(ledger)
    ledger.database.trail.keep = lambda _head: None  # type: ignore[method-assign]  # it is killed in between
    assert prune(ledger) == {"audit": 5}
    found = ledger.verify_audit()
    assert found.faults == ()
    assert "1 newer than the line that was kept: a process ended in between" in found.notes
