"""What SEG, SR and key image share as DICOM objects: who made them, when, and for whom. Next: seg.py."""

from __future__ import annotations

from typing import Any

from highdicom import ContributingEquipment
from highdicom.sr import CodedConcept
from pydicom import Dataset

from medai.models.volume import Code
from medai.workers.results import identity
from medai.workers.results.context import Context

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


def contributing_equipment(context: Context) -> ContributingEquipment:
    """The algorithm as (0018,A001) asks for it, with its Device UID (IHE AIR)."""
    model = context.model
    item = ContributingEquipment(
        manufacturer=identity.plain(model.manufacturer, 64),
        purpose_of_reference=concept(PROCESSING_EQUIPMENT),
        manufacturer_model_name=identity.plain(model.name, 64),
        software_versions=identity.plain(model.version, 64),
        device_serial_number=model.fingerprint[:16] or None,
        contribution_datetime=context.moment.replace(microsecond=0),
        contribution_description=identity.plain(f"Segmentation by AI: {model.title}", 1024),
    )
    item.DeviceUID = identity.device_uid(model)
    return item


def finish(result: Dataset, context: Context) -> None:
    """What every object shares: the people's names, the job's times, the institution and the time zone."""
    source, moment = context.source, context.moment
    source.name_people(result)
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    for name in ("InstanceCreation", "Content", "Series"):
        setattr(result, f"{name}Date", date)
        setattr(result, f"{name}Time", time)
    for item in result.ContributingEquipmentSequence:
        if "ContributionDateTime" in item:  # highdicom reads the clock for its own
            item.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S%z")
    if "TimezoneOffsetFromUTC" in source.clean[0]:
        result.TimezoneOffsetFromUTC = source.clean[0].TimezoneOffsetFromUTC
    institution = context.settings.results.institution
    if institution:
        result.InstitutionName = identity.plain(institution, 64)


def concept(code: Code) -> CodedConcept:
    """As highdicom wants a code."""
    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)
