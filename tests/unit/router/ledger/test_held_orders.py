"""Held orders: brought up once, decided by a person once, and written down."""

from __future__ import annotations

import pytest
from ledger_cases import T0, acknowledge, arrive, due, keep, make, said, seen, store
from sqlalchemy import and_, select, update

from medai.router.contract import JobId, Order
from medai.router.delivery.joinings import joinings
from medai.router.hl7.order_patient import Doubt
from medai.router.hl7.orders_in import Action
from medai.router.ledger import Claim, Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.held_orders import HoldState
from medai.router.reports.status import status
from medai.router.settings.tables import Settings

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
    assert audit(ledger) == [], "a worker found it: the router writes it down"
    assert [ledger.held.note_new(T0 + 1) for _ in range(2)] == [1, 0]
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


# -- results that there were before the order was released

ORU = (
    b"MSH|^~\\&|MEDAI|AI|RIS|H|20270115080000+0000||ORU^R01^ORU_R01|C1|P|2.5.1\r"
    b"PID|1||4711^^^H^MR||Real^Patient\rOBR|1||AI1|CT|||||||||||||||||||20270115080000+0000||CT|P\r"
)
ORDER = Order(placer="EVIL-PL", accession="A1.2.3", requested_procedure_id="RP1")

JOINED = joinings(Settings(destinations={"ehr": {"fhir_url": "http://127.0.0.1:9/fhir"}}))
"""How it is told at the RIS and at a FHIR server."""


class Site:
    """A study that was read while its order was held."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.study = ledger, arrive(ledger, seen())
        self.claims: list[Claim] = []
        ledger.held.released("1.2.3", DOUBT, T0)

    def read(self, **own: object) -> Claim:
        job_id, _ = make(self.ledger, self.study, **own)
        return self.claim(job_id)

    def claim(self, job_id: JobId) -> Claim:
        claim = self.ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 1)
        assert claim is not None
        return claim

    def result(self, claim: Claim) -> None:
        store(self.ledger, claim)
        mine = t.deliveries.c.job_id == claim.job.job_id
        with self.ledger.begin() as db:
            db.execute(update(t.deliveries).where(mine, t.deliveries.c.destination == "ris").values(payload=ORU))

    def release(self) -> None:
        (held,) = self.ledger.held.waiting()
        assert self.ledger.held.decide(held.id, HoldState.RELEASED, "married", T0 + 5, by="anna")

    def owed(self) -> list[tuple[str, str, bool]]:
        """What goes to the RIS: kind, control id, and whether it names the order."""
        found = due(self.ledger, "ris", T0 + 50)
        return [(each.kind, each.control_id, b"EVIL-PL" in (each.payload or b"")) for each in found]


@pytest.fixture
def site(ledger: Ledger) -> Site:
    return Site(ledger)


def test_a_result_that_the_ris_has_goes_once_more_with_the_order_that_was_released(site: Site) -> None:
    claim = site.read()
    site.result(claim)
    acknowledge(site.ledger, claim, T0 + 2)
    assert site.ledger.held.join(site.study.id, ORDER, T0 + 3, JOINED), "nothing was released"
    assert site.owed() == []
    site.release()
    for _ in range(3):
        assert site.ledger.held.join(site.study.id, ORDER, T0 + 6, JOINED)
    ((kind, number, named),) = site.owed()
    assert (kind, named) == ("order", True)
    assert number not in ("", "C1")
    assert len(number) <= 20
    assert audit(site.ledger)[-1] == ("router", "order_joined", "EVIL-PL: 1 result")
    (owed,) = due(site.ledger, "ris", T0 + 50)
    assert site.ledger.deliveries.begin_try(owed, T0 + 51)
    site.ledger.deliveries.delivered(owed, "AA", T0 + 52)
    assert site.ledger.held.join(site.study.id, ORDER, T0 + 53, JOINED)
    assert site.owed() == []
    assert site.ledger.held.released("1.2.3", DOUBT, T0 + 54), "it stays released for what is read later"


BUNDLE = b'{"resourceType":"Bundle","entry":[{"resource":{"resourceType":"DiagnosticReport","id":"r"}}]}'


@pytest.mark.parametrize("has_it", [True, False])
def test_a_fhir_server_is_told_of_it_too(site: Site, has_it: bool) -> None:
    claim = site.read(destinations=("ris", "ehr"))
    keep(site.ledger, claim, destinations=("ehr",))
    with site.ledger.begin() as db:
        for name, payload in (("ehr", BUNDLE), ("ris", ORU)):
            mine = and_(t.deliveries.c.job_id == claim.job.job_id, t.deliveries.c.destination == name)
            db.execute(update(t.deliveries).where(mine).values(payload=payload))
    site.ledger.claims.hand_over(claim.job.job_id, claim.token, T0 + 1, archived=True)
    if has_it:
        (owed,) = due(site.ledger, "ehr")
        assert site.ledger.deliveries.begin_try(owed, T0 + 5)
        site.ledger.deliveries.delivered(owed, "200", T0 + 5)
    site.release()
    for _ in range(2):
        assert site.ledger.held.join(site.study.id, ORDER, T0 + 6, JOINED)
    (owed,) = due(site.ledger, "ehr", T0 + 50)
    assert owed.kind == ("order" if has_it else "result")
    assert b'"basedOn":[{"type":"ServiceRequest"' in (owed.payload or b"")
    assert audit(site.ledger)[-1] == ("router", "order_joined", "EVIL-PL: 1 result")


def test_a_result_that_was_not_sent_yet_goes_with_it(site: Site) -> None:
    site.result(site.read())
    site.release()
    assert site.ledger.held.join(site.study.id, ORDER, T0 + 6, JOINED)
    assert site.owed() == [("result", "C1", True)]


def test_one_that_may_have_been_received_goes_under_a_number_of_its_own(site: Site) -> None:
    site.result(site.read())
    (owed,) = due(site.ledger, "ris", T0 + 5)
    assert site.ledger.deliveries.begin_try(owed, T0 + 5)
    site.ledger.deliveries.put_off(owed, "no answer", next_try_at=T0 + 9, refused=False, now=T0 + 5)
    site.release()
    assert site.ledger.held.join(site.study.id, ORDER, T0 + 6, JOINED)
    ((kind, number, named),) = site.owed()
    assert (kind, number != "C1", named) == ("result", True, True)


def test_while_a_reading_is_under_way_the_word_waits_for_it(site: Site) -> None:
    claim = site.read()
    site.release()
    assert not site.ledger.held.join(site.study.id, ORDER, T0 + 6, JOINED)
    site.result(claim)
    assert site.ledger.held.join(site.study.id, ORDER, T0 + 7, JOINED)
    assert site.owed() == [("result", "C1", True)]


def test_another_order_tells_nothing_again_and_a_rejected_one_neither(site: Site) -> None:
    claim = site.read()
    site.result(claim)
    acknowledge(site.ledger, claim, T0 + 2)
    site.release()
    assert site.ledger.held.join(site.study.id, Order(placer="OTHER"), T0 + 6, JOINED)
    assert site.owed() == []


def test_a_withdrawal_comes_after_the_result_that_goes_once_more(site: Site) -> None:
    claim = site.read()
    site.result(claim)
    acknowledge(site.ledger, claim, T0 + 2)
    site.release()
    assert site.ledger.held.join(site.study.id, ORDER, T0 + 6, JOINED)
    job_id = claim.job.job_id
    site.ledger.actions.withdraw(job_id, "wrong", T0 + 7, withdrawn={"ris": lambda payload, _number: payload}, by="ana")
    assert [kind for kind, _, _ in site.owed()] == ["order"]
