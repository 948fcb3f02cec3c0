"""Give a study in Orthanc other patient data: where the RIS says that a patient is another, or is called otherwise.

Next: client.py (what it asks Orthanc), hl7/patients.py (what the data are), daemon/service.py (when).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from medai.router.contract import orthanc_id
from medai.router.errors import OrthancUnreachable, PermanentError
from medai.router.orthanc.client import Orthanc

HALFWAY = "~recoding"
"""Ends the Patient ID that a study has for the moment while only other data of its patient are changed."""


def recode(orthanc: Orthanc, orthanc_study: str, replace: Mapping[str, str], timeout_s: float) -> str:
    """Give a study other patient data and return its Orthanc id from then on; doing it again is harmless.

    ``replace``: DICOM keywords of the patient level; PatientID must be among them, and may be the one that the
    study has. UIDs, pixels, private attributes and the transfer syntax stay; ``timeout_s`` bounds the copying.

    Orthanc 1.10.1 gives another Patient ID only to a copy, and with KeepSource false it deletes what it has just
    written where the Patient ID is the same (measured). So we copy, look, and delete what we saw copied, no more;
    killed at any moment, the next call goes on. Where the Patient ID stays, the study goes by way of another.
    Raises OrthancRefused 404 when the study is gone, OrthancUnreachable when it must be done again, and
    PermanentError when the images cannot hold the data (a name outside their character set): nothing is changed.
    """
    new = {**replace, "PatientID": replace["PatientID"].strip()}
    halfway = {**new, "PatientID": new["PatientID"] + HALFWAY}
    if not orthanc.exists("studies", orthanc_study):
        return _go_on(orthanc, orthanc_study, halfway, new, timeout_s)
    study_uid = _uid(orthanc.study(orthanc_study), "StudyInstanceUID")
    if orthanc_id(new["PatientID"], study_uid) != orthanc_study:
        return _move(orthanc, orthanc_study, new, timeout_s)
    begun = orthanc.exists("studies", orthanc_id(halfway["PatientID"], study_uid))
    if not begun and not _other_than(orthanc, new, _identifiers(orthanc, orthanc_study)):
        return orthanc_study
    return _move(orthanc, _move(orthanc, orthanc_study, halfway, timeout_s), new, timeout_s)


def _go_on(orthanc: Orthanc, gone: str, halfway: Mapping[str, str], new: Mapping[str, str], timeout_s: float) -> str:
    """The rest of the way of a study that is no longer where it was."""
    if left := _copy_of(orthanc, gone, halfway["PatientID"]):
        return _move(orthanc, left, new, timeout_s)
    return _copy_of(orthanc, gone, new["PatientID"]) or str(orthanc.study(gone)["ID"])


def _copy_of(orthanc: Orthanc, gone: str, patient_id: str) -> str | None:
    """The study that Orthanc made of a study that is gone, among those of a patient."""
    patient = orthanc_id(patient_id)
    if not orthanc.exists("patients", patient):
        return None
    for study in orthanc.get(f"/patients/{patient}/studies"):
        known = orthanc.get(f"/studies/{study['ID']}/metadata?expand")
        if known.get("ModifiedFrom") == gone:
            return str(study["ID"])
    return None


def _move(orthanc: Orthanc, source: str, replace: Mapping[str, str], timeout_s: float) -> str:
    """Copy what is not there yet, look at the copies, delete their originals."""
    patient_id, study_uid = replace["PatientID"], _uid(orthanc.study(source), "StudyInstanceUID")
    target = orthanc_id(patient_id, study_uid)
    copies = {
        original: orthanc_id(patient_id, study_uid, *uids) for original, uids in _identifiers(orthanc, source).items()
    }
    there = _identifiers(orthanc, target) if orthanc.exists("studies", target) else {}
    missing = [original for original, copy in copies.items() if copy not in there]
    if missing:
        _copy(orthanc, missing, replace, timeout_s)
        there = _identifiers(orthanc, target)
    if any(copy not in there for copy in copies.values()):
        raise OrthancUnreachable(f"Orthanc at {orthanc.address} copied only part of a study: it is copied again")
    if wrong := _other_than(orthanc, replace, [copies[original] for original in missing]):
        _delete(orthanc, wrong)
        raise PermanentError("the images cannot hold the new patient data in their character set: left as they are")
    _delete(orthanc, copies)
    return target


def _copy(orthanc: Orthanc, instances: Iterable[str], replace: Mapping[str, str], timeout_s: float) -> None:
    body = {
        "Resources": list(instances),
        "Level": "Patient",
        "Replace": dict(replace),
        "Keep": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"],
        "Force": True,
        "KeepSource": True,
        "Synchronous": True,
    }
    orthanc.post("/tools/bulk-modify", body, timeout_s=timeout_s)


def _delete(orthanc: Orthanc, instances: Iterable[str]) -> None:
    orthanc.request("POST", "/tools/bulk-delete", body=json.dumps({"Resources": list(instances)}).encode())


def _identifiers(orthanc: Orthanc, orthanc_study: str) -> dict[str, tuple[str, str]]:
    """Orthanc id of each instance of a study -> its Series and SOP Instance UID."""
    found: dict[str, tuple[str, str]] = {}
    for series in orthanc.get(f"/studies/{orthanc_study}/series"):
        uid = _uid(series, "SeriesInstanceUID")
        found.update({str(each["ID"]): (uid, _uid(each, "SOPInstanceUID")) for each in orthanc.instances(series["ID"])})
    return found


def _other_than(orthanc: Orthanc, replace: Mapping[str, str], instances: Iterable[str]) -> list[str]:
    """Which instances do not say what ``replace`` says."""
    return [instance for instance in instances if _differs(orthanc.tags(instance), replace)]


def _uid(resource: Mapping[str, Any], keyword: str) -> str:
    return str(resource["MainDicomTags"][keyword])


def _differs(tags: Mapping[str, Any], replace: Mapping[str, str]) -> bool:
    """Spaces and empty components at the end carry no meaning (PS3.5 6.2)."""
    return any(str(tags.get(key) or "").rstrip("^ ") != value.rstrip("^ ") for key, value in replace.items())
