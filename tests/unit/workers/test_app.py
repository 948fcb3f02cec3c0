"""What a worker tells the ledger of its models when it starts."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from medai.models.errors import ModelFailed, ModelUnavailable
from medai.models.registry import Registry
from medai.router.settings.tables import Settings
from medai.workers.app import _card, outside_cards, preload


def test_a_model_that_can_run_brings_its_card_its_figures_and_its_reference() -> None:
    registry = Registry()
    (model,) = [each for each in registry.describe() if each.name == "mr_hippocampus"]
    told = _card(registry, model)
    assert (told.name, told.version) == ("mr_hippocampus", model.version)
    assert told.own is not None
    assert told.own.reference is not None
    assert "Hippocampus" in told.own.text
    assert "Dice" in told.own.figures
    assert told.own.reference["cases"] > 100
    assert told.own.missing == ""


def test_a_model_that_can_t_run_has_no_card_as_its_version_is_not_known() -> None:
    registry = Registry()
    told = _card(registry, replace(registry.describe()[0], card=None, available=False, reason="no weights"))
    assert told.own is None
    assert told.reason == "no weights"


@pytest.mark.parametrize("error", [ModelUnavailable("no weights"), ModelFailed("its process was ended by signal 11")])
def test_a_model_that_can_t_be_loaded_keeps_no_other_from_it(error: Exception) -> None:
    loaded: list[str] = []

    def load(name: str) -> None:
        if name == "broken":
            raise error
        loaded.append(name)

    routes = [{"name": name, "when": "true", "model": name} for name in ("broken", "good")]
    preload(SimpleNamespace(load=load, guard=lambda _: None), Settings(routes=routes))
    assert loaded == ["good"]


def test_an_ai_outside_is_announced_as_a_model_without_a_card() -> None:
    (card,) = outside_cards(Settings(outside={"theirs": {"stow_url": "https://ai.example/dicom-web"}}))
    assert (card.name, card.version, card.available, card.own) == ("theirs", "outside", True, None)
