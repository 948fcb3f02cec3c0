"""Series and segmentations made for the tests: CT and MR, axial, sagittal and oblique."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from medai.models.geometry import Geometry
from medai.models.volume import Check, Code, ModelCard, Segment, Segmentation, Stack, Total, Volume
from medai.router.contract import Job, JobId, Measurement, OrthancId, StudyUID, make_job_id
from medai.router.settings.tables import OrthancSettings, ResultSettings, Settings
from medai.workers.results.context import Context
from medai.workers.results.encode import Results, encode_all
from medai.workers.results.measure import measure
from medai.workers.results.seg import encode_seg
from medai.workers.results.source import Source

CREATED_AT = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
ORGAN = Code(value="91723000", scheme="SCT", meaning="Anatomical Structure")
LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")
BRAIN = Code(value="12738006", scheme="SCT", meaning="Brain")
RIGHT = Code(value="24028007", scheme="SCT", meaning="Right")
LEFT = Code(value="7771000", scheme="SCT", meaning="Left")
CT_CLASS, MR_CLASS = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


def tilted(degrees: float) -> tuple[float, ...]:
    """Axial, turned about the patient's left-right axis and a little about the head-foot one."""
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 2)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return tuple(float(v) for v in (about_x @ about_z).ravel())


DIRECTIONS: dict[str, tuple[float, ...]] = {
    "axial": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "sagittal": (0, 0, -1, 1, 0, 0, 0, -1, 0),
    "oblique": tilted(25),
}


def make_header(geometry: Geometry, modality: str, index: int) -> Dataset:
    """One image's header as a well-behaved scanner writes it; UIDs are the same each time."""
    direction = np.asarray(geometry.direction).reshape(3, 3)
    x_mm, y_mm, z_mm = geometry.spacing_mm
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = CT_CLASS if modality == "CT" else MR_CLASS
    ds.SOPInstanceUID = generate_uid(entropy_srcs=[modality, str(geometry.direction), str(index)])
    ds.StudyInstanceUID = generate_uid(entropy_srcs=[modality, str(geometry.direction), "study"])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[modality, str(geometry.direction), "series"])
    ds.FrameOfReferenceUID = geometry.frame_of_reference_uid
    ds.PositionReferenceIndicator = ""
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = modality, "Scanner Works", "One"
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = "Müller^Änne^^Dr.^MD", "MRN-77|1", "HOSPITAL"
    ds.PatientBirthDate, ds.PatientSex = "19600229", "F"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260314", "120000", "S1", "ACC123"
    ds.AcquisitionDate, ds.AcquisitionTime = "20260314", "120502.25"
    ds.ReferringPhysicianName, ds.StudyDescription = "Ref^Erring", "A study"
    ds.SeriesNumber, ds.InstanceNumber, ds.BodyPartExamined = 3, index + 1, "CHEST" if modality == "CT" else "HEAD"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    position = np.asarray(geometry.origin_mm) + index * z_mm * direction[:, 2]
    ds.ImagePositionPatient = [f"{v:.8f}"[:16] for v in position]
    ds.ImageOrientationPatient = [f"{v:.10f}"[:16] for v in (*direction[:, 0], *direction[:, 1])]
    ds.PixelSpacing, ds.SliceThickness = [str(y_mm), str(x_mm)], str(z_mm)
    _slices, ds.Rows, ds.Columns = geometry.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    return ds


def make_source(*, modality: str = "CT", plane: str = "axial", shape: tuple[int, int, int] = (12, 40, 48)) -> Source:
    """A block of soft tissue in air with two lungs of -800 HU, cast as CT or MR."""
    geometry = Geometry(
        origin_mm=(-30.0, -20.0, 100.0),
        direction=DIRECTIONS[plane],  # type: ignore[arg-type]  # nine values, by construction
        spacing_mm=(1.25, 1.5, 3.0),
        shape=shape,
        frame_of_reference_uid=generate_uid(entropy_srcs=[modality, plane, "frame"]),
    )
    voxels = np.full(shape, -1000 if modality == "CT" else 0, dtype=np.int16)
    voxels[:, 4:-4, 4:-4] = 40 if modality == "CT" else 400
    voxels[make_labels(shape) > 0] = -800 if modality == "CT" else 900
    volume = Volume(voxels=voxels, geometry=geometry, modality=modality, unit="HU" if modality == "CT" else "arbitrary")
    headers = tuple(make_header(geometry, modality, index) for index in range(shape[0]))
    return Source(headers=headers, volume=volume)


def make_labels(shape: tuple[int, int, int]) -> np.ndarray:
    """Two boxes, 1 and 2, that differ in size in every direction; the outer slices are empty."""
    slices, rows, columns = shape
    labels = np.zeros(shape, dtype=np.uint8)
    labels[2 : slices - 3, 8 : rows - 10, 6 : columns // 2 - 4] = 1
    labels[3 : slices - 2, 9 : rows - 12, columns // 2 + 3 : columns - 9] = 2
    return labels


def make_segmentation(source: Source, *, segments: int = 2, warnings: tuple[str, ...] = ()) -> Segmentation:
    """The two boxes as lungs (CT) or, with one segment, as a brain."""
    labels = make_labels(source.volume.geometry.shape)
    lungs = (
        Segment(number=1, name="Right lung", category=ORGAN, type=LUNG, modifier=RIGHT, colour=(0, 174, 239)),
        Segment(number=2, name="Left lung", category=ORGAN, type=LUNG, modifier=LEFT, colour=(255, 160, 0)),
    )
    brain = (Segment(number=1, name="Brain", category=ORGAN, type=BRAIN),)
    return Segmentation(
        labels=labels if segments == 2 else (labels > 0).astype(np.uint8),
        segments=lungs if segments == 2 else brain,
        geometry=source.volume.geometry,
        model=ModelCard(
            name="ct_lungs" if segments == 2 else "mr_brain",
            title="Lungs in CT" if segments == 2 else "Brain mask of a T1 head",
            version="1.2.0",
            fingerprint="ab" * 32,
            parameters=(("roi", "96"),),
        ),
        warnings=warnings,
    )


def make_hippocampus(source: Source) -> Segmentation:
    """The two boxes as the front and back of one hippocampus, with a total and two checks that passed."""
    hippocampus = Code(value="5366008", scheme="SCT", meaning="Hippocampus")
    front = Code(value="255549009", scheme="SCT", meaning="Anterior")
    back = Code(value="255551008", scheme="SCT", meaning="Posterior")
    plain = make_segmentation(source)
    segments = tuple(
        Segment(number=n, name=f"Left hippocampus, {part}", category=ORGAN, type=hippocampus, modifier=LEFT, topography=code)
        for n, part, code in ((1, "anterior", front), (2, "posterior", back))
    )  # fmt: skip
    return replace(
        plain,
        segments=segments,
        totals=(Total(name="Left hippocampus", segments=(1, 2)),),
        checks=(
            Check(name="a: volume", passed=True, text="a: 5 ml is within the expected range of 2 to 6 ml"),
            Check(name="b: volume", passed=True, text="b: 5 ml is within the expected range of 2 to 6 ml"),
        ),
    )


def make_job(source: Source, *, route: str = "ct_lungs", **changes: object) -> Job:
    """A job on that source; ``changes`` replace its fields."""
    study = str(source.first.StudyInstanceUID)
    fields: dict[str, object] = {
        "job_id": make_job_id(study_uid=study, sources="hash", route=route, model="m", version="1"),
        "study_uid": StudyUID(study),
        "study_orthanc_id": OrthancId("o"),
        "series_orthanc_ids": (OrthancId("s"),),
        "sources_hash": "hash",
        "sources_count": len(source.headers),
        "route": route,
        "model": "m",
        "model_version": "1",
    }
    return Job(**(fields | changes))  # type: ignore[arg-type]  # a test names only real fields


def make_enhanced(source: Source, *, parts: int = 1) -> Stack:
    """The same series as an enhanced object, or as the parts of a concatenation, its frames from the last to the first."""
    count = len(source.headers)
    order = list(reversed(range(count)))
    share = -(-count // parts)
    objects, datasets, frames = [], [None] * count, [0] * count
    for part in range(parts):
        mine = order[part * share : (part + 1) * share]
        image = _enhanced(source, mine, part, parts)
        objects.append(image)
        for number, index in enumerate(mine, start=1):
            datasets[index], frames[index] = image, number
    return Stack(volume=source.volume, datasets=tuple(datasets), frames=tuple(frames))  # type: ignore[arg-type] # all set


def _enhanced(source: Source, order: list[int], part: int, parts: int) -> Dataset:
    image = deepcopy(source.first)
    modality = source.volume.modality
    image.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{'2.1' if modality == 'CT' else '4.1'}"
    image.SOPInstanceUID = generate_uid(entropy_srcs=[modality, "enhanced", str(part)])
    image.InstanceNumber, image.NumberOfFrames = part + 1, len(order)
    if parts > 1:
        image.ConcatenationUID = generate_uid(entropy_srcs=[modality, "concatenation"])
        image.InConcatenationNumber, image.InConcatenationTotalNumber = part + 1, parts
    image.AcquisitionDateTime = "20260314120502.25"
    plane, measures = Dataset(), Dataset()
    plane.ImageOrientationPatient = image.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = image.PixelSpacing, image.SliceThickness
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [plane], [measures]
    image.SharedFunctionalGroupsSequence, image.PerFrameFunctionalGroupsSequence = [shared], []
    for index in order:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = source.headers[index].ImagePositionPatient
        frame.PlanePositionSequence = [position]
        image.PerFrameFunctionalGroupsSequence.append(frame)
    moved = ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing", "SliceThickness")
    for keyword in (*moved, "AcquisitionDate", "AcquisitionTime"):
        delattr(image, keyword)
    return image


class Factory:
    """The makers above, as one fixture (test modules cannot import a conftest)."""

    created_at = CREATED_AT
    source = staticmethod(make_source)
    segmentation = staticmethod(make_segmentation)
    enhanced = staticmethod(make_enhanced)
    hippocampus = staticmethod(make_hippocampus)
    job = staticmethod(make_job)
    settings = Settings(
        results=ResultSettings(institution="St. Elsewhere"),
        orthanc=OrthancSettings(dicomweb_url="https://pacs.example/dicom-web/"),
    )

    brain = BRAIN
    other_job_id = JobId("6d656461-0000-5275-b074-657220763032")

    def encode(
        self,
        source: Source,
        *,
        segmentation: Segmentation | None = None,
        job: Job | None = None,
        segments: int = 2,
        warnings: tuple[str, ...] = (),
    ) -> Mapping[str, Dataset]:
        """All three DICOM objects."""
        return self.results(source, segmentation=segmentation, job=job, segments=segments, warnings=warnings).objects

    def seg(self, source: Source, *, segmentation: Segmentation | None = None, job: Job | None = None) -> Dataset:
        """The SEG alone, which is quicker."""
        return encode_seg(self.context(source, segmentation=segmentation, job=job))

    def context(self, source: Source, *, segmentation: Segmentation | None = None, job: Job | None = None) -> Context:
        """What an encoder gets."""
        mask = segmentation or make_segmentation(source)
        return Context(
            source=source,
            segmentation=mask,
            measurements=self.measurements(source, mask),
            job=job or make_job(source),
            settings=self.settings,
            created_at=self.created_at,
        )

    def results(
        self,
        source: Source,
        *,
        segmentation: Segmentation | None = None,
        job: Job | None = None,
        segments: int = 2,
        warnings: tuple[str, ...] = (),
        stack: Stack | None = None,
    ) -> Results:
        """Everything that a job gives back."""
        return encode_all(
            stack or Stack(volume=source.volume, datasets=source.headers),
            segmentation or make_segmentation(source, segments=segments, warnings=warnings),
            job or make_job(source),
            self.settings,
            created_at=self.created_at,
        )

    @staticmethod
    def copy(header: Dataset, **values: object) -> Dataset:
        """A header with other values."""
        changed = deepcopy(header)
        for keyword, value in values.items():
            setattr(changed, keyword, value)
        return changed

    @staticmethod
    def dumped(dataset: Dataset) -> bytes:
        """As it is stored."""
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return buffer.getvalue()

    @staticmethod
    def measurements(source: Source, segmentation: Segmentation) -> tuple[Measurement, ...]:
        """As the worker makes them."""
        return measure(source.volume, segmentation)


@pytest.fixture(scope="session")
def make() -> Factory:
    """``make.source(…)``, ``make.segmentation(source)``, ``make.job(source)``."""
    return Factory()
