"""One attribute at a time, whatever its bytes are; what cannot be read is told by its name, never by its value."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from medai.models.errors import NotAVolume
from medai.models.images.header import item, items, text, value, whole

SECRET = b"PLANTED-NAME"


def raw(keyword: str, vr: str, data: bytes) -> Dataset:
    """A dataset whose one element is as it came in a file, not yet converted."""
    dataset = Dataset()
    tag = Tag(keyword)
    dataset._dict[tag] = RawDataElement(tag, vr, len(data), data, 0, False, True, True)
    return dataset


def test_an_absent_attribute_has_the_default_and_no_text() -> None:
    assert value(Dataset(), "Rows", 5) == 5
    assert (text(Dataset(), "Modality"), whole(Dataset(), "Rows"), items(Dataset(), "ReferencedImageSequence")) == (
        "", None, [],
    )  # fmt: skip


@pytest.mark.parametrize(("keyword", "vr"), [("InstanceNumber", "IS"), ("Rows", "US")])
def test_bytes_that_are_no_value_are_told_by_the_attributes_name_alone(keyword: str, vr: str) -> None:
    with pytest.raises(NotAVolume) as told:
        value(raw(keyword, vr, SECRET + b"!"), keyword)
    assert SECRET.decode() not in str(told.value)
    assert str(told.value).startswith("an image has an unreadable ")


@pytest.mark.parametrize(("given", "expected"), [(7, 7), ("", None), (7.0, 7)])
def test_a_whole_number_is_one_however_it_is_written(given: object, expected: int | None) -> None:
    dataset = Dataset()
    dataset.add_new("Rows", {int: "US", float: "FD", str: "LO"}[type(given)], given)
    assert whole(dataset, "Rows") == expected


@pytest.mark.parametrize("given", [7.5, float("inf"), float("nan")])
def test_half_a_row_is_no_number_of_rows(given: float) -> None:
    dataset = Dataset()
    dataset.add_new("Rows", "FD", given)
    with pytest.raises(NotAVolume, match="an image has an unreadable Rows"):
        whole(dataset, "Rows")


def test_text_in_place_of_a_sequence_is_unreadable() -> None:
    dataset = Dataset()
    dataset.add_new("ReferencedImageSequence", "LO", "text")
    with pytest.raises(NotAVolume, match="unreadable Referenced Image Sequence"):
        items(dataset, "ReferencedImageSequence")
    with pytest.raises(NotAVolume, match="unreadable Referenced Image Sequence"):
        item(dataset, "ReferencedImageSequence", 0)


def test_one_item_is_found_by_its_place_and_none_behind_the_last() -> None:
    dataset, first = Dataset(), Dataset()
    first.Rows = 3
    dataset.ReferencedImageSequence = [first]
    found = item(dataset, "ReferencedImageSequence", 0)
    assert found is not None
    assert found.Rows == 3
    assert item(dataset, "ReferencedImageSequence", 1) is None
