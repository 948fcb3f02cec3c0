"""Which order a result answers, and what does not fit: by placer number first, else by accession number.

A result for another patient than the order's is refused: filing it would put findings into the wrong record. Who a
patient is today, after merges, is for patients.py. Next: receiver.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from medai.hl7_mock.acks import Objection
from medai.hl7_mock.orders import Order, OrderBook
from medai.hl7_mock.results import Reading


@dataclass(frozen=True, kw_only=True)
class Match:
    """The order, if one is known, and remarks about the pair."""

    order: Order | None
    flags: tuple[str, ...] = ()
    """``unsolicited``: no such order. ``other_study_uid``: the study is not the one that was ordered.
    ``order_cancelled``: the order was taken back."""


def match(reading: Reading, book: OrderBook) -> Match:
    """Find the order of a result."""
    order = book.get(reading.placer) if reading.placer else None
    if order is None and reading.accession:
        order = book.by_accession(reading.accession)
    return Match(order=order, flags=flags_of(reading, order))


def flags_of(reading: Reading, order: Order | None) -> tuple[str, ...]:
    """What is remarkable about a result and its order (see ``Match.flags``)."""
    if order is None:
        return ("unsolicited",)
    flags = ("other_study_uid",) if reading.study_uid != order.details.request.study_uid else ()
    return (*flags, "order_cancelled") if order.cancelled else flags


def objections(
    number: int, reading: Reading, book: OrderBook, *, accept_unsolicited: bool, surviving: Callable[[str], str]
) -> list[Objection]:
    """Why the RIS cannot file the ``number``-th OBR of a message under an order.

    ``surviving`` gives the identifier that a patient has today, as the orders of ``book`` do.
    """
    order = match(reading, book).order
    if order is None:
        if accept_unsolicited:
            return []
        text = "no order with this placer or accession number is known here"
        return [Objection(code="204", text=text, segment="OBR", sequence=number, field=2 if reading.placer else 18)]
    asked = order.details.request
    found = []
    if surviving(reading.patient_id) != asked.patient_id:
        text = "PID-3 names another patient than the order"
        found.append(Objection(code="204", text=text, segment="PID", field=3))
    if reading.accession and reading.accession != asked.accession:
        text = "OBR-18 (accession) differs from the order"
        found.append(Objection(code="204", text=text, segment="OBR", sequence=number, field=18))
    if reading.placer and reading.placer != order.placer:
        text = "OBR-2 (placer number) differs from the order with this accession"
        found.append(Objection(code="204", text=text, segment="OBR", sequence=number, field=2))
    return found
