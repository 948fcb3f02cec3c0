"""An allowed sender that merges patients at will: every event that moves one patient's things to another is tried.

The router's own port and ledger, and an archive that holds the victim's images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from medai.router.daemon.service import follow_released, on_orders, on_patient
from medai.router.errors import OrthancUnreachable
from medai.router.hl7 import mllp
from medai.router.hl7.listener import OrderListener
from medai.router.ledger import Ledger
from medai.router.ledger.held_orders import HoldState
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import Settings

VICTIM = "PID|1||VIC^^^H^MR||Moss^Jane||19700101|F"
MALLORY = "PID|1||MAL^^^H^MR||Mallory^Eve||19991231|F"
MERGES = ("A18", "A30", "A34", "A36", "A39", "A40", "A47")


class Archive:
    """Orthanc's part: whom its images name."""

    def __init__(self) -> None:
        self.away = False
        self.patients: dict[str, dict[str, str]] = {}

    def patient(self, number: str) -> dict[str, str]:
        if self.away:
            raise OrthancUnreachable("Orthanc does not answer")
        return self.patients.get(number, {})

    def studies_of(self, _number: str) -> list[str]:
        return []


@dataclass
class Port:
    """The order port of a site."""

    ledger: Ledger
    archive: Archive
    listener: OrderListener
    follow: Callable[[], None]
    sent: int = 0

    def send(self, kind: str, *segments: str, sender: str = "RIS") -> str:
        """MSA-1 of the answer."""
        self.sent += 1
        head = f"MSH|^~\\&|{sender}|H|MEDAI|AI|20260102{self.sent:06}+0000||{kind}|N{self.sent}|P|2.5.1"
        data = "\r".join((head, *segments, "")).encode()
        return mllp.send(data, host="127.0.0.1", port=self.listener.port, timeout_s=20).split(b"MSA|")[1][:2].decode()

    def whose(self) -> tuple[str, str]:
        (order,) = self.ledger.orders.of_study(study_uid="", accession="ACC1")
        return order.patient_id, order.patient_name


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Port]:
    ledger, archive = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}"), Archive()
    ledger.migrate()
    settings = Settings(hl7_in={"port": 0, "allowed_senders": ["RIS|H"]})
    take = on_patient(ledger.identities, cast(Orthanc, archive), settings, time.time)
    listener = OrderListener(settings.hl7_in, on_orders(ledger.orders, time.time), on_patient=take)
    listener.start()
    made = Port(ledger, archive, listener, lambda: follow_released(ledger.held_merges, take))
    assert made.send("ORM^O01", VICTIM, "ORC|NW|ORD1", "OBR|1|ORD1||CT||||||||||||||ACC1") == "AA"
    yield made
    listener.stop()
    ledger.close()


@pytest.mark.parametrize("event", MERGES)
def test_nobody_becomes_another_person_before_somebody_looked(port: Port, event: str) -> None:
    assert port.send(f"ADT^{event}", MALLORY, "MRG|VIC^^^H^MR") == "AA"
    assert port.send(f"ADT^{event}", "PID|1||MAL^^^H^MR", "MRG|VIC") == "AA"
    assert port.whose() == ("VIC", "Moss^Jane")
    assert port.ledger.identities.aliases().targets == {}
    held = port.ledger.held_merges.waiting()
    assert [(each.prior_id, each.patient_id) for each in held] == [("VIC", "MAL")] * 2
    assert port.ledger.held_merges.decide(held[0].id, HoldState.RELEASED, "looked", time.time(), by="anna")
    port.follow()
    assert port.whose() == ("MAL", "Mallory^Eve")


def test_the_name_is_not_changed_first_to_make_the_merge_fit(port: Port) -> None:
    """The images say who it was, whatever an update said since."""
    port.archive.patients["VIC"] = {"PatientID": "VIC", "PatientName": "MOSS^JANE", "PatientBirthDate": "19700101"}
    assert port.send("ADT^A08", "PID|1||VIC^^^H^MR||Mallory^Eve||19991231|F") == "AA"
    assert port.send("ADT^A40", MALLORY, "MRG|VIC^^^H^MR") == "AA"
    assert port.whose()[0] == "VIC"
    assert len(port.ledger.held_merges.waiting()) == 1


def test_a_duplicate_registration_is_merged_without_asking(port: Port) -> None:
    port.archive.away = True
    assert port.send("ADT^A40", "PID|1||P1^^^H^MR||Miller^Jane||19700101|F", "MRG|VIC^^^H^MR") == "AA"
    assert port.whose() == ("P1", "Miller^Jane")
    assert port.ledger.held_merges.waiting() == []


def test_a_released_merge_waits_for_an_archive_that_must_follow(port: Port) -> None:
    port.send("ADT^A40", MALLORY, "MRG|VIC^^^H^MR")
    (held,) = port.ledger.held_merges.waiting()
    assert port.ledger.held_merges.decide(held.id, HoldState.RELEASED, "looked", time.time(), by="anna")
    settings = Settings(orthanc={"follow_patient_updates": True})
    take = on_patient(port.ledger.identities, cast(Orthanc, port.archive), settings, time.time)
    port.archive.away = True
    follow_released(port.ledger.held_merges, take)
    assert (len(port.ledger.held_merges.to_follow()), port.whose()[0]) == (1, "VIC")
    port.archive.away = False
    follow_released(port.ledger.held_merges, take)
    assert (len(port.ledger.held_merges.to_follow()), port.whose()[0]) == (0, "MAL")


def test_who_is_not_allowed_does_not_get_so_far(port: Port) -> None:
    assert port.send("ADT^A40", VICTIM.replace("VIC", "P1"), "MRG|VIC^^^H^MR", sender="EVIL") == "AE"
    assert port.whose()[0] == "VIC"
