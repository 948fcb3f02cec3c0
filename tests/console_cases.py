"""A console on a ledger of its own, for tests of the API: who asks it, and every call of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from ledger_cases import T0, arrive, make, seen

from medai.router.console.app import make_app
from medai.router.contract import Failure
from medai.router.errors import OrthancUnreachable
from medai.router.ledger import Ledger
from medai.router.ledger.accounts import Role
from medai.router.orthanc.client import Orthanc
from medai.router.settings.routes import RouteSettings
from medai.router.settings.tables import Settings

PASSWORDS = {role: f"password of {role.value}" for role in Role if role is not Role.SERVICE}


@dataclass
class Archive:
    """Orthanc's part: whose study it is."""

    away: bool = False

    def study(self, name: str) -> dict[str, Any]:
        if self.away:
            raise OrthancUnreachable("Orthanc does not answer")
        return {"ID": name, "PatientMainDicomTags": {"PatientName": "Doe^Jane", "PatientID": "77"}}


@dataclass
class World:
    """An API on a ledger, and who asks it."""

    ledger: Ledger
    now: float = T0 + 100
    archive: Archive = field(default_factory=Archive)

    def __post_init__(self) -> None:
        for role in Role:
            self.ledger.accounts.add(role.value, PASSWORDS.get(role), role, T0)
        settings = Settings(routes=(RouteSettings(name="brain", model="mr_brain", when='study.Modality == "MR"'),))
        self.app = make_app(
            settings, self.ledger, cast(Orthanc, self.archive), probes={}, version="1.2.3", clock=lambda: self.now,
            timer=lambda: self.now,
        )  # fmt: skip

    def client(self, role: Role | None, address: str = "192.0.2.1") -> TestClient:
        """Somebody with a token, or without, at an address."""
        client = TestClient(
            self.app, base_url="http://localhost", raise_server_exceptions=False, client=(address, 50_000)
        )
        if role is not None:
            token = self.token(client, role)
            client.cookies.clear()
            client.headers["Authorization"] = f"Bearer {token}"
        return client

    def token(self, client: TestClient, role: Role) -> str:
        """A service is given one; a person logs in."""
        if role is Role.SERVICE:
            return self.ledger.accounts.issue_token(role.value, self.now, kind="api", label="", lasts_s=86_400.0)
        login = {"name": role.value, "password": PASSWORDS[role]}
        return str(client.post("/api/login", json=login).json()["token"])

    def job(self, uid: str = "1.2.3") -> str:
        return str(make(self.ledger, arrive(self.ledger, seen(uid=uid)))[0])

    def dead(self) -> str:
        job_id = self.job()
        claim = self.ledger.claims.take(job_id, worker="w", lease_s=20, now=T0 + 1)
        assert claim is not None
        self.ledger.claims.fail(job_id, claim.token, Failure.IMAGES, "cut short", T0 + 2)
        return job_id


FILLED = {"{job_id}": "0" * 36, "{study_id}": "1", "{letter_id}": "0" * 36, "{number}": "0", "{token_id}": "1", "{hold_id}": "1",
          "{name}": "somebody", "{path}": "1.2/series", "{letter_id:path}": "0" * 36, "{path:path}": "1.2/series"}  # fmt: skip


def walk(routes: Any) -> Iterator[APIRoute]:
    """Every page and operation, also those of included routers."""
    for route in routes:
        yield from walk(getattr(getattr(route, "original_router", None), "routes", ()))
        if isinstance(route, APIRoute):
            yield route


def filled(path: str) -> str:
    """A path with something in the place of each name."""
    for name, value in FILLED.items():
        path = path.replace(name, value)
    assert "{" not in path, path
    return path


def operations(world: World) -> list[tuple[str, str]]:
    """Every method and path of the API."""
    found = [route for route in walk(world.app.routes) if route.include_in_schema]
    assert {route.path.replace(":path", "") for route in found} == set(world.app.openapi()["paths"])
    assert len(found) > 40
    return [(method, filled(route.path)) for route in found for method in sorted(route.methods)]
