"""The result for the RIS: HL7 v2 ORU^R01 with numbers, findings and where the images are.

It is v2.5.1, or what oru_version.py makes of it for an older one. Identifiers come from the order where one is known,
else from the images. Each number names what it measures twice: OBX-3 holds the concept (SCT 118565006 Volume) and a
local alternate ("Right lung volume"), OBX-4 the segment number that a coded finding (121071) with the same OBX-4
explains. OBX-8 stays empty for numbers, since no reference range is known here. The verdict of the plausibility checks
is coded under OBX-4 V (OBX-8: N, or A where a person should look) and each finding under W1, W2 …; totals of several
segments have T1, T2 …. Where the RIS wants it, all that follows in words for a dictation system (narrative.py).
Next: router/delivery/ris.py (who sends it).
"""

from __future__ import annotations

from collections.abc import Iterator

from medai.models.images.header import text
from medai.models.volume import Code
from medai.router.contract import Measurement, control_id, short_id
from medai.workers.results import identity
from medai.workers.results.codes import (
    ARTIFICIAL_INTELLIGENCE,
    FINDINGS,
    LATERALITY,
    LOCAL,
    QUANTITIES,
    QUANTITY_WORDS,
    TOPOGRAPHY,
)
from medai.workers.results.context import Context
from medai.workers.results.hl7_text import (
    IMAGED,
    as_received,
    components,
    dicom_timestamp,
    escape,
    first_moment,
    join,
    patient_identifier,
    person_name,
    segment,
    timestamp,
)
from medai.workers.results.measure import MILLILITRE, TOTAL
from medai.workers.results.narrative import narrative
from medai.workers.results.oru_version import VERSIONS, OruVersion
from medai.workers.results.source import usable
from medai.workers.sound_header import sound_date

PRELIMINARY = "P"
"""Of the result (OBR-25, OBX-11), of its revisions too: nobody verified it. C would say that a final result is
replaced, and there was none; that values are replaced is told by the same filler number (OBR-3)."""
CODED = "CWE"
"""OBX-2 of a coded value, as v2.5.1 calls it."""
LONGEST_TEXT = 199
"""Characters of an ST (HL7 v2.5.1, chapter 2A)."""
NAME_UNKNOWN = "^^^^^^U"
"""PID-5 is required: a name of type U (table 0200, unspecified) where the images carry none."""
UNSPECIFIED = "U"
"""PID-3.5 (table 0203) of a number that stands for a patient of whom none is known."""
LONGEST_CX = 15
"""Characters of CX.1 (HL7 v2.5.1, chapter 2A)."""
UNITS = {MILLILITRE: "mL^milliliter^UCUM", "[hnsf'U]": "[hnsf'U]^Hounsfield unit^UCUM"}


def encode_oru(context: Context) -> bytes:
    """The message, UTF-8 with CR line ends, the same bytes at every attempt."""
    observations = [*_study(context), *_findings(context), *_references(context), *_plausibility(context)]
    if context.settings.ris.narrative:
        observations.append(_in_words(context))
    lines = [_msh(context), _pid(context), *_pv1(context), _obr(context)]
    lines += [_obx(number, fields, context) for number, fields in enumerate(observations, start=1)]
    return join(lines)


def _said(name: str) -> str:
    """A name, or nothing where it has delimiters only."""
    return name if name.strip("^~& ") else ""


def _msh(context: Context) -> str:
    ris = context.settings.ris
    return segment(
        "MSH",
        {
            1: "^~\\&",
            2: escape(ris.sending_application),
            3: escape(ris.sending_facility),
            4: escape(ris.receiving_application),
            5: escape(ris.receiving_facility),
            6: timestamp(context.created_at),
            8: VERSIONS[ris.version].kind,
            9: control_id(context.job.job_id, "ris"),
            10: ris.processing_id,
            11: ris.version,
            17: "UNICODE UTF-8",
        },
    )  # MSH-1 is the separator itself, so that every number here is one less than the field's


def _pid(context: Context) -> str:
    """The patient of the images; the order, which names the same one, says what they do not, and more than they where
    the RIS merged theirs into its own.

    Without any issuer, the receiving facility is named as the assigning authority: its patients they are.
    """
    order, header = context.job.order, context.header
    identifier, authority = context.patient
    ordered = as_received(order.patient_name) if order is not None and order.patient_name else ""
    names = [_said(person_name(header.get("PatientName"))), _said(ordered)]
    dates = [sound_date(text(header, "PatientBirthDate")), sound_date(order.birth_date if order else "")]
    sexes = [usable(header, "PatientSex") or "", order.sex if order else ""]
    if context.was_merged:
        names, dates, sexes = names[::-1], dates[::-1], sexes[::-1]
    name = next(filter(None, names), NAME_UNKNOWN)
    born, sex = next(filter(None, dates), ""), next(filter(None, sexes), "")
    return segment(
        "PID",
        {
            1: "1",
            3: "~".join(as_received(each) for each in context.ordered_identifiers)
            or patient_identifier(identifier, authority or context.settings.ris.receiving_facility)
            or _unidentified(context),
            5: name if _version(context).names_repeat else next(each for each in name.split("~") if _said(each)),
            7: escape(born),
            8: escape(sex),
            18: as_received(order.patient_account) if order is not None else "",
        },
    )


def _unidentified(context: Context) -> str:
    """PID-3 is required: for images that name no patient, a number of ours for this study alone (table 0203, U).

    Its assigning authority is this system, so that nobody takes it for a number of the hospital.
    """
    number = short_id(f"{text(context.header, 'StudyInstanceUID')}|unidentified", length=LONGEST_CX)
    return components(number, "", "", context.settings.ris.sending_application, UNSPECIFIED)


def _pv1(context: Context) -> list[str]:
    order = context.job.order
    if order is None or not (order.visit_number or order.location or order.patient_class):
        return []
    fields = {3: order.location, 19: order.visit_number}
    return [
        segment(
            "PV1",
            {1: "1", 2: as_received(order.patient_class) or "U", **{n: as_received(v) for n, v in fields.items()}},
        )
    ]


def _obr(context: Context) -> str:
    order = context.job.order
    return segment(
        "OBR",
        {
            1: "1",
            2: as_received(order.placer) if order else "",
            3: context.job.filler,
            4: components(*context.procedure, *context.loinc_procedure),
            7: _observed(context),
            16: as_received(order.ordered_by) if order else "",
            18: escape(context.accession),
            19: escape((order.requested_procedure_id if order else "") or _requested(context, "RequestedProcedureID")),
            20: escape((order.scheduled_step_id if order else "") or _requested(context, "ScheduledProcedureStepID")),
            22: timestamp(context.created_at),
            24: escape(context.source.volume.modality),
            25: PRELIMINARY,
            27: _version(context).timing,
        },
    )


def _requested(context: Context, keyword: str) -> str:
    for item in context.header.get("RequestAttributesSequence") or []:
        if item.get(keyword):
            return str(item.get(keyword))
    return ""


def _observed(context: Context) -> str:
    """When the patient was imaged: the acquisition, else the study, else (nothing known) now."""
    date, time = first_moment(context.header, *IMAGED)
    offset = str(context.header.get("TimezoneOffsetFromUTC") or "")
    return dicom_timestamp(date, time, offset) or timestamp(context.created_at)


def _study(context: Context) -> Iterator[dict[int, str]]:
    yield {2: "HD", 3: "113014^DICOM Study^DCM", 5: escape(text(context.header, "StudyInstanceUID"))}


def _findings(context: Context) -> Iterator[dict[int, str]]:
    for each in context.segmentation.segments:
        sub_id = str(each.number)
        local = (_local_code(each.name, ""), identity.plain(each.name, 100), LOCAL)
        yield {
            2: CODED,
            3: "121071^Finding^DCM",
            4: sub_id,
            5: components(*local, each.type.value, each.type.meaning, each.type.scheme),
        }
        for concept, code in (
            (LATERALITY, each.modifier),
            (TOPOGRAPHY, each.topography),
        ):
            if code is not None:
                yield {2: CODED, 3: _coded(concept), 4: sub_id, 5: _coded(code)}
        for number in (m for m in context.measurements if m.segment_number == each.number):
            yield _number(sub_id, number)
    totals = (m for m in context.measurements if m.segment_number == TOTAL)
    for place, total in enumerate(totals, start=1):
        name = components(_local_code(total.segment_name, ""), identity.plain(total.segment_name, 100), LOCAL)
        yield {2: CODED, 3: "121071^Finding^DCM", 4: f"T{place}", 5: name}
        yield _number(f"T{place}", total)


def _coded(code: Code) -> str:
    """CWE of a code."""
    return components(code.value, code.meaning, code.scheme)


def _number(sub_id: str, measurement: Measurement) -> dict[int, str]:
    code, word = QUANTITIES[measurement.quantity], QUANTITY_WORDS[measurement.quantity]
    name = f"{identity.plain(measurement.segment_name, 60)} {word}"
    local = _local_code(measurement.segment_name, measurement.quantity)
    return {
        2: "NM",
        3: components(code.value, code.meaning, code.scheme, local, name, LOCAL),
        4: sub_id,
        5: f"{measurement.value:.6f}".rstrip("0").rstrip("."),
        6: UNITS[measurement.unit],
    }


def _local_code(name: str, quantity: str) -> str:
    words = f"{identity.plain(name, 40)} {quantity}".upper()
    return "_".join("".join(c if c.isalnum() else " " for c in words).split()) or "SEGMENT"


def _references(context: Context) -> Iterator[dict[int, str]]:
    """WADO-RS addresses of the three objects; none where no address is configured that the RIS could reach.

    RP.1 pointer, RP.3 type of data (table 0191: IM image data, AP other application data), RP.4 subtype (table 0291).
    A pointer is an ST, of 199 characters: where that is too little for an object's address, its series' is given, and a
    series of ours holds nothing else.
    """
    named = (
        ("seg", "Segmentation", "IM"),
        ("sr", "Structured Report", "AP"),
        ("sc", "Key image", "IM"),
    )
    for kind, name, data in named if context.settings.orthanc.wado_root else ():
        yield {
            2: "RP",
            3: components(kind.upper(), f"AI {name}", LOCAL),
            5: components(_pointer(context.address(kind)), "", data, "DICOM"),
        }


def _pointer(address: str) -> str:
    return address if len(address) <= LONGEST_TEXT else address.rpartition("/instances/")[0]


def _plausibility(context: Context) -> Iterator[dict[int, str]]:
    """The verdict of the checks, also when all passed; then what a person should look at, the words as text."""
    plausibility = context.segmentation.plausibility
    yield {
        2: CODED,
        3: components("VERDICT", "Verdict of the plausibility checks", LOCAL),
        4: "V",
        5: components(plausibility.verdict.upper(), identity.plain(plausibility.summary, 190), LOCAL),
        8: "N" if plausibility.verdict == "plausible" else "A",
    }
    for number, finding in enumerate(plausibility.findings, start=1):
        yield {
            2: CODED,
            3: components("PLAUSIBILITY", "Plausibility of the AI result", LOCAL),
            4: f"W{number}",
            5: components("CHECK", identity.plain(finding, 190), LOCAL),
            8: "A",
        }


def _in_words(context: Context) -> dict[int, str]:
    """One text, of which each repetition is a line: so TX has it in every version (chapter 2, data type TX).

    FT would need a receiver that knows its commands (``\\.br\\``), and is one long text, which some parsers refuse.
    """
    return {2: "TX", 3: _coded(FINDINGS), 5: "~".join(map(escape, narrative(context)))}


def _obx(number: int, fields: dict[int, str], context: Context) -> str:
    """With what all observations share: status, time, method (the model) and device."""
    model = context.model
    version = _version(context)
    title = identity.plain(f"{model.title} {model.version}", 100)
    device = identity.plain(f"{model.name} {model.version}", 60)
    whole = {
        **fields,
        1: str(number),
        2: version.coded if fields[2] == CODED else fields[2],
        4: fields.get(4) or version.sub_id,
        11: PRELIMINARY,
        14: _observed(context),
        17: f"{_coded(ARTIFICIAL_INTELLIGENCE)}^{components(identity.plain(model.name, 20), title, LOCAL)}",
        18: components(device, LOCAL, identity.device_uid(model), "ISO"),
        19: timestamp(context.created_at),
    }
    return segment("OBX", {place: value for place, value in whole.items() if place <= version.observation_fields})


def _version(context: Context) -> OruVersion:
    return VERSIONS[context.settings.ris.version]
