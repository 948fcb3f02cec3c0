"""The runs of the harness that the tests judge. Next: conftest.py (begins them), runner.py (plays them)."""

from __future__ import annotations

from pathlib import Path

from chaos.cli import each_once
from chaos.mutants import MUTANTS
from chaos.nursery import Nurseries
from chaos.runner import Played, Playing, Wish

EACH = "each"


class Run:
    """One run under way, and what it said so far."""

    def __init__(self, name: str, folder: Path, nurseries: Nurseries) -> None:
        self.said: list[str] = []
        self._playing = Playing(wish_of(name, folder), self.said.append, nurseries)

    def result(self) -> Played:
        """Wait for its end."""
        return self._playing.result()

    def close(self) -> None:
        """Nothing of it runs on."""
        self._playing.close()


def wish_of(name: str, folder: Path) -> Wish:
    """Each fault once, or the mutant of this name until it is caught."""
    if name == EACH:
        return each_once(Wish(folder=folder, rounds=0, seed=1, lanes=4, studies=3))
    only = (MUTANTS[name].caught_by,)
    return Wish(folder=folder, rounds=4, seed=1, only=only, mutant=name, ledger="sqlite", stop=True)
