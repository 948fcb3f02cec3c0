"""The rules of pyproject.toml on who imports whom: each bites, and there is no circle, not even of types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import grimp
import pytest
from import_rules import AllowedContract
from importlinter.api import read_configuration
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract

ROOT = Path(__file__).resolve().parents[2]
KINDS = {kind.type_name: kind for kind in (AllowedContract, LayersContract, AcyclicSiblingsContract, ForbiddenContract)}
TOPS = ("router", "workers", "models", "hl7_mock", "trials", "training")
CIRCLES, IMAGING = "acyclic_siblings", "forbidden"
ROUTER, WORKERS, MODELS, RIS, TRIALS, TRAINING = (
    f"medai.{top}" for top in ("router", "workers", "models", "hl7_mock", "trials", "training")
)
FLOORS, OF_MODELS, OF_TRAINING, OF_TRIALS, OF_RESULTS = (
    f"layers of {inside}" for inside in (ROUTER, MODELS, TRAINING, TRIALS, f"{WORKERS}.results")
)
"""A rule by its type; one of type "allowed" by the package that it is for, one of layers by what it divides."""


@pytest.fixture(scope="module")
def configured() -> dict[str, Any]:
    return read_configuration(str(ROOT / "pyproject.toml"))


@pytest.fixture(scope="module")
def house(configured: dict[str, Any]) -> grimp.ImportGraph:
    """Every import that is written down, also those for types alone."""
    names = configured["session_options"]["root_packages"]
    return grimp.build_graph(*names, include_external_packages=True, cache_dir=None)


@pytest.fixture
def broken_by(configured: dict[str, Any]) -> Callable[[str, grimp.ImportGraph], bool]:
    """``broken_by(rule, graph)``: whether a graph breaks a rule."""

    def check(rule: str, graph: grimp.ImportGraph) -> bool:
        (options,) = [each for each in configured["contracts_options"] if rule in names_of(each)]
        given = {key: value for key, value in options.items() if key not in ("name", "type", "id")}
        contract = KINDS[options["type"]](rule, configured["session_options"], given)
        return not contract.check(deepcopy(graph), verbose=False).kept  # it takes ignored imports out

    return check


def names_of(options: Mapping[str, Any]) -> list[str]:
    """What the tests call a rule."""
    inside = [f"layers of {container}" for container in options.get("containers", ())]
    return inside or [options["type"], options.get("source", "")]


@pytest.mark.parametrize(
    ("rule", "importer", "imported"),
    [
        (FLOORS, "ledger.schema", "reports.readings"),
        (FLOORS, "orthanc.client", "routing.rules"),
        (FLOORS, "console.app", "daemon.loop"),
        (FLOORS, "contract", "errors"),
        (FLOORS, "contract", "settings.tables"),
        (OF_MODELS, "medai.models.format.bundle", "medai.models.networks.runners"),
        (OF_MODELS, "medai.models.images.slices", "medai.models.networks.sliding"),
        (OF_MODELS, "medai.models.registry", "medai.models.foreign.adding"),
        (OF_TRAINING, "medai.training.fitting.series_kind", "medai.training.export.card"),
        (OF_TRAINING, "medai.training.data.datasets", "medai.training.runs"),
        (OF_TRIALS, "medai.trials.hospital.site", "medai.trials.report.page"),
        (OF_RESULTS, "medai.workers.results.oru", "medai.workers.results.sr"),
        (OF_RESULTS, "medai.workers.results.context", "medai.workers.results.encode"),
        (WORKERS, "medai.workers.fetch", "console.api"),
        (WORKERS, "medai.workers.fetch", "queue.dispatch"),
        (WORKERS, "medai.workers.results.seg", "routing.rules"),
        (WORKERS, "medai.workers.process", "medai.training.cases"),
        (MODELS, "medai.models.registry", "contract"),
        (RIS, "medai.hl7_mock.mllp", "hl7.mllp"),
        (TRIALS, "medai.trials.box", "orthanc.client"),
        (TRIALS, "medai.trials.box", "medai.workers.cli"),
        (TRAINING, "medai.training.cli", "errors"),
        (ROUTER, "cli.main", "medai.workers.cli"),
        (IMAGING, "reports.search", "numpy"),
        (CIRCLES, "errors", "cli.main"),
    ],
)
def test_a_wrong_import_breaks_its_rule(
    broken_by: Callable[[str, grimp.ImportGraph], bool],
    house: grimp.ImportGraph, rule: str, importer: str, imported: str,
) -> None:  # fmt: skip
    def named(name: str) -> str:
        return name if name.startswith("medai.") or name == "numpy" else f"medai.router.{name}"

    graph = deepcopy(house)
    for name in (importer, imported):
        assert named(name) in graph.modules, "the rule is tried on modules that are there"
    assert not broken_by(rule, graph)
    graph.add_import(importer=named(importer), imported=named(imported))
    assert broken_by(rule, graph)


def test_a_new_room_has_to_be_given_a_floor(
    broken_by: Callable[[str, grimp.ImportGraph], bool], house: grimp.ImportGraph
) -> None:
    graph = deepcopy(house)
    assert not broken_by(FLOORS, graph)
    graph.add_module("medai.router.attic")
    assert broken_by(FLOORS, graph)


def test_a_room_that_the_list_names_and_nobody_has_breaks_the_rule() -> None:
    graph = grimp.ImportGraph()
    for name in ("house", "house.kitchen", "house.cellar", "house.cellar.shelf", "house.kitchenette"):
        graph.add_module(name)
    rule = {"source": "house.kitchen", "within": "house", "allowed_modules": ["house.cellar"]}
    assert AllowedContract("rule", {}, rule).check(graph, verbose=False).kept
    graph.add_import(importer="house.kitchen", imported="house.cellar.shelf")
    assert AllowedContract("rule", {}, rule).check(graph, verbose=False).kept
    graph.add_import(importer="house.kitchen", imported="house.kitchenette")
    assert not AllowedContract("rule", {}, rule).check(graph, verbose=False).kept, "a name that begins alike is another"
    gone = {**rule, "allowed_modules": ["house.cellar", "house.kitchenette", "house.attic"]}
    found = AllowedContract("rule", {}, gone).check(graph, verbose=False)
    assert found.metadata == {"unknown": ["house.attic"], "wrong": []}


@pytest.mark.parametrize("top", TOPS)
def test_no_modules_import_each_other_in_a_circle_not_even_for_types(house: grimp.ImportGraph, top: str) -> None:
    inside = {name for name in house.modules if name.startswith(f"medai.{top}")}
    arrows = {name: house.find_modules_directly_imported_by(name) & inside for name in inside}
    assert circles(arrows) == []


@pytest.mark.parametrize("top", TOPS)
def test_no_rooms_import_each_other_in_a_circle_not_even_for_types(house: grimp.ImportGraph, top: str) -> None:
    arrows: dict[str, set[str]] = {}
    for importer in (name for name in house.modules if name.startswith(f"medai.{top}.")):
        for imported in house.find_modules_directly_imported_by(importer):
            if imported.startswith(f"medai.{top}.") and room(importer) != room(imported):
                arrows.setdefault(room(importer), set()).add(room(imported))
    assert circles(arrows) == []


def room(name: str) -> str:
    return name.split(".")[2]


def circles(arrows: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """What is left, in parts that hang together, when each name that nothing leads to or from is taken away."""
    left = {name: set(to) for name, to in arrows.items()}
    while True:
        targets = set().union(*left.values()) if left else set()
        kept = {name: to & left.keys() for name, to in left.items() if to & left.keys() and name in targets}
        if kept == left:
            break
        left = kept
    parts: list[set[str]] = []
    for name, to in left.items():
        touching = [part for part in parts if part & {name, *to}]
        parts = [part for part in parts if part not in touching]
        parts.append({name, *to}.union(*touching))
    return sorted(parts, key=sorted)


def test_the_search_for_circles_finds_them() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": []}) == []
    assert circles({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}) == [{"a", "b", "c"}]
    assert circles({"a": ["b"], "b": ["a"], "c": ["d"], "d": ["c"]}) == [{"a", "b"}, {"c", "d"}]
