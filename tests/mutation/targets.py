"""The modules that are tried, and the tests that have to notice. Next: changes.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Tests:
    """A module's own tests: ``files`` of one folder, and the topmost folder whose conftest.py they need."""

    files: tuple[str, ...]
    fixtures_from: str


def _unit(folder: str, *names: str, fixtures_from: str = "") -> Tests:
    place = f"tests/unit/{folder}"
    return Tests(files=tuple(f"{place}/test_{name}.py" for name in names), fixtures_from=fixtures_from or place)


TARGETS: Mapping[str, Tests] = {
    "router/routing/rules.py": _unit("router/routing", "rules"),
    "router/routing/completeness.py": _unit("router/routing", "completeness"),
    "router/routing/conditions.py": _unit("router/routing", "conditions"),
    "router/routing/condition_values.py": _unit("router/routing", "conditions"),
    "router/ledger/transitions.py": _unit("router/ledger", "transition_values", "transitions", fixtures_from="tests"),
    "models/geometry.py": _unit("models", "geometry"),
    "workers/results/measure.py": _unit("workers/results", "measure"),
    "workers/results/context.py": _unit("workers/results", "context"),
    "workers/results/hl7_text.py": _unit("workers/results", "hl7_text"),
    "workers/results/oru.py": _unit("workers/results", "oru"),
}
"""Module -> its own tests; what only tests from far away notice counts as a survivor."""
