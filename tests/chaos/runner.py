"""Deal the rounds out to lanes, each a whole system of its own, and play them side by side.

Which fault strikes in which round follows from the seed alone (``deal``). Next: rounds.py (one round).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from chaos.checks import Violation
from chaos.faults import FAULTS
from chaos.model import make_models
from chaos.nursery import Nurseries
from chaos.rounds import Outcome, play, wait_for_verdict
from chaos.site import Site, remove
from chaos.studies import Study

ALL_EVERY = 25
"""After so many rounds of a lane every study that it ever read is judged again."""
PARTS_ANEW = 2
"""A round that starts parts of its own, before and after, takes as long as so many others."""
AGAIN = 100_000
"""Added to the number of a round whose moment never came: other studies, other dice, the same for the same seed."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What was asked for."""

    folder: Path
    rounds: int
    seed: int
    only: tuple[str, ...] = ()
    round: int | None = None
    lanes: int = 1
    studies: int | None = None
    """In each round; None: 3 to 5."""
    ledger: str = "both"
    mutant: str = ""
    stop: bool = False
    """At the first round that is not good."""
    keep: bool = False
    tls: bool = False
    """On every hop."""


@dataclass(kw_only=True)
class Played:
    """What came of it."""

    outcomes: list[Outcome] = field(default_factory=list)
    last_look: list[Violation] = field(default_factory=list)


def databases(wish: Wish) -> list[str]:
    """Each lane's ledger: with ``both`` they take turns."""
    kinds = ("sqlite", "postgresql") if wish.ledger == "both" else (wish.ledger,)
    return [kinds[lane % len(kinds)] for lane in range(wish.lanes)]


def deal(wish: Wish) -> list[list[tuple[int, str]]]:
    """For each lane its rounds (number, fault), in order. Raises ValueError when no lane can play a fault."""
    kinds = databases(wish)
    names = list(wish.only or (name for name, fault in FAULTS.items() if not fault.needs or fault.needs in kinds))
    dice = random.Random(f"{wish.seed}/faults")  # noqa: S311 - the same again for the same seed
    deck: list[str] = []
    while len(deck) < wish.rounds:
        deck += dice.sample(names, len(names))
    lanes: list[list[tuple[int, str]]] = [[] for _ in kinds]
    work = [0] * len(kinds)
    for number, name in enumerate(deck[: wish.rounds]):
        fit = [lane for lane, kind in enumerate(kinds) if FAULTS[name].needs in ("", kind)]
        if not fit:
            raise ValueError(f"the fault {name} needs a ledger on {FAULTS[name].needs}: see --ledger and --lanes")
        lane = min(fit, key=lambda each: work[each])
        work[lane] += PARTS_ANEW if FAULTS[name].prepare else 1
        if wish.round is None or wish.round == number:
            lanes[lane].append((number, name))
    return lanes


class Lane(threading.Thread):
    """One system and the rounds that are played on it."""

    def __init__(
        self,
        wish: Wish,
        number: int,
        todo: Sequence[tuple[int, str]],
        nurseries: Nurseries,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(name=f"lane-{number}", daemon=True)
        self._wish, self._number, self._todo, self._nurseries, self._say = wish, number, todo, nurseries, say
        self.played = Played()
        self.error: BaseException | None = None
        self.folder = wish.folder / f"lane{number}"
        self._site: Site | None = None
        self._closing = threading.Lock()

    def run(self) -> None:
        """Start, play, look once more at everything, stop."""
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
            self.error = error
            self._say(f"lane {self._number} ended: {type(error).__name__}: {error}")

    def _run(self) -> None:
        wish = self._wish
        kind = databases(wish)[self._number]
        site = self._site = Site(
            self.folder, models=wish.folder / "bundles", nurseries=self._nurseries,
            postgresql=kind == "postgresql", mutant=wish.mutant, tls=wish.tls,
        )  # fmt: skip
        try:
            began = time.monotonic()
            site.start()
            self._say(
                f"lane {self._number} ({kind}) is up after {time.monotonic() - began:.0f} s; {len(self._todo)} rounds"
            )
            known: list[Study] = []
            for index, (number, name) in enumerate(self._todo, start=1):
                outcome = self._play(site, number, name)
                self.played.outcomes.append(outcome)
                known += outcome.stream if outcome.ok else []
                if wish.stop and not outcome.ok:
                    break
                if known and (index % ALL_EVERY == 0 or index == len(self._todo)):
                    self._look_at_all(site, known)
        finally:
            self.close()
        if not wish.keep:
            remove(self.folder)

    def close(self) -> None:
        """End the lane's system, once; whoever interrupts the harness must not leave it running."""
        with self._closing:
            site, self._site = self._site, None
            if site is not None:
                site.close()

    def _play(self, site: Site, number: int, name: str) -> Outcome:
        outcome = self._once(site, number, name)
        if outcome.missed and not outcome.violations:
            self._say(f"round {number} {name}: missed ({outcome.missed}); once more")
            outcome = self._once(site, number + AGAIN, name)
            outcome.number = number
        self._tell(outcome)
        return outcome

    def _once(self, site: Site, number: int, name: str) -> Outcome:
        wish = self._wish
        return play(site, seed=wish.seed, number=number, fault=FAULTS[name], lane=self._number, count=wish.studies)

    def _tell(self, outcome: Outcome) -> None:
        verdict = "ok" if outcome.ok else "MISSED" if not outcome.struck else "FAILED"
        fell = f", fell over: {', '.join(outcome.fell)}" if outcome.fell else ""
        again = "" if outcome.running_again_s is None else f", runs again after {outcome.running_again_s:.1f} s"
        self._say(
            f"round {outcome.number:3} {outcome.fault:26} {verdict:6} {outcome.studies} studies, recovery "
            f"{outcome.recovery_s:5.1f} s{again}, {outcome.seconds:.0f} s in all{fell}"
        )
        if not outcome.ok:
            for line in outcome.events:
                self._say(f"      {line}")
            for each in outcome.violations:
                self._say(f"    {each.kind}: {each.study}: {each.text}")

    def _look_at_all(self, site: Site, known: list[Study]) -> None:
        """Every study of every round that was good is still good."""
        for study in known:
            study.clock_moved = True  # attempts were judged in their round
        found, _ = wait_for_verdict(site, known, within_s=30)
        self.played.last_look += found
        self._say(f"lane {self._number}: looked again at {len(known)} studies, {len(found)} violations")


class Playing:
    """Lanes under way, each in a thread of its own. Whoever begins them closes them."""

    def __init__(self, wish: Wish, say: Callable[[str], None], nurseries: Nurseries) -> None:
        self._wish = wish
        make_models(wish.folder / "bundles")
        self._lanes = [Lane(wish, number, todo, nurseries, say) for number, todo in enumerate(deal(wish)) if todo]
        for lane in self._lanes:
            lane.start()

    def result(self) -> Played:
        """Wait for every round; raises what a lane could not even begin with."""
        for lane in self._lanes:
            lane.join()
        for lane in self._lanes:
            if lane.error is not None:
                raise lane.error
        if not self._wish.keep:
            remove(self._wish.folder / "bundles")
        outcomes = sorted((o for lane in self._lanes for o in lane.played.outcomes), key=lambda o: o.number)
        return Played(outcomes=outcomes, last_look=[v for lane in self._lanes for v in lane.played.last_look])

    def close(self) -> None:
        """Nothing of it runs on, however far it came."""
        for lane in self._lanes:
            lane.close()


def run(wish: Wish, say: Callable[[str], None], nurseries: Nurseries) -> Played:
    """Play everything."""
    with closing(Playing(wish, say, nurseries)) as playing:
        return playing.result()
