"""A patient is merged while a result is on its way to the RIS: whatever the RIS says of the old message, the new goes.

Found by the trial trauma-burst: the RIS had merged already and refused, the router had re-coded meanwhile, and the
refusal of the old message parked the new one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_cases import T0, arrive, due, make, seen, store
from sqlalchemy import update

from medai.router.hl7.patients_in import PatientMessage
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.deliveries import Delivery

ORU = (
    b"MSH|^~\\&|MEDAI|AI|RIS|H|20260102030405+0000||ORU^R01^ORU_R01|C1|P|2.5.1||||||UNICODE UTF-8\r"
    b"PID|1||TMP^^^H^MR||Unknown^One||19700101|F\rOBR|1|ORD1|AI1|CT^CT^L\r"
)
MERGE = PatientMessage(
    control_id="M1", sender=("RIS", "H"), kind="merge", patient_id="P1", patient_id_authority="H", prior_id="TMP",
    prior_id_authority="H", patient_name="Roe^Joan", birth_date="19710202", sex="F", digest="d",
)  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    made.migrate()
    yield made
    made.close()


def on_its_way(ledger: Ledger) -> Delivery:
    """A result's ORU of which a first try has begun."""
    job_id, _ = make(ledger, arrive(ledger, seen()))
    held = ledger.claims.take(job_id, worker="w", lease_s=20, now=T0)
    assert held is not None
    store(ledger, held)
    with ledger.begin() as db:
        db.execute(update(t.deliveries).where(t.deliveries.c.destination == "ris").values(payload=ORU))
    (owed,) = due(ledger, "ris")
    assert ledger.deliveries.begin_try(owed, T0 + 5)
    return owed


def test_a_refusal_of_the_old_message_does_not_park_the_new(ledger: Ledger) -> None:
    owed = on_its_way(ledger)
    changed = ledger.identities.patient_changed([MERGE], T0 + 5.1)
    assert changed.messages == 1
    assert ledger.deliveries.park(owed, "AE 204: merged", T0 + 5.2) is False
    (new,) = due(ledger, "ris", T0 + 6)
    assert new.control_id != owed.control_id
    assert new.payload is not None
    assert b"PID|1||P1^^^H^MR||Roe^Joan" in new.payload
    assert ledger.dead.letters() == []


def test_a_refusal_before_the_merge_waits_for_it_as_a_dead_letter(ledger: Ledger) -> None:
    owed = on_its_way(ledger)
    assert ledger.deliveries.park(owed, "AE 204: merged", T0 + 5.1) is True
    assert len(ledger.dead.letters()) == 1
    ledger.identities.patient_changed([MERGE], T0 + 5.2)
    (new,) = due(ledger, "ris", T0 + 6)
    assert new.payload is not None
    assert b"|P1^" in new.payload
    assert ledger.dead.letters() == []
