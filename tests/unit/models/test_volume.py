"""What the checks of a result come to, in one verdict and one line."""

from __future__ import annotations

import numpy as np
import pytest

from medai.models.geometry import Geometry
from medai.models.volume import Check, ModelCard, Plausibility, Segmentation

GOOD = Check(name="a", passed=True, text="a is as expected")
BAD = Check(name="b", passed=False, text="b is too large")
SKIPPED = Check(name="c", passed=None, text="c was not found")


@pytest.mark.parametrize(
    ("findings", "checks", "verdict", "summary"),
    [
        ((), (GOOD, GOOD), "plausible", "2 of 2 checks passed"),
        ((), (GOOD, SKIPPED), "plausible", "1 of 1 checks passed, 1 could not be made"),
        ((), (SKIPPED,), "check", "0 of 0 checks passed, 1 could not be made"),
        ((), (GOOD, BAD), "check", "1 of 2 checks passed"),
        (("a note",), (GOOD,), "check", "1 of 1 checks passed"),
        ((), (), "check", "nothing was checked"),
    ],
)
def test_a_result_is_plausible_only_when_something_passed_and_nothing_speaks_against_it(
    findings: tuple[str, ...], checks: tuple[Check, ...], verdict: str, summary: str
) -> None:
    found = Plausibility(findings=findings, checks=checks)
    assert (found.verdict, found.summary) == (verdict, summary)


def test_a_check_that_did_not_pass_becomes_a_warning_and_the_others_do_not() -> None:
    geometry = Geometry(
        origin_mm=(0, 0, 0), direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), spacing_mm=(1, 1, 1), shape=(1, 1, 1)
    )
    plain = Segmentation(
        labels=np.zeros((1, 1, 1), np.uint8),
        segments=(),
        geometry=geometry,
        model=ModelCard(name="m", title="M", version="1", fingerprint="0" * 64),
        warnings=("first",),
    )
    found = plain.checked(GOOD).checked(BAD).checked(SKIPPED)
    assert found.warnings == ("first", "b is too large")
    assert found.checks == (GOOD, BAD, SKIPPED)
    assert found.plausibility.verdict == "check"
    assert plain.checks == (), "the one before is as it was"
