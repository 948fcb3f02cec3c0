"""Numbers of HL7 v2 in FHIR: whose they are, and which order is meant."""

from __future__ import annotations

import pytest

from medai.router.hl7.fhir_reference import authority, order_reference


@pytest.mark.parametrize(
    ("designator", "expected"),
    [
        ("HOSP&1.2.3&ISO", ("urn:oid:1.2.3", "HOSP")),
        ("&1.2.3", ("urn:oid:1.2.3", "")),
        ("HOSP&https://a.example/mrn&URI", ("https://a.example/mrn", "HOSP")),
        ("H&6D656461-6920-5275-b074-657220763031&UUID", ("urn:uuid:6d656461-6920-5275-b074-657220763031", "H")),
        ("HOSP&not an oid&ISO", ("urn:known", "HOSP")),
        ("HOSP&a.example&DNS", ("urn:known", "HOSP")),
        ("OTHER", ("", "OTHER")),
        ("", ("", "")),
    ],
)
def test_an_assigning_authority_becomes_a_uri_where_it_has_one(designator: str, expected: tuple[str, str]) -> None:
    assert authority(designator, {"HOSP": "urn:known"}) == expected


def test_an_order_is_known_by_its_placer_number() -> None:
    (found,) = order_reference("ORD\\T\\1^RIS^1.2.9^ISO")
    assert found["identifier"]["value"] == "ORD&1"
    assert (found["identifier"]["system"], found["identifier"]["assigner"]) == ("urn:oid:1.2.9", {"display": "RIS"})
    assert order_reference("") == order_reference("^RIS") == []
