"""What is due is done, and tried again where a part is away."""

from __future__ import annotations

import time
from typing import cast

import pytest

from medai.trials.box import BoxError
from medai.trials.clock import Clock
from medai.trials.hospital.agenda import Agenda


def wait_until_idle(agenda: Agenda) -> None:
    until = time.monotonic() + 10
    while not agenda.idle:
        agenda.tick()
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_is_due_is_done_and_what_is_not_waits() -> None:
    agenda, done = Agenda(Clock(accelerate=60.0)), []
    agenda.at(0.0, lambda: done.append("now"))
    agenda.at(1e9, lambda: done.append("later"))
    agenda.tick()
    agenda.close()
    assert done == ["now"]
    assert not agenda.idle


def test_what_fails_because_a_part_is_away_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medai.trials.hospital.agenda.AGAIN_S", 0.01)
    agenda, tries = Agenda(Clock(accelerate=60.0)), []

    def act() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise BoxError("away")

    agenda.at(0.0, act)
    wait_until_idle(agenda)
    assert len(tries) == 3


def test_any_other_mistake_ends_the_trial() -> None:
    agenda = Agenda(Clock(accelerate=60.0))
    agenda.at(0.0, lambda: cast(dict[str, int], {})["x"].bit_length())
    with pytest.raises(KeyError):
        wait_until_idle(agenda)
