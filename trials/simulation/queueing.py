"""Closed forms of queueing theory, against which the simulation is checked.

Sources: Erlang (1917) for M/M/c; Pollaczek (1930) and Khinchine (1932) for M/G/1; Cobham (1954) for priorities that do
not interrupt. Rates are per second, times seconds. Next: simulate.py, validate.py.
"""

from __future__ import annotations

from collections.abc import Sequence


class UnstableError(ValueError):
    """More comes than can be served: no steady state."""


def waits_share(arrival_rate: float, service_rate: float, servers: int) -> float:
    """Erlang C: the share of arrivals in M/M/c that have to wait. Raises UnstableError."""
    load = arrival_rate / service_rate
    if load >= servers:
        raise UnstableError(f"a load of {load:g} Erlang for {servers} servers")
    blocked = 1.0
    for number in range(1, servers + 1):  # Erlang B by its recursion, which does not overflow
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - (load / servers) * (1 - blocked))


def mmc_wait_s(arrival_rate: float, service_rate: float, servers: int) -> float:
    """Mean wait in M/M/c."""
    return waits_share(arrival_rate, service_rate, servers) / (servers * service_rate - arrival_rate)


def mg1_wait_s(arrival_rate: float, mean_s: float, variance_s2: float) -> float:
    """Mean wait in M/G/1 (Pollaczek and Khinchine)."""
    load = arrival_rate * mean_s
    if load >= 1:
        raise UnstableError(f"a load of {load:g} for one server")
    return arrival_rate * (variance_s2 + mean_s**2) / (2 * (1 - load))


def priority_waits_s(arrival_rates: Sequence[float], mean_s: float, variance_s2: float) -> list[float]:
    """Mean wait of each class in M/G/1 with priorities that do not interrupt, the most urgent first (Cobham)."""
    total = sum(arrival_rates) * mean_s
    if total >= 1:
        raise UnstableError(f"a load of {total:g} for one server")
    residual = sum(arrival_rates) * (variance_s2 + mean_s**2) / 2
    waits, before = [], 0.0
    for rate in arrival_rates:
        after = before + rate * mean_s
        waits.append(residual / ((1 - before) * (1 - after)))
        before = after
    return waits
