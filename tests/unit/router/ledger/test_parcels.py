"""What the ledger keeps for a destination for DICOM objects: a parcel, then the note alone, as long as it may be wanted."""

from __future__ import annotations

from typing import Any

import pytest
from ledger_cases import T0, arrive, due, keep, make, seen
from sqlalchemy import select, update

from medai.router.contract import Form
from medai.router.files.parcel import Parcel, note_alone, pack, unpack
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.deliveries import Delivery
from medai.router.ledger.removals import Removed
from medai.router.ledger.studies import KnownStudy
from medai.router.reports import readings
from medai.router.reports.story import messages

TOLD = {"pacs": lambda payload, _number: note_alone(payload)}


@pytest.fixture
def study(ledger: Ledger) -> KnownStudy:
    return arrive(ledger, seen())


def parcel(note: bytes | None) -> bytes | None:
    return pack(Parcel(forms={Form.PDF: b"page" * 1000}, note=note))


def read(ledger: Ledger, study: KnownStudy, payload: bytes | None, at: float, **changes: Any) -> str:
    """A reading in the archive whose delivery to "pacs" waits with this payload."""
    changes = {"sources": str(at), "destinations": ("archive", "pacs", "ris"), **changes}
    job_id, _ = make(ledger, study, at, **changes)
    claim = ledger.claims.take(job_id, worker="w", lease_s=20, now=at)
    assert claim is not None
    keep(ledger, claim, at, destinations=("pacs",))
    with ledger.begin() as db:
        mine = (t.deliveries.c.job_id == job_id, t.deliveries.c.destination == "pacs")
        db.execute(update(t.deliveries).where(*mine).values(payload=payload))
    ledger.claims.hand_over(job_id, claim.token, at, archived=True)
    return str(job_id)


def tried(ledger: Ledger, job_id: str, at: float) -> Delivery:
    (item,) = [each for each in due(ledger, "pacs", at) if each.job_id == job_id]
    assert ledger.deliveries.begin_try(item, at)
    return item


def send(ledger: Ledger, job_id: str, at: float) -> None:
    item = tried(ledger, job_id, at)
    ledger.deliveries.delivered(item, "taken", at, keep=note_alone(item.payload) or b"")


def kept(ledger: Ledger, job_id: str) -> bytes | None:
    with ledger.begin(reads_only=True) as db:
        mine = (t.deliveries.c.job_id == job_id, t.deliveries.c.destination == "pacs", t.deliveries.c.kind == "result")
        found = db.execute(select(t.deliveries.c.payload).where(*mine)).scalar_one()
    return None if found is None else bytes(found)


def states(ledger: Ledger, job_id: str) -> dict[str, str]:
    (found,) = readings.jobs(ledger, job_id=job_id)
    return {f"{each.destination} {each.kind}": each.state for each in found.deliveries}


def test_a_delivered_parcel_is_cut_down_to_its_note_or_to_nothing(ledger: Ledger, study: KnownStudy) -> None:
    first = read(ledger, study, parcel(b"one"), T0)
    send(ledger, first, T0 + 5)
    assert unpack(kept(ledger, first)) == Parcel(note=b"one")
    second = read(ledger, study, parcel(None), T0 + 10)
    send(ledger, second, T0 + 15)
    assert kept(ledger, second) is None


def test_the_earlier_revisions_of_a_result_are_those_that_the_destination_may_have(
    ledger: Ledger, study: KnownStudy
) -> None:
    other = read(ledger, study, parcel(b"of another series"), T0, slot="other")
    send(ledger, other, T0 + 1)
    before = read(ledger, study, None, T0 + 10)
    send(ledger, before, T0 + 11)
    one = read(ledger, study, parcel(b"one"), T0 + 20)
    ledger.deliveries.park(tried(ledger, one, T0 + 21), "no", T0 + 21)
    untried = read(ledger, study, parcel(b"untried"), T0 + 30)
    with ledger.begin() as db:
        db.execute(update(t.jobs).where(t.jobs.c.id == untried).values(state="failed"))
    two = read(ledger, study, parcel(b"two"), T0 + 40)
    send(ledger, two, T0 + 41)
    three = tried(ledger, read(ledger, study, parcel(b"three"), T0 + 50), T0 + 51)
    assert [unpack(each).note for each in ledger.deliveries.superseded(three)] == [b"one", b"two"]


def test_a_withdrawal_is_owed_where_there_is_a_note_and_the_result_is_not_sent_after_it(
    ledger: Ledger, study: KnownStudy
) -> None:
    job_id = read(ledger, study, parcel(b"one"), T0)
    item = tried(ledger, job_id, T0 + 5)
    ledger.deliveries.put_off(item, "away", next_try_at=0.0, refused=False, now=T0 + 5)
    assert not ledger.deliveries.withdrawal_owed(item)
    assert ledger.actions.withdraw(job_id, "wrong", T0 + 6, withdrawn=TOLD, by="ana") == ["archive", "pacs"]
    assert ledger.deliveries.withdrawal_owed(item)
    first, *_ = due(ledger, "pacs", T0 + 7)
    assert (first.kind, first.id) == ("result", item.id)
    send(ledger, job_id, T0 + 7)
    (second,) = due(ledger, "pacs", T0 + 8)
    assert (second.kind, unpack(second.payload)) == ("withdrawal", Parcel(note=b"one"))


@pytest.mark.parametrize("payload", [None, parcel(None)])
def test_a_result_without_a_note_is_taken_back_without_a_word(
    ledger: Ledger, study: KnownStudy, payload: bytes | None
) -> None:
    job_id = read(ledger, study, payload, T0)
    tried(ledger, job_id, T0 + 5)
    assert ledger.actions.withdraw(job_id, "wrong", T0 + 6, withdrawn=TOLD, by="ana") == ["archive"]
    assert states(ledger, job_id)["pacs result"] == "cancelled"
    assert "pacs withdrawal" not in states(ledger, job_id)


def test_a_study_that_is_gone_withdraws_only_what_has_a_note(ledger: Ledger, study: KnownStudy) -> None:
    with_note = read(ledger, study, parcel(b"one"), T0)
    send(ledger, with_note, T0 + 1)
    without = read(ledger, study, None, T0 + 2, slot="other")
    send(ledger, without, T0 + 3)
    untold = read(ledger, study, None, T0 + 4, slot="third")
    tried(ledger, untold, T0 + 5)
    nothing_to_say = read(ledger, study, parcel(None), T0 + 6, slot="fourth")
    tried(ledger, nothing_to_say, T0 + 7)
    found = ledger.removals.study_removed("o-1.2.3", T0 + 9, within_s=3600.0, withdrawn=TOLD)
    assert found is not None
    assert found.withdrawn == 1
    assert states(ledger, with_note)["pacs withdrawal"] == "pending"
    assert states(ledger, untold)["pacs result"] == "cancelled"
    assert isinstance(found, Removed)


def test_what_will_never_be_sent_keeps_its_note_alone(ledger: Ledger, study: KnownStudy) -> None:
    dropped = read(ledger, study, parcel(b"one"), T0)
    ledger.deliveries.park(tried(ledger, dropped, T0 + 1), "no", T0 + 1)
    assert unpack(kept(ledger, dropped)).forms
    (letter,) = ledger.dead.letters()
    assert ledger.dead.drop(letter, "settled by hand", T0 + 2, by="ana")
    overtaken = read(ledger, study, parcel(b"two"), T0 + 10)
    ledger.deliveries.park(tried(ledger, overtaken, T0 + 11), "no", T0 + 11)
    send(ledger, read(ledger, study, parcel(b"three"), T0 + 20), T0 + 21)
    assert states(ledger, overtaken)["pacs result"] == "cancelled"
    assert [unpack(kept(ledger, job_id)) for job_id in (dropped, overtaken)] == [
        Parcel(note=b"one"),
        Parcel(note=b"two"),
    ]


def test_a_parcel_is_no_message_for_people(ledger: Ledger, study: KnownStudy) -> None:
    job_id = read(ledger, study, parcel(b"one"), T0)
    assert [each.destination for each in messages(ledger, job_id)] == ["ris"]
