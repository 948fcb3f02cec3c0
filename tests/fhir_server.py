"""A FHIR server, of R5 or R4, small enough to read: transactions of PUTs and POSTs, versions, references that must lead somewhere.

It judges what it gets by a library that the product does not use. ``fault`` makes it answer something else for a while.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fhir.resources.bundle import Bundle
from fhir.resources.R4B.bundle import Bundle as R4Bundle

BUNDLES = {"5.0.0": Bundle, "4.0.1": R4Bundle}
"""What a server of a version takes; for R4 by the models of R4B, which has the same in all that is sent."""
CAPABILITY = {
    "resourceType": "CapabilityStatement",
    "rest": [{"mode": "server", "interaction": [{"code": "transaction"}]}],
}


class FhirServer(ThreadingHTTPServer):
    """``versions`` holds every resource by its address, oldest version first."""

    daemon_threads = True
    scheme = "http"

    def __init__(self, *, token: str = "", version: str = "5.0.0") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.token = token
        self.version = version
        self.versions: dict[str, list[dict[str, Any]]] = {}
        self.transactions = 0
        self._faults: list[tuple[int, dict[str, str]]] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The base."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}/fhir"

    def fault(self, status: int, *, times: int = 1, **headers: str) -> None:
        """Answer the next transactions with a status."""
        self._faults += [(status, {name.replace("_", "-"): text for name, text in headers.items()})] * times

    def newest(self, address: str) -> dict[str, Any]:
        """The newest version of a resource."""
        return self.versions[address][-1]

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """The newest version of every resource of a type."""
        return [versions[-1] for address, versions in self.versions.items() if address.startswith(f"{kind}/")]

    def transact(self, data: bytes) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, body and headers of the answer."""
        with self._lock:
            self.transactions += 1
            if self._faults:
                status, headers = self._faults.pop(0)
                return status, outcome("transient"), headers
            try:
                BUNDLES[self.version].model_validate_json(data)
            except (ValueError, KeyError):  # the second: a kind of resource that this version does not have
                return 422, outcome("structure"), {}
            return self._apply(json.loads(data))

    def _apply(self, bundle: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        sent = {
            self._address(number, entry["request"]): entry["resource"] for number, entry in enumerate(bundle["entry"])
        }
        named = set(re.findall(r'"reference": "([A-Z]\w+/[^"]+)"', json.dumps(bundle)))
        if named - set(sent) - set(self.versions):
            return 400, outcome("not-found"), {}
        answers = []
        for address, resource in sent.items():
            versions = self.versions.setdefault(address, [])
            answers.append({"response": {"status": "200 OK" if versions else "201 Created"}})
            if not versions or versions[-1] != resource:
                versions.append(resource)
        return 200, {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}, {}

    def _address(self, number: int, request: dict[str, str]) -> str:
        """Where an entry of a transaction goes: a new resource gets a place of its own."""
        new = request["method"] == "POST"
        return f"{request['url']}/{len(self.versions) + number}" if new else request["url"]


def outcome(code: str) -> dict[str, Any]:
    """An OperationOutcome."""
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code}]}


class _Handler(BaseHTTPRequestHandler):
    server: FhirServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._answer(401, outcome("login"))
        elif self.path != "/fhir":
            self._answer(404, outcome("not-found"))
        elif self.headers.get("Content-Type") != "application/fhir+json":
            self._answer(415, outcome("not-supported"))
        else:
            self._answer(*self.server.transact(body))

    def do_GET(self) -> None:
        address = self.path.removeprefix("/fhir/")
        if address == "metadata":
            self._answer(200, CAPABILITY | {"fhirVersion": self.server.version})
        elif address in self.server.versions:
            self._answer(200, self.server.newest(address))
        else:
            self._answer(404, outcome("not-found"))

    def _answer(self, status: int, value: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/fhir+json", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Silence."""


@contextmanager
def fhir_server(*, token: str = "", tls: ssl.SSLContext | None = None, version: str = "5.0.0") -> Iterator[FhirServer]:
    """A server on a free loopback port; with ``tls`` it speaks https."""
    server = FhirServer(token=token, version=version)
    if tls is not None:
        server.scheme = "https"
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
