"""Where templates come from, and what stands in where they are not here."""

from __future__ import annotations

from pathlib import Path

import pytest
from trial_cases import scenario

from medai.trials.scanner.sources import Sources, from_folder, radiograph, stacked_ct
from medai.trials.scanner.volumes import (
    Template,
)
from medai.trials.scenario import Case, ScenarioError


def test_a_radiograph_shows_head_up_and_dense_bright() -> None:
    ct = stacked_ct()
    pixels = ct.pixels.copy()
    pixels[-1] = pixels.max()  # dense at the head's end
    picture = radiograph(Template("CT", "x", ct.headers, pixels)).pixels[0]
    assert picture[0].mean() > picture[-1].mean()


def test_a_source_that_is_not_here_is_replaced_and_that_is_said() -> None:
    sources = Sources(data=None)
    case = scenario().cases[0].model_copy(update={"source": "data:somewhere"})
    assert sources.template(case).modality == "CT"
    assert "data:somewhere is not here (--data); made from pydicom's CT_small.dcm" in sources.told[0]


def test_a_folder_that_is_none_or_holds_nothing_is_told(tmp_path: Path) -> None:
    case = scenario().cases[0]
    with pytest.raises(ScenarioError, match="is not a folder"):
        Sources(data=None).template(Case.model_validate({**case.model_dump(), "source": str(tmp_path / "x")}))
    (tmp_path / "note.txt").write_text("no DICOM")
    with pytest.raises(ScenarioError, match="holds no CT series"):
        from_folder(tmp_path, "CT")
