"""Orders on PostgreSQL, whose JSON, locks and constraints are not SQLite's: found by any identifier, brought up to date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from ledger_cases import T0, said
from servers import postgresql

from medai.router.contract import Order
from medai.router.hl7.messages import parse
from medai.router.hl7.orders_in import Action
from medai.router.hl7.patients_in import PatientMessage
from medai.router.ledger import Ledger, migrations

ORDER = Order(
    placer="4711^SOUTH", accession="A1", study_uid="1.2.3", patient_id="MPI5", patient_id_authority="MPI",
    patient_identifiers=("MPI5^^^MPI^PI", "10_5^^^HELIOS^ANT"), patient_name="Doe^Jane",
)  # fmt: skip


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with postgresql(tmp_path_factory.mktemp("pg")) as made:
        yield made


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    made = Ledger(url)
    made.migrate()
    with made.begin() as db:
        db.exec_driver_sql("DELETE FROM imaging_order")
    yield made
    made.close()


def move(ledger: Ledger, revision: str, *, down: bool) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["engine"] = ledger.database.engine
    (command.downgrade if down else command.upgrade)(config, revision)


def found(ledger: Ledger) -> list[Order]:
    return list(ledger.orders.of_study(study_uid="1.2.3", accession="A1"))


@pytest.mark.parametrize(("number", "authority", "changed"), [("10_5", "HELIOS", 1), ("10x5", "HELIOS", 0)])
def test_an_update_finds_the_order_by_any_of_its_identifiers_and_by_no_pattern(
    ledger: Ledger, number: str, authority: str, changed: int
) -> None:
    ledger.orders.take([said(ORDER, sent_at=1.0)], T0)
    text = f"MSH|^~\\&|RIS|H|M|A|20260102||ADT^A08|1|P|2.5\rPID|1||{number}^^^{authority}||Roe^Joan\r"
    _, told = parse(text.encode())
    messages = [each for each in told if isinstance(each, PatientMessage)]
    assert ledger.identities.patient_changed(messages, T0).orders == changed
    assert found(ledger)[0].patient_name == ("Roe^Joan" if changed else "Doe^Jane")


def test_orders_of_the_version_before_are_kept_and_their_cancellation_finds_them(ledger: Ledger) -> None:
    move(ledger, "0009", down=True)
    content = {
        "placer": "4711", "filler": "F1", "accession": "A1", "study_uid": "1.2.3", "priority": 0, "patient_id": "1",
        "procedure": ["X", "x", "L"],
    }  # fmt: skip
    with ledger.database.engine.begin() as db:
        db.exec_driver_sql(
            "INSERT INTO imaging_order (placer, accession, study_uid, status, priority, received_at, control_id, content) "
            "VALUES ('4711', 'A1', '1.2.3', 'active', 0, 1.0, 'c', %(content)s)",
            {"content": json.dumps(content)},
        )
    move(ledger, "head", down=False)
    assert [order.procedure for order in found(ledger)] == [("X", "x", "L")]
    ledger.orders.take([said(ORDER, Action.CANCEL, sent_at=T0)], T0)
    assert found(ledger) == []
