"""Made readings, encoded as the worker does it, from which the tables of the statements are told.

``VARIANTS`` are one reading and others that differ from it in one respect each: what is equal in all of them is fixed,
and what changes with a variant comes from there. ``differences`` says so of any encoding. Next: tables.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

import numpy as np
from pydicom import Dataset

from medai.models.geometry import Geometry
from medai.models.volume import Check, Code, ModelCard, Segment, Segmentation, Stack, Total, Volume
from medai.router.contract import Job, JobId, Order, OrthancId, Predecessor, Priority, StudyUID, make_job_id
from medai.router.settings.destinations import FhirDestination
from medai.router.settings.tables import OrthancSettings, ResultSettings, RisSettings, Settings
from medai.workers.results.encode import Results, encode_all

Values = Mapping[str, frozenset[str]]
"""Where something stands in an encoding -> every text that stands there."""
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
ROOT = "2.25.3141592653589793"
SUPINE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)
EHR, EHR_R4 = "ehr", "ehr-r4"
"""Two FHIR servers, which speak R5 and R4."""


def _code(text: str) -> Code:
    value, scheme, meaning = text.split(" ", 2)
    return Code(value=value, scheme=scheme, meaning=meaning)


ORGAN, LESIONS = _code("91723000 SCT Anatomical Structure"), _code("49755003 SCT Morphologically Altered Structure")
LUNG, LESION = _code("39607008 SCT Lung"), _code("52988006 SCT Lesion")
RIGHT, LEFT, FRONT = _code("24028007 SCT Right"), _code("7771000 SCT Left"), _code("255549009 SCT Anterior")
BRAIN, KIDNEY, SPLEEN = _code("12738006 SCT Brain"), _code("64033007 SCT Kidney"), _code("78961009 SCT Spleen")
TISSUE, BACK = _code("85756007 SCT Tissue"), _code("255551008 SCT Posterior")

ORDER = Order(
    placer="4711^WARD^1.2.3.4^ISO",
    filler="F815^RIS",
    accession="ACC123",
    priority=Priority.STAT,
    patient_id="77001",
    patient_id_authority="HOSPITAL",
    patient_identifiers=("77001^^^HOSPITAL^MR", "A99^^^INSURER^PI"),
    patient_account="ACCT9^^^HOSPITAL^AN",
    patient_name="Muster^Erika",
    birth_date="19600229",
    sex="F",
    procedure=("CTCHEST", "CT of the chest", "L"),
    requested_procedure_id="RP1",
    scheduled_step_id="SPS1",
    modality="CT",
    ordered_by="4321^Ward^Doctor",
    patient_class="I",
    location="W3^12^1",
    visit_number="V55^^^HOSPITAL^VN",
    ordered_at=1773480000.0,
)
OTHER_ORDER = Order(
    placer="4712^ED^1.2.3.5^ISO",
    filler="F816^RIS",
    accession="ACC124",
    patient_id="77002",
    patient_id_authority="CLINIC",
    patient_identifiers=("77002^^^CLINIC^MR",),
    patient_account="ACCT8^^^CLINIC^AN",
    patient_name="Other^Name",
    birth_date="19700101",
    sex="M",
    procedure=("MRHEAD", "MR of the head", "99RIS"),
    requested_procedure_id="RP2",
    scheduled_step_id="SPS2",
    modality="MR",
    ordered_by="4322^Other^Doctor",
    patient_class="O",
    location="W4^1^2",
    visit_number="V56^^^CLINIC^VN",
    ordered_at=1773490000.0,
)


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the worker gives to ``encode_all``."""

    stack: Stack
    segmentation: Segmentation
    job: Job
    settings: Settings
    created_at: datetime

    def encoded(self) -> Results:
        """The result."""
        return encode_all(self.stack, self.segmentation, self.job, self.settings, created_at=self.created_at)


def _header(name: str, index: int, modality: str) -> Dataset:
    """What any image of a series has, and nothing more."""
    number = sum(name.encode()) * 100
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 192"
    image.SOPClassUID = CT if modality == "CT" else MR
    image.StudyInstanceUID, image.SeriesInstanceUID = f"{ROOT}.{number}.1", f"{ROOT}.{number}.2"
    image.SOPInstanceUID = f"{ROOT}.{number}.3.{index + 1}"
    image.Modality, image.Manufacturer = modality, f"Maker of {name}"
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.InstanceNumber = index + 1
    return image


def _rich(image: Dataset, name: str, geometry: Geometry) -> None:
    """What a well-behaved modality says besides."""
    second = name != "base"
    image.FrameOfReferenceUID = geometry.frame_of_reference_uid
    image.PositionReferenceIndicator = "XY" if second else "SN"
    image.TimezoneOffsetFromUTC = "-0500" if second else "+0100"
    image.PatientName, image.PatientID = ("Image^Other", "88002") if second else ("Image^Erika", "77001")
    image.IssuerOfPatientID = "CLINIC" if second else "HOSPITAL"
    image.PatientBirthDate, image.PatientSex = ("19500101", "M") if second else ("19600229", "F")
    image.PatientAge, image.PatientSize, image.PatientWeight = (
        ("076Y", "1.8", "80") if second else ("066Y", "1.7", "70")
    )
    image.StudyDate, image.StudyTime = ("20260313", "110000") if second else ("20260314", "120000")
    image.AcquisitionDate, image.AcquisitionTime = image.StudyDate, ("110500" if second else "120500")
    image.StudyID, image.StudyDescription = f"S {name}", f"Study of {name}"
    image.AccessionNumber = "ACC999" if second else "ACC123"
    image.ReferringPhysicianName = f"Referring^{name}"
    image.ManufacturerModelName, image.DeviceSerialNumber = f"Model of {name}", f"Serial of {name}"
    image.SoftwareVersions, image.StationName = f"Software of {name}", f"STATION {name}"
    image.BodyPartExamined = "BREAST" if second else "LUNG"
    if second:
        image.LossyImageCompression, image.LossyImageCompressionRatio = "01", "10"
        image.LossyImageCompressionMethod = "ISO_15444_1"
    image.Laterality = "L" if second else "R"
    asked = Dataset()
    asked.RequestedProcedureID, asked.ScheduledProcedureStepID = f"RPI {name}", f"SPI {name}"
    asked.RequestedProcedureDescription = f"Requested in {name}"
    asked.ScheduledProcedureStepDescription = f"Step in {name}"
    asked.ReasonForTheRequestedProcedure = f"Reason in {name}"
    asked.AccessionNumber = image.AccessionNumber
    image.RequestAttributesSequence = [asked]
    done = Dataset()
    done.CodeValue, done.CodingSchemeDesignator, done.CodeMeaning = f"P {name}", f"99{name[:4].upper()}", f"By {name}"
    image.ProcedureCodeSequence = [done]
    scheme = Dataset()
    scheme.CodingSchemeDesignator, scheme.CodingSchemeUID = done.CodingSchemeDesignator, f"{ROOT}.9.{len(name)}"
    scheme.CodingSchemeName, scheme.CodingSchemeResponsibleOrganization = f"Codes of {name}", f"Owner of {name}"
    image.CodingSchemeIdentificationSequence = [scheme]


def _stack(name: str, modality: str, *, rich: bool) -> Stack:
    grow = 0 if name == "base" else 2
    geometry = Geometry(
        origin_mm=(-10.0 - grow, -20.0 - grow, 30.0 + grow),
        direction=SUPINE if name == "base" else PRONE,
        spacing_mm=(2.0 + grow, 3.0 + grow, 5.0 + grow),
        shape=(8 + grow, 24 + grow, 20 + grow),
        frame_of_reference_uid=f"{ROOT}.{sum(name.encode())}.4",
    )
    images = []
    for index in range(geometry.shape[0]):
        image = _header(name, index, modality)
        if rich:
            _rich(image, name, geometry)
        x, y, z = geometry.origin_mm
        image.ImagePositionPatient = [x, y, z + index * geometry.spacing_mm[2]]
        image.ImageOrientationPatient = list(geometry.direction[:6])  # the matrix is diagonal
        image.PixelSpacing = [geometry.spacing_mm[1], geometry.spacing_mm[0]]
        image.SliceThickness = 4 + grow
        _slices, image.Rows, image.Columns = geometry.shape
        images.append(image)
    voxels = np.full(geometry.shape, -800 if modality == "CT" else 900, dtype=np.int16)
    voxels += 10 * np.arange(geometry.shape[2], dtype=np.int16)
    unit = "HU" if modality == "CT" else "arbitrary"
    return Stack(volume=Volume(voxels=voxels, geometry=geometry, modality=modality, unit=unit), datasets=tuple(images))


def _enhanced(stack: Stack) -> Stack:
    """The same series as one enhanced object."""
    image = deepcopy(stack.datasets[0])
    image.SOPClassUID, image.NumberOfFrames = ENHANCED_CT, len(stack.datasets)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = image.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = image.PixelSpacing, image.SliceThickness
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], []
    for header in stack.datasets:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = header.ImagePositionPatient
        frame.PlanePositionSequence = [position]
        image.PerFrameFunctionalGroupsSequence.append(frame)
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness"):
        delattr(image, keyword)
    count = len(stack.datasets)
    return Stack(volume=stack.volume, datasets=(image,) * count, frames=tuple(range(1, count + 1)))


def _mask(stack: Stack, *, plain: bool = False, smaller: bool = False, model: str = "ct_lungs") -> Segmentation:
    """A right and a left lung and a lesion of the left one; ``plain``: one structure and nothing else."""
    labels = np.zeros(stack.volume.geometry.shape, dtype=np.uint8)
    labels[2:6, 6:18, 3 : 6 if smaller else 8] = 1
    other = model != "ct_lungs"
    organ, side, part, category = (KIDNEY, LEFT, BACK, TISSUE) if other else (LUNG, RIGHT, FRONT, ORGAN)
    named = model.replace("_", " ")
    if plain:
        segments: tuple[Segment, ...] = (Segment(number=1, name="Brain", category=ORGAN, type=BRAIN),)
    else:
        labels[2:6, 6:18, 11:16] = 2
        labels[3:5, 8:12, 12:14] = 3
        segments = (
            Segment(
                number=1, name="Left kidney" if other else "Right lung", category=category, type=organ, modifier=side,
                colour=(0, 174, 239),
            ),
            Segment(
                number=2, name="Left lung", category=category, type=organ, modifier=LEFT, colour=(255, 160, 0),
            ),
            Segment(
                number=3, name="Lesion", category=LESIONS, type=LESION, modifier=LEFT, topography=part,
                site=organ, colour=(0, 200, 0) if other else (200, 0, 0),
            ),
        )  # fmt: skip
        if other:
            labels[6, 2:4, 2:4] = 4
            segments = (*segments, Segment(number=4, name="Spleen", category=category, type=SPLEEN))
    finding = f"{'left kidney' if other else 'left lung'}: 0.5 l is below the expected range of 1 to 4 l"
    return Segmentation(
        labels=labels,
        segments=segments,
        geometry=stack.volume.geometry,
        model=ModelCard(
            name=model,
            title=f"Title of {named}",
            version="1.2.0" if model == "ct_lungs" else "2.0.0",
            fingerprint=("ab" if model == "ct_lungs" else "cd") * 32,
            manufacturer=f"Maker of {named}",
            parameters=() if plain else (("roi", "96" if model == "ct_lungs" else "64"),),
        ),
        totals=() if plain else (Total(name="Both kidneys" if other else "Both lungs", segments=(1, 2)),),
        warnings=() if plain or smaller else (finding,),
        checks=() if plain else (Check(name="left lung: volume", passed=smaller, text=finding),),
    )


def _job(stack: Stack, *, order: Order | None, late: bool = False) -> Job:
    study = str(stack.datasets[0].StudyInstanceUID)
    earlier = Predecessor(job_id=JobId("j"), sr_series_uid=f"{ROOT}.7.1", sr_sop_uid=f"{ROOT}.7.2")
    return Job(
        job_id=make_job_id(
            study_uid=study, sources="later" if late else "first", route="lungs", model="m", version="1"
        ),
        study_uid=StudyUID(study),
        study_orthanc_id=OrthancId("study"),
        series_orthanc_ids=(OrthancId("series"),),
        sources_hash="hash",
        sources_count=len(stack.datasets),
        route="lungs",
        model="m",
        model_version="1",
        revision=2 if late else 1,
        destinations=("archive", "ris", EHR, EHR_R4),
        order=order,
        predecessor=earlier if late else None,
    )


def _settings(*, other: bool) -> Settings:
    at = "other" if other else "pacs"
    return Settings(
        results=ResultSettings(
            institution=f"Hospital {at}", manufacturer=f"Seller {at}", device_name=f"DEVICE {at}",
            serial_number=f"N {at}", series_number_base=8000 if other else 9000,
        ),
        orthanc=OrthancSettings(dicomweb_url=f"https://{at}.example/dicom-web/"),
        ris=RisSettings(
            sending_application="AI2" if other else "MEDAI", sending_facility="X" if other else "AI",
            receiving_application="RIS2" if other else "RIS", receiving_facility="Y" if other else "HOSPITAL",
            processing_id="T" if other else "P",
        ),
        destinations=_servers(SYSTEMS if other else {}),
    )  # fmt: skip


def _servers(systems: dict[str, str]) -> dict[str, FhirDestination]:
    plain = FhirDestination(fhir_url="https://ehr.example/fhir", patient_systems=systems)
    return {EHR: plain, EHR_R4: plain.model_copy(update={"version": "R4"})}


SYSTEMS = {"HOSPITAL": "urn:oid:1.2.3.9", "INSURER": "urn:oid:1.2.3.10"}
MOMENT = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


def base(order: Order | None = ORDER) -> Made:
    """The reading that the others are compared with."""
    stack = _stack("base", "CT", rich=True)
    return Made(
        stack=stack,
        segmentation=_mask(stack),
        job=_job(stack, order=order),
        settings=_settings(other=False),
        created_at=MOMENT,
    )


def _other_images(order: Order | None = ORDER) -> Made:
    stack = _stack("images", "MR", rich=True)
    return replace(base(), stack=stack, segmentation=_mask(stack), job=replace(_job(stack, order=order), job_id=_id()))


def _id() -> JobId:
    """That of ``base``: what derives from it is the reading's, not the images'."""
    return base().job.job_id


def _other_finding() -> Made:
    made = base()
    return replace(made, segmentation=_mask(made.stack, smaller=True))


def _other_model() -> Made:
    made = base()
    return replace(made, segmentation=_mask(made.stack, model="ct_chest"))


def _other_reading() -> Made:
    made = base()
    return replace(made, job=_job(made.stack, order=ORDER, late=True), created_at=datetime(2026, 3, 15, 16, tzinfo=UTC))


def _least() -> Made:
    """Images that say no more than they must, without an order, read by a model that finds one structure."""
    stack = _stack("least", "CT", rich=False)
    return Made(
        stack=stack,
        segmentation=_mask(stack, plain=True),
        job=_job(stack, order=None),
        settings=Settings(destinations=_servers({})),
        created_at=MOMENT,
    )


BASE, LEAST, UNORDERED, OTHER_UNORDERED, FRAMES = "base", "least", "unordered", "others, unordered", "enhanced"
VARIANTS: Mapping[str, Callable[[], Made]] = {
    BASE: base,
    "images": _other_images,
    "order": lambda: base(OTHER_ORDER),
    "finding": _other_finding,
    "model": _other_model,
    "settings": lambda: replace(base(), settings=_settings(other=True)),
    "reading": _other_reading,
    LEAST: _least,
    UNORDERED: lambda: base(None),
    OTHER_UNORDERED: lambda: _other_images(None),
    FRAMES: lambda: replace(base(), stack=_enhanced(base().stack)),
}
"""What differs from the first. The least has as little as may be; two differ in their images and have no order,
which would hide what the images say; and one has the same images as frames of an enhanced object."""


@cache
def results(variant: str) -> Results:
    """The encoded result of a variant."""
    return VARIANTS[variant]().encoded()


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is known of one place of an encoding over all variants."""

    presence: str
    """ALWAYS, VNAP (there, and may be empty), ANAP (may be absent) or EMPTY, as PS3.2 has it."""
    sources: tuple[str, ...]
    """Variants that change it, where it is there; none: the value is fixed."""
    values: tuple[str, ...]
    """Those of the first variant that has any."""


def differences(read: Callable[[Results], Values]) -> dict[str, Told]:
    """Of each place: where its value comes from, and whether it is always there; in the order of the first variant."""
    found = {name: read(results(name)) for name in VARIANTS}
    places = list(dict.fromkeys(place for values in found.values() for place in values))
    return {place: _told(place, found) for place in places}


def _told(place: str, found: Mapping[str, Values]) -> Told:
    per_variant = {name: values.get(place) for name, values in found.items()}
    said = per_variant[BASE]
    filled = [bool(texts and any(texts)) for texts in per_variant.values()]
    there = [texts is not None for texts in per_variant.values()]
    if not any(filled):
        presence = "EMPTY" if all(there) else "ANAP"
    elif all(filled):
        presence = "ALWAYS"
    else:
        presence = "VNAP" if all(there) else "ANAP"
    apart = (BASE, LEAST, UNORDERED, OTHER_UNORDERED, FRAMES)
    sources = tuple(
        name for name, texts in per_variant.items() if name not in apart and texts is not None and texts != said
    )
    without = [per_variant[name] for name in (UNORDERED, OTHER_UNORDERED)]
    by_images = (all(without) and without[0] != without[1]) or (per_variant[FRAMES] or said) != said
    if "images" not in sources and by_images:
        sources = ("images", *sources)
    if not sources and per_variant[LEAST] and said and per_variant[LEAST] != said:
        sources = ("images",)  # what the least variant lacks is mostly in its images
    shown = next((texts for texts in per_variant.values() if texts and any(texts)), frozenset())
    return Told(presence=presence, sources=sources, values=tuple(sorted(text for text in shown if text)))


def short(order: Order, *, late: bool = False) -> Made:
    """A reading with one structure and little to say: the example of an ORU."""
    made = base(order)
    labels = (made.segmentation.labels == 1).astype(np.uint8)
    mask = replace(
        made.segmentation,
        labels=labels,
        segments=made.segmentation.segments[:1],
        totals=(),
        warnings=(),
        checks=(Check(name="right lung: volume", passed=True, text="right lung: 2 l is within the expected range"),),
    )
    job = _job(made.stack, order=order, late=late)
    return replace(made, segmentation=mask, job=job, created_at=MOMENT.replace(hour=16) if late else MOMENT)


def asked_by(order: Order) -> Made:
    """A reading of images that say little, so that what the order says is seen everywhere."""
    return replace(_least(), job=_job(_least().stack, order=order))
