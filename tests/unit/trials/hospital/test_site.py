"""The site of a trial has the trial's routes, models and objectives."""

from __future__ import annotations

from pathlib import Path

from trial_cases import SCENARIO, scenario

from medai.trials.hospital.record import WITH_AI, WITHOUT_AI
from medai.trials.hospital.site import configured
from medai.trials.scenario import parse


def test_the_site_reads_what_the_trial_reads(tmp_path: Path) -> None:
    first = '[orthanc]\nurl = "x"\n\n# A comment on the route.\n[[routes]]\nname = "old"\n'
    text = configured(first, tmp_path, scenario(), WITH_AI, [("CT", "CHEST"), ("CR", "CHEST")])
    assert 'name = "trial-ct"' in text
    assert 'in ["", "CHEST"]' in text
    assert '"old"' not in text
    assert "A comment" not in text
    assert "trial-cr" not in text, "radiographs are kept and not read"
    none = configured(first, tmp_path, scenario(), WITHOUT_AI, [])
    assert 'study.Modality == "NONE"' in none
    shipped = parse(SCENARIO + '[system]\nmodels = "shipped"\n', "x")
    assert '"old"' in configured(first, tmp_path, shipped, WITH_AI, []), "the site's own routes"
