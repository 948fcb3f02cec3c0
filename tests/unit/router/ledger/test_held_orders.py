"""Held orders: brought up once, decided by a person once, and written down."""

from __future__ import annotations

from ledger_cases import T0, arrive, said, seen
from sqlalchemy import select

from medai.router.contract import Order
from medai.router.hl7.order_patient import Doubt
from medai.router.hl7.orders_in import Action
from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.held_orders import HoldState
from medai.router.reports.status import status

DOUBT = Doubt(key="k1", placer="EVIL-PL", accession="A1.2.3", differs=("name", "birth date"))


def audit(ledger: Ledger) -> list[tuple[str, str, str]]:
    with ledger.begin(reads_only=True) as db:
        rows = db.execute(select(t.audit.c.account, t.audit.c.action, t.audit.c.detail).order_by(t.audit.c.id))
        return [(row.account, row.action, row.detail) for row in rows]


def test_a_doubt_is_brought_up_once_and_shown_until_a_person_decides(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    assert [ledger.held.released("1.2.3", DOUBT, T0 + n) for n in range(3)] == [False] * 3
    (held,) = ledger.held.waiting()
    assert (held.study_id, held.placer, held.differs, held.seen_at) == (row.id, "EVIL-PL", ("name", "birth date"), T0)
    assert status(ledger, T0).orders_held == 1
    assert audit(ledger) == [("router", "order_held", "EVIL-PL: another name, birth date than the images")]


def test_a_released_order_counts_from_then_on_and_its_study_is_looked_at_again(ledger: Ledger) -> None:
    row = arrive(ledger, seen())
    ledger.studies.set_due(row.id, None)
    ledger.held.released("1.2.3", DOUBT, T0)
    (held,) = ledger.held.waiting()
    assert ledger.held.decide(held.id, HoldState.RELEASED, "married since", T0 + 5, by="anna")
    assert ledger.held.released("1.2.3", DOUBT, T0 + 6)
    assert ledger.held.is_released(DOUBT)
    assert (ledger.held.waiting(), status(ledger, T0).orders_held) == ([], 0)
    assert audit(ledger)[-1] == ("anna", "order_released", "EVIL-PL: married since")
    with ledger.begin(reads_only=True) as db:
        assert db.execute(select(t.studies.c.due_at)).scalar_one() == T0 + 5


def test_a_rejected_order_never_counts_and_nobody_decides_twice(ledger: Ledger) -> None:
    ledger.held.released("1.2.3", DOUBT, T0)
    (held,) = ledger.held.waiting()
    assert ledger.held.decide(held.id, HoldState.REJECTED, "forged", T0 + 5, by="anna")
    assert not ledger.held.decide(held.id, HoldState.RELEASED, "after all", T0 + 6, by="bob")
    assert not ledger.held.decide(77, HoldState.RELEASED, "none", T0 + 6, by="bob")
    assert not ledger.held.released("1.2.3", DOUBT, T0 + 7)
    assert [action for _, action, _ in audit(ledger)] == ["order_held", "order_rejected"]


def test_a_replayed_order_does_not_come_back_to_life(ledger: Ledger) -> None:
    """A captured order and its cancellation, of one moment by the sender's clock, and the order again and again."""
    order = Order(placer="RPL-1", accession="ACCRPL")
    placed = said(order, digest="captured", sent_at=T0)
    ledger.orders.take([placed], T0)
    ledger.orders.take([said(order, Action.CANCEL, digest="cancel", sent_at=T0)], T0 + 1)
    for number in range(50):  # other messages of the order make the ledger forget the first
        ledger.orders.take([said(order, Action.CHANGE, digest=f"change {number}", sent_at=T0 + number)], T0 + 2)
        ledger.orders.take([placed], T0 + 3)
        altered = said(order, digest=f"altered {number}", sent_at=T0)
        ledger.orders.take([altered], T0 + 4)
        assert ledger.orders.of_study(study_uid="", accession="ACCRPL") == ()
    ledger.orders.take([said(order, digest="placed anew", sent_at=T0 + 60)], T0 + 60)
    assert len(ledger.orders.of_study(study_uid="", accession="ACCRPL")) == 1
