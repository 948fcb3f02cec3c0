"""Made studies are coherent, each its own, and the same for the same seed. Validators: integration/test_made_studies.py."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from medai.trials.scanner.sources import from_folder, head, radiograph, stacked_ct
from medai.trials.scanner.volumes import (
    SHIFT_PIXELS,
    Request,
    Template,
    age_years,
    grained,
    make_study,
    shifted,
    thinned,
)
from medai.trials.study import Patient, derive

DATA = Path(__file__).resolve().parents[5] / "shared" / "data"
CHEST = DATA / "ct_abdomen_CRLM"


@pytest.fixture(scope="module")
def templates() -> dict[str, Template]:
    """Small ones, of each modality."""
    ct = thinned(from_folder(CHEST, "CT"), every_nth=2, downsample=4) if CHEST.is_dir() else stacked_ct()
    return {"CT": ct, "MR": thinned(head(), every_nth=8, downsample=2), "CR": radiograph(ct)}


def request(seed: str = "s", **changes: str) -> Request:
    words = {"requested_procedure_id": "RP1", "scheduled_step_id": "SPS1", "procedure": "A study", **changes}
    return Request(
        patient=Patient(patient_id="P1", name="A^B", birth_date="19700131", sex="F"), accession="A1",
        study_uid=derive(seed, "study"), seed=seed, acquired_at=datetime(2026, 1, 5, 9, 0, tzinfo=UTC), **words,
    )  # fmt: skip


def images(template: Template, seed: str = "s", habits: tuple[str, ...] = ()) -> list[Dataset]:
    return list(chain.from_iterable(series.images for series in make_study(template, request(seed), habits=habits)))


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_study_is_coherent_and_the_same_for_the_same_seed(templates: dict[str, Template], modality: str) -> None:
    series = make_study(templates[modality], request(), habits=("localizer", "repeated_series"))
    every = [image for each in series for image in each.images]
    assert [each.name for each in series] == ["localizer", "main", "repeated"]
    assert len({image.SOPInstanceUID for image in every}) == len(every)
    assert len({image.SeriesInstanceUID for image in every}) == 3
    assert len({image.FrameOfReferenceUID for image in every}) == 1
    assert {image.StudyInstanceUID for image in every} == {derive("s", "study")}
    assert {(image.PatientID, image.AccessionNumber) for image in every} == {("P1", "A1")}
    again = make_study(templates[modality], request(), habits=("localizer", "repeated_series"))
    assert [image.to_json() for each in again for image in each.images] == [image.to_json() for image in every]


@pytest.mark.parametrize("modality", ["CT", "MR", "CR"])
def test_no_two_studies_are_the_same_and_neither_is_the_original(templates: dict[str, Template], modality: str) -> None:
    one = templates[modality]
    middle = len(one.headers) // 2
    small = Template(one.modality, one.source, one.headers[middle : middle + 1], one.pixels[middle : middle + 1])
    seen = {image.PixelData for number in range(80) for image in images(small, str(number), ("repeated_series",))}
    assert len(seen) == 160, "more than there are shifts, and a repeated series is another acquisition"
    originals = {str(header.SOPInstanceUID) for header in one.headers}
    assert not originals & {str(image.SOPInstanceUID) for image in images(one)}


@pytest.mark.parametrize(("kind", "padding"), [(np.int16, -2000), (np.uint16, None), (np.uint8, 0)])
def test_a_grain_is_of_one_value_and_stays_within_the_slice(kind: type[np.generic], padding: int | None) -> None:
    low, high = (-2000, 3071) if kind is np.int16 else (0, np.iinfo(kind).max)
    image = np.random.default_rng(1).integers(low, high + 1, (64, 64)).astype(kind)
    image[0, 0], image[0, 1], image[1] = low, high, low
    made = grained(image, "s", padding=padding)
    assert made.dtype == image.dtype
    assert set(np.unique(made.astype(int) - image)) == {-1, 0, 1}
    assert (made.min(), made.max()) == (low, high)
    assert np.array_equal(made[1], image[1]), "air and padding stay"
    if padding is not None:
        assert np.array_equal(made == padding, image == padding), "and nothing else becomes padding"
    assert np.array_equal(made, grained(image, "s", padding=padding))
    assert not np.array_equal(made, grained(image, "t", padding=padding))


def test_a_padding_value_within_the_range_stays_alone() -> None:
    image = np.random.default_rng(1).integers(0, 10, (64, 64)).astype(np.uint16)
    assert np.array_equal(grained(image, "s", padding=5) == 5, image == 5)


def test_slices_stay_where_they_belong_to_each_other(templates: dict[str, Template]) -> None:
    before = [float(header.ImagePositionPatient[2]) for header in templates["CT"].headers]
    after = [float(image.ImagePositionPatient[2]) for image in images(templates["CT"])]
    assert np.diff(after) == pytest.approx(np.diff(before), abs=1e-3)
    assert after[0] != before[0]


def test_compressed_images_hold_the_same_pixels(templates: dict[str, Template]) -> None:
    syntaxes = set()
    for seed in "abcdefghijklmnop":
        plain, packed = images(templates["CT"], seed)[3], images(templates["CT"], seed, ("compressed",))[3]
        assert np.array_equal(plain.pixel_array, packed.pixel_array)
        syntaxes.add(str(packed.file_meta.TransferSyntaxUID))
    assert syntaxes == {"1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"}, "by the seed"


def test_an_image_too_small_for_jpeg_2000_is_compressed_otherwise() -> None:
    tiny = thinned(stacked_ct(), every_nth=20, downsample=8)
    syntaxes = {images(tiny, seed, ("compressed",))[0].file_meta.TransferSyntaxUID for seed in "abcdefghijklmnop"}
    assert syntaxes == {"1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"}


def test_series_follow_each_other_at_the_scanners_pace() -> None:
    ct = thinned(stacked_ct(), every_nth=4, downsample=4)
    asked = replace(request(), image_s=0.5, pause_s=20.0)
    localizer, main = make_study(ct, asked, habits=("localizer",))
    assert [image.ContentTime for image in localizer.images] == ["090000", "090000.500000", "090001"]
    assert {image.SeriesTime for image in localizer.images} == {"090000"}
    assert {image.SeriesTime for image in main.images} == {"090021.500000"}
    assert main.images[-1].AcquisitionTime == "090026"
    assert {(image.StudyDate, image.StudyTime) for image in (*localizer.images, *main.images)} == {
        ("20260105", "090000")
    }
    assert {image.InstanceCreationDate for image in main.images} == {"20260105"}, "the original's is of 2004"


def test_what_was_true_of_the_original_alone_is_not_told(templates: dict[str, Template]) -> None:
    for template in templates.values():
        image = images(template)[0]
        assert "ImagesInAcquisition" not in image
        assert "PatientIdentityRemoved" not in image
        assert image.PatientAge == "055Y"
        assert "ReferencedPerformedProcedureStepSequence" not in image, "no step was told to a RIS"


def test_images_refer_to_the_order_and_to_the_performed_step() -> None:
    asked = replace(request(), performed=True)
    image = make_study(stacked_ct(), asked)[0].images[0]
    (step,) = image.ReferencedPerformedProcedureStepSequence
    assert step.ReferencedSOPInstanceUID == asked.performed_step_uid
    (order,) = image.RequestAttributesSequence
    assert (order.RequestedProcedureID, order.ScheduledProcedureStepID) == ("RP1", "SPS1")


@pytest.mark.parametrize(("born", "years"), [("19700104", 56), ("19700105", 56), ("19700106", 55)])
def test_an_age_is_in_whole_years(born: str, years: int) -> None:
    assert age_years(born, date(2026, 1, 5)) == years


@pytest.mark.parametrize("born", ["", "1970", "19700000", "0", "20270101"])
def test_a_birth_date_that_is_none_gives_no_age(born: str) -> None:
    assert age_years(born, date(2026, 1, 5)) is None


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")  # pydicom's remark
@pytest.mark.parametrize("born", ["1970", "20270101"])
def test_a_birth_date_that_is_none_costs_no_study(born: str) -> None:
    nobody = Patient(patient_id="P1", name="A^B", birth_date=born)
    small = thinned(stacked_ct(), every_nth=40, downsample=4)
    (image,) = make_study(small, replace(request(), patient=nobody))[0].images
    assert "PatientAge" not in image


def test_the_couch_moves_a_sagittal_slice_within_itself() -> None:
    whole = thinned(stacked_ct(), every_nth=20, downsample=8)
    for header in whole.headers:
        header.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    before = float(whole.headers[0].SliceLocation)
    image = images(whole)[0]
    assert float(image.SliceLocation) == pytest.approx(before, abs=1e-4)
    assert float(image.ImagePositionPatient[2]) != float(whole.headers[0].ImagePositionPatient[2])


def test_spacings_are_decimal_strings_that_fit() -> None:
    whole = stacked_ct()
    for header in whole.headers:
        header.PixelSpacing = [0.666666686534882, 0.699987828731537]
    thin = thinned(whole, every_nth=1, downsample=4).headers[0]
    assert all(len(str(value)) <= 16 for value in thin.PixelSpacing)
    assert [float(value) for value in thin.PixelSpacing] == pytest.approx([2.666666746139528, 2.799951314926148])


def test_habits_change_what_they_say(templates: dict[str, Template]) -> None:
    ct = templates["CT"]
    assert {image.AccessionNumber for image in images(ct, habits=("missing_accession",))} == {""}
    assert images(ct, habits=("wrong_body_part",))[0].BodyPartExamined != ct.body_part
    assert len(images(ct, habits=("discontinued",))) == len(ct.headers) // 2
    assert [image.ImageType[2] for image in images(ct, habits=("localizer",))[:3]] == ["LOCALIZER"] * 3


def test_a_thinned_template_says_its_new_grid() -> None:
    whole = stacked_ct()
    thin = thinned(whole, every_nth=4, downsample=2)
    assert thin.pixels.shape == (10, 64, 64)
    header = thin.headers[0]
    assert (header.Rows, header.Columns) == (64, 64)
    assert [float(v) for v in header.PixelSpacing] == [2 * float(v) for v in whole.headers[0].PixelSpacing]
    assert whole.headers[0].Rows == 128, "the original is left alone"


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (2, 0), (-1, 3), (SHIFT_PIXELS, -SHIFT_PIXELS)])
def test_a_shift_moves_the_anatomy_by_whole_pixels(rows: int, columns: int) -> None:
    image = np.zeros((9, 9), np.uint16)
    image[4, 4] = 7
    moved = shifted(image, rows, columns)
    assert moved.shape == image.shape
    assert np.argwhere(moved == 7).tolist() == [[4 + rows, 4 + columns]]


SEVERAL = """
import threading
from datetime import datetime, UTC
from medai.trials.scanner.sources import stacked_ct
from medai.trials.study import Patient, derive
from medai.trials.scanner.volumes import Request, make_study, thinned

template = thinned(stacked_ct(), every_nth=2, downsample=2)

def scan(scanner):
    for number in range(25):
        seed = f"{scanner} {number}"
        make_study(template, Request(patient=Patient(patient_id="P", name="A^B"), accession="A", seed=seed,
                   study_uid=derive(seed), acquired_at=datetime.now(UTC)), habits=("compressed",))

threads = [threading.Thread(target=scan, args=(scanner,)) for scanner in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.mark.slow
def test_several_scanners_may_compress_at_once() -> None:
    """In a process of its own: OpenJPEG's encoder ends the whole process where two threads are in it."""
    done = subprocess.run([sys.executable, "-c", SEVERAL], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
