"""Switchable misbehaviour, so that a sender's retries can be tested. Without a rule the RIS behaves.

A fault strikes a message in one of two ways: ``store`` true, the RIS takes it and then the reply goes wrong (a sender
that repeats it must get AA and make no second result); ``store`` false, the RIS never took it.
Next: receiver.py.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

STORES = {
    "ae": False,
    "ar": False,
    "silent": True,
    "garbage": True,
    "close": True,
    "partial": True,
    "delay": True,
    "wrong_msa": True,
}
"""Kind -> whether the message is taken all the same, unless the rule says otherwise."""


class BadFaultError(ValueError):
    """A rule cannot be understood; the text says which key."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one message."""

    kind: str
    store: bool
    delay_s: float = 0.0
    code: str = "207"
    """ERR-3 of an ``ae`` or ``ar``."""


@dataclass(kw_only=True)
class Rule:
    """A fault for the next ``count`` messages (None: for ever), each with ``probability``."""

    fault: Fault
    count: int | None
    probability: float
    seed: int
    dice: random.Random = field(repr=False)

    def strikes(self) -> bool:
        """Decide for one message, and count it."""
        if self.count == 0 or self.dice.random() >= self.probability:
            return False
        if self.count is not None:
            self.count -= 1
        return True

    def as_dict(self) -> dict[str, object]:
        """For GET /faults; ``count`` is what is left."""
        return {**asdict(self.fault), "count": self.count, "probability": self.probability, "seed": self.seed}


class Faults:
    """The rules in force; the first that strikes decides."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> None:
        """Add a rule behind the others."""
        self._rules.append(rule)

    def clear(self) -> None:
        """Behave again."""
        self._rules.clear()

    def draw(self) -> Fault | None:
        """The fault for the next message, if any."""
        struck = next((rule for rule in self._rules if rule.strikes()), None)
        self._rules = [rule for rule in self._rules if rule.count != 0]
        return struck.fault if struck else None

    def as_list(self) -> list[dict[str, object]]:
        """The rules in force."""
        return [rule.as_dict() for rule in self._rules]


def parse_rule(asked: object) -> Rule:
    """Check a JSON object: {kind, count, probability, seed, delay_s, store, code}; raises BadFaultError."""
    if not isinstance(asked, Mapping):
        raise BadFaultError("the body must be a JSON object")
    unknown = sorted(set(asked) - {"kind", "count", "probability", "seed", "delay_s", "store", "code"})
    if unknown:
        raise BadFaultError(f"unknown key {unknown[0]!r}")
    kind = asked.get("kind")
    if not isinstance(kind, str) or kind not in STORES:
        raise BadFaultError(f"kind must be one of {', '.join(STORES)}")
    seed = int(_number(asked, "seed", 0, -(2**63), 2**63))
    fault = Fault(
        kind=kind,
        store=_flag(asked, "store", STORES[kind]),
        delay_s=_number(asked, "delay_s", 5.0 if kind == "delay" else 0.0, 0, 3600),
        code=str(asked.get("code", "207"))[:10],
    )
    count = int(_number(asked, "count", 0, 1, 10**9)) if asked.get("count") is not None else None
    probability = _number(asked, "probability", 1.0, 0, 1)
    dice = random.Random(seed)  # noqa: S311 - chooses which test message fails, no secret
    return Rule(fault=fault, count=count, probability=probability, seed=seed, dice=dice)


def _number(asked: Mapping[str, object], key: str, default: float, low: float, high: float) -> float:
    value = asked.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or (key in asked and not low <= value <= high):
        raise BadFaultError(f"{key} must be a number from {low:g} to {high:g}")
    return value


def _flag(asked: Mapping[str, object], key: str, default: bool) -> bool:
    value = asked.get(key, default)
    if not isinstance(value, bool):
        raise BadFaultError(f"{key} must be true or false")
    return value
