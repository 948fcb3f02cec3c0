"""How tests are dealt out to the processes that play them side by side (pytest-xdist).

A module's tests share its servers and what it trained, so whole modules are dealt out, the longest first: what begins last is
then short, and the processes end together. Modules whose tests share nothing that costs are dealt out test by test.
Next: conftest.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

SPREAD = frozenset(
    {
        "integration/test_bad_input.py",
        "integration/test_stranger_cases.py",
        "unit/models/foreign/test_adding.py",
        "unit/models/images/test_any_form.py",
        "unit/router/ledger/test_orders.py",
        "unit/test_set_up_script.py",
    }
)
"""Their tests share nothing that costs more than seconds: each may be played anywhere."""
TOGETHER = {"chaos/test_mutants.py": "chaos/test_chaos.py"}
"""One process begins both."""
LONGEST_FIRST = (
    "chaos/test_chaos.py",
    "acceptance/test_trials.py",
    "acceptance/test_system.py",
    "acceptance/test_readme.py",
    "unit/training/etl/test_command.py",
    "unit/router/ledger/test_orders.py::test_nor_do_ten_thousand",
    "acceptance/test_console.py",
    "integration/test_made_studies.py",
    "integration/test_stranger_cases.py::test_every_transfer_syntax_of_the_field_gives_the_values_of_the_plain_form",
    "integration/test_training_hippocampus.py",
    "integration/test_wheel.py",
    "unit/models/images/test_any_form.py::test_so_have_three_thousand",
    "acceptance/test_burst.py",
    "integration/test_foreign_models.py",
    "integration/test_documented_commands.py",
    "integration/test_benchmarks.py",
    "integration/test_stranger_cases.py",
    "integration/test_bad_input.py",
    "integration/test_mock_ris.py",
    "integration/test_api_fuzz.py",
    "integration/test_worker.py",
    "integration/test_ris_dicom.py",
    "integration/test_supersede.py",
    "integration/test_feedback.py",
    "integration/test_results_validators.py",
    "integration/test_ledger.py",
    "integration/test_recode.py",
    "integration/test_router.py",
    "unit/trials/scanner/test_volumes.py",
    "unit/test_conformance.py",
    "unit/models/segmenters/test_load.py",
    "unit/models/foreign/test_adding.py",
    "unit/trials/report/test_page.py",
    "unit/training/data/test_template.py",
    "unit/training/fitting/test_fit.py",
    "unit/test_images.py",
)
"""Modules and tests that take longest, in about that order; all others follow in the order of their names."""


def processes() -> int:
    """One more than there are processors, since many tests wait for a server; fewer where memory is short."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return max(1, min(len(os.sched_getaffinity(0)) + 1, int(memory_gb / 2.5)))


def module_of(nodeid: str) -> str:
    """A test's module below tests/, from its id."""
    return nodeid.partition("::")[0].removeprefix("tests/")


def scope_of(nodeid: str) -> str:
    """Tests of one scope are played by one process, one after another."""
    module = module_of(nodeid)
    return nodeid if module in SPREAD else TOGETHER.get(module, module)


def longest_first(items: list[pytest.Item]) -> None:
    """Sort tests as they are to be dealt out; within a module they keep their order, but for those that are listed."""
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}

    def place(item: pytest.Item) -> int:
        module = module_of(item.nodeid)
        alone = item.nodeid.partition("[")[0].removeprefix("tests/")
        return places.get(alone, places.get(TOGETHER.get(module, module), len(places)))

    items.sort(key=place)


class Dealer(LoadScopeScheduling):
    """Deals out scopes in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def exists(name: str) -> bool:
    """Whether a name in these tables is a module of the tests, or a test of one."""
    module, _, test = name.partition("::")
    path = Path(__file__).parent / module
    return path.is_file() and f"def {test}(" in path.read_text(encoding="utf-8") if test else path.is_file()
