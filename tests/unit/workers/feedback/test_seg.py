"""A reader's SEG beside ours: figures as computed from the arrays, whatever the other tool's order, type and frames."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from dicom_cases import slice_of
from edit_cases import BRAIN, BRAIN_SRT, HIPPOCAMPUS, LEFT, RIGHT, Drawn, dice, human_seg, shifted
from pydicom import Dataset

from medai.models.errors import GeometryMismatch, UnreadableImage
from medai.models.images.preprocess import series_to_volume
from medai.models.volume import Code, ModelCard, Segment, Segmentation
from medai.router.contract import Job, JobId, OrthancId, StudyUID
from medai.router.settings.tables import Settings
from medai.workers.feedback.seg import by_machine_alone, compare_segs, match, segments_of
from medai.workers.results.context import Context
from medai.workers.results.seg import encode_seg
from medai.workers.results.source import Source

ANATOMY = Code(value="91723000", scheme="SCT", meaning="Anatomical Structure")


def code(concept: object) -> Code:
    return Code(value=concept.value, scheme=concept.scheme_designator, meaning=concept.meaning)  # type: ignore[attr-defined]


SEGMENTS = (
    Segment(number=1, name="Right hippocampus", category=ANATOMY, type=code(HIPPOCAMPUS), modifier=code(RIGHT)),
    Segment(number=2, name="Left hippocampus", category=ANATOMY, type=code(HIPPOCAMPUS), modifier=code(LEFT)),
    Segment(number=3, name="Brain", category=ANATOMY, type=code(BRAIN)),
)


def mask(low: tuple[int, int, int], high: tuple[int, int, int]) -> np.ndarray:
    made = np.zeros((16, 16, 16), dtype=bool)
    made[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = True
    return made


RIGHT_MASK, LEFT_MASK, BRAIN_MASK = (
    mask((2, 2, 1), (8, 6, 5)),
    mask((2, 2, 8), (8, 6, 12)),
    mask((9, 8, 2), (14, 14, 14)),
)


@pytest.fixture(scope="module")
def images() -> list[Dataset]:
    return [slice_of(index, study="compare") for index in range(16)]


@pytest.fixture(scope="module")
def ours(images: list[Dataset]) -> Dataset:
    stack = series_to_volume(images)
    labels = (RIGHT_MASK * 1 + LEFT_MASK * 2 + BRAIN_MASK * 3).astype(np.uint8)
    card = ModelCard(name="m", title="M", version="1", fingerprint="0" * 64)
    found = Segmentation(labels=labels, segments=SEGMENTS, geometry=stack.volume.geometry, model=card)
    job = Job(
        job_id=JobId("6d656461-6920-5275-b074-657220763031"), study_uid=StudyUID("1.2"), study_orthanc_id=OrthancId("o"),
        series_orthanc_ids=(OrthancId("s"),), sources_hash="h", sources_count=16, route="r", model="m", model_version="1",
    )  # fmt: skip
    source = Source(headers=stack.datasets, volume=stack.volume)
    context = Context(
        source=source, segmentation=found, measurements=(), job=job, settings=Settings(), created_at=datetime(2026, 1, 1, tzinfo=UTC)
    )  # fmt: skip
    return encode_seg(context)


def test_an_identical_drawing_has_a_dice_of_one_and_no_distance(images: list[Dataset], ours: Dataset) -> None:
    theirs = human_seg(images, [Drawn(BRAIN_MASK, "whatever")])
    (row,) = [row for row in compare_segs(ours, theirs) if row.outcome == "matched"]
    assert (row.structure, row.dice, row.hd95_mm, row.ours) == ("Brain", 1.0, 0.0, row.theirs)
    assert row.ours == pytest.approx(np.count_nonzero(BRAIN_MASK) * 0.027)


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_figures_are_those_of_the_arrays_in_any_order_of_segments(
    kind: str, images: list[Dataset], ours: Dataset
) -> None:
    moved = {"Brain": shifted(BRAIN_MASK), "Left hippocampus": LEFT_MASK, "Right hippocampus": shifted(RIGHT_MASK)}
    theirs = human_seg(
        images,
        [
            Drawn(moved["Brain"], "brain (edited)", BRAIN_SRT),
            Drawn(moved["Left hippocampus"], "HC sin", HIPPOCAMPUS, LEFT),
            Drawn(moved["Right hippocampus"], "HC dex", HIPPOCAMPUS, RIGHT),
        ],
        segmentation_type=kind,
    )
    truth = {"Brain": BRAIN_MASK, "Left hippocampus": LEFT_MASK, "Right hippocampus": RIGHT_MASK}
    rows = compare_segs(ours, theirs)
    assert {row.structure for row in rows if row.outcome == "matched"} == set(truth)
    for row in rows:
        assert row.dice == pytest.approx(dice(truth[row.structure], moved[row.structure]))
        assert row.theirs == pytest.approx(np.count_nonzero(moved[row.structure]) * 0.027)
    assert {row.structure: (row.segment, row.edited_segment) for row in rows}["Brain"] == (3, 1)


def test_a_mask_moved_by_a_row_lies_one_row_away(images: list[Dataset], ours: Dataset) -> None:
    theirs = human_seg(images, [Drawn(shifted(BRAIN_MASK), "Brain")])
    (row,) = [row for row in compare_segs(ours, theirs) if row.outcome == "matched"]
    assert row.hd95_mm == pytest.approx(3.0)


def test_overlapping_structures_are_each_compared_alone(images: list[Dataset], ours: Dataset) -> None:
    wide = BRAIN_MASK | LEFT_MASK
    theirs = human_seg(images, [Drawn(wide, "Brain"), Drawn(LEFT_MASK, "Left hippocampus", HIPPOCAMPUS, LEFT)])
    found = {row.structure: row.dice for row in compare_segs(ours, theirs) if row.outcome == "matched"}
    assert found == {"Brain": pytest.approx(dice(BRAIN_MASK, wide)), "Left hippocampus": 1.0}


def test_what_only_one_side_has_is_added_or_removed_and_has_no_dice(images: list[Dataset], ours: Dataset) -> None:
    lesion = mask((3, 3, 3), (5, 5, 5))
    theirs = human_seg(images, [Drawn(BRAIN_MASK, "Brain"), Drawn(lesion, "Lesion", HIPPOCAMPUS)])
    rows = {row.structure: row for row in compare_segs(ours, theirs)}
    assert {name: row.outcome for name, row in rows.items()} == {
        "Brain": "matched", "Right hippocampus": "removed", "Left hippocampus": "removed", "Lesion": "added",
    }  # fmt: skip
    assert rows["Lesion"].theirs == pytest.approx(8 * 0.027)
    assert rows["Lesion"].ours is rows["Lesion"].dice is rows["Left hippocampus"].dice is None


def test_sides_are_never_taken_for_each_other(images: list[Dataset], ours: Dataset) -> None:
    theirs = human_seg(images, [Drawn(LEFT_MASK, "Right hippocampus?", HIPPOCAMPUS, LEFT)])
    (pair,) = match(segments_of(ours), segments_of(theirs)).pairs
    assert pair[0].label == "Left hippocampus"


def test_labels_decide_where_codes_do_not(images: list[Dataset], ours: Dataset) -> None:
    drawn = [Drawn(LEFT_MASK, "left  HIPPOCAMPUS", BRAIN), Drawn(RIGHT_MASK, "x", BRAIN)]
    found = match(segments_of(ours), segments_of(human_seg(images, drawn)))
    assert [(one.label, two.number) for one, two in found.pairs] == [("Left hippocampus", 1), ("Brain", 2)]


def test_a_drawing_on_another_frame_of_reference_is_refused(images: list[Dataset], ours: Dataset) -> None:
    other = [slice_of(index, study="compare", FrameOfReferenceUID="1.2.3.4") for index in range(16)]
    with pytest.raises(GeometryMismatch, match="frames of reference"):
        compare_segs(ours, human_seg(other, [Drawn(BRAIN_MASK, "Brain")]))


def test_a_drawing_between_our_slices_is_refused_not_resampled(images: list[Dataset], ours: Dataset) -> None:
    between = [
        slice_of(index, study="compare", ImagePositionPatient=[-24, -24, index * 3 + 1.5]) for index in range(16)
    ]
    with pytest.raises(GeometryMismatch, match="another grid"):
        compare_segs(ours, human_seg(between, [Drawn(BRAIN_MASK, "Brain")]))


def test_other_pixels_are_refused(images: list[Dataset], ours: Dataset) -> None:
    fine = [slice_of(index, study="compare", size=32, spacing_mm=1.5) for index in range(16)]
    big = np.zeros((16, 32, 32), dtype=bool)
    big[4:8, 4:8, 4:8] = True
    with pytest.raises(GeometryMismatch, match="32 x 32"):
        compare_segs(ours, human_seg(fine, [Drawn(big, "Brain")]))


def test_a_damaged_drawing_is_refused_in_words(images: list[Dataset], ours: Dataset) -> None:
    theirs = human_seg(images, [Drawn(BRAIN_MASK, "Brain")])
    theirs.PixelData = theirs.PixelData[:4]
    with pytest.raises(UnreadableImage, match="cut short"):
        compare_segs(ours, theirs)


def test_an_algorithms_drawing_is_known(images: list[Dataset]) -> None:
    drawn = [Drawn(BRAIN_MASK, "Brain")]
    machine = segments_of(human_seg(images, drawn, algorithm="AUTOMATIC"))
    assert by_machine_alone(machine)
    assert not by_machine_alone((*machine, replace(machine[0], by_machine=False)))
    assert not by_machine_alone(segments_of(human_seg(images, drawn)))


def test_surfaces_of_large_masks_are_left_out(
    images: list[Dataset], ours: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medai.workers.feedback.seg.BOX_LIMIT", 10)
    theirs = human_seg(images, [Drawn(shifted(BRAIN_MASK), "Brain")])
    (row,) = [row for row in compare_segs(ours, theirs) if row.outcome == "matched"]
    assert row.hd95_mm is None
    assert row.dice is not None
