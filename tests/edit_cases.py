"""What a reader stores after our result: a SEG of another manufacturer, changed, in its own order, and a report."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import highdicom
import numpy as np
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.uid import generate_uid

ANATOMY = CodedConcept("91723000", "SCT", "Anatomical Structure")
BRAIN = CodedConcept("12738006", "SCT", "Brain")
BRAIN_SRT = CodedConcept("T-A0100", "SRT", "Brain")
HIPPOCAMPUS = CodedConcept("5366008", "SCT", "Hippocampus")
RIGHT, LEFT = CodedConcept("24028007", "SCT", "Right"), CodedConcept("7771000", "SCT", "Left")
HUMAN = {
    "manufacturer": "Reading Room Tools",
    "manufacturer_model_name": "Contour Desk",
    "software_versions": "7.1",
    "device_serial_number": "42",
}


class Drawn:
    """A structure as a reader's tool writes it."""

    def __init__(
        self, mask: np.ndarray, label: str, code: CodedConcept = BRAIN, side: CodedConcept | None = None
    ) -> None:
        self.mask, self.label, self.code, self.side = mask, label, code, side


def human_seg(images: Sequence[Dataset], drawn: Sequence[Drawn], *, seed: str = "human", **more: Any) -> Dataset:
    """A SEG as somebody else's tool writes it: empty frames left out; ``more``: for highdicom's constructor."""
    algorithm = more.pop("algorithm", "SEMIAUTOMATIC")
    machine = highdicom.AlgorithmIdentificationSequence(
        name="grow", version="1", family=CodedConcept("123110", "DCM", "Artificial Intelligence")
    )
    described = []
    for number, one in enumerate(drawn, start=1):
        item = highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=one.label,
            segmented_property_category=deepcopy(ANATOMY),
            segmented_property_type=deepcopy(one.code),
            algorithm_type=algorithm,
            algorithm_identification=None if algorithm == "MANUAL" else machine,
        )
        if one.side is not None:
            item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [deepcopy(one.side)]
        described.append(item)
    uid = generate_uid(entropy_srcs=[str(images[0].SeriesInstanceUID), seed])
    options = {"segmentation_type": "BINARY", "omit_empty_frames": True, **HUMAN, **more}
    seg: Dataset = highdicom.seg.Segmentation(
        source_images=list(images),
        pixel_array=np.stack([one.mask for one in drawn], axis=-1).astype(np.uint8),
        segment_descriptions=described,
        series_instance_uid=uid,
        series_number=900,
        sop_instance_uid=f"{uid[:60]}.1",
        instance_number=1,
        **options,
    )
    return seg


def human_sr(report: Dataset, *, seed: str = "human", verified: bool = True, scale: float = 1.0) -> Dataset:
    """A report as a reader signs it: ours, in the reader's hands; ``scale``: what the reader changed the numbers by."""
    signed = deepcopy(report)
    uid = generate_uid(entropy_srcs=[str(report.SOPInstanceUID), seed])
    signed.SeriesInstanceUID, signed.SOPInstanceUID = uid, f"{uid[:60]}.1"
    signed.file_meta.MediaStorageSOPInstanceUID = signed.SOPInstanceUID
    signed.Manufacturer, signed.ManufacturerModelName = HUMAN["manufacturer"], HUMAN["manufacturer_model_name"]
    signed.SoftwareVersions = HUMAN["software_versions"]
    if verified:
        signed.VerificationFlag = "VERIFIED"
    for item in _numbers(signed):
        value = item.MeasuredValueSequence[0]
        value.NumericValue = f"{float(value.NumericValue) * scale:.6g}"
        if "FloatingPointValue" in value:
            del value.FloatingPointValue
    return signed


def _numbers(container: Dataset) -> list[Dataset]:
    found = []
    for item in container.get("ContentSequence") or []:
        found += [item] if item.get("ValueType") == "NUM" else _numbers(item)
    return found


def shifted(mask: np.ndarray, *, rows: int = 1) -> np.ndarray:
    """A mask moved by some rows."""
    return np.roll(mask, rows, axis=1)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """By definition."""
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))
