"""One volume in every form that a file may take: the values and places of its plain form, or a refusal.

What varies: transfer syntax, bits and sign, rescaling, the direction in which the grid runs through the patient, the
order of the files, the character set, single frames or one multi-frame object. The truth is a function of the place in
the patient, so that every direction of the grid has the same.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels import compress
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medai.models.images.preprocess import Stack, series_to_volume

Array = npt.NDArray[Any]
CENTRE_MM = np.array([12.0, -7.0, 40.0])
SIZE = (5, 36, 40)
"""Slices, rows, columns; JPEG 2000 wants 32 at least."""
SPACING_MM = (1.25, 0.75, 4.0)
"""x, y, z of the grid."""
NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
COMPRESSED = (RLELossless, JPEGLSLossless, JPEG2000Lossless)
OBLIQUE = 1 / np.sqrt(2.0)
DIRECTIONS = {
    "axial": (1, 0, 0, 0, 1, 0), "axial, feet first": (-1, 0, 0, 0, 1, 0), "axial, prone": (-1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, -1), "sagittal": (0, 1, 0, 0, 0, -1), "sagittal, turned": (0, 0, -1, 0, 1, 0),
    "oblique": (OBLIQUE, OBLIQUE, 0, 0, 0, -1),
}  # fmt: skip
CHARSETS = {"ISO_IR 192": "Müller^Ärne", "ISO_IR 100": "Müller^Ärne", "ISO_IR 6": "Mueller^Arne", "": "Mueller^Arne"}
ORDERS = ("as they lie", "reversed", "shuffled", "shuffled, all numbered 1", "shuffled, without numbers")


@dataclass(frozen=True, kw_only=True)
class Form:
    """How the volume is written."""

    syntax: UID
    bits: int
    signed: bool
    slope: float
    intercept: float
    direction: str
    order: str
    charset: str
    multi_frame: bool
    modality: str


def truth(place_mm: Array) -> Array:
    """A whole number for each place [..., x, y, z], in the range that every form can hold; no symmetry in it."""
    x, y, z = np.moveaxis(place_mm - CENTRE_MM, -1, 0)
    return np.asarray(2 * np.round(150 + 7 * x - 5 * y + 3 * z + 0.05 * x * y)).clip(-1000, 1400)


def grid(form: Form) -> tuple[Array, Array]:
    """Places of every voxel [slice, row, column, xyz] in mm, and the direction from slice to slice."""
    row, column = np.array(DIRECTIONS[form.direction][:3], float), np.array(DIRECTIONS[form.direction][3:], float)
    normal = np.cross(row, column)
    steps = [np.arange(count) - (count - 1) / 2 for count in SIZE]
    k, j, i = np.meshgrid(*steps, indexing="ij")
    along = i[..., None] * row * SPACING_MM[0] + j[..., None] * column * SPACING_MM[1]
    return CENTRE_MM + along + k[..., None] * normal * SPACING_MM[2], normal


def stored(form: Form, values: Array) -> Array:
    """As the file holds it: unused upper bits of negative values are left empty, as many scanners leave them."""
    raw = np.round((values - form.intercept) / form.slope).astype(np.int64) & ((1 << form.bits) - 1)
    return raw.astype("<u2")


def header(form: Form, number: int) -> Dataset:
    d = Dataset()
    d.file_meta = FileMetaDataset()
    ct = form.modality == "CT"
    kind = {("CT", False): "2", ("MR", False): "4", ("CT", True): "2.1", ("MR", True): "4.1"}[
        form.modality, form.multi_frame
    ]
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = f"1.2.840.10008.5.1.4.1.1.{kind}"
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["form", str(number)])
    d.StudyInstanceUID, d.SeriesInstanceUID = generate_uid(entropy_srcs=["s"]), generate_uid(entropy_srcs=["t"])
    d.FrameOfReferenceUID = generate_uid(entropy_srcs=["f"])
    if form.charset:
        d.SpecificCharacterSet = form.charset
    d.PatientName, d.PatientID, d.Modality = CHARSETS[form.charset], "77", form.modality
    d.Rows, d.Columns = SIZE[1:]
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, form.bits, form.bits - 1, int(form.signed)
    if ct and not form.multi_frame:
        d.RescaleType = "HU"
    return d


def transformation(form: Form) -> dict[str, str]:
    return {"RescaleSlope": f"{form.slope:g}", "RescaleIntercept": f"{form.intercept:g}"}


def single_frames(form: Form) -> list[Dataset]:
    places, _ = grid(form)
    made = []
    for number, plane in enumerate(places):
        d = header(form, number)
        d.InstanceNumber = {"shuffled, all numbered 1": 1, "shuffled, without numbers": None}.get(
            form.order, number + 1
        )
        d.ImageOrientationPatient = [f"{value:.10g}" for value in DIRECTIONS[form.direction]]
        d.ImagePositionPatient = [f"{value:.10g}" for value in plane[0, 0]]
        d.PixelSpacing, d.SliceThickness = [SPACING_MM[1], SPACING_MM[0]], SPACING_MM[2]
        for keyword, value in transformation(form).items():
            setattr(d, keyword, value)
        d.PixelData = stored(form, truth(plane)).tobytes()
        made.append(d)
    if form.order == "reversed":
        made.reverse()
    elif form.order.startswith("shuffled"):
        random.Random(5).shuffle(made)  # noqa: S311 - the same each time
    return made


def multi_frame(form: Form) -> list[Dataset]:
    places, _ = grid(form)
    order = list(range(SIZE[0]))
    if form.order == "reversed":
        order.reverse()
    elif form.order.startswith("shuffled"):
        random.Random(5).shuffle(order)  # noqa: S311 - the same each time
    d = header(form, 0)
    d.NumberOfFrames, d.InstanceNumber = SIZE[0], 1
    measures, plane, values = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [SPACING_MM[1], SPACING_MM[0]], SPACING_MM[2]
    plane.ImageOrientationPatient = [f"{value:.10g}" for value in DIRECTIONS[form.direction]]
    for keyword, value in transformation(form).items():
        setattr(values, keyword, value)
    values.RescaleType = "HU" if form.modality == "CT" else "US"
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PixelValueTransformationSequence = [values]
    d.SharedFunctionalGroupsSequence, d.PerFrameFunctionalGroupsSequence = [shared], []
    for number in order:
        position, frame = Dataset(), Dataset()
        position.ImagePositionPatient = [f"{value:.10g}" for value in places[number][0, 0]]
        frame.PlanePositionSequence = [position]
        d.PerFrameFunctionalGroupsSequence.append(frame)
    d.PixelData = np.stack([stored(form, truth(places[number])) for number in order]).tobytes()
    return [d]


def written(form: Form) -> list[Dataset]:
    """Through bytes, as a sender's files come."""
    return [_sent(form, each) for each in (multi_frame(form) if form.multi_frame else single_frames(form))]


def _sent(form: Form, dataset: Dataset) -> Dataset:
    if form.syntax in COMPRESSED:
        _compress(form, dataset)
    else:
        dataset.file_meta.TransferSyntaxUID = form.syntax
        dataset["PixelData"].VR = "OW"
        if form.syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    buffer.seek(0)
    return pydicom.dcmread(buffer)


def _compress(form: Form, dataset: Dataset) -> None:
    """As archives do it: all 16 bits, whatever the header says of them."""
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, 0
    compress(dataset, form.syntax, generate_instance_uid=False)
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = form.bits, form.bits - 1, int(form.signed)


def expected(stack: Stack) -> Array:
    """The truth at the places where the volume says that its voxels lie."""
    shape = stack.volume.geometry.shape
    k, j, i = np.meshgrid(*(np.arange(count) for count in shape), indexing="ij")
    index = np.stack([i, j, k, np.ones_like(i)], axis=-1)
    return truth((index @ stack.volume.geometry.affine.T)[..., :3])


RESCALES = [(12, False, 1.0, -1024.0), (12, True, 1.0, 0.0), (12, True, 2.0, 0.0), (13, True, 1.0, -100.0), (14, False, 1.0, -1024.0),
            (16, False, 1.0, -1024.0), (16, True, 1.0, 0.0), (16, False, 0.5, -1000.0), (16, False, 1.0, -32768.0)]  # fmt: skip
"""Bits, sign, slope, intercept: all can hold the truth."""
FORMS = st.builds(
    lambda rescale, **more: Form(bits=rescale[0], signed=rescale[1], slope=rescale[2], intercept=rescale[3], **more),
    rescale=st.sampled_from(RESCALES), syntax=st.sampled_from([*NATIVE, *COMPRESSED]),
    direction=st.sampled_from(sorted(DIRECTIONS)), order=st.sampled_from(ORDERS), charset=st.sampled_from(sorted(CHARSETS)),
    multi_frame=st.booleans(), modality=st.sampled_from(["CT", "MR"]),
)  # fmt: skip
PLAIN = Form(
    syntax=ExplicitVRLittleEndian, bits=16, signed=True, slope=1.0, intercept=0.0, direction="axial", order="as they lie",
    charset="ISO_IR 192", multi_frame=False, modality="CT",
)  # fmt: skip


def check(form: Form) -> None:
    stack = series_to_volume(written(form))
    found = stack.volume
    assert sorted(found.geometry.shape) == sorted(SIZE)
    assert found.geometry.voxel_ml == pytest.approx(np.prod(SPACING_MM) / 1000.0, rel=1e-6)
    wanted = expected(stack)
    assert np.array_equal(found.voxels, wanted), np.abs(found.voxels - wanted).max()
    centre = (np.array([*(np.array(found.geometry.shape[::-1]) - 1) / 2, 1.0]) @ found.geometry.affine.T)[:3]
    assert centre == pytest.approx(CENTRE_MM, abs=1e-4)
    assert found.unit == ("HU" if form.modality == "CT" else "arbitrary")


def test_the_truth_tells_every_direction_apart() -> None:
    places, _ = grid(PLAIN)
    values = truth(places)
    for axis in range(3):
        assert not np.array_equal(values, np.flip(values, axis))
    assert values.min() > -1000
    assert values.max() < 1400


@settings(max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(FORMS)
def test_any_form_has_the_values_and_places_of_the_plain_one(form: Form) -> None:
    check(form)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(FORMS)
def test_so_have_three_thousand(form: Form) -> None:
    check(form)
