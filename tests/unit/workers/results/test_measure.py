"""Volumes and mean attenuation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medai.models.errors import GeometryMismatch
from medai.workers.results.measure import measure


def test_a_volume_is_the_voxels_times_the_volume_of_one(make: Any) -> None:
    source = make.source()
    segmentation = make.segmentation(source)
    found = {m.segment_name: m for m in measure(source.volume, segmentation) if m.quantity == "volume"}
    voxels = int((segmentation.labels == 1).sum())
    assert found["Right lung"].value == pytest.approx(voxels * 1.25 * 1.5 * 3.0 / 1000, abs=0.001)
    assert found["Right lung"].unit == "ml"


def test_a_ct_has_the_mean_attenuation_of_each_segment(make: Any) -> None:
    source = make.source()
    segmentation = make.segmentation(source)
    source.volume.voxels[segmentation.labels == 2] += np.int16(50)
    means = [m for m in measure(source.volume, segmentation) if m.quantity == "mean_attenuation"]
    assert [m.value for m in means] == [-800.0, -750.0]
    assert {m.unit for m in means} == {"[hnsf'U]"}, "the UCUM code of the Hounsfield unit"


def test_a_mean_is_exact_for_a_handful_of_voxels_and_kept_to_a_tenth(make: Any) -> None:
    source = make.source()
    segmentation = make.segmentation(source)
    segmentation.labels[:] = 0
    segmentation.labels[5, 5, 5:8] = 1
    source.volume.voxels[5, 5, 5:8] = (-10, 20, 31)
    (mean,) = [m.value for m in measure(source.volume, segmentation) if m.quantity == "mean_attenuation"]
    assert mean == 13.7, "41 / 3"


def test_a_volume_is_kept_to_a_microlitre(make: Any) -> None:
    source = make.source()
    segmentation = make.segmentation(source)
    segmentation.labels[:] = 0
    segmentation.labels[5, 5, 5:8] = 1
    assert measure(source.volume, segmentation)[0].value == 0.017, "three voxels of 5.625 µl are 16.875 µl"


def test_an_mr_has_no_attenuation(make: Any) -> None:
    source = make.source(modality="MR")
    assert {m.quantity for m in measure(source.volume, make.segmentation(source))} == {"volume"}


def test_an_empty_segment_measures_zero_and_has_no_mean(make: Any) -> None:
    source = make.source()
    segmentation = make.segmentation(source)
    segmentation.labels[segmentation.labels == 2] = 0
    of_left = [m for m in measure(source.volume, segmentation) if m.segment_number == 2]
    assert [(m.quantity, m.value) for m in of_left] == [("volume", 0.0)]


def test_a_total_is_the_volume_of_its_segments_together(make: Any) -> None:
    source = make.source()
    segmentation = make.hippocampus(source)
    total = measure(source.volume, segmentation)[-1]
    voxels = int((segmentation.labels > 0).sum())
    assert (total.segment_number, total.segment_name, total.quantity) == (0, "Left hippocampus", "volume")
    assert total.value == pytest.approx(voxels * 1.25 * 1.5 * 3.0 / 1000, abs=0.001)


def test_a_mask_on_another_grid_is_refused(make: Any) -> None:
    source = make.source()
    segmentation = make.segmentation(source)
    moved = replace(segmentation, geometry=replace(segmentation.geometry, origin_mm=(0.0, 0.0, 0.0)))
    with pytest.raises(GeometryMismatch, match="^the mask and its source: .* mm apart"):
        measure(source.volume, moved)
