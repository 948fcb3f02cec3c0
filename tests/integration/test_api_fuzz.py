"""The API under requests that nobody would think of (schemathesis): never a server error, and it answers as described.

Each operation meets a ledger of its own with readings in every state, dead letters and accounts; names that exist are
mixed among those that do not. What is tried is drawn from a fixed seed, so a failure repeats.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from ledger_cases import T0, acknowledge, arrive, due, make, seen, store
from schemathesis.config import SchemathesisConfig

from medai.router.console.app import make_app
from medai.router.contract import Failure
from medai.router.errors import OrthancRefused
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.ledger.fleet import Announced
from medai.router.orthanc.client import Orthanc
from medai.router.settings.routes import RouteSettings
from medai.router.settings.tables import ConsoleSettings, Settings

pytestmark = pytest.mark.slow

PASSWORD = "long enough"
EXAMPLES = int(os.environ.get("MEDAI_FUZZ_EXAMPLES", "12"))
ROUTES = """
[[routes]]
name = "other"
model = "ct_lungs"
when = 'study.Modality == "CT" || series.exists(s, s.SliceThickness < 3.0)'
"""


class Archive:
    """Orthanc's part: whose study it is, and what is drawn; everything else is gone from it."""

    def study(self, name: str) -> dict[str, Any]:
        return {"ID": name, "PatientMainDicomTags": {"PatientName": "Doe^Jane", "PatientID": "77"}}

    def rendered(self, name: str) -> bytes:
        return b"\x89PNG" + name.encode()

    def __getattr__(self, name: str) -> Any:
        def refused(*_: Any, **__: Any) -> Any:
            raise OrthancRefused("there is no such thing", status=404)

        return refused


def application(ledger: Ledger) -> Any:
    chosen = Settings(
        routes=(RouteSettings(name="brain", model="mr_brain", when='study.Modality == "MR"'),),
        console=ConsoleSettings(allowed_hosts=("testserver",)),  # how the fuzzer calls it
    )
    return make_app(chosen, ledger, cast(Orthanc, Archive()), probes={}, version="1.2.3", clock=lambda: T0 + 100)


def waiting(ledger: Ledger, uid: str) -> str:
    return str(make(ledger, arrive(ledger, seen(uid=uid)))[0])


def read(ledger: Ledger, uid: str, *, told: bool) -> str:
    """A reading with a result, told to the RIS or still owed to it."""
    job_id = waiting(ledger, uid)
    claim = ledger.claims.take(job_id, worker="w1", lease_s=20, now=T0 + 1)
    assert claim is not None
    store(ledger, claim, T0 + 2)
    if told:
        acknowledge(ledger, claim, T0 + 3)
    return job_id


def parked(ledger: Ledger, uid: str) -> str:
    """A reading whose RIS would not have its result."""
    job_id = read(ledger, uid, told=False)
    (owed,) = [item for item in due(ledger, "ris", T0 + 5) if item.job_id == job_id]
    assert ledger.deliveries.begin_try(owed, T0 + 5)
    ledger.deliveries.park(owed, "AR: no such patient", T0 + 6)
    return job_id


def failed(ledger: Ledger, uid: str) -> str:
    job_id = waiting(ledger, uid)
    claim = ledger.claims.take(job_id, worker="w1", lease_s=20, now=T0 + 1)
    assert claim is not None
    ledger.claims.fail(job_id, claim.token, Failure.IMAGES, "slices are missing", T0 + 2)
    return job_id


@dataclass(frozen=True, kw_only=True)
class Names:
    """What exists."""

    jobs: tuple[str, ...]
    letters: tuple[str, ...]


def fill(ledger: Ledger) -> Names:
    """A study in each state, a worker with its models, people."""
    running = waiting(ledger, "1.1")
    assert ledger.claims.take(running, worker="w1", lease_s=20, now=T0 + 1) is not None
    lost, unheard = failed(ledger, "1.2"), parked(ledger, "1.3")
    jobs = (waiting(ledger, "1.4"), read(ledger, "1.5", told=True), read(ledger, "1.6", told=False))
    arrive(ledger, seen(uid="1.7"))
    ledger.fleet.worker_seen(
        "w1", queues=["cpu"], device="cpu", started_at=T0, job_id=running, now=T0 + 99, models={"mr_brain": "1"},
        load={"memory_bytes": 1e9},
    )  # fmt: skip
    ledger.fleet.announce(
        [Announced(name=name, version="2", available=name != "broken", reason="") for name in ("other", "broken")],
        T0,
    )
    for role in set(Role) - {Role.SERVICE}:
        ledger.accounts.add(role.value, PASSWORD, role, T0)
    return Names(jobs=(running, lost, unheard, *jobs), letters=(lost, f"{unheard}/ris"))


CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": 1,
        "generation": {"max-examples": EXAMPLES, "deterministic": True, "with-security-parameters": False},
        "checks": {
            # What fits its description may yet be wrong: routes that are no TOML, a name that nobody has
            "positive_data_acceptance": {"expected-statuses": ["2xx", "403", "404", "409", "422"]},
            "negative_data_rejection": {"expected-statuses": ["400", "401", "403", "404", "405", "409", "422"]},
        },
        "operations": [
            {
                "include-name": name,
                "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "401", "403", "422", "429"]}},
            }
            for name in ("POST /api/login", "POST /api/me/password")
        ],
    }
)


class World:
    """The application that is asked, and what exists in its ledger."""

    app: Any = application(Ledger("sqlite://"))  # to be described, not asked
    names: Names

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


world = World()
api = schemathesis.openapi.from_dict(world.app.openapi(), config=CONFIG)
api.app = world
EXISTING: dict[str, Callable[[], Sequence[Any]]] = {
    "job_id": lambda: world.names.jobs,
    "letter_id": lambda: world.names.letters,
    "study_id": lambda: range(1, 8),
    "number": lambda: range(3),
    "token_id": lambda: range(1, 4),
    "name": lambda: [role.value for role in Role],
}
"""Name of a part of a path -> what may stand there."""


@api.hook
def before_generate_path_parameters(context: Any, strategy: Any) -> Any:
    """Half of the names exist."""
    names = [parameter.name for parameter in context.operation.path_parameters] if context.operation else []
    if not names or not set(names) <= EXISTING.keys():
        return strategy
    return strategy | st.deferred(
        lambda: st.fixed_dictionaries({name: st.sampled_from(EXISTING[name]()) for name in names})
    )


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with content, to be copied."""
    path = tmp_path_factory.mktemp("filled") / "ledger.sqlite"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.migrate()
    world.names = fill(ledger)
    ledger.close()
    return path


@pytest.fixture
def ledger(filled: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A copy, behind the application."""
    ledger = Ledger(f"sqlite:///{shutil.copy(filled, tmp_path)}")
    world.app = application(ledger)
    yield ledger
    ledger.close()


@api.parametrize()
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
def test_an_operation_answers_as_it_says_whatever_is_sent(case: Any, ledger: Ledger) -> None:
    # A token for each request: some end theirs, or all of their account's
    token = ledger.accounts.issue_token("administrator", T0, kind="session", label="fuzz", lasts_s=1e6)
    answer = case.call_and_validate(headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code != 401 or case.path == "/api/login"
