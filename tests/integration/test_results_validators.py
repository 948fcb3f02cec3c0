"""Results before the validators that others wrote: dicom3tools, dcmqi, highdicom, PixelMed, hl7, hl7types.

What none of them sees is asserted in tests/unit/workers/results/.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import hl7
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicomweb_client.api import DICOMwebClient
from hl7types import decode_er7
from hl7types.hl7.v2_5_1.messages import ORU_R01
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from servers import make_orthanc, running
from validators import run, tool

from medai.models.volume import Stack
from medai.router.contract import Form, Order, Predecessor
from medai.workers.results.forms import encode_forms
from medai.workers.results.frames import headers_of
from medai.workers.results.rejection import encode_rejection
from medai.workers.results.source import Source

CASES = {
    "ct_axial": ("CT", "axial", 2),
    "mr_sagittal": ("MR", "sagittal", 1),
    "ct_oblique": ("CT", "oblique", 2),
    "mr_parts": ("MR", "axial", 0),
    "ct_deidentified": ("CT", "axial", 2),
    "mr_minimal": ("MR", "sagittal", 1),
    "ct_requested": ("CT", "axial", 0),
    "mr_gap": ("MR", "axial", 0),
    "ct_enhanced": ("CT", "axial", 2),
    "mr_concatenated": ("MR", "oblique", 1),
}
"""Modality, plane and segments; 0: two parts of one hippocampus with a total and checks that passed."""


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def request() -> Dataset:
    """What a worklist told the scanner, with a code of the hospital's own."""
    item = Dataset()
    item.RequestedProcedureID, item.ScheduledProcedureStepID = "RP7", "SPS7"
    item.RequestedProcedureDescription = "Chest"
    item.RequestedProcedureCodeSequence = [code("CHE", "99HOSP", "Chest CT")]
    return item


def scheme() -> Dataset:
    """As the hospital explains its codes."""
    item = Dataset()
    item.CodingSchemeDesignator, item.CodingSchemeName = "99HOSP", "Codes of St. Elsewhere"
    return item


HEADERS: dict[str, dict[str, Any]] = {
    "ct_deidentified": {
        "PatientIdentityRemoved": "YES",
        "PatientName": "",
        "PatientBirthDate": "",
        "AccessionNumber": "",
    },
    "ct_requested": {
        "RequestAttributesSequence": [request()],
        "CodingSchemeIdentificationSequence": [scheme()],
        "ProcedureCodeSequence": [code("CHE", "99HOSP", "Chest CT")],
    },
}
"""What the images of a case say beside what all say: a public file that names no method, a file of a good RIS."""
MINIMAL = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"),
    *("StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDescription", "SeriesNumber", "BodyPartExamined"),
    *("PositionReferenceIndicator", "Manufacturer", "ManufacturerModelName", "AcquisitionDate", "AcquisitionTime"),
)
"""What the images of the case mr_minimal lack."""


def dressed(make: Any, source: Any, name: str) -> Any:
    """The case's series, with the headers that it is about."""
    headers = tuple(make.copy(header, **HEADERS.get(name, {})) for header in source.headers)
    for header in headers if name == "mr_minimal" else ():
        for keyword in MINIMAL:
            delattr(header, keyword)
    return replace(source, headers=headers)


def masked(segmentation: Any, name: str) -> Any:
    """The case's mask: of mr_gap the second segment was not found, and the first lies in two places."""
    if name != "mr_gap":
        return segmentation
    labels = np.where(segmentation.labels == 1, 1, 0).astype(np.uint8)
    labels[4:6] = 0
    return replace(segmentation, labels=labels)


PARTS = {"ct_enhanced": 1, "mr_concatenated": 3}
"""In how many enhanced objects the images of a case come."""
WARNINGS = ("the mask touches the edge of the field of view",)
PIXELMED = Path("/usr/share/java/pixelmed.jar")
QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""It runs for seconds only: the second compiler and parallel collection would cost more than they bring."""
XPATH_LIMITS = [f"-Djdk.xml.xpath{name}=0" for name in ("ExprOpLimit", "TotalOpLimit", "ExprGrpLimit")]


@pytest.fixture(scope="module")
def make(project_root: Path) -> Any:
    """The makers of the unit tests."""
    path = project_root / "tests" / "unit" / "workers" / "results" / "conftest.py"
    spec = importlib.util.spec_from_file_location("results_makers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Factory()


class Case:
    """One study with a second revision of its results on disk: {seg,sr,sc}.dcm, source/ and superseded/."""

    def __init__(self, make: Any, folder: Path, name: str) -> None:
        modality, plane, segments = CASES[name]
        self.name = name
        self.source = dressed(make, make.source(modality=modality, plane=plane), name)
        parts = make.hippocampus(self.source)
        found = make.segmentation(self.source, segments=segments, warnings=WARNINGS) if segments else parts
        self.segmentation = masked(found, name)
        self.stack = make.enhanced(self.source, parts=PARTS[name]) if name in PARTS else None
        first = make.results(
            self.source,
            segmentation=self.segmentation,
            job=make.job(self.source, job_id=make.other_job_id),
            stack=self.stack,
        )
        earlier = Predecessor(job_id=make.other_job_id, sr_series_uid=first.uids.sr_series, sr_sop_uid=first.uids.sr)
        order = Order(placer="P1", accession="ACC123", patient_id="MRN-77|1", procedure=("X", "Chest & neck", "L"))
        job = make.job(self.source, revision=2, predecessor=earlier, order=order)
        self.results = make.results(self.source, segmentation=self.segmentation, job=job, stack=self.stack)
        self.folder = folder
        for place, results in ((folder / "superseded", first), (folder, self.results)):
            place.mkdir(exist_ok=True)
            for kind, dataset in results.objects.items():
                dataset.save_as(place / f"{kind}.dcm", enforce_file_format=True)
        self.forms = self.encode_forms(make, job)
        for kind, dataset in self.forms.items():
            dataset.save_as(folder / f"{kind}.dcm", enforce_file_format=True)
        (folder / "source").mkdir()
        for number, (header, pixels) in enumerate(self.images()):
            write_image(header, pixels, folder / "source" / f"{number}.dcm")

    def encode_forms(self, make: Any, job: Any) -> dict[str, Dataset]:
        """What only leaves, and the note that rejects the three objects."""
        stack = self.stack or Stack(volume=self.source.volume, datasets=self.source.headers)
        headers, frames = headers_of(stack)
        source = Source(headers=headers, volume=stack.volume, frames=frames)
        context = make.context(source, segmentation=self.segmentation, job=job)
        made = encode_forms(context, self.results.objects["seg"], list(Form))
        return {**made, "rejection": encode_rejection(context, list(self.results.objects.values()))}

    def images(self) -> list[tuple[Dataset, Any]]:
        """Each object of the series with its pixels."""
        voxels = self.source.volume.voxels
        if self.stack is None:
            return list(zip(self.source.headers, voxels, strict=True))
        objects = {str(image.SOPInstanceUID): image for image in self.stack.datasets}
        frames: dict[str, dict[int, Any]] = {uid: {} for uid in objects}
        for image, frame, plane in zip(self.stack.datasets, self.stack.frames, voxels, strict=True):
            frames[str(image.SOPInstanceUID)][frame] = plane
        return [(image, np.stack([frames[uid][n] for n in sorted(frames[uid])])) for uid, image in objects.items()]

    @property
    def files(self) -> list[Path]:
        """Sources, results, and the results that these replace."""
        return sorted(self.folder.rglob("*.dcm"))


def write_image(header: Dataset, pixels: Any, path: Path) -> None:
    """A source image with its pixels."""
    image = Dataset()
    image.update(header)
    if image.Modality == "CT":
        image.RescaleIntercept, image.RescaleSlope, image.RescaleType, image.KVP = "0", "1", "HU", "120"
    image.PixelData = pixels.tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.save_as(path, enforce_file_format=True)


QUICK = ("ct_axial", "mr_parts")
"""What the quick tests have looked at; ``--all`` has every case looked at."""


@pytest.fixture(
    scope="module",
    params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES],
)
def case(request: pytest.FixtureRequest, make: Any, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(make, tmp_path_factory.mktemp(request.param), request.param)


IODS = {
    **{"seg": "Segmentation", "sr": "Comprehensive3DSR", "sc": "SCImage", "rejection": "KeyObjectSelectionDocument"},
    **{"labelmap": "Segmentation", "overlay": "MultiframeTrueColorSCImage", "rtstruct": "RTStructureSet"},
    **{"gsps": "GrayscaleSoftcopyPresentationState", "pdf": "EncapsulatedPDF"},
}
"""What dciodvfy takes each kind of object for."""


@pytest.mark.parametrize("kind", IODS)
def test_dciodvfy_finds_no_error(case: Case, kind: str) -> None:
    said = run(tool("dciodvfy"), case.folder / f"{kind}.dcm")
    assert "Error" not in said, said
    assert IODS[kind] in said


def test_dcentvfy_finds_the_results_and_their_sources_in_agreement(case: Case) -> None:
    said = run(tool("dcentvfy"), *case.files)
    errors = [line for line in said.splitlines() if line.startswith("Error")]
    # A structure set names its study, too, as PS3.3 C.8.8.5 asks; dcentvfy looks for an image of that UID.
    study = f"Error - Missing SOPInstanceUID that was referenced - {case.source.first.StudyInstanceUID} "
    assert not [line for line in errors if not line.startswith(study)], said


def test_dcmqi_reads_back_each_segment_voxel_for_voxel(case: Case, tmp_path: Path) -> None:
    said = run(
        tool("segimage2itkimage"), "--inputDICOM", case.folder / "seg.dcm", "--outputDirectory", tmp_path,
        "--outputType", "nifti",
    )  # fmt: skip
    for segment in case.segmentation.segments:
        image = sitk.ReadImage(str(tmp_path / f"{segment.number}.nii.gz"))
        assert image.GetNumberOfPixels() <= case.segmentation.labels.size, said  # empty slices have no frames
        assert np.array_equal(on_source_grid(image, case), case.segmentation.labels == segment.number)


def on_source_grid(image: sitk.Image, case: Case) -> Any:
    """The voxels of ``image`` by the index that their point has in the source; every voxel must fall on one."""
    geometry = case.segmentation.geometry
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in image.GetSize()), indexing="ij"), axis=-1).reshape(-1, 3)
    points = grid @ affine[:3, :3].T + affine[:3, 3]
    index = (points - geometry.affine[:3, 3]) @ np.linalg.inv(geometry.affine[:3, :3]).T
    nearest = np.rint(index).astype(int)
    assert np.abs(index - nearest).max() < 0.01
    found = np.zeros(geometry.shape, dtype=bool)
    values = sitk.GetArrayFromImage(image)[grid[:, 2], grid[:, 1], grid[:, 0]] > 0
    found[nearest[:, 2], nearest[:, 1], nearest[:, 0]] = values
    return found


def test_highdicom_reads_back_the_mask_from_the_file(case: Case) -> None:
    seg = highdicom.seg.segread(case.folder / "seg.dcm")
    assert np.array_equal(by_source(seg, case), case.segmentation.labels)
    gaps = {"allow_missing_positions": True} if case.name == "mr_gap" else {}
    volume = seg.get_volume(combine_segments=True, **gaps).match_geometry(grid_of(case))
    assert np.array_equal(volume.array, case.segmentation.labels)


def by_source(seg: Any, case: Case) -> Any:
    """The labels of each slice, asked for by the image, or the frame, that it was drawn on."""
    if case.stack is None:
        uids = [header.SOPInstanceUID for header in case.source.headers]
        return seg.get_pixels_by_source_instance(uids, combine_segments=True)
    found = np.zeros_like(case.segmentation.labels)
    for uid in {image.SOPInstanceUID for image in case.stack.datasets}:
        slices = [n for n, image in enumerate(case.stack.datasets) if image.SOPInstanceUID == uid]
        frames = [case.stack.frames[n] for n in slices]
        found[slices] = seg.get_pixels_by_source_frame(
            uid, frames, combine_segments=True, assert_missing_frames_are_empty=True
        )
    return found


def grid_of(case: Case) -> Any:
    """The source's grid as highdicom has it: axes slice, row, column."""
    geometry = case.segmentation.geometry
    return highdicom.VolumeGeometry(
        geometry.affine[:, [2, 1, 0, 3]], geometry.shape, coordinate_system="PATIENT",
        frame_of_reference_uid=geometry.frame_of_reference_uid,
    )  # fmt: skip


def test_dcmtk_decompresses_the_label_map_to_the_mask(case: Case, tmp_path: Path) -> None:
    plain = tmp_path / "plain.dcm"
    said = run(tool("dcmdrle"), case.folder / "labelmap.dcm", plain)
    assert plain.exists(), said
    seg = highdicom.seg.segread(plain)
    gaps = {"allow_missing_positions": True} if case.name == "mr_gap" else {}
    volume = seg.get_volume(combine_segments=True, **gaps).match_geometry(grid_of(case))
    assert np.array_equal(volume.array, case.segmentation.labels)


def test_dcmtk_draws_the_images_with_the_presentation_state(case: Case, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.pgm"
    image, state = case.folder / "source" / "0.dcm", tmp_path / "state.dcm"
    named = dcmread(case.folder / "gsps.dcm")
    named.PatientName = named.PatientName or "Nobody"  # dcmtk reads no presentation state without a name
    named.save_as(state)
    said = run(tool("dcmp2pgm"), "--pstate", state, image, drawn)
    assert drawn.exists(), said
    _slices, rows, columns = case.segmentation.geometry.shape
    assert drawn.read_bytes().split()[1:3] == [str(columns).encode(), str(rows).encode()]


def test_poppler_reads_one_page_with_the_patient_and_the_numbers(case: Case, tmp_path: Path) -> None:
    page = tmp_path / "page.pdf"
    page.write_bytes(bytes(case.forms["pdf"].EncapsulatedDocument))
    info = run(tool("pdfinfo"), page)
    assert "Pages:           1" in info
    told = run(tool("pdftotext"), "-layout", page, "-")
    assert "AI, not for diagnostic use" in told
    assert ("MRN-77|1" in told) is (case.name != "mr_minimal")
    for found in case.results.measurements:
        assert found.quantity != "volume" or not found.value or f"{found.value:,.1f} ml" in told


def test_dcmqi_reads_the_measurements_of_the_report(case: Case, tmp_path: Path) -> None:
    out = tmp_path / "sr.json"
    said = run(tool("tid1500reader"), "--inputDICOM", case.folder / "sr.dcm", "--outputMetadata", out)
    assert out.exists(), said
    groups = json.loads(out.read_text())["Measurements"]
    values = [float(item["value"]) for group in groups for item in group["measurementItems"]]
    assert values == [m.value for m in case.results.measurements], "of the segments, then of the totals"


def test_highdicom_reads_back_sides_parts_and_the_verdict(case: Case) -> None:
    content = highdicom.sr.srread(case.folder / "sr.dcm").content
    groups = content.get_volumetric_roi_measurement_groups()
    assert len(groups) == len(case.segmentation.segments) + len(case.segmentation.totals)
    for group, segment in zip(groups, case.segmentation.segments, strict=False):
        (site,) = group.finding_sites
        read = [code.value if code else None for code in (site.laterality, site.topographical_modifier)]
        assert read == [code.value if code else None for code in (segment.modifier, segment.topography)]
    (evaluations,) = [item for item in content[0].ContentSequence if item.name.value == "C0034375"]
    verdict = evaluations.ContentSequence[0]
    assert verdict.value.value == case.segmentation.plausibility.verdict.upper()


def pixelmed_on(path: Path) -> str:
    """What PixelMed's validator says of a structured report or a key object selection."""
    validator = "com.pixelmed.validate.DicomSRValidator"
    return run("java", *QUICK_START, *XPATH_LIMITS, "-cp", PIXELMED, validator, path)


@pytest.mark.skipif(not PIXELMED.exists(), reason="PixelMed is not installed: apt-get install pixelmed-apps")
@pytest.mark.slow
@pytest.mark.parametrize("case", ["ct_axial", "mr_parts", "ct_requested"], indirect=True)
def test_pixelmed_finds_no_error_in_the_report(case: Case) -> None:
    said = pixelmed_on(case.folder / "sr.dcm")
    assert "Error" not in said, said
    assert "Root Template Validation Complete" in said
    assert "IOD validation complete" in said


@pytest.mark.skipif(not PIXELMED.exists(), reason="PixelMed is not installed: apt-get install pixelmed-apps")
@pytest.mark.slow
@pytest.mark.parametrize("case", ["ct_axial", "ct_requested"], indirect=True)
def test_pixelmed_finds_no_error_in_the_rejection_note(case: Case) -> None:
    said = pixelmed_on(case.folder / "rejection.dcm")
    assert "Error" not in said, said
    assert "Found Root Template TID_2010" in said
    assert "Root Template Validation Complete" in said


@pytest.mark.skipif(not PIXELMED.exists(), reason="PixelMed is not installed: apt-get install pixelmed-apps")
def test_pixelmed_makes_a_tree_of_the_report(case: Case) -> None:
    factory = "com.pixelmed.dicom.XMLRepresentationOfStructuredReportObjectFactory"
    said = run("java", *QUICK_START, "-cp", PIXELMED, factory, "toXML", case.folder / "sr.dcm")
    assert "Exception" not in said, said
    assert said.count('cm="Measurement Group"') == len(case.segmentation.segments) + len(case.segmentation.totals)


def test_dsr2html_makes_a_page_that_begins_with_the_numbers(case: Case, tmp_path: Path) -> None:
    said = run(tool("dsr2html"), case.folder / "sr.dcm", tmp_path / "sr.html")
    assert not said, said
    page = (tmp_path / "sr.html").read_bytes().decode("utf-8", "replace")
    places = [page.index(f">{m.value} ") for m in case.results.measurements if m.value and m.unit == "ml"]
    assert max(places) < page.index("Plausibility:")
    for reading in case.segmentation.model.parameters:
        assert "=".join(reading) not in page, "what the network was told is for its makers"


def test_hl7_reads_the_message_field_by_field(case: Case) -> None:
    message = hl7.parse(case.results.oru.decode("utf-8"))
    assert str(message.segment("MSH")[9]) == "ORU^R01^ORU_R01"
    assert message.unescape(str(message.segment("PID")[3][0][0])) == "MRN-77|1"
    assert message.unescape(str(message.segment("OBR")[4][0][1])) == "Chest & neck"
    numbers = [float(str(obx[5])) for obx in message.segments("OBX") if str(obx[2]) == "NM"]
    assert numbers == [m.value for m in case.results.measurements]


def test_hl7types_finds_the_message_well_formed(case: Case) -> None:
    decoded = decode_er7(case.results.oru.decode("utf-8"), ORU_R01)
    assert decoded is not None


def test_the_volume_in_the_report_is_that_of_the_mask_in_the_archive(case: Case) -> None:
    seg = highdicom.seg.segread(case.folder / "seg.dcm")
    gaps = {"allow_missing_positions": True} if case.name == "mr_gap" else {}
    volume = seg.get_volume(combine_segments=True, **gaps)
    for found in (m for m in case.results.measurements if m.quantity == "volume"):
        inside = volume.array == found.segment_number if found.segment_number else volume.array > 0
        voxels = int(inside.sum())
        assert found.value == pytest.approx(voxels * volume.voxel_volume / 1000, abs=0.001)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[DICOMwebClient]:
    """A real archive that is empty, since all cases are of one study; spoken to by DICOMweb."""
    with running(make_orthanc(tmp_path)) as orthanc:
        yield DICOMwebClient(f"{orthanc.url}/dicom-web")


def test_dicomweb_client_stores_finds_and_brings_back_every_result(case: Case, archive: DICOMwebClient) -> None:
    stored = {kind: pydicom.dcmread(case.folder / f"{kind}.dcm") for kind in ("seg", "sr", "sc")}
    answer = archive.store_instances(list(stored.values()))
    assert len(answer.ReferencedSOPSequence) == 3
    assert not answer.get("FailedSOPSequence")
    for kind, sent in stored.items():
        place = (str(sent.StudyInstanceUID), str(sent.SeriesInstanceUID), str(sent.SOPInstanceUID))
        (found,) = archive.search_for_instances(*place[:2], search_filters={"SOPInstanceUID": place[2]})
        assert found["00080060"]["Value"] == [sent.Modality], kind
        assert archive.retrieve_instance(*place).to_json_dict() == sent.to_json_dict()
        described = Dataset.from_json(archive.retrieve_instance_metadata(*place), lambda *_: b"")
        assert described.SeriesDescription == sent.SeriesDescription
    plain = (("application/octet-stream", str(ExplicitVRLittleEndian)),)
    assert archive.retrieve_instance_frames(*place, [1], media_types=plain) == [sent.pixel_array.tobytes()]
