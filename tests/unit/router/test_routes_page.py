"""Every example of docs/routes.md is a configuration that the router would start with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from medai.router.contract import OrthancId, SeriesFacts, SeriesUID, StudyFacts, StudyUID
from medai.router.routing.conditions import Condition
from medai.router.routing.rules import Rules
from medai.router.settings.tables import Settings

PAGE = Path(__file__).resolve().parents[3] / "docs" / "routes.md"
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def head_scan() -> StudyFacts:
    attributes = {
        "Modality": "MR", "SeriesNumber": 2, "Orientation": "sagittal", "ImageType": ("ORIGINAL", "PRIMARY"),
        "MRAcquisitionType": "3D", "SeriesDescription": "T1 MPRAGE",
    }  # fmt: skip
    series = SeriesFacts(series_uid=SeriesUID("1.2.3"), orthanc_id=OrthancId("s"), instances=176, attributes=attributes)
    study = {"Modality": "MR", "BodyPartExamined": "BRAIN"}
    return StudyFacts(study_uid=StudyUID("1.2"), orthanc_id=OrthancId("o"), attributes=study, series=(series,))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_configuration_that_compiles(example: str) -> None:
    settings = Settings(**tomllib.loads(example))
    assert settings.routes
    rules = Rules(settings.routes, settings.routing)
    expected = any("MR" in route.when for route in settings.routes)
    verdicts = rules.match(head_scan())
    assert any(verdict.matched for verdict in verdicts) == expected, [v.reason for v in verdicts]


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 8


def test_the_snippets_of_the_tables_are_conditions() -> None:
    cells = re.findall(r"^\| [^|]+ \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    snippets = [part.replace("\\|", "|") for cell in cells for part in re.findall(r"`([^`]+)`", cell)]
    conditions = [
        part for part in snippets if re.search(r"\b(study|series|s)\.[A-Za-z]", part) and re.search(r"[(=<]| in ", part)
    ]
    assert len(conditions) >= 8
    for text in conditions:
        Condition(text, names=frozenset({"study", "series", "s"}), place="docs/routes.md")
