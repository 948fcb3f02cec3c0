"""The conformance statements say what the code does: tables are made anew, examples are parsed, claims have their tests."""

from __future__ import annotations

import ast
import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fhir.resources.bundle import Bundle
from fhir.resources.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.bundle import Bundle as R4Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement as R4CapabilityStatement
from hl7types import decode_er7

from medai.hl7_mock.checks import check_header, check_result
from medai.hl7_mock.message import parse as parse_by_the_mock
from medai.router.contract import Order
from medai.router.hl7 import batches
from medai.router.hl7.messages import parse
from medai.router.hl7.orders_in import ORDER_TYPES, OrderMessage
from medai.router.hl7.patients_in import CHANGES, MERGES, PATIENT_TYPES

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "conformance"
STATEMENTS = {
    "fhir.json": ("ehr", CapabilityStatement, Bundle),
    "fhir_r4.json": ("ehr-r4", R4CapabilityStatement, R4Bundle),
}
"""Each CapabilityStatement with the server of a made reading that it is about, and the models of its version."""
PAGES = ("dicom.md", "hl7.md", "fhir.md", "ihe.md")


@pytest.fixture(scope="module")
def tables() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("tables")


@pytest.fixture(scope="module")
def hl7_tables(tables: ModuleType) -> Any:
    return tables.hl7_tables


@pytest.fixture(scope="module")
def sent(tables: ModuleType) -> Any:
    return tables.hl7_sent_tables


@pytest.fixture(scope="module")
def examples(hl7_tables: Any) -> Any:
    return hl7_tables.example


def page(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*PAGES, *STATEMENTS])
def test_a_statement_is_not_behind_the_code(tables: ModuleType, name: str) -> None:
    wanted = tables.fhir_tables.statement(name) if name in STATEMENTS else tables.filled(page(name))
    assert page(name) == wanted, f"run python docs/conformance/tables.py: {name} is old"


def test_every_table_is_on_a_page_and_once(tables: ModuleType) -> None:
    assert Counter(name for each in PAGES for name in tables.named(page(each))) == Counter(list(tables.makers()))


def test_every_kind_of_message_that_is_taken_has_an_example(hl7_tables: Any, examples: Any) -> None:
    kinds = {parse(examples.sent(message))[0].kind for _, message in examples.examples()}
    assert kinds == (ORDER_TYPES - {("ORM", "")}) | PATIENT_TYPES
    assert examples.MERGING == MERGES | CHANGES
    text = page("hl7.md")
    assert all(message in text for _, message in examples.examples())


def test_every_example_is_sound_to_a_foreign_parser(examples: Any) -> None:
    for title, message in examples.examples():
        if title == examples.TWO_OBR:
            continue  # the standard asks for an ORC with each
        standard = "\n".join(line for line in message.split("\n") if not line.startswith("ZDS"))
        found = decode_er7(examples.sent(standard).decode("utf-8"))
        assert found.MSH.msh_10 == message.split("\n")[0].split("|")[9], title


def test_the_example_of_a_batch_holds_what_it_counts(examples: Any) -> None:
    whole = batches.split(examples.sent(examples.BATCH))
    assert whole is not None
    assert [parse(message)[0].kind for batch in whole.batches for message in batch.messages] == [
        ("OMG", "O19"),
        ("ADT", "A08"),
    ]


def test_the_examples_of_results_are_what_the_mock_ris_takes(sent: Any) -> None:
    for payload in (sent.result(), sent.result(late=True), sent.withdrawal()):
        message = parse_by_the_mock(payload)
        assert (check_header(message), check_result(message)) == (None, ())


def test_a_revision_and_a_withdrawal_keep_the_filler_number_and_their_order(sent: Any) -> None:
    first, *others = (
        next(line.split("|") for line in payload.decode("utf-8").split("\r") if line.startswith("OBR"))
        for payload in (sent.result(), sent.result(late=True), sent.withdrawal())
    )
    assert [obr[2:5] for obr in others] == [first[2:5]] * 2
    assert [first[25], *(obr[25] for obr in others)] == ["P", "P", "X"]
    assert first[2] == "4711^WARD^1.2.3.9^ISO"


def test_every_value_of_an_order_is_read_and_goes_somewhere(hl7_tables: Any, examples: Any) -> None:
    said: set[str] = set()
    for _, message in examples.ORDERS.values():
        for each in parse(examples.sent(message))[1]:
            assert isinstance(each, OrderMessage)
            said |= each.carries
    names = set(hl7_tables._names(Order))
    assert said == names
    assert [name for name in names if not hl7_tables._goes(name)] == []


@pytest.mark.parametrize("name", STATEMENTS)
def test_the_capability_statement_is_valid_and_names_what_is_sent(tables: ModuleType, name: str) -> None:
    server, statement_model, bundle_model = STATEMENTS[name]
    statement = json.loads(page(name))
    statement_model.model_validate(statement)
    bundle = tables.fhir_tables.bundle(server=server)
    bundle_model.model_validate(bundle)
    assert statement["rest"][0]["mode"] == "client"
    assert {each["type"] for each in statement["rest"][0]["resource"]} == {
        entry["resource"]["resourceType"] for entry in bundle["entry"]
    }


def test_the_product_itself_opens_an_association_for_an_echo_and_takes_announcements_alone(tables: ModuleType) -> None:
    modules = [path for room in ("router", "workers", "models") for path in (ROOT / room).rglob("*.py")]
    speaking = [path for path in modules if re.search(r"(from|import) pynetdicom", path.read_text(encoding="utf-8"))]
    listener, check = "router/announcements/listener.py", "router/cli/check.py"
    assert sorted(str(path.relative_to(ROOT)) for path in speaking) == [listener, check]
    assert list(tables.dicom_tables.associations()) == [
        (listener, "SCP", "announcements.ae_title", "1.2.840.10008.1.1"),
        (listener, "SCP", "announcements.ae_title", "1.2.840.10008.3.1.2.3.3"),
        (listener, "SCP", "announcements.ae_title", "1.2.840.10008.5.1.4.33"),
        (check, "SCU", "MEDAI", "1.2.840.10008.1.1"),
        (check, "SCU", "MEDAI", "1.2.840.10008.5.1.4.1.1.2"),
    ]


def test_results_of_an_enhanced_object_name_its_frames(tables: ModuleType) -> None:
    made = tables.dicom_tables.made
    seg = made.differences(lambda result: tables.dicom_tables._flat(result.objects["seg"]))
    frames = "PerFrameFunctionalGroupsSequence/DerivationImageSequence/SourceImageSequence/ReferencedFrameNumber"
    assert seg[frames].presence == "ANAP"
    classes = made.results(made.FRAMES).objects["seg"].ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [item.ReferencedSOPClassUID for item in classes] == [made.ENHANCED_CT]


@cache
def functions(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_claim_names_a_test_that_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page("ihe.md"))
    assert len(named) > 20
    assert [f"{path}::{name}" for path, name in named if name not in functions(path)] == []


def test_the_tables_tell_a_fixed_value_from_one_that_varies(tables: ModuleType) -> None:
    made = tables.dicom_tables.made
    found = made.differences(lambda result: tables.dicom_tables._flat(result.objects["sr"]))
    assert (found["VerificationFlag"].presence, found["VerificationFlag"].values) == ("ALWAYS", ("UNVERIFIED",))
    assert found["PatientID"].sources == ("images",)
    assert found["PredecessorDocumentsSequence"].presence == "ANAP"
    oru = made.differences(lambda result: tables.hl7_sent_tables.oru(result.oru))
    assert oru["PID-3"].sources == ("images", "order")
    assert oru["OBR-25"].sources == ()
