"""What was asked for: the request that a result answers, as DICOM objects name it.

Images carry it (Request Attributes Sequence, from the worklist); where the RIS's order is known, it fills what they
lack. SEG and key image repeat the Request Attributes Sequence; an SR has a Referenced Request Sequence instead (PS3.3
C.17.2). A code or a number that DICOM cannot hold is left out, never cut: a cut one is another one. Next: body_part.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom import Dataset

from medai.models.images.header import text
from medai.models.volume import Code
from medai.router.contract import Order
from medai.workers.results.codes import ANY_PROCEDURE, IMAGING_PROCEDURES, PROCEDURES
from medai.workers.results.context import ACCESSION_MAX, Context
from medai.workers.results.dicom_object import concept
from medai.workers.results.identity import plain

SHORT, LONG = 16, 64
"""Characters that an SH and an LO hold (PS3.5 6.2)."""
NUMBERS = {"RequestedProcedureID": SHORT, "AccessionNumber": SHORT, "ScheduledProcedureStepID": SHORT}
WORDS = ("RequestedProcedureDescription", "ReasonForTheRequestedProcedure", "ScheduledProcedureStepDescription")
CODES = ("RequestedProcedureCodeSequence", "ScheduledProtocolCodeSequence")
NAMED_PROCEDURES = ("ProcedureCodeSequence", "RequestedProcedureCodeSequence")
"""Where images say which procedure they are of: what was performed before what was requested."""


def request_attributes(context: Context) -> list[Dataset]:
    """Items of (0040,0275), one for each request that the images name; of the order where they name none of its own."""
    items = [made for item in context.header.get("RequestAttributesSequence") or [] if len(made := _carried(item))]
    order = context.job.order
    if order is None or not (order.requested_procedure_id or order.scheduled_step_id):
        return items
    known = {text(item, "RequestedProcedureID") for item in items}
    ordered = _of_order(order)
    if not len(ordered) or text(ordered, "RequestedProcedureID") in known:
        return items
    return [ordered, *items]


def name_request(result: Dataset, context: Context) -> None:
    """Set (0040,0275) of a SEG or key image, where anything of the request is known."""
    if items := request_attributes(context):
        result.RequestAttributesSequence = items


def referenced_requests(context: Context) -> list[Dataset]:
    """Items of (0040,A370): who asked for what, under which numbers; none where nothing of a request is known."""
    asked = request_attributes(context)
    if not asked and context.job.order is None and not context.accession:
        return []
    return [_referenced(context, item) for item in asked or [Dataset()]]


def performed_procedures(context: Context) -> list[Code]:
    """What was done in the hospital's own codes: as the images have it, else as it was requested or ordered."""
    header = context.header
    for keyword in NAMED_PROCEDURES:
        if found := _codes(header, keyword):
            return found
    nested = (_codes(item, CODES[0]) for item in header.get("RequestAttributesSequence") or [])
    if found := next(filter(None, nested), []):
        return found
    ordered = _ordered(context.job.order)
    return [ordered] if ordered else []


def reported_procedure(context: Context) -> Code:
    """Procedure reported (121058): the study's own code where it is one of CID 100, else the kind of imaging, which is.

    TID 1500 takes one code here, and IHE AIR's gate (PixelMed's validator) calls every other one an error; those are in
    the Performed Procedure Code Sequence, where any scheme may be.
    """
    own = (code for code in performed_procedures(context) if (code.scheme, code.value) in IMAGING_PROCEDURES)
    return next(own, PROCEDURES.get(context.source.volume.modality, ANY_PROCEDURE))


def _carried(item: Dataset) -> Dataset:
    """A request as an image names it, less what is not well-formed."""
    made = Dataset()
    for keyword, longest in NUMBERS.items():
        if value := _number(text(item, keyword), longest):
            setattr(made, keyword, value)
    for keyword in WORDS:
        if words := plain(text(item, keyword), LONG):
            setattr(made, keyword, words)
    for keyword in CODES:
        if found := _codes(item, keyword):
            setattr(made, keyword, [concept(code) for code in found])
    return made


def _of_order(order: Order) -> Dataset:
    made = Dataset()
    given = {
        "RequestedProcedureID": order.requested_procedure_id,
        "ScheduledProcedureStepID": order.scheduled_step_id,
        "AccessionNumber": order.accession,
    }
    for keyword, value in given.items():
        if kept := _number(value, SHORT):
            setattr(made, keyword, kept)
    if words := plain(order.procedure[1], LONG):
        made.RequestedProcedureDescription = words
    if code := _ordered(order):
        made.RequestedProcedureCodeSequence = [concept(code)]
    return made


def _referenced(context: Context, asked: Dataset) -> Dataset:
    order, item = context.job.order, Dataset()
    accession = text(asked, "AccessionNumber") or context.accession
    about_the_order = order is not None and order.accession in ("", accession)
    item.StudyInstanceUID = context.header.StudyInstanceUID
    item.ReferencedStudySequence = []
    item.AccessionNumber = accession if len(accession) <= ACCESSION_MAX else ""
    item.PlacerOrderNumberImagingServiceRequest = _entity(order.placer) if order and about_the_order else ""
    item.FillerOrderNumberImagingServiceRequest = _entity(order.filler) if order and about_the_order else ""
    item.RequestedProcedureID = text(asked, "RequestedProcedureID")
    item.RequestedProcedureDescription = text(asked, "RequestedProcedureDescription")
    codes = [concept(code) for code in _codes(asked, CODES[0])]
    if not codes and about_the_order and (code := _ordered(order)):
        codes = [concept(code)]
    item.RequestedProcedureCodeSequence = codes
    return item


def _entity(identifier: str) -> str:
    """The number of an HL7 EI: what it is within its namespace."""
    return _number(identifier.split("^")[0], LONG)


def _ordered(order: Order | None) -> Code | None:
    """OBR-4 as a code, where all three parts of it fit one."""
    if order is None:
        return None
    value, meaning, scheme = order.procedure
    return _code(value, scheme, meaning)


def _codes(item: Dataset, keyword: str) -> list[Code]:
    found: Iterable[Dataset] = item.get(keyword) or []
    codes = (_code(*(text(each, k) for k in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))) for each in found)
    return [code for code in codes if code]


def _code(value: str, scheme: str, meaning: str) -> Code | None:
    value, scheme, meaning = _number(value, SHORT), _number(scheme, SHORT), plain(meaning, LONG)
    return Code(value=value, scheme=scheme, meaning=meaning) if value and scheme and meaning else None


def _number(value: str, longest: int) -> str:
    """A number or a code as it is, or nothing where DICOM cannot hold it."""
    kept = value.strip()
    return kept if plain(kept, longest) == kept else ""
