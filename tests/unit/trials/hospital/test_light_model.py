"""The small models of a trial are bundles like any other."""

from __future__ import annotations

from pathlib import Path

from medai.trials.hospital import light_model


def test_the_small_models_are_what_the_registry_loads(tmp_path: Path) -> None:
    from medai.models.registry import Registry

    light_model.write_models(tmp_path)
    found = Registry([tmp_path]).describe()
    assert [(each.name, each.available) for each in found] == [("trial_ct", True), ("trial_mr", True)]
