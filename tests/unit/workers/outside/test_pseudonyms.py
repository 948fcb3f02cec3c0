"""Pseudonyms are the same each time for a purpose, and say nothing without the key."""

from __future__ import annotations

import pytest
from pydicom.uid import UID, CTImageStorage

from medai.workers.outside.pseudonyms import Pseudonyms


def test_they_follow_from_key_purpose_and_uid_alone() -> None:
    uid = "1.2.3.4"
    made = Pseudonyms(b"k" * 16, "job").uid(uid)
    assert UID(made).is_valid
    assert made == Pseudonyms(b"k" * 16, "job").uid(uid)
    others = {Pseudonyms(b"l" * 16, "job").uid(uid), Pseudonyms(b"k" * 16, "other").uid(uid)}
    assert len({made, *others}) == 3


def test_uids_of_the_standard_stay_and_are_not_in_the_map() -> None:
    pseudonyms = Pseudonyms(b"k" * 16, "job")
    assert pseudonyms.uid(CTImageStorage) == CTImageStorage
    assert pseudonyms.uid("") == ""
    assert not pseudonyms.originals


def test_the_parts_of_what_is_hashed_cannot_be_moved() -> None:
    pseudonyms = Pseudonyms(b"k" * 16, "job")
    assert pseudonyms.patient("ab", "c") != pseudonyms.patient("a", "bc")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        Pseudonyms(b"short", "job")
