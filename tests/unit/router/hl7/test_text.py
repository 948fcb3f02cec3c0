"""Characters, escapes and times of HL7."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medai.router.hl7.text import escape, moment, unescape


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("20240301100000+0100", 1709283600.0),
        ("20240301090000.25+0000", 1709283600.25),
        ("202403010900-0000", 1709283600.0),
        ("202403010400-0500", 1709283600.0),
        ("", None),
        ("2024", None),
        ("20241399", None),
        ("yesterday", None),
    ],
)
def test_times_are_read_with_their_zone(written: str, seconds: float | None) -> None:
    assert moment(written) == seconds


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_escaped_text_comes_back_unchanged(words: str) -> None:
    assert unescape(escape(words)) == words
    assert not set("|^~&") & set(escape(words))
