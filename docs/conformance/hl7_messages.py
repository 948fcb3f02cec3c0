"""The examples of the HL7 specification: messages as a RIS sends them. Next: hl7_tables.py (what is made of them)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from medai.router.hl7.segments import NULL
from medai.workers.results.hl7_text import segment

STUDY = "2.25.3141592653589793.41100.1"
"""The Study Instance UID of the made reading."""
_PID = segment(
    "PID",
    {
        **{
            1: "1",
            3: "77001^^^HOSPITAL&1.2.3.4&ISO^MR~A99^^^INSURER^PI",
            5: "Muster^Erika^^^Dr.",
            7: "19600229",
            8: "F",
        },
        18: "ACCT9^^^HOSPITAL^AN",
    },
)
_PV1 = "PV1|1|I|W3^12^1||||||||||||||||V55^^^HOSPITAL^VN"
NUMBER = "4711^WARD^1.2.3.9^ISO"
PROCEDURE = "CTCHEST^CT of the chest^L"
TIMING = "1^^^20260314113000+0100^^S"


def _msh(kind: str, number: str, at: str = "20260314080000+0100") -> str:
    return f"MSH|^~\\&|RIS|HOSPITAL|MEDAI|AI|{at}||{kind}|{number}|P|2.5.1||||||UNICODE UTF-8"


def _orc(
    control: str,
    number: str = NUMBER,
    filler: str = "F815^RIS",
    *,
    status: str = "SC",
    timing: str = "",
    full: bool = True,
) -> str:
    said = {1: control, 2: number, 5: status}
    more = {3: filler, 7: timing, 9: "20260314075500+0100", 12: "4321^Ward^Doctor"}
    return segment("ORC", said | (more if full else {}))


def _obr(
    place: int = 1,
    number: str = NUMBER,
    filler: str = "F815^RIS",
    accession: str = "ACC123",
    procedure: str = PROCEDURE,
    timing: str = TIMING,
) -> str:
    said = {1: str(place), 2: number, 3: filler, 4: procedure, 18: accession}
    return segment("OBR", said | {19: f"RP{place}", 20: f"SPS{place}", 24: "CT", 27: timing})


TWO_OBR = "ORM^O01, two requests under one ORC"
"""Of the field, and not of the standard: a strict parser refuses it."""
ORDERS: Mapping[str, tuple[str, str]] = {
    "ORM^O01, a new order": (
        "The Study Instance UID is in ZDS-1 (IHE RAD-4). ORC-7.6 S makes it STAT.",
        "\n".join(
            [
                _msh("ORM^O01^ORM_O01", "M0001"), _PID, _PV1, _orc("NW", timing=TIMING), _obr(),
                f"ZDS|{STUDY}^MEDAI^Application^DICOM",
            ]
        ),
    ),
    TWO_OBR: (
        "Each OBR is an order of its own. The second has no ORC, as some senders write it though the standard asks for "
        "one: it inherits the first one's, and what stands between that and the first OBR.",
        "\n".join(
            [
                _msh("ORM^O01^ORM_O01", "M0002"), _PID, _orc("NW", timing=TIMING), _obr(),
                _obr(2, "4712^WARD^1.2.3.9^ISO", "F816^RIS", "ACC124"),
            ]
        ),
    ),
    "ORM^O01, a change": (
        "XO says what has changed (the priority); what it leaves empty stays as it was. HL7's null in OBR-20 deletes.",
        "\n".join(
            [
                _msh("ORM^O01^ORM_O01", "M0003", "20260314083000+0100"),
                "PID|1||77001^^^HOSPITAL&1.2.3.4&ISO^MR||Muster^Erika",
                _orc("XO", full=False),
                segment("OBR", {1: "1", 2: NUMBER, 4: PROCEDURE, 18: "ACC123", 20: NULL, 27: "1^^^^^A"}),
            ]
        ),
    ),
    "ORM^O01, a cancellation": (
        "The order is kept as cancelled; only NW, SN or RO that were sent later bring it back.",
        "\n".join(
            [
                _msh("ORM^O01^ORM_O01", "M0004", "20260314084500+0100"),
                "PID|1||77001^^^HOSPITAL&1.2.3.4&ISO^MR||Muster^Erika",
                _orc("CA", status="CA", full=False),
                segment("OBR", {1: "1", 2: NUMBER, 4: PROCEDURE, 18: "ACC123"}),
            ]
        ),
    ),
    "OMG^O19": (
        "As ORM^O01; the priority is in TQ1-9.",
        "\n".join(
            [
                _msh("OMG^O19^OMG_O19", "M0005"), _PID, _PV1, _orc("NW", "4713^WARD^1.2.3.9^ISO", "F817^RIS"),
                segment("TQ1", {1: "1", 7: "20260314113000+0100", 9: "S"}),
                _obr(3, "4713^WARD^1.2.3.9^ISO", "F817^RIS", "ACC125", timing=""),
            ]
        ),
    ),
    "OMI^O23": (
        "Accession Number, Requested Procedure, Study Instance UID, Scheduled Procedure Step and modality are in IPC-1 "
        "to IPC-5. Each IPC is an order of its own.",
        "\n".join(
            [
                _msh("OMI^O23^OMI_O23", "M0006"), _PID, _PV1, _orc("NW", "4714^WARD^1.2.3.9^ISO", "F818^RIS"),
                segment("TQ1", {1: "1", 7: "20260314113000+0100", 9: "A"}),
                _obr(4, "4714^WARD^1.2.3.9^ISO", "F818^RIS", "", "CTTRUNK^CT of chest and abdomen^L", timing=""),
                f"IPC|ACC126|RP4|{STUDY}|SPS4|CT", f"IPC|ACC127|RP5|{STUDY}.1|SPS5|CT",
            ]
        ),
    ),
}  # fmt: skip
"""Title -> what to say of it, and the message, a line a segment."""

EVENTS: Mapping[str, tuple[str, str]] = {
    "A01": ("ADT_A01", "admit"),
    "A02": ("ADT_A02", "transfer"),
    "A03": ("ADT_A03", "discharge"),
    "A04": ("ADT_A01", "register"),
    "A05": ("ADT_A05", "pre-admit"),
    "A06": ("ADT_A06", "an outpatient becomes an inpatient"),
    "A07": ("ADT_A06", "an inpatient becomes an outpatient"),
    "A08": ("ADT_A01", "update patient information"),
    "A09": ("ADT_A09", "patient is departing"),
    "A10": ("ADT_A09", "patient is arriving"),
    "A11": ("ADT_A09", "cancel admit"),
    "A12": ("ADT_A12", "cancel transfer"),
    "A13": ("ADT_A01", "cancel discharge"),
    "A14": ("ADT_A05", "pending admit"),
    "A18": ("ADT_A18", "merge patient information"),
    "A28": ("ADT_A05", "add person information"),
    "A30": ("ADT_A30", "merge person information"),
    "A31": ("ADT_A05", "update person information"),
    "A34": ("ADT_A30", "merge patient information, patient id alone"),
    "A36": ("ADT_A30", "merge patient information, patient id and account number"),
    "A39": ("ADT_A39", "merge person, patient id"),
    "A40": ("ADT_A39", "merge patient, identifier list"),
    "A47": ("ADT_A30", "change patient identifier list"),
}
"""Event (HL7 table 0003) -> structure (0354), and what happened."""


def adt(event: str, *, prior: str = "") -> str:
    """An example of an event; ``prior``: MRG-1."""
    structure, _ = EVENTS[event]
    lines = [
        _msh(f"ADT^{event}^{structure}", f"M1{event}", "20260315090000+0100"),
        f"EVN|{event}|20260315085900+0100",
        "PID|1||77001^^^HOSPITAL&1.2.3.4&ISO^MR||Muster^Erika^Anna||19600229|F",
    ]
    visit = [] if prior and event != "A18" else ["PV1|1|O"]
    return "\n".join([*lines, *([f"MRG|{prior}"] if prior else []), *visit])


def examples() -> Iterator[tuple[str, str]]:
    """Every message that is taken: its title and the message."""
    for title, (_, message) in ORDERS.items():
        yield title, message
    for event in EVENTS:
        yield f"ADT^{event}", adt(event, prior=PRIOR if event in MERGING else "")


MERGING = frozenset({"A18", "A30", "A34", "A36", "A39", "A40", "A47"})
"""Events with MRG."""
PRIOR = "55001^^^HOSPITAL&1.2.3.4&ISO^MR"
BATCH = "\n".join(
    [
        "FHS|^~\\&|RIS|HOSPITAL|MEDAI|AI|20260314090000+0100||||FILE7", "BHS|^~\\&|RIS|HOSPITAL|MEDAI|AI|||||BATCH7",
        ORDERS["OMG^O19"][1], adt("A08"), "BTS|2", "FTS|1",
    ]
)  # fmt: skip
"""Two messages in one frame."""
WRONG = "\n".join([_msh("ORM^O01^ORM_O01", "M0007"), "PID|1||77001^^^HOSPITAL^MR", "ORC|NW", "OBR|1"])
"""An order without any number."""
FOREIGN = "\n".join([_msh("SIU^S12^SIU_S12", "M0008"), "SCH|1"])
"""A kind that is not taken."""


def sent(message: str) -> bytes:
    """As it goes over the wire."""
    return (message.replace("\n", "\r") + "\r").encode("utf-8")
