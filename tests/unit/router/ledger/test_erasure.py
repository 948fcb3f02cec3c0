"""All of a patient goes and nothing of another; what is in work is refused; and nothing says afterwards who it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import keeping_cases as cases
import pytest
from keeping_cases import PLANTED
from ledger_cases import T0, arrive, due, seen
from sqlalchemy import func, select, update

from medai.router.contract import Failure, orthanc_id
from medai.router.hl7.patients import Patient
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.erasure import ErasureRefused, Found
from medai.router.log import Pseudonyms
from medai.router.reports import search, status

LATER = T0 + 1000
MERGED = Patient("PAT0815", "H")


def erase(
    ledger: Ledger, patient: Patient = MERGED, issuers: dict[str, str] | None = None, updates: dict[str, str] | None = None
) -> Found:  # fmt: skip
    name = Pseudonyms("k").patient(*patient)
    return ledger.erasure.erase(patient, issuers or {}, LATER, updates=updates or {}, by="ana", pseudonym=name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
    ledger.migrate()
    cases.patient(ledger)
    ledger.close()
    return folder


@pytest.fixture
def ledger(made: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A copy of it for each test."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    yield ledger
    ledger.close()


@pytest.mark.parametrize(
    "asked", [Patient("PAT4711", "H"), MERGED, Patient("PAT4711"), Patient("PAT0815", "H&1.2&ISO")]
)
def test_all_of_a_patient_goes_under_whichever_identifier_and_nothing_of_another(
    ledger: Ledger, asked: Patient
) -> None:
    before = cases.tables(ledger)
    assert all(word in before for word in PLANTED)
    with ledger.begin(reads_only=True) as db:
        job = str(db.execute(select(t.jobs.c.id).where(t.jobs.c.study_id == 2)).scalar_one())
    others = ("PAT99", "Roe^Joan", "1.2.55", "ACC55", "PLACER55", job)
    other = [line for line in before.splitlines() if any(word in line for word in others)]
    assert {line.split()[0] for line in other} > {"study", "job", "stamp", "result_object", "imaging_order", "series"}
    found = erase(ledger, Patient.of(*asked))
    after = cases.tables(ledger)
    assert [word for word in PLANTED if word in after] == []
    assert set(other) <= set(after.splitlines())
    expected = {
        "orders": 1,
        "held orders": 1,
        "held merges": 1,
        "merges": 1,
        "patient updates": 2,
        "announcements": 1,
        "workitems": 1,
    }
    expected |= {"studies": 2, "readings": 2, "edits": 1, "comparisons": 1, "answers": 1, "results": 2, "messages": 4}
    assert {what: found.counts[what] for what in expected} == expected | {
        "patient updates": found.counts["patient updates"]
    }
    assert found.told == {"archive": 2, "ris": 2}


def test_a_second_time_there_is_nothing_left_to_erase_and_nothing_to_write_down(ledger: Ledger) -> None:
    erase(ledger)
    before = cases.tables(ledger, but=())
    assert erase(ledger).counts == {}
    assert cases.tables(ledger, but=()) == before


def test_the_audit_trail_stays_whole_and_tells_of_the_erasure_by_a_pseudonym(ledger: Ledger) -> None:
    found = erase(ledger)
    assert found.audit_lines > 0
    assert ledger.verify_audit().faults == ()
    with ledger.begin(reads_only=True) as db:
        line = db.execute(select(t.audit).where(t.audit.c.action == "patient erased")).mappings().one()
    assert line["detail"].startswith(f"patient {Pseudonyms('k').patient(*MERGED)}; orders: 1, ")
    assert [word for word in PLANTED if word in line["detail"]] == []
    assert (line["account"], line["study_id"], line["job_id"]) == ("ana", None, None)


def test_nothing_is_left_in_the_file_either(ledger: Ledger, tmp_path: Path) -> None:
    erase(ledger)
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"Roe^Joan" in held
    assert [word for word in ("Quiller", "ACC77", "1.2.77") if word.encode() in held] == []


def test_no_number_is_given_twice_and_what_the_archive_keeps_is_not_taken_for_new(ledger: Ledger) -> None:
    kept = orthanc_id("PAT4711", "1.2.77")
    erase(ledger, updates={kept: "20260101T000000"})
    assert ledger.studies.archive_updates([kept]) == {kept: "20260101T000000"}
    assert kept not in ledger.removals.living_studies()
    assert ledger.studies.due(LATER) == []
    assert [each.study_uid for each in search.find(ledger, search.Search()).studies] == ["1.2.55"]
    assert status.tally(ledger).studies == 1
    with ledger.begin(reads_only=True) as db:
        rows = db.execute(select(t.studies.c.id, t.studies.c.orthanc_id).where(t.studies.c.study_uid == "")).all()
    assert [(row.id, row.orthanc_id) for row in rows] == [(1, kept), (3, "erased-3")]
    assert arrive(ledger, seen(uid="1.7")).id == 4
    ledger.erasure.archive_forgot([kept])
    assert ledger.studies.archive_updates([kept]) == {}


def test_images_that_come_again_are_read_anew(ledger: Ledger) -> None:
    kept = orthanc_id("PAT4711", "1.2.77")
    erase(ledger, updates={kept: "20260101T000000"})
    row = arrive(ledger, cases.replace(seen(uid="1.2.77"), orthanc_id=kept), LATER)
    assert (row.id, row.study_uid, row.due_at, row.deleted_at) == (1, "1.2.77", LATER, None)


# -- who


def test_an_identifier_of_two_issuers_is_not_guessed_at(ledger: Ledger) -> None:
    cases.order(ledger, "PAT4711", "88", issuer="ELSEWHERE")
    with pytest.raises(ErasureRefused, match=r"several issuers .*ELSEWHERE, H.*--issuer"):
        erase(ledger, Patient("PAT4711"))
    before = [line for line in cases.tables(ledger).splitlines() if "ELSEWHERE" in line]
    erase(ledger, Patient("PAT4711", "H"))
    assert [line for line in cases.tables(ledger).splitlines() if "ELSEWHERE" in line] == before


@pytest.mark.parametrize("how", ["images", "an order"])
def test_a_study_of_another_issuers_patient_stays(ledger: Ledger, how: str) -> None:
    cases.read(ledger, "PAT4711", "1.2.88")
    issuers = {}
    if how == "images":
        issuers = {orthanc_id("PAT4711", "1.2.88"): "ELSEWHERE", orthanc_id("PAT4711", "1.2.77"): "H"}
    else:
        cases.order(ledger, "PAT4711", "88", issuer="ELSEWHERE")
    found = erase(ledger, Patient("PAT4711", "H"), issuers)
    assert (len(found.studies), found.strangers) == (2, 1)
    assert "1.2.88" in cases.tables(ledger)


def test_a_patient_of_whom_nothing_is_known_has_nothing_erased(ledger: Ledger) -> None:
    before = cases.tables(ledger)
    assert erase(ledger, Patient("PAT471", "H")).counts == {}
    assert erase(ledger, Patient("PAT4711", "OTHER")).counts == {}
    assert cases.tables(ledger) == before


def test_where_somebody_wrote_the_identifier_elsewhere_is_told(ledger: Ledger) -> None:
    with ledger.begin() as db:
        other = db.execute(select(t.jobs.c.id).where(t.jobs.c.study_id == 2)).scalar_one()
        db.execute(update(t.jobs).where(t.jobs.c.id == other).values(reason="taken for PAT4711"))
        db.execute(
            update(t.usefulness_answers).where(t.usefulness_answers.c.job_id == other).values(comment="as PAT0815")
        )
    assert erase(ledger).mentions == 2


# -- in work


def arriving(ledger: Ledger) -> None:
    arrive(ledger, cases.replace(seen(uid="1.2.99"), orthanc_id=orthanc_id("PAT4711", "1.2.99")))


def waiting(ledger: Ledger) -> None:
    cases.read(ledger, "PAT4711", "1.2.99", until=lambda _job: None)


def failed(ledger: Ledger) -> None:
    def fail(job_id: str) -> None:
        claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0)
        assert claim is not None
        ledger.claims.fail(job_id, claim.token, Failure.IMAGES, "too few", T0)

    cases.read(ledger, "PAT4711", "1.2.99", until=fail)


def owed(ledger: Ledger) -> None:
    cases.read(ledger, "PAT4711", "1.2.99", until=lambda job: cases.keep(ledger, job, "PAT4711"))


def parked(ledger: Ledger) -> None:
    owed(ledger)
    (delivery,) = due(ledger, "ris")
    ledger.deliveries.park(delivery, "AE", T0 + 5)


def asked_for(ledger: Ledger) -> None:
    with ledger.begin() as db:
        db.execute(update(t.workitems).where(t.workitems.c.study_uid == "1.2.77").values(state="claimed", study_id=1))


def to_be_compared(ledger: Ledger) -> None:
    with ledger.begin() as db:
        db.execute(update(t.edits).values(state="pending"))


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (arriving, "1 study may still be arriving"),
        (waiting, "1 reading not over"),
        (failed, "1 dead letter of a reading: settle it with 'medai retry' or 'medai drop'"),
        (owed, "1 delivery not made"),
        (parked, "1 delivery not made: wait, or settle it with 'medai drop'"),
        (asked_for, "1 workitem under way"),
        (to_be_compared, "1 correction of a reader"),
    ],
)
def test_what_is_in_work_is_refused_and_all_stays(
    ledger: Ledger, begin: Callable[[Ledger], object], reason: str
) -> None:
    begin(ledger)
    before = cases.tables(ledger, but=())
    with pytest.raises(ErasureRefused) as refused:
        erase(ledger)
    assert reason in str(refused.value)
    assert [word for word in PLANTED if word in str(refused.value)] == []
    assert cases.tables(ledger, but=()) == before


def test_a_fault_half_way_leaves_everything(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cases.tables(ledger, but=())

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("stop")

    monkeypatch.setattr("medai.router.ledger.erasure.noted", broken)
    with pytest.raises(RuntimeError, match="stop"):
        erase(ledger)
    assert cases.tables(ledger, but=()) == before
    with ledger.begin(reads_only=True) as db:
        assert db.execute(select(func.count()).select_from(t.jobs)).scalar_one() == 3
