"""Orders as RIS send them: several in a message, a part of one in a message, numbers whole."""

from __future__ import annotations

import pytest

from medai.router.contract import Priority
from medai.router.hl7.messages import parse
from medai.router.hl7.orders_in import ORDERS_MAX, Action, OrderMessage
from medai.router.hl7.segments import BadMessage

GAP = "|" * 14


def message(*segments: str, kind: str = "ORM^O01", more: str = "") -> bytes:
    msh = rf"MSH|^~\&|HIS|MedCenter|MEDAI|AI|20260105101500||{kind}|MSG1|P|2.4{more}"
    return ("\r".join((msh, "PID|||12001^^^HOSP^MR||Jones^John||19670824|M", "PV1||O", *segments)) + "\r").encode()


def orders(*segments: str, kind: str = "ORM^O01", more: str = "") -> tuple[OrderMessage, ...]:
    _, found = parse(message(*segments, kind=kind, more=more))
    assert isinstance(found, tuple)
    assert all(isinstance(each, OrderMessage) for each in found)
    return found


def numbers(found: tuple[OrderMessage, ...]) -> list[tuple[str, str]]:
    return [(each.order.placer, each.order.accession) for each in found]


# -- several orders


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        (("PL1", "PL1"), [("PL1", "A-HEAD"), ("PL1", "A-CHEST")]),
        (("PL1", "PL2"), [("PL1", "A-HEAD"), ("PL2", "A-CHEST")]),
        (("", ""), [("PL1", "A-HEAD"), ("PL1", "A-CHEST")]),
    ],
)
@pytest.mark.parametrize("control", ["NW", "CA"])
def test_every_request_under_one_orc_is_an_order_and_inherits_it(
    requests: tuple[str, str], expected: list[tuple[str, str]], control: str
) -> None:
    found = orders(
        f"ORC|{control}|PL1|||||^^^^^S",
        f"OBR|1|{requests[0]}||CTHEAD^CT head^L{GAP}A-HEAD",
        f"OBR|2|{requests[1]}||CTCHEST^CT chest^L{GAP}A-CHEST",
    )
    assert numbers(found) == expected
    assert {each.order.priority for each in found} == {Priority.STAT}
    assert {each.action for each in found} == {Action.NEW if control == "NW" else Action.CANCEL}
    assert [each.order.procedure[0] for each in found] == ["CTHEAD", "CTCHEST"]
    assert {each.order.patient_id for each in found} == {"12001"}


def test_what_stands_between_orc_and_the_first_request_is_shared_and_what_follows_a_request_is_its_own() -> None:
    found = orders(
        "ORC|NW|PL1", "TQ1|1||||||||A", f"OBR|1|||X^x^L{GAP}A1", "ZDS|1.2.3.1", f"OBR|2|||Y^y^L{GAP}A2", "ZDS|1.2.3.2",
        "ORC|NW|PL2", f"OBR|3|||Z^z^L{GAP}A3",
    )  # fmt: skip
    assert [each.order.study_uid for each in found] == ["1.2.3.1", "1.2.3.2", ""]
    assert [each.order.priority for each in found] == [Priority.URGENT, Priority.URGENT, Priority.ROUTINE]


def test_one_study_uid_is_of_all_requests_of_its_message() -> None:
    """IHE RAD-4: one ZDS, at the end."""
    found = orders("ORC|NW|PL1", "OBR|1", "ORC|NW|PL2", "OBR|2", "ZDS|1.2.3^RIS^Application^DICOM")
    assert [each.order.study_uid for each in found] == ["1.2.3", "1.2.3"]


def test_every_imaging_step_of_an_omi_is_an_order_of_its_own() -> None:
    found = orders(
        "ORC|NW|PL1^RIS", "TQ1|1||||||||S", "OBR|1|PL1^RIS||CT^ct^L", "IPC|A1|RP1|1.2.3.1|S1|CT", "IPC|A2|RP2|1.2.3.2|S2|MR",
        "OBR|2|PL9^RIS||US^us^L", "IPC|A3|RP3|1.2.3.3|S3|US", kind="OMI^O23^OMI_O23",
    )  # fmt: skip
    assert numbers(found) == [("PL1^RIS", "A1"), ("PL1^RIS", "A2"), ("PL9^RIS", "A3")]
    assert [each.order.modality for each in found] == ["CT", "MR", "US"]
    assert [each.order.study_uid for each in found] == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]


def test_a_general_order_is_read_as_one_of_imaging() -> None:
    (found,) = orders("ORC|NW|PL1", f"OBR|1|||X^x^L{GAP}A1", kind="OMG^O19^OMG_O19")
    assert numbers((found,)) == [("PL1", "A1")]


def test_several_patients_in_a_message_each_have_their_own_orders() -> None:
    found = orders("ORC|NW|PL1", "OBR|1", "PID|||77^^^HOSP^MR||Roe^Jane", "PV1||I", "ORC|NW|PL2", "OBR|2")
    assert [(each.order.placer, each.order.patient_id, each.order.patient_class) for each in found] == [
        ("PL1", "12001", "O"), ("PL2", "77", "I"),
    ]  # fmt: skip


def test_repeated_and_foreign_segments_change_nothing() -> None:
    found = orders(
        "NTE|1||x", "AL1|1", "ORC|NW|PL1", "ZXX|1", "NTE|1||y", f"OBR|1|||X^x^L{GAP}A1", "NTE|2", "ZYY|2", "OBX|1"
    )
    assert numbers(found) == [("PL1", "A1")]


@pytest.mark.parametrize("version", ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", ""])
def test_an_order_of_any_version_is_read(version: str) -> None:
    data = message("ORC|NW|PL1", f"OBR|1|||X^x^L{GAP}A1", kind="ORM" if version == "2.1" else "ORM^O01")
    _, found = parse(data.replace(b"|P|2.4", b"|P|" + version.encode()))
    assert isinstance(found, tuple)
    assert len(found) == 1


# -- numbers, whole


def test_an_order_number_is_kept_with_its_namespace() -> None:
    (north,) = orders("ORC|NW|4711^NORTH", "OBR|1|4711^NORTH")
    (south,) = orders("ORC|NW|4711^SOUTH^1.2.3^ISO|F1^LAB", "OBR|1")
    (fuller,) = orders("ORC|NW|4711^SOUTH", "OBR|1|4711")
    assert fuller.order.placer == "4711^SOUTH", "the request leaves out what its ORC says"
    assert (north.order.placer, south.order.placer, south.order.filler) == (
        "4711^NORTH",
        "4711^SOUTH^1.2.3^ISO",
        "F1^LAB",
    )


def test_an_order_that_only_its_filler_knows_is_kept_by_that_number() -> None:
    (found,) = orders("ORC|SC||F1^LAB", "OBR|1||F1^LAB")
    assert (found.order.placer, found.order.filler) == ("", "F1^LAB")


def test_identifiers_come_whole_and_in_their_order() -> None:
    pid = (
        "PID|1||5928948^^^X1V1_MPI^PI~1053251221^3^M11^HELIOS&1.2.3&ISO^ANT~757HA514^^^SS^SS||Rossi^Anna||19811016|F"
        "||||||||||ACC77^^^HELIOS^AN"
    )
    pv1 = "PV1|1|I|4W^12^B^H||||||||||||||||V9^7^M10^HELIOS&1.2.3&ISO^VN"
    obr = f"OBR|1|||X^x^L{'|' * 12}77^Muster^Max^^^Dr.^^^L1~78^Other|"
    _, found = parse(
        ("\r".join((r"MSH|^~\&|A|B|C|D|20260105||ORM^O01|1|P|2.5", pid, pv1, "ORC|NW|P1", obr)) + "\r").encode()
    )
    assert isinstance(found, tuple)
    order = found[0].order
    assert order.patient_identifiers == (
        "5928948^^^X1V1_MPI^PI", "1053251221^3^M11^HELIOS&1.2.3&ISO^ANT", "757HA514^^^SS^SS",
    )  # fmt: skip
    assert order.patient_account == "ACC77^^^HELIOS^AN"
    assert (order.patient_class, order.location) == ("I", "4W^12^B^H")
    assert order.visit_number == "V9^7^M10^HELIOS&1.2.3&ISO^VN"
    assert order.ordered_by == "77^Muster^Max^^^Dr.^^^L1~78^Other"


def test_other_delimiters_and_escapes_become_the_usual_ones() -> None:
    data = "MSH$%*!/$RIS$H$M$A$20240301$$ORM%O01$1$P$2.3\rPID$1$$7%%%H|P/1.2/ISO*8\rORC$NW$P!F!1%N!T!S\rOBR$1\r"
    _, found = parse(data.encode())
    assert isinstance(found, tuple)
    assert found[0].order.placer == "P$1^N/S"
    assert found[0].order.patient_identifiers == (r"7^^^H\F\P&1.2&ISO", "8")


@pytest.mark.parametrize(
    ("segments", "field"),
    [
        (("ORC|NW|" + "9" * 428, "OBR|1"), "placer"),
        (("ORC|NW|1|" + "9" * 428, "OBR|1"), "filler"),
        (("ORC|NW|1", f"OBR|1|||X{GAP}" + "9" * 65), "accession"),
    ],
)
def test_a_number_that_can_t_be_kept_whole_is_refused_and_never_cut(segments: tuple[str, ...], field: str) -> None:
    with pytest.raises(BadMessage, match=f"the {field} number is longer than"):
        orders(*segments)


@pytest.mark.parametrize("kind", ["OBR", "IPC"])
def test_a_flood_of_orders_in_one_message_is_refused_before_any_is_kept(kind: str) -> None:
    """Each would be compared with all before it, while the port waits."""
    first = [] if kind == "OBR" else ["OBR|1"]

    def flood(count: int) -> list[str]:
        return ["ORC|NW|PL1", *first, *(f"{kind}|{number}" for number in range(count))]

    assert len(orders(*flood(ORDERS_MAX))) == ORDERS_MAX
    with pytest.raises(BadMessage, match="more than 300 orders"):
        orders(*flood(ORDERS_MAX + 1))


# -- a part of an order


def test_a_message_says_only_what_it_speaks_of() -> None:
    (found,) = orders("ORC|SC|PL1||||CM", "OBR|1")
    assert found.action is Action.CHANGE
    assert found.carries.isdisjoint({"priority", "accession", "study_uid", "procedure", "filler", "ordered_at"})
    (emptied,) = orders('ORC|XO|PL1|""', f'OBR|1|||""{GAP}""')
    assert {"accession", "procedure"} <= emptied.carries
    assert (emptied.order.accession, emptied.order.procedure) == ("", ("", "", ""))


def test_when_something_happened_to_an_order_is_not_when_it_was_placed() -> None:
    (placed,), (changed,) = (
        orders(f"ORC|{control}|PL1|||||||20260105120000", "OBR|1") for control in ("NW", "SC")
    )  # fmt: skip
    assert "ordered_at" in placed.carries
    assert "ordered_at" not in changed.carries


@pytest.mark.parametrize(
    ("control", "status", "action"),
    [("NW", "", "new"), ("", "", "new"), ("SN", "", "new"), ("RO", "", "new"), ("CA", "", "cancel"), ("OC", "", "cancel"),
     ("DC", "", "cancel"), ("OD", "", "cancel"), ("CR", "", "cancel"), ("DR", "", "cancel"), ("SC", "CA", "cancel"),
     ("SC", "DC", "cancel"), ("SC", "IP", "change"), ("SC", "CM", "change"), ("XO", "", "change"), ("HD", "", "change"),
     ("RP", "", "change"), ("NA", "", "change"), ("OK", "", "change"), ("UC", "", "change"), ("RL", "", "change")],
)  # fmt: skip
def test_only_what_places_an_order_can_bring_it_back(control: str, status: str, action: str) -> None:
    (found,) = orders(f"ORC|{control}|PL1|||{status}", "OBR|1")
    assert found.action == action


def test_an_order_that_another_one_replaces_is_cancelled() -> None:
    found = orders("ORC|RP|PL1", "OBR|1", "ORC|RO|PL2", "OBR|2")
    assert [each.action for each in found] == [Action.CANCEL, Action.NEW]
