"""The tables and examples of what goes out by HL7: results, and what becomes of them after each answer.

Next: hl7_tables.py (what comes in), hl7_messages.py (the examples), made_reading.py (results).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from unittest import mock

import dicom_tables as dicom
import hl7_messages as example
import made_reading as made
from hl7types.hl7.v2_5_1 import segments as standard

from medai.router.contract import Order, short_id
from medai.router.delivery import ris
from medai.router.errors import RisBusy, RisRefused
from medai.router.hl7 import orders_in, oru_edit
from medai.router.hl7.messages import parse
from medai.router.settings.tables import RisSettings
from medai.workers.results.oru_version import VERSIONS

NOW = 1773480000.0
"""When what the examples show leaves."""
SITE_SEGMENTS = {"ZDS": {1: "Study Instance UID"}}
OF_THE_OBSERVATION = {"OBX-1": "counted"} | {f"OBX-{n}": "see the observations" for n in (2, 3, 4, 5, 6, 8)}


def tables() -> dict[str, Callable[[], str]]:
    """Name of a table or an example -> what makes it."""
    return {
        "hl7-result": lambda: block(result()),
        "hl7-revision": lambda: block(result(late=True)),
        "hl7-withdrawal": lambda: block(withdrawal()),
        "hl7-result-fields": _result_fields,
        "hl7-observations": _observations,
        "hl7-result-versions": _versions,
        "hl7-answers": _answers,
    }


def block(message: bytes) -> str:
    """A message as a page shows it."""
    lines = message.decode("utf-8").replace("\r", "\n").strip("\n")
    return f"```text\n{lines}\n```"


def field_name(segment: str, number: int) -> str:
    """What the standard calls a field; empty where it has none."""
    if segment in SITE_SEGMENTS:
        return SITE_SEGMENTS[segment].get(number, "")
    model = getattr(standard, segment)
    model = getattr(model, segment, model)
    described = model.model_fields.get(f"{segment.lower()}_{number}")
    if described is None:
        return ""
    return str(described.title)


def order() -> Order:
    """The order of the first example."""
    message = parse(example.sent(example.ORDERS["ORM^O01, a new order"][1]))[1][0]
    assert isinstance(message, orders_in.OrderMessage)
    return message.order


@cache
def result(*, late: bool = False) -> bytes:
    """The result of the order in the first example; ``late``: its revision."""
    return made.short(order(), late=late).encoded().oru


def withdrawal() -> bytes:
    """What takes the result back."""
    return oru_edit.withdrawn(result(), control_id=short_id("withdrawal"), now=NOW + 2 * 86400)


def oru(payload: bytes) -> dict[str, frozenset[str]]:
    """Field -> the values that it has anywhere in a result."""
    found: dict[str, set[str]] = {}
    for line in payload.decode("utf-8").split("\r"):
        name, *values = line.split("|")
        if name:
            values = ["|", *values] if name == "MSH" else values
            for number, value in enumerate(values, start=1):
                found.setdefault(f"{name}-{number}", set()).add(value)
    return {place: frozenset(values) for place, values in found.items() if any(values)}


def _result_fields() -> str:
    found = made.differences(lambda result: oru(result.oru))
    order = sorted(found, key=lambda place: (["MSH", "PID", "PV1", "OBR", "OBX"].index(place[:3]), int(place[4:])))
    rows = []
    for place in order:
        told = found[place]
        source = OF_THE_OBSERVATION.get(place) or dicom.source(told)
        value = ", ".join(f"`{each}`" for each in told.values) if source == "fixed" else ""
        rows.append((place, field_name(place[:3], int(place[4:])), told.presence, source, value))
    return dicom.table(("field", "name", "present", "source", "value"), rows)


def _told(**ris: object) -> list[str]:
    """The segments of the base reading for a RIS with other settings."""
    reading = made.base()
    changed = reading.settings.ris.model_copy(update=ris)
    told = replace(reading, settings=reading.settings.model_copy(update={"ris": changed})).encoded().oru
    return told.decode("utf-8").split("\r")


def _versions() -> str:
    """What differs, out of the base reading as each version writes it."""
    rows = []
    for version in VERSIONS:
        found = [[*line.split("|"), ""] for line in _told(version=version)]
        values = [row for row in found if row[0] == "OBX"]
        (obr,) = [row for row in found if row[0] == "OBR"]
        study = next(row for row in values if row[2] == "HD")
        kinds = sorted({row[2] for row in values} - {"HD", "NM", "RP"})
        rows.append(
            (
                f"`{version}`",
                f"`{found[0][8]}`",
                ", ".join(kinds),
                f"OBX-{max(len(row) for row in values) - 2}",
                f"`{study[4]}`" if study[4] else "empty",
                f"`{obr[27]}`" if len(obr) > 28 else "empty",
                "all" if VERSIONS[version].names_repeat else "the first",
            )
        )
    return dicom.table(
        (
            "MSH-12",
            "MSH-9",
            "OBX-2, coded",
            "last field of OBX",
            "OBX-4 of no segment",
            "OBR-27",
            "names in PID-5",
        ),
        rows,
    )


def _observations() -> str:
    rows = []
    for line in _told(narrative=True):
        if line.startswith("OBX"):
            values = [*line.split("|"), *[""] * 9]
            shown = values[5] if len(values[5]) <= dicom.LONGEST else values[5][: dicom.LONGEST - 1] + "…"
            rows.append(
                tuple(
                    f"`{value}`" if value else ""
                    for value in (values[2], values[3], values[4], shown, values[6], values[8])
                )
            )
    return dicom.table(("OBX-2", "OBX-3", "OBX-4", "OBX-5", "OBX-6", "OBX-8"), rows)


def _answers() -> str:
    """What becomes of a result after each answer, by asking the sender itself."""
    rows = []
    for code in sorted(ris.ACKNOWLEDGEMENTS):
        for error in ("", *sorted(ris.UNSUPPORTED)):
            rows.append((code, error, _outcome(code, error)))
    shortened: dict[tuple[str, str], list[str]] = {}
    for code, error, outcome in rows:
        shortened.setdefault((code, outcome), []).append(error or "any other, or none")
    found = [
        (code, "any" if len(errors) == 1 + len(ris.UNSUPPORTED) else ", ".join(errors), outcome)
        for (code, outcome), errors in shortened.items()
    ]
    return dicom.table(("MSA-1", "ERR-3", "what happens"), found)


def _outcome(code: str, error: str) -> str:
    answer = f"MSH|^~\\&|R|H|M|A|20260314||ACK|1|P|2.5.1\rMSA|{code}|C1\r" + (
        f"ERR|||{error}^^HL70357|E\r" if error else ""
    )
    with mock.patch.object(ris.mllp, "send", return_value=answer.encode()):
        try:
            ris.send_oru(b"", "C1", RisSettings(host="ris.example"))
        except RisBusy:
            return "sent again with growing pauses; a dead letter when refused five times while others are taken"
        except RisRefused:
            return "a dead letter: a person decides"
    return "delivered"
