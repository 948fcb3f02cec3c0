"""One page for people, as Encapsulated PDF: who, the key image, the numbers, the verdict, and that nobody verified it.

WeasyPrint sets it: pango finds a typeface for each script and writes from right to left where a name does. The page
names the patient, so Burned In Annotation is YES.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from pydicom import Dataset
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from medai.models.images.header import text
from medai.models.volume import Code
from medai.router.errors import PermanentError
from medai.workers.results import identity
from medai.workers.results.context import Context
from medai.workers.results.dicom_object import concept, finish, referenced_image, start_object
from medai.workers.results.drawing import BANNER_TEXT, Entry, entries
from medai.workers.results.key_image import render_key_image, to_png

TITLE = Code(value="126000", scheme="DCM", meaning="Imaging Measurement Report")
SIZES_PT = (9.5, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0)
"""Tried from the largest until everything is on one page."""
STYLE = """
@page {{ size: A4; margin: 12mm }}
body {{ font: {size}pt "DejaVu Sans", sans-serif; margin: 0; color: #18140c }}
.banner {{ background: #ffb81c; padding: 2mm; font-size: 14pt; text-align: center }}
.patient {{ font-size: 11pt; margin: 3mm 0 1mm }} .study {{ margin: 0 0 3mm }}
img {{ width: {picture}mm; display: block; margin: 0 auto 3mm }}
.tables {{ display: flex }} .tables table {{ flex: 1; margin-right: 4mm; border-collapse: collapse }}
td, th {{ text-align: left; padding: 0.15em 0.6em 0.15em 0; border-bottom: 0.2mm solid #ccc }}
.verdict {{ font-size: 1.2em; margin: 3mm 0 1mm }} .check {{ background: #ffe9b8 }}
.small {{ color: #555; margin-top: 3mm }}
"""
DISCLAIMER = (
    "This result was made by artificial intelligence. No person has verified it. "
    "It is not for diagnostic use and replaces no reading of the images."
)


def encode_pdf(context: Context, seg: Dataset) -> Dataset:
    """The page as a DICOM object that names the images and ``seg`` as its sources.

    Raises PermanentError where pango, which draws the letters, is not installed.
    """
    context.source.require_fits(context.segmentation)
    made = start_object(
        context,
        "pdf",
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        what="page",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    page = render_page(context)
    made.ConversionType = "WSD"
    made.AcquisitionDateTime = ""
    made.BurnedInAnnotation = "YES"
    made.VerificationFlag = "UNVERIFIED"
    made.DocumentTitle = identity.plain(f"AI result, unverified: {context.model.title}", 1024)
    made.ConceptNameCodeSequence = [concept(TITLE)]
    made.SourceInstanceSequence = [referenced_image(each) for each in (*context.source.clean, seg)]
    made.MIMETypeOfEncapsulatedDocument = "application/pdf"
    made.EncapsulatedDocumentLength = len(page)
    made.EncapsulatedDocument = page + b"\0" * (len(page) % 2)
    finish(made, context)
    return made


def render_page(context: Context) -> bytes:
    """The PDF: one page, the same bytes at every attempt."""
    picture = to_png(render_key_image(context.source.volume, context.segmentation, context.measurements))
    rows = entries(context.segmentation, context.measurements)
    body = _body(context, base64.b64encode(picture).decode(), rows)
    for size in SIZES_PT:
        style = STYLE.format(size=size, picture=120 if len(rows) <= 24 else 85)
        document = _set(
            f"<html lang='en'><head>{_head(context)}<style>{style}</style></head><body>{body}</body></html>"
        )
        if len(document.pages) == 1:
            break
    pdf: bytes = document.write_pdf()
    return pdf


def _set(page: str) -> Any:
    try:
        from weasyprint import HTML  # loads pango: only who writes a PDF needs it
        from weasyprint.urls import URLFetcher
    except OSError:
        raise PermanentError("a PDF needs pango: apt-get install libpangoft2-1.0-0") from None
    # The picture is in the page itself, and nothing that a header holds may fetch anything.
    return HTML(string=page, url_fetcher=URLFetcher(allowed_protocols={"data"})).render()


def _head(context: Context) -> str:
    made = context.moment.isoformat(timespec="seconds")
    title = escape(f"AI result, unverified: {context.model.title}")
    return f"<title>{title}</title><meta name='dcterms.created' content='{made}'><meta name='author' content='Med-AI'>"


def _body(context: Context, picture: str, rows: Sequence[Entry]) -> str:
    model, plausibility = context.model, context.segmentation.plausibility
    good = plausibility.verdict == "plausible"
    verdict = f"{'Plausible' if good else 'To be checked'}: {plausibility.summary}"
    findings = "".join(f"<li>{escape(finding)}</li>" for finding in plausibility.findings)
    revision = f", revision {context.job.revision}" if context.job.revision > 1 else ""
    made = context.moment.strftime("%Y-%m-%d %H:%M")
    return f"""
<div class="banner">{BANNER_TEXT}</div>
<div class="patient">{_line(_patient(context))}</div><div class="study">{_line(_study(context))}</div>
<img src="data:image/png;base64,{picture}" alt="">
<div class="tables">{_tables(rows)}</div>
<div class="verdict{"" if good else " check"}">{escape(verdict)}</div><ul>{findings}</ul>
<div class="small">{DISCLAIMER}<br>{escape(f"{model.title} ({model.name} {model.version}){revision}, {made}")}</div>"""


def _line(parts: Iterator[str]) -> str:
    """Each part keeps its own direction of writing."""
    return " &nbsp; ".join(f"<bdi>{escape(part)}</bdi>" for part in parts if part)


def _patient(context: Context) -> Iterator[str]:
    """Every form of the name that the images carry (alphabetic, ideographic, phonetic), number, birth date, sex."""
    lead = context.source.clean[0]
    for group in text(context.header, "PatientName").split("="):
        family, _, given = group.partition("^")
        yield ", ".join(part for part in (family.strip(), " ".join(given.replace("^", " ").split())) if part)
    yield f"ID {lead.PatientID}" if lead.PatientID else ""
    yield f"born {_date(text(lead, 'PatientBirthDate'))}" if text(lead, "PatientBirthDate") else ""
    yield text(lead, "PatientSex")


def _study(context: Context) -> Iterator[str]:
    lead = context.source.clean[0]
    yield f"Study {_date(text(lead, 'StudyDate'))}" if text(lead, "StudyDate") else ""
    yield text(lead, "StudyDescription")
    yield f"Accession {context.accession}" if context.accession else ""


def _date(value: str) -> str:
    return f"{value[:4]}-{value[4:6]}-{value[6:]}"


def _tables(rows: Sequence[Entry]) -> str:
    """In one column, or in two or three side by side where there are many."""
    columns = 1 if len(rows) <= 16 else 2 if len(rows) <= 60 else 3
    share = -(-len(rows) // columns)
    parts = [rows[start : start + share] for start in range(0, len(rows), share)]
    return "".join(f"<table><tr><th>Structure<th>Measured</tr>{''.join(map(_row, part))}</table>" for part in parts)


def _row(entry: Entry) -> str:
    mark = f"<span style='color: rgb{entry.colour}'>\u25a0</span> " if entry.colour else ""
    return f"<tr><td>{mark}{escape(entry.name)}<td>{escape(entry.numbers)}</tr>"
