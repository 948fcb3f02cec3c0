"""The rejection note (IHE IOCM): tells an archive to hide objects that a job made and that no longer hold.

A Key Object Selection Document (TID 2010) with the title Rejected for Quality Reasons, that lists every object. It is
made with the objects themselves, and kept until they are superseded or withdrawn. Next: forms.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import Dataset

from medai.models.volume import Code
from medai.router.contract import derived_uid
from medai.workers.results import identity
from medai.workers.results.context import Context
from medai.workers.results.dicom_object import concept, contributing_equipment, device_observer, equipment, finish
from medai.workers.results.request import referenced_requests

REJECTED = Code(value="113001", scheme="DCM", meaning="Rejected for Quality Reasons")
WHY = "Results of AI that were superseded or withdrawn. They are not to be shown."


def encode_rejection(context: Context, objects: Sequence[Dataset]) -> Dataset:
    """The note that rejects ``objects``, all of this job; the same bytes at every attempt.

    Patient and study are those of ``objects``, so that it is filed with what it rejects. Raises ValueError where there
    is none.
    """
    job = context.job
    note: Dataset = KeyObjectSelectionDocument(
        evidence=objects,
        content=KeyObjectSelection(
            document_title=concept(REJECTED),
            referenced_objects=objects,
            observer_device_context=device_observer(context),
            description=WHY,
        ),
        series_instance_uid=identity.series_uid(job.job_id, "rejection"),
        series_number=identity.series_number(context.settings.results, job, "rejection"),
        sop_instance_uid=_uid(job.job_id, objects),
        instance_number=1,
        series_description=identity.series_description(context.model, "rejection note", job.revision),
        requested_procedures=referenced_requests(context) or None,
        contributing_equipment=[contributing_equipment(context)],
        **equipment(context),
    )
    for item in note.ContentSequence:
        if "ReferencedSOPSequence" in item:  # highdicom names it "Source"; TID 2010 forbids a name
            del item.ConceptNameCodeSequence
    note.copy_patient_and_study_information(objects[0])
    finish(note, context)
    return note


def _uid(job_id: str, objects: Sequence[Dataset]) -> str:
    """Two destinations that get other forms get notes that say different things, so under different UIDs."""
    return derived_uid(job_id, "rejection", "instance", *sorted(str(each.SOPInstanceUID) for each in objects))
