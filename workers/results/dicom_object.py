"""What SEG, SR and key image share as DICOM objects: who made them, when, and for whom. Next: seg.py."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from highdicom import ContributingEquipment
from highdicom.base import SOPClass
from highdicom.sr import CodedConcept, DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID

from medai.models.images.header import text
from medai.models.volume import Code
from medai.workers.results import identity
from medai.workers.results.codes import LOCAL
from medai.workers.results.context import Context
from medai.workers.results.frames import refer_to_frames
from medai.workers.results.source import Source

PROCESSING_EQUIPMENT = Code(value="109102", scheme="DCM", meaning="Processing Equipment")


def equipment(context: Context) -> dict[str, Any]:
    """The device that wrote the object, as constructor arguments of highdicom."""
    settings = context.settings.results
    return {
        "manufacturer": identity.plain(settings.manufacturer, 64),
        "manufacturer_model_name": identity.plain(settings.device_name, 64),
        "device_serial_number": identity.plain(settings.serial_number, 64),
        "software_versions": identity.software_versions(context.model),
    }


def start_object(
    context: Context, kind: str, *, sop_class_uid: str, modality: str, what: str, transfer_syntax_uid: str
) -> Dataset:
    """An object that highdicom has no class for, with patient, study, a series of its own and who made it.

    ``kind`` is one of identity.SERIES, ``what`` its name in the series description.
    """
    lead, job = context.source.clean[0], context.job
    made: Dataset = SOPClass(
        study_instance_uid=lead.StudyInstanceUID,
        series_instance_uid=identity.series_uid(job.job_id, kind),
        series_number=identity.series_number(context.settings.results, job, kind),
        sop_instance_uid=identity.instance_uid(job.job_id, kind),
        sop_class_uid=sop_class_uid,
        instance_number=1,
        modality=modality,
        transfer_syntax_uid=transfer_syntax_uid,
        specific_character_set=lead.get("SpecificCharacterSet"),
        series_description=identity.series_description(context.model, what, job.revision),
        **equipment(context),
    )
    made.copy_patient_and_study_information(lead)
    made.ContributingEquipmentSequence = [contributing_equipment(context)]
    return made


def contributing_equipment(context: Context) -> ContributingEquipment:
    """The algorithm as (0018,A001) asks for it, with its Device UID (IHE AIR)."""
    model = context.model
    item = ContributingEquipment(
        manufacturer=identity.plain(model.manufacturer, 64),
        purpose_of_reference=concept(PROCESSING_EQUIPMENT),
        manufacturer_model_name=identity.algorithm_name(model),
        software_versions=identity.algorithm_version(model),
        device_serial_number=model.fingerprint[:16] or None,
        contribution_datetime=context.moment.replace(microsecond=0),
        contribution_description=identity.plain(f"Segmentation by AI: {model.title}", 1024),
    )
    item.DeviceUID = identity.device_uid(model)
    return item


def device_observer(context: Context) -> ObserverContext:
    """Who reports: the model, by its Device UID (121012), as in the Contributing Equipment Sequence."""
    model, settings = context.model, context.settings.results
    device = DeviceObserverIdentifyingAttributes(
        uid=identity.device_uid(model),
        name=identity.plain(settings.device_name, 64),
        manufacturer_name=identity.plain(model.manufacturer, 64),
        model_name=identity.algorithm_name(model),
        serial_number=identity.plain(settings.serial_number, 64),
    )
    return ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)


def finish(result: Dataset, context: Context) -> None:
    """What every object shares: people's names, the job's times, institution, time zone, and whose frames it means."""
    source, moment = context.source, context.moment
    source.name_people(result)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    for name in ("InstanceCreation", "Content", "Series"):
        setattr(result, f"{name}Date", date)
        setattr(result, f"{name}Time", time)
    for item in result.ContributingEquipmentSequence:
        if "ContributionDateTime" in item:  # highdicom reads the clock for its own
            item.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S%z")
    if schemes := _coding_schemes(result, source.first):
        result.CodingSchemeIdentificationSequence = schemes
    if "TimezoneOffsetFromUTC" in source.clean[0]:
        result.TimezoneOffsetFromUTC = source.clean[0].TimezoneOffsetFromUTC
    institution = context.settings.results.institution
    if institution:
        result.InstitutionName = identity.plain(institution, 64)
    refer_to_frames(result, source.frames)


def name_capture(image: Dataset) -> None:
    """What a finished Secondary Capture says of the device that drew it, and when."""
    image.ConversionType = "WSD"
    if "SecondaryCaptureDeviceManufacturer" not in image:
        image.SecondaryCaptureDeviceManufacturer = image.Manufacturer
        image.SecondaryCaptureDeviceManufacturerModelName = image.ManufacturerModelName
        image.SecondaryCaptureDeviceSoftwareVersions = image.SoftwareVersions
    image.DateOfSecondaryCapture, image.TimeOfSecondaryCapture = image.ContentDate, image.ContentTime


def referenced_series(source: Source) -> list[Dataset]:
    """Referenced Series Sequence (0008,1115): every image of the series that was read."""
    series = Dataset()
    series.SeriesInstanceUID = source.first.SeriesInstanceUID
    series.ReferencedInstanceSequence = [referenced_image(header) for header in source.clean]
    return [series]


def referenced_image(header: Dataset) -> Dataset:
    """An image by class and UID."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item


def _coding_schemes(result: Dataset, header: Dataset) -> list[Dataset]:
    """What the private schemes in use are (0008,0110): ours, and those of the hospital as its images explain them."""
    used = {str(element.value) for element in result.iterall() if element.keyword == "CodingSchemeDesignator"}
    items = [deepcopy(OUR_SCHEME)] if LOCAL in used else []
    for item in header.get("CodingSchemeIdentificationSequence") or []:
        name = text(item, "CodingSchemeDesignator").strip()
        if name in used - {LOCAL} and (name.startswith("99") or name == "L"):
            items.append(_explained(name, item))
    return items


def _explained(designator: str, item: Dataset) -> Dataset:
    made = Dataset()
    made.CodingSchemeDesignator = designator
    uid = text(item, "CodingSchemeUID").strip()
    if UID(uid).is_valid:
        made.CodingSchemeUID = uid
    for keyword, longest in (("CodingSchemeName", 1024), ("CodingSchemeResponsibleOrganization", 1024)):
        if words := identity.plain(text(item, keyword), longest):
            setattr(made, keyword, words)
    return made


def _our_scheme() -> Dataset:
    made = Dataset()
    made.CodingSchemeDesignator = LOCAL
    made.CodingSchemeUID = identity.named_uid("coding scheme", LOCAL)
    made.CodingSchemeName = "Med-AI: verdicts of plausibility checks"
    made.CodingSchemeResponsibleOrganization = "Med-AI"
    return made


OUR_SCHEME = _our_scheme()


def concept(code: Code) -> CodedConcept:
    """As highdicom wants a code."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)
