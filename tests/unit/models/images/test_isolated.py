"""JPEG Lossless by GDCM in a child process: exact, and harmless when an image is damaged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGLosslessSV1

from medai.models.errors import UnreadableImage
from medai.models.images.isolated import DamagedImageError, GdcmProcess
from medai.models.images.preprocess import series_to_volume

Series = Callable[..., list[Dataset]]


@pytest.fixture
def lossless_jpeg(make_series: Series, tmp_path: Path) -> tuple[list[Dataset], np.ndarray]:  # type: ignore[type-arg] # int16
    """A series that DCMTK compressed, and its voxels."""
    if shutil.which("dcmcjpeg") is None:
        pytest.skip("dcmcjpeg (Debian's dcmtk) is not installed")
    values = np.random.default_rng(2).integers(0, 4000, (48, 40)).astype(np.uint16)
    compressed = []
    for dataset in make_series(3, stored=values):
        plain, packed = tmp_path / "plain.dcm", tmp_path / f"{dataset.InstanceNumber}.dcm"
        dataset.PatientName = dataset.PatientID = dataset.StudyInstanceUID = None
        dataset.save_as(plain, enforce_file_format=True)
        subprocess.run(["dcmcjpeg", "+e1", "+un", plain, packed], check=True, capture_output=True)
        compressed.append(pydicom.dcmread(packed))
    return compressed, values.astype(np.int16) - 1024


def test_jpeg_lossless_is_exact(lossless_jpeg: tuple[list[Dataset], np.ndarray]) -> None:  # type: ignore[type-arg] # int16
    series, expected = lossless_jpeg
    assert series[0].file_meta.TransferSyntaxUID == JPEGLosslessSV1
    voxels = series_to_volume(series).volume.voxels
    assert voxels.dtype == np.int16
    assert all(np.array_equal(image, expected) for image in voxels)


def test_no_damage_to_an_image_ends_this_process(lossless_jpeg: tuple[list[Dataset], np.ndarray]) -> None:  # type: ignore[type-arg] # int16
    series, _ = lossless_jpeg
    whole = next(generate_frames(series[0].PixelData, number_of_frames=1))
    reasons = []
    for at in range(20, 120, 12):  # through the headers, where damage makes GDCM abort
        damaged = bytearray(whole)
        damaged[at : at + 4] = b"\xff\xd8\x00\x77"
        series[0].PixelData = encapsulate([bytes(damaged)])
        copies = [pydicom.Dataset(dataset) for dataset in series]
        for copy, dataset in zip(copies, series, strict=True):
            copy.file_meta = dataset.file_meta
        try:
            series_to_volume(copies)
        except UnreadableImage as error:
            reasons.append(str(error))
    assert reasons
    assert all("Instance Number 1" in reason for reason in reasons)


def test_a_child_that_died_is_an_error_and_not_a_hang(lossless_jpeg: tuple[list[Dataset], np.ndarray]) -> None:  # type: ignore[type-arg] # int16
    series, _ = lossless_jpeg
    encoded = next(generate_frames(series[0].PixelData, number_of_frames=1))
    with GdcmProcess() as gdcm:
        gdcm.decode(series[0], encoded, JPEGLosslessSV1)
        assert gdcm._child is not None
        os.kill(gdcm._child.pid, signal.SIGKILL)
        with pytest.raises(DamagedImageError):
            gdcm.decode(series[0], encoded, JPEGLosslessSV1)
