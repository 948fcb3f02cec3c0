"""The trail as a file: DICOM audit messages or FHIR AuditEvents, one a line, or CSV for a spreadsheet.

Next: cli/audit.py (who asks).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from enum import StrEnum

from medai.router.audit import fhir_event
from medai.router.audit.dicom_message import Reporter, message, moment
from medai.router.audit.events import AuditedEvent

COLUMNS = ("line", "at", "account", "address", "event", "action", "patient", "study_uid", "accession", "job", "detail")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Text that begins so would be a formula to a spreadsheet."""


class Format(StrEnum):
    """How it is written."""

    DICOM = "dicom"
    FHIR = "fhir"
    CSV = "csv"


def text_of(audited: Iterable[AuditedEvent], style: Format, reporter: Reporter, patient_system: str) -> Iterator[str]:
    """The file, part by part."""
    if style is Format.CSV:
        yield _row(COLUMNS)
    for event in audited:
        if style is Format.DICOM:
            yield message(event, reporter).decode("utf-8").replace("\n", "&#10;") + "\n"
        elif style is Format.FHIR:
            yield fhir_event.written(fhir_event.resource(event, reporter, patient_system)).decode("utf-8") + "\n"
        else:
            yield _row(_cells(event))


def _cells(event: AuditedEvent) -> tuple[str, ...]:
    line = event.line
    cells = (
        str(line.id), moment(line.at), line.account, line.address or event.address, event.kind.event.meaning,
        line.action, event.subject.identifier, line.study_uid, line.accession, line.job_id or "", line.detail,
    )  # fmt: skip
    return tuple(f"'{cell}" if cell.startswith(FORMULA) else cell for cell in cells)


def _row(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(cells)
    return out.getvalue()
