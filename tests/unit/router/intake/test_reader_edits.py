"""Which objects are edits: told by what they refer to, and never one of ours."""

from __future__ import annotations

from typing import Any, cast

import pytest
from edit_rows import edit_of, read, see

from medai.router.errors import OrthancBroke, OrthancRefused, PermanentError
from medai.router.intake.reader_edits import Recogniser, reading_of, references
from medai.router.ledger import Ledger
from medai.router.ledger.edits import Reading
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import ResultSettings

SERIES = "1.2.3.1"
BASE = {"SOPInstanceUID": "9.9.9", "SeriesInstanceUID": "9.9", "Manufacturer": "Desk", "ManufacturerModelName": "Pen"}
REFERS = {"ReferencedSeriesSequence": [{"SeriesInstanceUID": SERIES}]}


def reading(job_id: str, *, series: str = SERIES, objects: tuple[str, ...] = ()) -> Reading:
    return Reading(
        job_id=job_id, route="r", slot="", model="m", series=frozenset({f"s-{job_id}"}),
        series_uids=frozenset({series}), objects=frozenset(objects),
    )  # fmt: skip


def test_references_are_found_at_any_depth_and_the_objects_own_uids_are_none() -> None:
    tags = {
        **BASE,
        "CurrentRequestedProcedureEvidenceSequence": [
            {
                "ReferencedSeriesSequence": [
                    {"SeriesInstanceUID": "1", "ReferencedSOPSequence": [{"ReferencedSOPInstanceUID": "2"}]}
                ]
            }
        ],
    }
    assert references(tags) == ({"1"}, {"2"})


def test_the_reading_that_is_named_goes_before_a_newer_one_of_the_same_series() -> None:
    newer, named = reading("new"), reading("old", objects=("7.7",))
    tags = {**REFERS, "SourceImageSequence": [{"ReferencedSOPInstanceUID": "7.7"}]}
    found = reading_of(tags, [newer, named])
    assert found is not None
    assert found.job_id == "old"
    first = reading_of(REFERS, [newer, named])
    assert first is not None
    assert first.job_id == "new"
    assert reading_of({"ReferencedSeriesSequence": [{"SeriesInstanceUID": "8"}]}, [newer, named]) is None


class Archive:
    """One SEG."""

    def __init__(self, tags: dict[str, Any], modality: str = "SEG") -> None:
        self.tags_of, self.modality, self.asked = tags, modality, 0
        self.fault: Exception | None = None

    def series_of(self, _resources: list[str]) -> list[dict[str, Any]]:
        return [{"ID": "x", "MainDicomTags": {"Modality": self.modality}, "Instances": ["i1"]}]

    def md5(self, _name: str) -> str:
        return "d1"

    def tags(self, _name: str) -> dict[str, Any]:
        self.asked += 1
        if self.fault:
            raise self.fault
        return self.tags_of

    def instances(self, series: str) -> list[dict[str, Any]]:
        assert series == "s-1.2.3"
        return [{"MainDicomTags": {"SOPInstanceUID": "5.5"}}]


def recogniser(archive: Archive, ledger: Ledger) -> Recogniser:
    return Recogniser(cast(Orthanc, archive), ledger, ResultSettings())


def test_a_seg_on_the_series_that_was_read_is_an_edit_of_that_reading(ledger: Ledger) -> None:
    job_id = read(ledger)
    (edit,) = recogniser(Archive({**BASE, **REFERS}), ledger).look("o-1.2.3")
    assert (edit.job_id, edit.kind, edit.named, edit.tool, edit.sop_uid) == (job_id, "seg", False, "Desk Pen", "9.9.9")


def test_one_that_names_images_alone_is_found_by_them(ledger: Ledger) -> None:
    read(ledger)
    by_images = {**BASE, "SourceImageSequence": [{"ReferencedSOPInstanceUID": "5.5"}]}
    assert len(recogniser(Archive(by_images), ledger).look("o-1.2.3")) == 1
    others = {**BASE, "SourceImageSequence": [{"ReferencedSOPInstanceUID": "6.6"}]}
    assert recogniser(Archive(others), ledger).look("o-1.2.3") == []
    assert recogniser(Archive(BASE), ledger).look("o-1.2.3") == [], "it refers to nothing"


def test_nothing_is_asked_where_nothing_was_read(ledger: Ledger) -> None:
    archive = Archive({**BASE, **REFERS})
    assert recogniser(archive, ledger).look("o-1.2.3") == []
    assert archive.asked == 0


def test_a_known_edit_is_not_looked_at_again(ledger: Ledger) -> None:
    see(ledger, edit_of(read(ledger)), orthanc_id="i1")
    archive = Archive({**BASE, **REFERS})
    assert recogniser(archive, ledger).look("o-1.2.3") == []
    assert archive.asked == 0


def test_results_of_another_med_ai_and_copies_of_ours_are_no_edits(ledger: Ledger) -> None:
    read(ledger)
    results = ResultSettings()
    equipment = {"Manufacturer": results.manufacturer, "ManufacturerModelName": results.device_name}
    ours = {**BASE, **REFERS, **equipment, "SoftwareVersions": "med-ai 0.1.0\\mr_brain 1"}
    assert recogniser(Archive(ours), ledger).look("o-1.2.3") == []
    assert recogniser(Archive({**BASE, **REFERS, "SOPInstanceUID": "9.1"}), ledger).look("o-1.2.3") == []
    assert len(recogniser(Archive({**ours, "SoftwareVersions": "pencil 2"}), ledger).look("o-1.2.3")) == 1


def test_images_are_no_edits(ledger: Ledger) -> None:
    read(ledger)
    assert recogniser(Archive({**BASE, **REFERS}, "MR"), ledger).look("o-1.2.3") == []


def test_a_header_that_breaks_orthanc_is_not_asked_for_for_ever(ledger: Ledger) -> None:
    read(ledger)
    archive = Archive({**BASE, **REFERS})
    archive.fault = OrthancBroke("Orthanc answered 500")
    one = recogniser(archive, ledger)
    for _ in range(2):
        with pytest.raises(OrthancBroke):
            one.look("o-1.2.3")
    assert one.look("o-1.2.3") == []


@pytest.mark.parametrize("fault", [PermanentError("nested"), OrthancRefused("gone", status=404)])
def test_what_is_nested_too_deeply_or_gone_is_passed_over(ledger: Ledger, fault: Exception) -> None:
    read(ledger)
    archive = Archive({**BASE, **REFERS})
    archive.fault = fault
    assert recogniser(archive, ledger).look("o-1.2.3") == []
