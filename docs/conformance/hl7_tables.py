"""The tables and examples of the HL7 specification of what comes in: the router's parser says them.

Fields that are read are found by sending each of them alone and looking at what it changes; where an order's values go
is found by changing them one at a time. Next: hl7_sent_tables.py (what goes out), hl7_messages.py (the examples).
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import dicom_tables as dicom
import hl7_messages as example
import hl7_sent_tables as sent
import made_reading as made
from pydicom.datadict import dictionary_description

from medai.router.contract import _PRIORITY_WORDS, Order, Priority
from medai.router.hl7 import acknowledge, batches, listener, mllp, orders_in, patients_in, segments, text
from medai.router.hl7.messages import parse
from medai.router.settings.tables import Hl7InSettings, RisSettings
from medai.workers.results.context import Context
from medai.workers.results.fhir import encode_fhir
from medai.workers.results.measure import measure
from medai.workers.results.oru import encode_oru
from medai.workers.results.request import performed_procedures, referenced_requests, request_attributes
from medai.workers.results.source import Source

ROOT = dicom.ROOT
MOST_FIELDS = 40
USES = {
    "action": "what becomes of the order",
    "accession": "finds the study",
    "study_uid": "finds the study, before the accession number",
    "priority": "the queue: STAT first; conditions of routes",
    "ordered_at": "stamp `ordered` of the turnaround",
    "modality": "conditions of routes (`study.Order.Modality`)",
    "patient_id": "must be that of the images",
    "patient_id_authority": "must not contradict that of the images",
    "patient_identifiers": "any of them may be that of the images",
}
"""What else an order's value is for."""
CONTROLS = (
    *("NW", "SN", "RO", "CH", "XO", "XX", "XR", "SC", "SR", "HD", "OH", "RL", "RP", "RU", "RQ", "PA", "NA", "OK", "PR"),
    *("CA", "OC", "CR", "DC", "OD", "DR", "UA", "UX"),
)
"""Of HL7 table 0119."""


def tables() -> dict[str, Callable[[], str]]:
    """Name of a table or an example -> what makes it."""
    return {
        "hl7-messages": _messages,
        "hl7-orders": _order_examples,
        "hl7-order-fields": _order_fields,
        "hl7-header-fields": _header_fields,
        "hl7-controls": _controls,
        "hl7-priorities": _priorities,
        "hl7-events": _events,
        "hl7-patient-fields": _patient_fields,
        "hl7-patients": _patient_examples,
        "hl7-batch": _batch,
        "hl7-refusals": _refusals,
        "hl7-refused": _refused,
        "hl7-characters": _characters,
        "hl7-limits": _limits,
        "settings-hl7": lambda: dicom.settings("hl7_in", "ris"),
    }


# -- what comes in


def _messages() -> str:
    kinds = sorted(orders_in.ORDER_TYPES)
    rows = [(f"{kind}^{event}" if event else f"{kind} without an event", "orders") for kind, event in kinds]
    for title, events in _groups():
        rows.append((f"ADT^{' '.join(sorted(events))}", title))
    rows.append(("FHS, BHS … BTS, FTS", "several of the above, answered by a batch"))
    rows.append(("what `[hl7_in] ignore` names", "answered AA, left unread"))
    return dicom.table(("message", "taken as"), rows)


def _groups() -> Iterator[tuple[str, frozenset[str]]]:
    yield "update of a patient", patients_in.UPDATES
    yield "merge of two identifiers", patients_in.MERGES
    yield "change of an identifier", patients_in.CHANGES


def _order_examples() -> str:
    parts = []
    for title, (words, message) in example.ORDERS.items():
        head, found = parse(example.sent(message))
        read, first = [], dict[str, str]()
        for number, each in enumerate(found, start=1):
            assert isinstance(each, orders_in.OrderMessage)
            told = {"action": each.action.value}
            told |= {name: _shown(name, getattr(each.order, name)) for name in _names(Order) if name in each.carries}
            rows = [(f"`{name}`", value) for name, value in told.items() if first.get(name) != value]
            title_ = (
                f"Order {number}, where it differs" if first else f"Order {number}" if len(found) > 1 else "It says"
            )
            read.append(f"{title_}:\n\n" + dicom.table(("kept as", "value"), rows))
            first = first or told
        answer = sent.block(acknowledge.acknowledge(head, "AA", now=sent.NOW))
        parts.append("\n\n".join([f"### {title}", words, sent.block(example.sent(message)), *read, "Answer:", answer]))
    return "\n\n".join(parts)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, Priority):
        return value.name
    if name == "ordered_at":
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M} UTC"
    several = isinstance(value, tuple)
    found = ", ".join(f"`{each}`" for each in value if each) if several else f"`{value}`" if value != "" else ""
    return found or "(empty: deleted)"


def _names(kind: type) -> list[str]:
    return [each.name for each in fields(kind)]


def _blank(kind: str, lines: Sequence[str]) -> list[str]:
    return [f"MSH|^~\\&|||||||{kind}|1|P|2.5.1", *lines]


def _with(lines: Sequence[str], segment: str, number: int, value: str) -> bytes:
    """The message with one field more."""
    made_lines = []
    for line in lines:
        parts = line.split("|")
        if parts[0] == segment:
            at = number - 1 if segment == "MSH" else number
            parts += [""] * (at + 1 - len(parts))
            parts[at] = value
        made_lines.append("|".join(parts))
    return example.sent("\n".join(made_lines))


@cache
def _values() -> Mapping[tuple[str, int], str]:
    """A sensible value of each field that an example has."""
    found: dict[tuple[str, int], str] = {}
    for _, message in example.examples():
        for line in message.split("\n"):
            parts = line.split("|")
            for number, value in enumerate(parts[1:], start=2 if parts[0] == "MSH" else 1):
                if value and value != segments.NULL:
                    found.setdefault((parts[0], number), value)
    return {
        **found,
        ("MSH", 13): "7",
        ("MSH", 15): "AL",
        ("OBR", 5): "S",
        ("OBR", 16): "4321^Ward",
        ("OBR", 27): "^^^^^S",
    }


def _probed(lines: Sequence[str], read: Callable[[bytes], Mapping[str, Any]]) -> dict[tuple[str, int], list[str]]:
    """Field -> what a message says more, or otherwise, when it has it."""
    plain = read(example.sent("\n".join(lines)))
    found: dict[tuple[str, int], list[str]] = {}
    for segment in dict.fromkeys(line.split("|")[0] for line in lines):
        for number in range(3 if segment == "MSH" else 1, MOST_FIELDS):
            value = _values().get((segment, number), "7")
            try:
                said = read(_with(lines, segment, number, value))
            except segments.BadMessage:
                continue  # a field that decides which message it is
            changed = [name for name in said if said[name] != plain.get(name)]
            if changed:
                found[segment, number] = changed
    return found


def _order_said(data: bytes) -> Mapping[str, Any]:
    _, found = parse(data)
    message = found[0]
    assert isinstance(message, orders_in.OrderMessage)
    return {"action": message.action} | {name: getattr(message.order, name) for name in _names(Order)}


def _order_fields() -> str:
    lines = _blank("OMI^O23", ["PID|1", "PV1|1", "ORC|SC||F0", "TQ1|1", "OBR|1", "IPC|", "ZDS|"])
    found = _probed(lines, _order_said)
    for (segment, number), names in _probed([*lines[:3], "ORC|NW||F0", *lines[4:]], _order_said).items():
        found.setdefault((segment, number), names)  # what a new order alone says
    rows = []
    for (segment, number), names in sorted(found.items(), key=lambda item: (_place(item[0][0]), item[0][1])):
        if segment != "MSH":
            kept = ", ".join(f"`{name}`" for name in names)
            goes = "; ".join(dict.fromkeys(part for name in names for part in _goes(name)))
            rows.append((f"{segment}-{number}", sent.field_name(segment, number), kept, goes))
    return dicom.table(("field", "name", "kept as", "used for, and where it goes"), rows)


def _place(segment: str) -> int:
    return ["MSH", "EVN", "PID", "MRG", "PV1", "ORC", "TQ1", "OBR", "IPC", "ZDS", "OBX"].index(segment)


def _goes(name: str) -> tuple[str, ...]:
    """What a value is for, and the places of a result where it stands."""
    used = USES.get(name, "")
    return ((used,) if used else ()) + _destinations().get(name, ())


@cache
def _destinations() -> Mapping[str, tuple[str, ...]]:
    """Value of an order -> the places of a result that change with it."""
    plain = _places(made.ORDER)
    found = {}
    for name in _names(Order):
        other = replace(made.ORDER, **{name: getattr(made.OTHER_ORDER, name)})
        if name == "patient_identifiers":
            other = replace(other, patient_identifiers=("77001^^^OTHER^MR",))
        changed = _places(other)
        places = [place for place in dict.fromkeys([*plain, *changed]) if plain.get(place) != changed.get(place)]
        found[name] = tuple(places)
    return found


def _places(order: Order) -> dict[str, Any]:
    given = made.asked_by(order)
    context = Context(
        source=Source(headers=given.stack.datasets, volume=given.stack.volume),
        segmentation=given.segmentation,
        measurements=measure(given.stack.volume, given.segmentation),
        job=given.job,
        settings=given.settings,
        created_at=given.created_at,
    )
    found: dict[str, Any] = {f"ORU {place}": values for place, values in sent.oru(encode_oru(context)).items()}
    for title, items in (
        ("SEG, SC Request Attributes", request_attributes(context)),
        ("SR Referenced Request", referenced_requests(context)),
    ):
        for item in items:
            found |= {f"{title} > {dictionary_description(e.tag)}": repr(e.value) for e in item}
    found["SR Performed Procedure Code"] = performed_procedures(context)
    destination = given.settings.destinations[made.EHR]
    bundle = json.loads(encode_fhir(context, destination))
    for entry in bundle["entry"]:
        kind = entry["resource"]["resourceType"]
        found |= {
            f"FHIR {kind}.{name}": json.dumps(value)
            for name, value in entry["resource"].items()
            if kind not in ("Observation", "ImagingSelection")
        }
    return found


def _header_fields() -> str:
    def read(data: bytes) -> Mapping[str, Any]:
        return vars(segments.header_of(segments.read(data)))

    found = _probed(["MSH|^~\\&||||||||1"], read)
    meaning = {
        "control_id": "number of the message, comes back in MSA-2",
        "kind": "which message it is",
        "version": "2 and whatever follows; comes back in the answer",
        "processing_id": "comes back in the answer",
        "sender": "comes back as receiver of the answer",
        "receiver": "comes back as sender of the answer",
        "sent_at": "which of two messages is newer",
        "sequence": "which of two messages of one moment is newer",
        "accept_only": "AL, SU or ER with MSH-16 empty or NE: answered CA, CE, CR",
    }
    rows = [
        (f"MSH-{number}", sent.field_name("MSH", number), "; ".join(meaning[name] for name in names))
        for (_, number), names in found.items()
    ]
    rows.append(("MSH-18", sent.field_name("MSH", 18), "character set, see below"))
    return dicom.table(("field", "name", "used for"), rows)


def _controls() -> str:
    rows: dict[str, list[str]] = {}
    for control in CONTROLS:
        data = example.sent("\n".join(_blank("ORM^O01", ["PID|1||1", f"ORC|{control}|4711", "OBR|1"])))
        rows.setdefault(_order_said(data)["action"].value, []).append(control)
    words = {
        "new": "placed, also where it was cancelled before",
        "change": "changes what it says of an order, and keeps the rest",
        "cancel": "cancels the order, against every status that follows",
    }
    more = "RP and RU cancel where the same message has RO. ORC-5 CA or DC cancels with any code."
    table = dicom.table(("ORC-1", "what happens"), [(" ".join(codes), words[name]) for name, codes in rows.items()])
    return f"{table}\n\n{more}"


def _priorities() -> str:
    rows: dict[str, list[str]] = {}
    for word, priority in _PRIORITY_WORDS.items():
        rows.setdefault(priority.name, []).append(word)
    head = ("HL7 table 0485 and words like it", "priority")
    return dicom.table(head, [(" ".join(words), name) for name, words in rows.items()]) + (
        "\n\nAn empty or unknown word is ROUTINE; of several fields the most urgent counts."
    )


def _events() -> str:
    rows = []
    for event, (structure, words) in example.EVENTS.items():
        kind = next(title for title, events in _groups() if event in events)
        rows.append((f"ADT^{event}^{structure}", words, kind))
    return dicom.table(("message", "what happened", "taken as"), rows)


def _patient_fields() -> str:
    def read(data: bytes) -> Mapping[str, Any]:
        message = parse(data)[1][0]
        assert isinstance(message, patients_in.PatientMessage)
        return {name: getattr(message, name) for name in _names(patients_in.PatientMessage) if name not in NOT_OF_PID}

    lines = _blank("ADT^A40", ["EVN|A40", "PID|1||1", "MRG|2"])
    rows = [
        (f"{segment}-{number}", sent.field_name(segment, number), ", ".join(f"`{name}`" for name in names))
        for (segment, number), names in _probed(lines, read).items()
        if segment != "MSH" or number == 7
    ]
    return dicom.table(("field", "name", "kept as"), rows)


NOT_OF_PID = frozenset({"digest", "control_id", "sender", "kind"})


def _patient_examples() -> str:
    parts = []
    for event, (_, words) in example.EVENTS.items():
        message = example.adt(event, prior=example.PRIOR if event in example.MERGING else "")
        found = parse(example.sent(message))[1][0]
        assert isinstance(found, patients_in.PatientMessage)
        said = {
            "update": f"`{found.patient_id}` of `{found.patient_id_authority}` has this name, birth date and sex.",
            "merge": f"`{found.prior_id}` is from now on a part of `{found.patient_id}`.",
            "change": f"`{found.prior_id}` is no longer used; the same patient is `{found.patient_id}`.",
        }[found.kind]
        parts.append(f"**ADT^{event}**, {words}: {found.kind}. {said}\n\n{sent.block(example.sent(message))}")
    return "\n\n".join(parts)


def _batch() -> str:
    data = example.sent(example.BATCH)
    whole = batches.split(data)
    assert whole is not None
    answers = [
        [acknowledge.acknowledge(parse(message)[0], "AA", now=sent.NOW) for message in batch.messages]
        for batch in whole.batches
    ]
    return f"{sent.block(data)}\n\nAnswer:\n\n{sent.block(batches.answer(whole, answers, now=sent.NOW))}"


# -- what is refused


def _refusals() -> str:
    """Every refusal that the code knows, out of its own texts."""
    rows = set()
    for path in sorted((ROOT / "router" / "hl7").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "BadMessage":
                given = {each.arg: each.value for each in node.keywords}
                words = _words(node.args[0], tree)
                rows.add(
                    (
                        _words(given.get("ack"), tree) or "AE",
                        _words(given.get("code"), tree) or "101",
                        _words(given.get("location"), tree),
                        words,
                    )
                )
    named = sorted(row for row in rows if row[3])
    return dicom.table(
        ("MSA-1", "ERR-3", "ERR-2", "ERR-8"),
        [
            (ack, f"{code} {acknowledge._CODES.get(code, '')}".strip(), f"`{at}`" if at else "", said)
            for ack, code, at, said in named
        ],
    )


def _words(node: ast.expr | None, tree: ast.Module) -> str:
    """A text; a name stands for what was assigned to it last before."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
    if isinstance(node, ast.IfExp):
        return f"{_words(node.body, tree)} or {_words(node.orelse, tree)}"
    if isinstance(node, ast.Name):
        above = [
            each
            for each in ast.walk(tree)
            if isinstance(each, ast.Assign) and each.lineno < node.lineno and _named(each, node.id)
        ]
        return _words(max(above, key=lambda each: each.lineno).value, tree) if above else ""
    return ""


def _named(assigned: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in assigned.targets)


def _refused() -> str:
    parts = []
    for words, message in (
        ("An order without any number is refused for good:", example.WRONG),
        ("A kind of message that is not taken:", example.FOREIGN),
    ):
        data = example.sent(message)
        try:
            parse(data)
        except segments.BadMessage as error:
            answer = acknowledge.acknowledge(batches.head_of(data), error.ack, now=sent.NOW, error=error)
            parts.append(f"{words}\n\n{sent.block(data)}\n\n{sent.block(answer)}")
    return "\n\n".join(parts)


def _characters() -> str:
    rows = [
        (f"ISO-IR {number}, `ISO_IR {number}`, `ISO 2022 IR {number}`", codec) for number, codec in text._ISO_IR.items()
    ]
    names: dict[str, list[str]] = {}
    for name, codec in text._NAMES.items():
        names.setdefault(codec, []).append(f"`{name}`")
    rows += [(", ".join(found), codec) for codec, found in names.items()]
    rows.append(("`8859/1` … `8859/16` (without 12), `ISO 8859-1` …", "iso8859-1 …"))
    rows.append(("`WINDOWS-874`, `-932`, `-936`, `-949`, `-950`, `-1250` … `-1258`, `CP…`", "that code page"))
    rows.append(
        (
            ", ".join(f"`{name or '(empty)'}`" for name in sorted(text._SEVEN_BITS)),
            "ASCII below 80; above: the next set that MSH-18 names, else UTF-8",
        )
    )
    return dicom.table(("MSH-18, written in any way (case, spaces, `-`, `_`, `/` do not count)", "read as"), rows)


def _limits() -> str:
    rows = (
        ("one message", f"{mllp.SIZE_LIMIT // 2**20} MiB"),
        ("fields, repetitions and components of one message", f"{segments.PART_LIMIT}"),
        ("messages of one batch", f"{batches.MESSAGE_LIMIT}"),
        ("messages that have not ended, over all connections", f"{listener.HELD_LIMIT // 2**20} MiB"),
        (
            "connections at a time",
            f"{Hl7InSettings().connections} (`hl7_in.connections`), of one address "
            f"{Hl7InSettings().connections_of_peer} (`hl7_in.connections_of_peer`); for one more "
            "the longest silent one ends",
        ),
        (
            "silence",
            f"inside a message {listener.MESSAGE_TIMEOUT_S:g} s, else {Hl7InSettings().idle_s:g} s (`hl7_in.idle_s`)",
        ),
        ("a message from its first byte to its last", f"{listener.WHOLE_TIMEOUT_S:g} s"),
        *(
            (f"{name} number", f"{limit} characters; a longer one is refused")
            for name, limit in orders_in.LIMITS.items()
        ),
        ("answer of the RIS to an ORU", f"{RisSettings().timeout_s:g} s (`ris.timeout_s`)"),
    )
    return dicom.table(("limit", "value"), rows)
