"""The import rule that import-linter lacks: of what is ours, a package imports itself and what a list names, no more.

A list of what is forbidden forgets each room that is added later; this one forbids it until somebody writes it down.
Used by pyproject.toml ([tool.importlinter]). Next: unit/test_import_rules.py (that the rules bite).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowedContract(Contract):
    """``source`` imports, of the modules in ``within``, only itself and those in ``allowed_modules`` (and in them)."""

    type_name = "allowed"

    source = fields.StringField()
    within = fields.StringField()
    allowed_modules = fields.ListField(subfield=fields.StringField(), required=False, default=[])

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Broken by each direct import that is not allowed, and by a name in the list that nothing has."""
        allowed = [str(self.source), *map(str, self.allowed_modules)]  # type: ignore[call-overload]
        unknown = sorted(name for name in allowed if name not in graph.modules)
        wrong = sorted(
            (importer, imported)
            for importer in _inside(graph.modules, [str(self.source)])
            for imported in _inside(graph.find_modules_directly_imported_by(importer), [str(self.within)])
            if not any(_inside([imported], allowed))
        )
        return ContractCheck(kept=not unknown and not wrong, metadata={"unknown": unknown, "wrong": wrong})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Each import, by importer."""
        metadata: dict[str, Any] = dict(check.metadata)
        for name in metadata["unknown"]:
            output.print_error(f"{name} is named by the rule, and there is no such module")
        for importer, imported in metadata["wrong"]:
            output.print_error(f"{importer} may not import {imported}")


def _inside(names: Iterable[str], roots: list[str]) -> Iterator[str]:
    return (name for name in names if any(name == root or name.startswith(f"{root}.") for root in roots))
