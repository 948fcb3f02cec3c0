"""Small DICOM series made in memory, for the tests of models/."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

SERIES = "2.25.1"


def make_slice(number: int, stored: np.ndarray[Any, Any] | None = None, **changes: Any) -> Dataset:
    """One axial CT image of 8 x 10 pixels of 2 x 1.5 mm (rows, columns), 5 mm above the last; stored value: number."""
    pixels = np.full((8, 10), number, dtype=np.int16) if stored is None else stored
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values: dict[str, Any] = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": UID(f"2.25.100{number}"),
        "SeriesInstanceUID": SERIES,
        "FrameOfReferenceUID": "2.25.2",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "InstanceNumber": number,
        "ImagePositionPatient": [-10.0, -20.0, 5.0 * number],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [2.0, 1.5],
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": pixels.dtype.itemsize * 8,
        "BitsStored": pixels.dtype.itemsize * 8,
        "HighBit": pixels.dtype.itemsize * 8 - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "PixelData": pixels.tobytes(),
    }
    for keyword, value in {**values, **changes}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


@pytest.fixture(name="make_slice")
def make_slice_fixture() -> Callable[..., Dataset]:
    return make_slice


@pytest.fixture
def make_series() -> Callable[..., list[Dataset]]:
    """``count`` slices numbered from 1, with the same changes to each."""

    def make(count: int = 5, **changes: Any) -> list[Dataset]:
        return [make_slice(number, **changes) for number in range(1, count + 1)]

    return make


@pytest.fixture(scope="session")
def read_series() -> Callable[[Path], list[Dataset]]:
    """Every image of a folder, by series: the only one, or that with the most images."""

    def read(folder: Path) -> list[Dataset]:
        series: dict[str, list[Dataset]] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix.lower() not in {".txt", ".md", ".json"}:
                dataset = pydicom.dcmread(path)
                if "SeriesInstanceUID" in dataset:
                    series.setdefault(dataset.SeriesInstanceUID, []).append(dataset)
        return max(series.values(), key=len)

    return read
