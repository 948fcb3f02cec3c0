"""All that an encoder may look at, in one object; and what SEG, ORU and FHIR read of it in the same way.

Identifiers come from the order where one is known, else from the images. Next: seg.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from urllib.parse import quote

from pydicom import Dataset

from medai.models.images.header import text
from medai.models.volume import ModelCard, Segmentation
from medai.router.contract import Job, Measurement
from medai.router.hl7.patients import patient_of
from medai.router.settings.tables import Settings
from medai.workers.results.codes import ANY_PROCEDURE, PROCEDURES
from medai.workers.results.hl7_text import assigned, issuer, may_be_one
from medai.workers.results.identity import ResultUids
from medai.workers.results.source import Source

ACCESSION_MAX = 16


@dataclass(frozen=True, kw_only=True)
class Context:
    """One job's images, mask, numbers and settings. ``created_at`` is when the job was made: a retry repeats it."""

    source: Source
    segmentation: Segmentation
    measurements: tuple[Measurement, ...]
    job: Job
    settings: Settings
    created_at: datetime

    @cached_property
    def uids(self) -> ResultUids:
        """Of the three DICOM objects, known before they are made."""
        return ResultUids.of(self.job.job_id)

    @property
    def model(self) -> ModelCard:
        """Who drew the mask."""
        return self.segmentation.model

    @property
    def header(self) -> Dataset:
        """The header that speaks for the study."""
        return self.source.first

    @cached_property
    def moment(self) -> datetime:
        """``created_at`` on the clock that the images' dates are on."""
        return self.source.moment(self.created_at)

    @property
    def patient(self) -> tuple[str, str]:
        """The patient's number and who issued it (an HL7 HD); both may be empty.

        Of several that the order names, the one by which the images know the patient.
        """
        order = self.job.order
        if order is None or not order.patient_id:
            return text(self.header, "PatientID").strip(), issuer(self.header)
        chosen = self.ordered_identifier
        return assigned(chosen) if chosen else (order.patient_id, order.patient_id_authority)

    @property
    def ordered_identifier(self) -> str:
        """The one identifier (CX) of the order's by which the images know the patient, else its main one; or empty."""
        order = self.job.order
        if order is None or not order.patient_id:
            return ""
        by_number = {patient_of(each).identifier: each for each in reversed(order.patient_identifiers)}
        return by_number.get(text(self.header, "PatientID").strip()) or by_number.get(order.patient_id) or ""

    @property
    def ordered_identifiers(self) -> tuple[str, ...]:
        """All identifiers (CX) of the order's, in its order, but for other numbers of the authority by whose number the
        images know the patient: an authority has one number for a patient, and a receiver may file by any of several.
        """
        order, known = self.job.order, self.ordered_identifier
        if order is None or not known:
            return ()
        number, authority = assigned(known)
        named = [(each, *assigned(each)) for each in order.patient_identifiers]
        return tuple(each for each, its, of in named if its == number or not may_be_one(of, authority))

    @property
    def was_merged(self) -> bool:
        """Whether the RIS has merged the images' patient into the order's: what images say may be provisional then."""
        order = self.job.order
        named = text(self.header, "PatientID").strip()
        if order is None or not order.patient_id or not named:
            return False
        return named not in {order.patient_id, *(patient_of(each).identifier for each in order.patient_identifiers)}

    @property
    def accession(self) -> str:
        """At most 16 characters (DICOM SH); a longer one is no accession number and is left out."""
        order = self.job.order
        known = ((order.accession if order else ""), text(self.header, "AccessionNumber").strip())
        return next((one for one in known if one and len(one) <= ACCESSION_MAX), "")

    def address(self, kind: str) -> str:
        """Where WADO-RS has an object of the result (of ``identity.KINDS``); empty where nobody said where that is."""
        root = self.settings.orthanc.wado_root
        if not root:
            return ""
        series, instance = self.uids.of_kind(kind)
        study = quote(text(self.header, "StudyInstanceUID"), safe="")
        return f"{root}/studies/{study}/series/{series}/instances/{instance}"

    @property
    def ordered_procedure(self) -> tuple[str, str, str] | None:
        """What was ordered: value, meaning and scheme, as the RIS wrote them."""
        order = self.job.order
        return order.procedure if order is not None and any(order.procedure) else None

    @property
    def procedure(self) -> tuple[str, str, str]:
        """Value, meaning, scheme of what was ordered; else what the images name; else the kind of imaging (CID 100)."""
        if self.ordered_procedure:
            return self.ordered_procedure
        named = next(self._named_procedures(), None)
        if named:
            return named
        code = PROCEDURES.get(self.source.volume.modality, ANY_PROCEDURE)
        return code.value, code.meaning, code.scheme

    @property
    def loinc_procedure(self) -> tuple[str, str, str] | tuple[()]:
        """The LOINC code that the images name for the procedure, where ``procedure`` is another; else nothing."""
        found = next((each for each in self._named_procedures() if each[2] == "LN"), None)
        return found if found and self.procedure[2] != "LN" else ()

    def _named_procedures(self) -> Iterator[tuple[str, str, str]]:
        """Those of the images, requested ones first."""
        for keyword in ("RequestedProcedureCodeSequence", "ProcedureCodeSequence"):
            for item in self.header.get(keyword) or []:
                if item.get("CodeValue") and item.get("CodingSchemeDesignator"):
                    yield str(item.CodeValue), str(item.get("CodeMeaning") or ""), str(item.CodingSchemeDesignator)
