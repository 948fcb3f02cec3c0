"""Counts, as people say them."""

from __future__ import annotations

import pytest

from medai.training.words import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 cases"), (1, "1 case"), (2, "2 cases")])
def test_a_number_agrees_with_its_noun(number: int, said: str) -> None:
    assert counted(number, "case") == said
