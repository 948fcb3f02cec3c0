"""Small CT studies with what a person drew on them: SEG by highdicom, RTSTRUCT by hand, both of known masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
from dicom_cases import slice_of, to_bytes
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SHAPE = (16, 16, 16)
SPACING_MM = 3.0
CT = "1.2.840.10008.5.1.4.1.1.2"


def ct_slices(study: str, **changes: Any) -> list[Dataset]:
    """16 axial slices of 16 x 16 pixels, 3 mm."""
    ct = {"Modality": "CT", "SOPClassUID": CT, "RescaleIntercept": "-1024", "RescaleSlope": "1", **changes}
    slices = [slice_of(index, study=study, **ct) for index in range(SHAPE[0])]
    for one in slices:
        one.file_meta.MediaStorageSOPClassUID = CT
    return slices


def block(low: tuple[int, int, int], high: tuple[int, int, int]) -> np.ndarray:
    """A mask [slice, row, column]."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
    return mask


def seg(images: Sequence[Dataset], masks: dict[str, np.ndarray], *, algorithm: str = "MANUAL", **more: Any) -> Dataset:
    """A SEG; frames without a voxel are left out, as most writers do."""
    machine = {
        "algorithm_identification": highdicom.AlgorithmIdentificationSequence(
            name="net", version="1", family=codes.DCM.ArtificialIntelligence
        )
    }
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=label,
            segmented_property_category=codes.SCT.AnatomicalStructure,
            segmented_property_type=codes.SCT.Organ,
            algorithm_type=algorithm,
            **(machine if algorithm != "MANUAL" else {}),
        )
        for number, label in enumerate(masks, start=1)
    ]
    options = {"segmentation_type": "BINARY", **more}
    return highdicom.seg.Segmentation(
        source_images=list(images),
        pixel_array=np.stack(list(masks.values()), axis=-1).astype(
            np.float32 if options["segmentation_type"] == "FRACTIONAL" else np.uint8
        ),
        segment_descriptions=described,
        series_instance_uid=generate_uid(entropy_srcs=[images[0].StudyInstanceUID, *masks, algorithm]),
        series_number=50,
        sop_instance_uid=generate_uid(entropy_srcs=[images[0].StudyInstanceUID, *masks, algorithm, "sop"]),
        instance_number=1,
        manufacturer="Hospital",
        manufacturer_model_name="Pencil",
        software_versions="1",
        device_serial_number="1",
        **options,
    )


def rtstruct(images: Sequence[Dataset], contours: dict[str, list[np.ndarray]], *, algorithm: str = "MANUAL") -> Dataset:
    """An RTSTRUCT; each contour is [point, 3] in LPS mm."""
    first = images[0]
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[first.StudyInstanceUID, "rt", *contours]
    )
    d.Modality, d.PatientID, d.StudyInstanceUID = "RTSTRUCT", first.PatientID, first.StudyInstanceUID
    d.SeriesInstanceUID = generate_uid(entropy_srcs=[first.StudyInstanceUID, "rt"])
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = first.SeriesInstanceUID
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = first.FrameOfReferenceUID, [study]
    d.ReferencedFrameOfReferenceSequence = [frame]
    d.StructureSetROISequence, d.ROIContourSequence = [], []
    for number, (name, polygons) in enumerate(contours.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, algorithm
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in polygons:
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            item.ContourData = [f"{value:.4f}" for value in points.ravel()]
            drawn.ContourSequence.append(item)
        d.StructureSetROISequence.append(roi)
        d.ROIContourSequence.append(drawn)
    return d


def square(images: Sequence[Dataset], place: int, low: int, high: int) -> np.ndarray:
    """A contour round pixels low ... high - 1 of rows and columns on a slice, half a pixel outside their centres."""
    x0, y0, z = (float(value) for value in images[place].ImagePositionPatient)
    a, b = low - 0.5, high - 0.5
    corners = [(a, a), (b, a), (b, b), (a, b)]
    return np.array([[x0 + x * SPACING_MM, y0 + y * SPACING_MM, z] for x, y in corners])


def save(folder: Path, *datasets: Dataset) -> Path:
    """All in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for dataset in datasets:
        number = len(list(folder.iterdir()))
        (folder / f"{number:03d}.dcm").write_bytes(to_bytes(dataset))
    return folder
