"""The parts of one running mock RIS, as the web page and the server share them.

Next: server.py (who puts them together), web.py (who shows them).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medai.hl7_mock.faults import Faults
from medai.hl7_mock.inbox import Inbox
from medai.hl7_mock.matching import match
from medai.hl7_mock.mllp import MllpServer
from medai.hl7_mock.mpps import StepBook
from medai.hl7_mock.order_sender import OrderSender
from medai.hl7_mock.orders import OrderBook
from medai.hl7_mock.patient_messages import Person
from medai.hl7_mock.patients import PatientBook, person_of
from medai.hl7_mock.receiver import ResultReceiver
from medai.hl7_mock.refusals import Refusals
from medai.hl7_mock.reports import ReportBook


@dataclass(kw_only=True)
class Ris:
    """The parts of one running mock RIS."""

    inbox: Inbox
    refusals: Refusals
    book: OrderBook
    patients: PatientBook
    faults: Faults
    receiver: ResultReceiver
    mllp: MllpServer
    sender: OrderSender
    patient_sender: OrderSender
    steps: StepBook
    reports: ReportBook
    report_sender: OrderSender | None
    """None: there is no EHR to send reports to."""
    clock: Callable[[], float]
    mllp_address: str = ""
    router_address: str = ""
    dicom_address: str = ""
    order_wait_s: float = 5.0
    """POST /orders answers after the first attempt to send, or after this time."""

    def resulted(self) -> frozenset[str]:
        """The placer numbers of the orders that have a result, one that was withdrawn not counted."""
        holding = (result.reading for result in self.inbox.results if result.reading.status != "X")
        orders = (match(reading, self.book).order for reading in holding)
        return frozenset(order.placer for order in orders if order is not None)

    def known(self, patient_id: str) -> Person:
        """What is known of a patient: the newest update, else the newest order."""
        nobody = Person(patient_id=patient_id)
        orders = (person_of(order.details.request) for order in reversed(self.book.orders))
        newest = next((person for person in orders if person.patient_id == patient_id), nobody)
        return self.patients.current(nobody).over(newest)
