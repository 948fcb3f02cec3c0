"""A transaction is delivered, waits with its reason, or is refused; and nothing that the server says of a patient is told."""

from __future__ import annotations

import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from medai.router.cli import check
from medai.router.delivery import fhir
from medai.router.errors import FhirRefused, FhirUnreachable
from medai.router.settings.destinations import FhirDestination
from medai.router.settings.tables import Settings

SECRET = "Plantedname"
BY_AI = {"meta": {"security": [{"code": "AIAST"}]}}
RESOURCES: tuple[dict[str, Any], ...] = (
    {"resourceType": "ImagingStudy", "id": "a"},
    {"resourceType": "ImagingStudy", "id": "b", **BY_AI},
    *({"resourceType": kind, "id": "a"} for kind in ("Device", "ImagingSelection", "Observation", "DocumentReference")),
    *({"resourceType": kind, "id": "a"} for kind in ("Media", "DiagnosticReport", "Provenance")),
)
BUNDLE = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [
        {
            "resource": resource | {"status": "kept"},
            "request": {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"},
        }
        for resource in RESOURCES
    ],
}
PAYLOAD = json.dumps(BUNDLE).encode()


class Server(ThreadingHTTPServer):
    """Answers every request by ``script`` and remembers what was asked."""

    daemon_threads = True
    script: Callable[[BaseHTTPRequestHandler], None]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str, bytes]] = []
        self.headers: list[dict[str, str]] = []
        self.release = threading.Event()

    def destination(self, **settings: Any) -> FhirDestination:
        return FhirDestination(fhir_url=f"http://127.0.0.1:{self.server_port}/base/", **settings)

    def answers(self, value: Any, status: int = 200, **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()

        def reply(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, text in headers.items():
                handler.send_header(name.replace("_", "-"), text)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)

        self.script = reply


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, body))
        self.server.headers.append({name.lower(): text for name, text in self.headers.items()})
        self.server.script(self)

    do_GET = do_POST  # noqa: N815 - the base class names it so

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Silence."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()


def took(*statuses: str) -> dict[str, Any]:
    return {
        "resourceType": "Bundle",
        "type": "transaction-response",
        "entry": [{"response": {"status": status}} for status in statuses],
    }


def outcome(**issue: Any) -> dict[str, Any]:
    told = {"severity": "error", "diagnostics": f"patient {SECRET}", "details": {"text": SECRET}, **issue}
    return {"resourceType": "OperationOutcome", "issue": [told]}


def test_a_transaction_that_is_taken_whole_gives_a_receipt(server: Server) -> None:
    server.answers(took("201 Created", "200 OK", "201", *["200"] * 6))
    assert fhir.send(PAYLOAD, server.destination(), name="ehr") == "200, 9 resources"
    assert server.seen == [("POST", "/base", PAYLOAD)]
    assert server.headers[0]["content-type"] == "application/fhir+json"
    assert "authorization" not in server.headers[0]


@pytest.mark.parametrize(
    ("login", "sent"),
    [
        ({"token": "t"}, "Bearer t"),
        ({"username": "u", "password": "p"}, "Basic " + base64.b64encode(b"u:p").decode()),
    ],
)
def test_the_login_goes_as_token_or_as_user_and_password(server: Server, login: dict[str, str], sent: str) -> None:
    server.answers(took(*["200"] * 9))
    fhir.send(PAYLOAD, server.destination(**login), name="ehr")
    assert server.headers[0]["authorization"] == sent


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (took("200", "200", "404 Not Found", *["200"] * 6), "accepted 8 of 9 resources"),
        (took("200"), "accepted 1 of 9 resources"),
        (took(*["200"] * 10), "accepted 10 of 9 resources"),
        ({"resourceType": "Bundle", "type": "searchset", "entry": []}, "not a transaction-response"),
        (b"<html>please log in</html>", "not a transaction-response"),
        (b"[]", "not a transaction-response"),
        (b"", "not a transaction-response"),
    ],
)
def test_only_a_transaction_response_for_every_resource_is_success(server: Server, answer: Any, reason: str) -> None:
    server.answers(answer)
    with pytest.raises(FhirUnreachable, match=reason):
        fhir.send(PAYLOAD, server.destination(), name="ehr")


@pytest.mark.parametrize("status", [408, 409, 412, 425, 429, 500, 502, 503, 504])
def test_a_server_that_is_busy_or_broken_is_tried_again_when_it_says(server: Server, status: int) -> None:
    server.answers(outcome(), status, Retry_After="17")
    with pytest.raises(FhirUnreachable, match=rf"the FHIR server ehr at 127.0.0.1:\d+ answered {status}$") as caught:
        fhir.send(PAYLOAD, server.destination(), name="ehr")
    assert caught.value.retry_after_s == 17.0
    assert len(server.seen) == 1


def test_retry_after_may_be_a_date_and_is_bounded(server: Server) -> None:
    def told(text: str) -> float | None:
        server.answers({}, 503, **({"Retry_After": text} if text else {}))
        with pytest.raises(FhirUnreachable) as caught:
            fhir.send(PAYLOAD, server.destination(), name="ehr")
        return caught.value.retry_after_s

    soon = datetime.now(tz=UTC) + timedelta(seconds=100)
    assert told(format_datetime(soon, usegmt=True)) == pytest.approx(99, abs=3)
    assert told("99999999") == 6 * 3600.0
    assert [told(text) for text in ("", "soon", "-5", "Wed, 21 Oct 2015 07:28:00 GMT")] == [None] * 4


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "check its username and password, or token"),
        (403, "its login may not write"),
        (404, "is fhir_url right"),
        (405, "accepts no transactions there"),
        (302, "a redirect: is fhir_url right"),
    ],
)
def test_a_wrong_login_or_address_loses_nothing_and_says_what_to_check(server: Server, status: int, hint: str) -> None:
    server.answers(outcome(code="login"), status, Location="http://127.0.0.1:1/elsewhere")
    with pytest.raises(FhirUnreachable, match=hint) as caught:
        fhir.send(PAYLOAD, server.destination(username="u", password=SECRET), name="ehr")
    assert SECRET not in str(caught.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_result_that_is_refused_says_the_code_and_the_place_and_no_word_of_the_servers(
    server: Server, status: int
) -> None:
    server.answers(outcome(code="invalid", expression=["Bundle.entry[2].resource.code"]), status)
    expected = (
        rf"ehr at 127.0.0.1:\d+ refused the result with {status} \(invalid at Bundle\.entry\[2\]\.resource\.code\)$"
    )
    with pytest.raises(FhirRefused, match=expected) as caught:
        fhir.send(PAYLOAD, server.destination(), name="ehr")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (outcome(code="value", expression=[f"Patient.where(name='{SECRET}')"]), r" \(value\)"),
        (outcome(code=SECRET), ""),
        (outcome(code="value", severity="warning"), ""),
        ({"issue": [SECRET, {"severity": "fatal", "code": "structure", "expression": SECRET}]}, r" \(structure\)"),
        ({"issue": SECRET}, ""),
        (SECRET.encode(), ""),
    ],
)
def test_an_outcome_that_is_odd_or_talks_of_the_patient_is_not_repeated(server: Server, answer: Any, told: str) -> None:
    server.answers(answer, 422)
    with pytest.raises(FhirRefused, match=f"refused the result with 422{told}$"):
        fhir.send(PAYLOAD, server.destination(), name="ehr")


def test_a_server_that_is_silent_cut_short_or_away_is_temporary(server: Server) -> None:
    server.script = lambda _: server.release.wait(5) and None
    with pytest.raises(FhirUnreachable, match=r"ehr at 127.0.0.1:\d+ does not answer \(ReadTimeoutError\)"):
        fhir.send(PAYLOAD, server.destination(timeout_s=0.1), name="ehr")
    server.script = lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}") and None
    with pytest.raises(FhirUnreachable, match="does not answer"):
        fhir.send(PAYLOAD, server.destination(), name="ehr")
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        away = FhirDestination(fhir_url=f"http://127.0.0.1:{held.getsockname()[1]}")
        with pytest.raises(FhirUnreachable, match=r"does not answer \(NewConnectionError\)"):
            fhir.send(PAYLOAD, away, name="ehr")


def test_a_server_without_tls_or_a_missing_ca_file_is_temporary_with_its_reason(server: Server, tmp_path: Path) -> None:
    for ca_file in ("", str(tmp_path / "none.pem")):
        secure = FhirDestination(fhir_url=f"https://127.0.0.1:{server.server_port}", ca_file=ca_file)
        with pytest.raises(FhirUnreachable, match=r"TLS failed\): does it speak https, and does ca_file exist"):
            fhir.send(PAYLOAD, secure, name="ehr")


def test_what_is_taken_back_is_marked_and_the_study_and_the_device_stay() -> None:
    *entries, history = json.loads(fhir.withdrawn(PAYLOAD, now=0.0, words="A reason."))["entry"]
    assert {entry["request"]["url"]: entry["resource"]["status"] for entry in entries} == {
        "ImagingStudy/a": "kept",
        "ImagingStudy/b": "entered-in-error",
        "Device/a": "kept",
        "ImagingSelection/a": "entered-in-error",
        "Observation/a": "entered-in-error",
        "DocumentReference/a": "entered-in-error",
        "Media/a": "entered-in-error",
        "DiagnosticReport/a": "entered-in-error",
        "Provenance/a": "kept",
    }
    assert [entry["request"] for entry in entries] == [entry["request"] for entry in BUNDLE["entry"]]
    assert history["request"] == {"method": "PUT", "url": "Provenance/a-W"}
    assert history["resource"]["recorded"] == "1970-01-01T00:00:00Z"
    assert history["resource"]["activity"]["coding"][0]["code"] == "NULLIFY"
    assert history["resource"]["activity"]["text"] == "A reason."
    marked = [url for entry in entries if (url := entry["request"]["url"]) and entry["resource"]["status"] != "kept"]
    assert [each["reference"] for each in history["resource"]["target"]] == marked


def test_what_is_taken_back_twice_has_the_newest_reason_once() -> None:
    twice = fhir.withdrawn(fhir.withdrawn(PAYLOAD, now=0.0, words="A reason."), now=60.0, words="Another.")
    assert twice == fhir.withdrawn(PAYLOAD, now=60.0, words="Another.")


STATEMENT = {
    "resourceType": "CapabilityStatement",
    "fhirVersion": "5.0.0",
    "rest": [{"mode": "server", "interaction": [{"code": "transaction"}]}],
}


@pytest.mark.parametrize(
    ("answer", "status", "level", "text"),
    [
        (STATEMENT, 200, "ok", "FHIR 5.0.0 answers and accepts transactions"),
        (
            STATEMENT | {"fhirVersion": "4.0.1"},
            200,
            "error",
            'speaks FHIR 4.0.1, and the results for it are R5: set version = "R4"',
        ),
        (STATEMENT | {"fhirVersion": "3.0.2"}, 200, "error", "speaks FHIR 3.0.2, and the results for it are R5"),
        (STATEMENT | {"rest": []}, 200, "warning", "does not say that it accepts transactions"),
        ({"resourceType": "Patient"}, 200, "error", "not a CapabilityStatement: is fhir_url right?"),
        ({}, 401, "error", "check its username and password, or token"),
        ({}, 503, "error", "answered 503"),
    ],
)
def test_check_reaches_a_fhir_server_and_says_what_it_can(
    server: Server, answer: Any, status: int, level: str, text: str
) -> None:
    server.answers(answer, status)
    (finding,) = findings(server.destination())
    assert finding.level == level
    assert text in finding.text
    assert server.seen == [("GET", "/base/metadata", b"")]


@pytest.mark.parametrize(
    ("version", "level", "text"),
    [
        ("4.0.1", "ok", "FHIR 4.0.1 answers and accepts transactions"),
        ("4.3.0", "ok", "FHIR 4.3.0 answers and accepts transactions"),
        ("4.1.0", "error", "speaks FHIR 4.1.0, and the results for it are R4"),
        ("5.0.0", "error", 'speaks FHIR 5.0.0, and the results for it are R4: set version = "R5"'),
        ("", "error", "speaks FHIR of an unknown version, and the results for it are R4"),
    ],
)
def test_check_compares_the_servers_version_with_the_configured_one(
    server: Server, version: str, level: str, text: str
) -> None:
    server.answers(STATEMENT | {"fhirVersion": version})
    (finding,) = findings(server.destination(version="R4"))
    assert (finding.level, finding.text) == (level, text)


def test_check_warns_of_a_login_in_the_clear_and_tells_a_server_that_is_away(server: Server) -> None:
    server.answers(STATEMENT)
    warning, good = findings(server.destination(token="t"))
    assert (warning.level, good.level) == ("warning", "ok")
    assert "use https" in warning.text
    server.shutdown()
    server.server_close()
    (finding,) = findings(server.destination(timeout_s=0.5))
    assert finding.level == "error"
    assert "does not answer" in finding.text


def findings(destination: FhirDestination) -> list[check.Finding]:
    """What ``medai check`` says of it; the other peers are away."""
    away = "http://127.0.0.1:1"
    settings = Settings(
        orthanc={"url": away}, broker={"url": "redis://127.0.0.1:1/0"}, destinations={"ehr": destination}
    )
    return [finding for finding in check.check(settings) if finding.what == "destination ehr"]
