"""The result for the RIS: HL7 v2.5.1 ORU^R01 with numbers, findings and where the images are.

Identifiers come from the order where one is known, else from the images. Each number names what it measures twice:
OBX-3 holds the concept (SCT 118565006 Volume) and a local alternate ("Right lung volume"), OBX-4 the segment number
that a coded finding (121071) with the same OBX-4 explains. OBX-8 stays empty for numbers, since no reference range is
known here. The verdict of the plausibility checks is coded under OBX-4 V (OBX-8: N, or A where a person should look)
and each finding under W1, W2 …; totals of several segments have T1, T2 …. Next: router/delivery/ris.py (who sends it).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydicom import Dataset

from medai.models.volume import Code, Segmentation
from medai.router.contract import Job, Measurement, control_id
from medai.router.settings.tables import RisSettings
from medai.workers.results import identity
from medai.workers.results.hl7_text import (
    as_received,
    components,
    dicom_timestamp,
    escape,
    issuer,
    join,
    patient_identifier,
    person_name,
    segment,
    timestamp,
)
from medai.workers.results.measure import MEAN_ATTENUATION, MILLILITRE, TOTAL, VOLUME
from medai.workers.results.source import Source, usable
from medai.workers.results.sr import ANY_PROCEDURE, PROCEDURES

Status = Literal["P", "C", "X"]
LOCAL = "99MEDAI"
ACCESSION_MAX = 16
NAME_UNKNOWN = "^^^^^^U"
"""PID-5 is required: a name of type U (table 0200, unspecified) where the images carry none."""
QUANTITIES = {
    VOLUME: (Code(value="118565006", scheme="SCT", meaning="Volume"), "volume"),
    MEAN_ATTENUATION: (Code(value="112031", scheme="DCM", meaning="Attenuation Coefficient"), "mean attenuation"),
}
"""OBX-3 of a measurement, and the word for it in the local alternate."""
UNITS = {MILLILITRE: "mL^milliliter^UCUM", "[hnsf'U]": "[hnsf'U]^Hounsfield unit^UCUM"}


@dataclass(frozen=True, kw_only=True)
class _Message:
    """What the segments need of the job."""

    job: Job
    source: Source
    segmentation: Segmentation
    moment: str
    status: Status

    @property
    def header(self) -> Dataset:
        return self.source.first


def encode_oru(
    job: Job,
    measurements: Sequence[Measurement],
    segmentation: Segmentation,
    source: Source,
    objects: identity.ResultUids,
    ris: RisSettings,
    wado_root: str,
    created_at: datetime,
    status: Status = "P",
) -> bytes:
    """The message, UTF-8 with CR line ends, the same bytes at every attempt.

    ``status`` is P (preliminary: nobody verified it), C for a revision (same OBR-3, docs/standards.md, section 3) or X for
    a result that is taken back: its observations are left out then, but for the study's UID.
    """
    message = _Message(job=job, source=source, segmentation=segmentation, moment=timestamp(created_at), status=status)
    observations = list(_study(message))
    if status != "X":
        observations += _findings(message, measurements)
        observations += _references(message, objects, wado_root)
        observations += _plausibility(message)
    lines = [_msh(message, ris), _pid(message, ris), *_pv1(message), _obr(message)]
    lines += [_obx(number, fields, message) for number, fields in enumerate(observations, start=1)]
    return join(lines)


def oru_control_id(job: Job, status: Status = "P") -> str:
    """MSH-10: the job's, at every attempt; a withdrawal is another message and has another."""
    return control_id(job.job_id, "ris-withdrawn" if status == "X" else "ris")


def _said(name: str) -> str:
    """A name, or nothing where it has delimiters only."""
    return name if name.strip("^~& ") else ""


def _msh(message: _Message, ris: RisSettings) -> str:
    return segment(
        "MSH",
        {
            1: "^~\\&",
            2: escape(ris.sending_application),
            3: escape(ris.sending_facility),
            4: escape(ris.receiving_application),
            5: escape(ris.receiving_facility),
            6: message.moment,
            8: "ORU^R01^ORU_R01",
            9: oru_control_id(message.job, message.status),
            10: ris.processing_id,
            11: "2.5.1",
            17: "UNICODE UTF-8",
        },
    )  # MSH-1 is the separator itself, so that every number here is one less than the field's


def _pid(message: _Message, ris: RisSettings) -> str:
    """Without any issuer, the receiving facility is named as the assigning authority: its patients they are."""
    order, header = message.job.order, message.header
    if order is not None and order.patient_id:
        identifier, authority = order.patient_id, order.patient_id_authority
    else:
        identifier, authority = str(header.get("PatientID") or "").strip(), issuer(header)
    name = as_received(order.patient_name) if order is not None and order.patient_name else ""
    born = (order.birth_date if order else "") or usable(header, "PatientBirthDate") or ""
    sex = (order.sex if order else "") or usable(header, "PatientSex") or ""
    return segment(
        "PID",
        {
            1: "1",
            3: patient_identifier(identifier, authority or ris.receiving_facility),
            5: _said(name) or _said(person_name(header.get("PatientName"))) or NAME_UNKNOWN,
            7: escape(born),
            8: escape(sex),
        },
    )


def _pv1(message: _Message) -> list[str]:
    order = message.job.order
    if order is None or not order.visit_number:
        return []
    return [segment("PV1", {1: "1", 2: "U", 19: as_received(order.visit_number)})]


def _obr(message: _Message) -> str:
    order = message.job.order
    return segment(
        "OBR",
        {
            1: "1",
            2: as_received(order.placer) if order else "",
            3: message.job.filler,
            4: _service(message),
            7: _observed(message),
            18: escape(_accession(message)),
            19: escape((order.requested_procedure_id if order else "") or _requested(message, "RequestedProcedureID")),
            20: escape((order.scheduled_step_id if order else "") or _requested(message, "ScheduledProcedureStepID")),
            22: message.moment,
            24: escape(message.source.volume.modality),
            25: message.status,
        },
    )


def _service(message: _Message) -> str:
    """OBR-4: what was ordered; else what the images say was done; else the kind of imaging (CID 100)."""
    order, header = message.job.order, message.header
    if order is not None and any(order.procedure):
        return components(*order.procedure)
    for keyword in ("RequestedProcedureCodeSequence", "ProcedureCodeSequence"):
        for item in header.get(keyword) or []:
            if item.get("CodeValue") and item.get("CodingSchemeDesignator"):
                return components(item.CodeValue, item.get("CodeMeaning") or "", item.CodingSchemeDesignator)
    code = PROCEDURES.get(message.source.volume.modality, ANY_PROCEDURE)
    return components(code.value, code.meaning, code.scheme)


def _accession(message: _Message) -> str:
    """At most 16 characters (DICOM SH); a longer one is no accession number and is left out."""
    order = message.job.order
    known = ((order.accession if order else ""), str(message.header.get("AccessionNumber") or "").strip())
    return next((text for text in known if text and len(text) <= ACCESSION_MAX), "")


def _requested(message: _Message, keyword: str) -> str:
    for item in message.header.get("RequestAttributesSequence") or []:
        if item.get(keyword):
            return str(item.get(keyword))
    return ""


def _observed(message: _Message) -> str:
    """When the patient was imaged: the acquisition, else the study, else (nothing known) now."""
    header = message.header
    for name in ("Acquisition", "Content", "Series", "Study"):
        date, time = str(header.get(f"{name}Date") or ""), str(header.get(f"{name}Time") or "")
        found = dicom_timestamp(date, time, str(header.get("TimezoneOffsetFromUTC") or ""))
        if found:
            return found
    return message.moment


def _study(message: _Message) -> Iterator[dict[int, str]]:
    yield {2: "HD", 3: "113014^DICOM Study^DCM", 5: str(message.header.StudyInstanceUID)}


def _findings(message: _Message, measurements: Sequence[Measurement]) -> Iterator[dict[int, str]]:
    for each in message.segmentation.segments:
        sub_id = str(each.number)
        local = (_local_code(each.name, ""), identity.plain(each.name, 100), LOCAL)
        yield {
            2: "CWE",
            3: "121071^Finding^DCM",
            4: sub_id,
            5: components(*local, each.type.value, each.type.meaning, each.type.scheme),
        }
        for concept, code in (
            ("272741003^Laterality^SCT", each.modifier),
            ("106233006^Topographical modifier^SCT", each.topography),
        ):
            if code is not None:
                yield {2: "CWE", 3: concept, 4: sub_id, 5: components(code.value, code.meaning, code.scheme)}
        for number in (m for m in measurements if m.segment_number == each.number):
            yield _number(sub_id, number)
    totals = (m for m in measurements if m.segment_number == TOTAL)
    for place, total in enumerate(totals, start=1):
        name = components(_local_code(total.segment_name, ""), identity.plain(total.segment_name, 100), LOCAL)
        yield {2: "CWE", 3: "121071^Finding^DCM", 4: f"T{place}", 5: name}
        yield _number(f"T{place}", total)


def _number(sub_id: str, measurement: Measurement) -> dict[int, str]:
    code, word = QUANTITIES[measurement.quantity]
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


def _references(message: _Message, objects: identity.ResultUids, wado_root: str) -> Iterator[dict[int, str]]:
    """WADO-RS addresses of the three objects (RP.1 pointer, RP.3 type, RP.4 subtype)."""
    study = f"{wado_root.rstrip('/')}/studies/{message.header.StudyInstanceUID}"
    named = (
        ("SEG", "Segmentation", objects.seg_series, objects.seg),
        ("SR", "Structured Report", objects.sr_series, objects.sr),
        ("SC", "Key image", objects.sc_series, objects.sc),
    )
    for kind, name, series, instance in named:
        yield {
            2: "RP",
            3: components(kind, f"AI {name}", LOCAL),
            5: components(f"{study}/series/{series}/instances/{instance}", "", "application", "dicom"),
        }


def _plausibility(message: _Message) -> Iterator[dict[int, str]]:
    """The verdict of the checks, also when all passed; then what a person should look at, the words as text."""
    plausibility = message.segmentation.plausibility
    yield {
        2: "CWE",
        3: components("VERDICT", "Verdict of the plausibility checks", LOCAL),
        4: "V",
        5: components(plausibility.verdict.upper(), identity.plain(plausibility.summary, 190), LOCAL),
        8: "N" if plausibility.verdict == "plausible" else "A",
    }
    for number, text in enumerate(plausibility.findings, start=1):
        yield {
            2: "CWE",
            3: components("PLAUSIBILITY", "Plausibility of the AI result", LOCAL),
            4: f"W{number}",
            5: components("CHECK", identity.plain(text, 190), LOCAL),
            8: "A",
        }


def _obx(number: int, fields: dict[int, str], message: _Message) -> str:
    """With what all observations share: status, time, method (the model) and device."""
    model = message.segmentation.model
    title = identity.plain(f"{model.title} {model.version}", 100)
    device = identity.plain(f"{model.name} {model.version}", 60)
    return segment(
        "OBX",
        {
            **fields,
            1: str(number),
            11: message.status,
            14: _observed(message),
            17: components("123110", "Artificial Intelligence", "DCM", identity.plain(model.name, 20), title, LOCAL),
            18: components(device, LOCAL, identity.device_uid(model), "ISO"),
            19: message.moment,
        },
    )
