"""Every attribute of the standard's table, and every kind that could name somebody, has its action."""

from __future__ import annotations

import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR, tag_for_keyword
from pydicom.tag import Tag

from medai.router.routing.identifying import IDENTIFYING
from medai.workers.outside.profile import Action, action_of, characteristic

REFERENCES = {"ReferencedImageSequence", "SourceImageSequence"}
"""Kept, as their UIDs become pseudonyms and whatever else is in them is treated as it is elsewhere."""


def test_what_a_condition_may_not_see_for_it_identifies_is_never_kept() -> None:
    """Two lists of the same table, made apart."""
    kept = {
        keyword
        for keyword in IDENTIFYING
        if (tag := tag_for_keyword(keyword)) is not None
        and action_of(Tag(tag), dictionary_VR(tag)) is Action.KEEP
    }  # fmt: skip
    assert kept == REFERENCES


def test_names_moments_free_text_and_addresses_are_kept_nowhere() -> None:
    kept = [
        hex(tag)
        for tag, (vr, *_) in DicomDictionary.items()
        if vr in ("PN", "DA", "DT", "TM", "LT", "ST", "UT", "UR", "AE", "UN", "UI")
        and action_of(Tag(tag), vr) is Action.KEEP
    ]
    assert kept == []


@pytest.mark.parametrize(
    "tag", [0x00091001, 0x00290010, 0x60000022, 0x60123000, 0x50002500, 0x04000500, 0x00080000, 0x00089999]
)
def test_private_unknown_drawn_and_encrypted_attributes_go(tag: int) -> None:
    assert action_of(Tag(tag), "LO") is Action.REMOVE


@pytest.mark.parametrize(
    ("keyword", "said", "sent"),
    [("PatientAge", "089Y", "089Y"), ("PatientAge", "101Y", "090Y"), ("PatientAge", "Doe", ""),
     ("PatientSex", "F", "F"), ("PatientSex", "Jane", ""), ("PatientWeight", "61.5 ", "61.5")],
)  # fmt: skip
def test_a_characteristic_is_one_or_nothing(keyword: str, said: str, sent: str) -> None:
    assert characteristic(keyword, said) == sent
