"""Whose record a line is about, where the archive no longer knows."""

from __future__ import annotations

from typing import Any

from audit_cases import bare
from ledger_cases import T0, arrive, make, said, seen
from sqlalchemy import insert

from medai.router.audit.whose import Whose
from medai.router.contract import Order
from medai.router.errors import OrthancRefused
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t

ORU = b"MSH|^~\\&|MEDAI|AI|RIS|H|20270115||ORU^R01^ORU_R01|X|P|2.5.1\rPID|1||4711^^^HOSPITAL^MR||Doe^Jane\r"


class Gone:
    """An archive from which the study was deleted."""

    def study(self, orthanc_study: str) -> dict[str, Any]:
        raise OrthancRefused("gone", status=404)


def test_a_study_that_was_deleted_is_that_of_whom_its_result_named(ledger: Ledger) -> None:
    study = arrive(ledger, seen())
    job_id, _ = make(ledger, study)
    with ledger.begin() as db:
        row = {"job_id": job_id, "destination": "ris", "kind": "result", "control_id": "X", "payload": ORU,
               "state": "done", "created_at": T0}  # fmt: skip
        db.execute(insert(t.deliveries).values(**row))
    ledger.accounts.note_action("ana", "study", T0, study_id=study.id)
    *_, event = Whose(ledger.audit, Gone()).events(ledger.audit.all())
    assert event.subject.identifier == "4711"


def test_a_message_that_cannot_be_read_holds_no_line_back(ledger: Ledger) -> None:
    study = arrive(ledger, seen())
    job_id, _ = make(ledger, study)
    with ledger.begin() as db:
        row = {"job_id": job_id, "destination": "ris", "kind": "result", "control_id": "X", "payload": b"\xff?",
               "state": "done", "created_at": T0}  # fmt: skip
        db.execute(insert(t.deliveries).values(**row))
    (event,) = Whose(ledger.audit, Gone()).events(ledger.audit.all())
    assert event.subject.identifier == ""


def test_an_order_is_that_of_whom_it_names(ledger: Ledger) -> None:
    order = Order(placer="PL^RIS", filler="F1", patient_id="4711", patient_name="Doe^Jane")
    ledger.orders.take([said(order, digest="a", sent_at=T0)], T0)
    whose = Whose(ledger.audit, Gone())
    (event,) = whose.events([bare("order change", detail="PL^RIS: active")])
    assert (event.subject.identifier, event.subject.name) == ("4711", "Doe^Jane")
    (nobody,) = whose.events([bare("order change", detail=": active")])
    assert nobody.subject.identifier == ""
