"""The key image: is it the right way round, to scale, on the organ, and without the patient's name?"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medai.workers.results.drawing import (
    AMBER,
    BANNER,
    BANNER_TEXT,
    PANEL,
    SIZE,
    Window,
    contour,
    entries,
    legend,
    numbers_text,
    place_text,
    scale_mm,
)
from medai.workers.results.key_image import render_key_image, to_png
from medai.workers.results.planes import AXIAL, CORONAL, SAGITTAL, VIEWS, Cut, cut, find_field
from medai.workers.results.windowing import choose_window

PLANES = ["axial", "sagittal", "oblique"]


def cuts_of(source: Any, segmentation: Any, size: int = 120) -> list[Cut]:
    geometry = source.volume.geometry
    field = find_field(segmentation.labels, geometry)
    return [cut(source.volume.voxels, segmentation.labels, geometry, field, view, size) for view in VIEWS]


def marked(source: Any, segmentation: Any, direction: tuple[float, float, float]) -> Any:
    """The same series with one label 1 only in the half that lies towards ``direction`` (LPS)."""
    geometry = source.volume.geometry
    slices, rows, columns = geometry.shape
    z, y, x = np.meshgrid(np.arange(slices), np.arange(rows), np.arange(columns), indexing="ij")
    points = np.stack([x, y, z], axis=-1) @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    along = points @ np.asarray(direction)
    middle = (along.min() + along.max()) / 2
    labels = np.where(along > middle, 1, 2).astype(np.uint8)
    return replace(segmentation, labels=labels)


def centre_of(coverage: Any) -> tuple[float, float]:
    rows, columns = np.nonzero(coverage > 0.5)
    return float(rows.mean()), float(columns.mean())


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize(
    ("direction", "view", "axis", "sign"),
    [
        ((1, 0, 0), AXIAL, 1, 1),  # the patient's left is on the picture's right
        ((0, 1, 0), AXIAL, 0, 1),  # posterior is below
        ((1, 0, 0), CORONAL, 1, 1),
        ((0, 0, 1), CORONAL, 0, -1),  # the head is up
        ((0, 1, 0), SAGITTAL, 1, 1),  # anterior is on the left
        ((0, 0, 1), SAGITTAL, 0, -1),
    ],
)
def test_each_side_of_the_patient_is_where_a_radiologist_looks_for_it(
    make: Any, plane: str, direction: tuple[float, float, float], view: Any, axis: int, sign: int
) -> None:
    source = make.source(plane=plane, shape=(20, 30, 24))
    halves = cuts_of(source, marked(source, make.segmentation(source), direction))[VIEWS.index(view)]
    towards, away = (centre_of(halves.coverage[number])[axis] for number in (1, 2))
    assert (towards - away) * sign > 0


@pytest.mark.parametrize("plane", PLANES)
def test_lengths_in_every_panel_are_true_whatever_the_spacing(make: Any, plane: str) -> None:
    source = make.source(plane=plane, shape=(20, 40, 48))
    segmentation = make.segmentation(source)
    ball = _ball(source)
    for each in cuts_of(source, replace(segmentation, labels=ball), size=200):
        area_mm2 = float(each.coverage[1].sum()) * each.pixel_mm**2
        assert area_mm2 == pytest.approx(np.pi * 15**2, rel=0.12)


def _ball(source: Any) -> Any:
    """A ball of 15 mm radius in the middle of the volume."""
    geometry = source.volume.geometry
    grid = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")
    points = np.stack(grid[::-1], axis=-1) @ geometry.affine[:3, :3].T
    middle = (np.asarray(geometry.shape[::-1]) - 1) / 2 @ geometry.affine[:3, :3].T
    return (np.linalg.norm(points - middle, axis=-1) <= 15).astype(np.uint8)


def test_a_small_lesion_is_shown_enlarged_with_its_surroundings(make: Any) -> None:
    source = make.source(shape=(60, 200, 200))
    labels = np.zeros((60, 200, 200), dtype=np.uint8)
    labels[30, 100:104, 100:104] = 1
    whole = find_field(np.ones_like(labels), source.volume.geometry)
    small = find_field(labels, source.volume.geometry)
    assert 60 <= small.side_mm <= 80
    assert whole.side_mm > 290


def test_the_planes_go_through_the_largest_section(make: Any) -> None:
    source = make.source()
    labels = np.zeros(source.volume.geometry.shape, dtype=np.uint8)
    labels[3:9, 10, 10] = 1
    labels[5, 8:14, 8:14] = 1
    axial = cuts_of(source, replace(make.segmentation(source), labels=labels))[0]
    assert axial.position_mm == pytest.approx(100.0 + 5 * 3.0)


def test_a_contour_is_a_thin_line_on_the_edge() -> None:
    disc = (np.hypot(*np.mgrid[-50:50, -50:50]) < 30).astype(float)
    line = contour(disc)
    radius = np.hypot(*np.mgrid[-50:50, -50:50])
    assert line[np.abs(radius - 30) > 3].max() == 0
    assert line[np.abs(radius - 30) < 0.5].mean() > 0.7
    assert line.sum() == pytest.approx(2 * np.pi * 30 * 1.8, rel=0.3)


def test_nothing_segmented_draws_no_contour() -> None:
    assert not contour(np.zeros((20, 20))).any()


def test_the_picture_has_banner_panels_and_the_segments_colours(make: Any) -> None:
    source = make.source()
    segmentation = make.segmentation(source)
    picture = render_key_image(source.volume, segmentation, make.measurements(source, segmentation))
    pixels = np.asarray(picture)
    assert picture.size == SIZE == (1024, 1072)
    assert BANNER_TEXT == "AI, not for diagnostic use"
    assert tuple(pixels[2, 2]) == (255, 184, 28)
    axial = pixels[BANNER : BANNER + PANEL, :PANEL].reshape(-1, 3).astype(int)
    for segment in segmentation.segments:
        assert (np.abs(axial - segment.colour).sum(axis=1) < 30).sum() > 200


def test_a_retry_draws_the_same_picture(make: Any) -> None:
    source = make.source()
    segmentation = make.segmentation(source)
    draw = lambda: to_png(render_key_image(source.volume, segmentation, ()))  # noqa: E731  (said once, used twice)
    assert draw() == draw()
    assert Image.open(BytesIO(draw())).size == SIZE


def test_the_legend_has_a_line_for_each_segment_and_each_total(make: Any) -> None:
    source = make.source()
    segmentation = make.hippocampus(source)
    lines = entries(segmentation, make.measurements(source, segmentation))
    assert [line.name for line in lines] == [*(s.name for s in segmentation.segments), "Left hippocampus, total"]
    assert lines[0].colour == segmentation.segments[0].colour
    assert lines[-1].colour is None
    assert lines[-1].numbers.endswith(" ml")


def test_the_verdict_is_amber_only_where_a_person_should_look(make: Any) -> None:
    source = make.source()
    good = make.hippocampus(source)
    bad = replace(good, warnings=("the mask touches the edge",))
    counts = []
    for segmentation in (good, bad):
        pixels = np.asarray(legend(segmentation, (), Window(low=0, high=1, text=""))).reshape(-1, 3)
        counts.append(int((pixels == AMBER).all(axis=1).sum()))
    assert counts[0] == 0 < counts[1]


def test_an_empty_mask_is_drawn_too(make: Any) -> None:
    source = make.source()
    segmentation = make.segmentation(source)
    empty = replace(segmentation, labels=np.zeros_like(segmentation.labels))
    found = make.measurements(source, empty)
    assert render_key_image(source.volume, empty, found).size == SIZE
    assert numbers_text(empty.segments[0], found) == "not found"


@pytest.mark.parametrize(("hu", "name"), [(-800, "Lung"), (40, "Soft tissue"), (600, "Bone")])
def test_the_window_fits_what_was_segmented(make: Any, hu: int, name: str) -> None:
    source = make.source()
    segmentation = make.segmentation(source)
    source.volume.voxels[segmentation.labels > 0] = hu
    found = make.measurements(source, segmentation)
    assert choose_window(source.volume, segmentation, found, []).text.startswith(name)


def test_an_mr_is_windowed_by_its_own_grey_levels(make: Any) -> None:
    source = make.source(modality="MR")
    segmentation = make.segmentation(source, segments=1)
    window = choose_window(source.volume, segmentation, (), [each.grey for each in cuts_of(source, segmentation)])
    assert 0 <= window.low < window.high <= 900.1


def test_positions_and_scale_are_in_words_of_the_patient(make: Any) -> None:
    source = make.source()
    axial = cuts_of(source, make.segmentation(source))[0]
    assert place_text(axial) == f"H {axial.position_mm:.1f} mm"
    assert place_text(replace(axial, position_mm=-3.0)) == "F 3.0 mm"
    assert scale_mm(1.0) == 100
    assert scale_mm(0.05) == 5


def test_the_object_is_a_secondary_capture_that_holds_no_identifier(make: Any) -> None:
    source = make.source()
    image = make.encode(source)["sc"]
    assert image.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    assert (image.BurnedInAnnotation, image.BodyPartExamined) == ("NO", "CHEST")
    assert image.pixel_array.shape == (1072, 1024, 3)
    assert image.SeriesDescription == "AI ct_lungs 1.2.0 key image, unverified"
    assert image.StudyInstanceUID == source.first.StudyInstanceUID
    assert image.PatientName == source.first.PatientName
    assert len(image.SourceImageSequence) == len(source.headers)
    assert image.ReferencedSeriesSequence[0].SeriesInstanceUID == source.first.SeriesInstanceUID


def test_the_picture_is_the_same_for_any_patient(make: Any) -> None:
    source = make.source()
    headers = tuple(make.copy(header, PatientName="Other^Name", PatientID="X") for header in source.headers)
    other = make.encode(replace(source, headers=headers), job=make.job(source))["sc"]
    assert other.PixelData == make.encode(source)["sc"].PixelData


@pytest.mark.parametrize(("part", "laterality"), [("KNEE", ""), ("", None)])
def test_laterality_is_absent_where_there_is_one_of_the_part(make: Any, part: str, laterality: str | None) -> None:
    source = make.source()
    headers = tuple(make.copy(header, BodyPartExamined=part) for header in source.headers)
    image = make.encode(replace(source, headers=headers))["sc"]
    assert image.BodyPartExamined == (part or "CHEST")
    assert image.get("Laterality") == laterality
