"""How tests are dealt out: whole modules, the longest first."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import dealing
import pytest

NAMES = sorted({*dealing.SPREAD, *dealing.TOGETHER, *dealing.TOGETHER.values(), *dealing.LONGEST_FIRST})


@pytest.mark.parametrize("name", NAMES)
def test_a_module_that_is_dealt_out_in_its_own_way_exists(name: str) -> None:
    assert dealing.exists(name)


def test_a_modules_tests_go_to_one_process_unless_they_share_nothing() -> None:
    one, other = "tests/unit/a/test_b.py::test_c", "tests/unit/a/test_b.py::test_d[x::y]"
    assert dealing.scope_of(one) == dealing.scope_of(other) == "unit/a/test_b.py"
    spread = next(iter(dealing.SPREAD))
    assert dealing.scope_of(f"tests/{spread}::test_e") != dealing.scope_of(f"tests/{spread}::test_f")
    for follower, leader in dealing.TOGETHER.items():
        assert dealing.scope_of(f"tests/{follower}::test_g") == dealing.scope_of(f"tests/{leader}::test_h")


def test_a_listed_test_is_dealt_out_before_the_rest_of_its_module() -> None:
    """Only where its module's tests may be played apart from each other."""
    listed = [name for name in dealing.LONGEST_FIRST if "::" in name]
    assert {name.partition("::")[0] for name in listed} <= dealing.SPREAD
    first = next(name for name in listed)
    items: list[Any] = [Mock(nodeid=f"tests/{name}") for name in ("unit/test_dealing.py::test_a", f"{first}[x]")]
    dealing.longest_first(items)
    assert items[0].nodeid == f"tests/{first}[x]"
