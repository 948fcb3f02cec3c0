"""One call to a server that speaks HTTP, and what its failures mean. Next: fhir.py and stow.py (what is said there)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import urllib3

from medai.router import tls
from medai.router.errors import SettingsError, TemporaryError
from medai.router.settings.destinations import WebServer

BUSY = frozenset({408, 409, 412, 423, 425, 429})
"""Answers that another time may bring another: slow down, a lock, a change by somebody else at the same moment."""
RETRY_AFTER_MAX_S = 6 * 3600.0
ANSWER_LIMIT = 32 * 1024**2
"""Bytes of an answer, unpacked: none that we ask for is so large."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A server as we call it in messages, and how to get in there."""

    title: str
    """Such as "the FHIR server ehr"."""
    url: str
    key: str
    """The key of the settings that holds the address, to be named where it is wrong."""
    server: WebServer
    away: type[TemporaryError]
    """What is raised where it does not do as it should, and may yet."""
    takes: str
    """What it is sent, in words."""

    def __str__(self) -> str:
        return f"{self.title} at {urlsplit(self.url).netloc}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server answered, whole."""

    status: int
    headers: Mapping[str, str]
    data: bytes


def request(
    method: str, peer: Peer, *, headers: Mapping[str, str], path: str = "", body: bytes | None = None
) -> Answer:
    """One call on a connection of its own. A redirect is not followed: it would take the login elsewhere."""
    server = peer.server
    untrusted = f"{peer} cannot be trusted (TLS failed)"
    hint = "does it speak https, and does ca_file exist and hold its certificate authority?"
    trust: dict[str, Any] = {}
    try:
        if peer.url.startswith("https:"):
            trust = {"ssl_context": tls.client_context(server, where=peer.title)}
        with urllib3.PoolManager(**trust) as pool:
            answer = pool.request(
                method,
                peer.url.rstrip("/") + path,
                body=body,
                headers={**headers, **_login(server)},
                timeout=urllib3.Timeout(connect=min(10.0, server.timeout_s), read=server.timeout_s),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            data = answer.read(ANSWER_LIMIT + 1)
            answer.close()  # where there is more
    except SettingsError as error:
        raise peer.away(f"{untrusted}: {hint} {error}") from error
    except urllib3.exceptions.SSLError as error:
        raise peer.away(f"{untrusted}: {hint}") from error
    except urllib3.exceptions.HTTPError as error:
        raise peer.away(f"{peer} does not answer ({type(error).__name__})") from error
    if len(data) > ANSWER_LIMIT:
        raise peer.away(f"{peer} answered {answer.status} and more than {ANSWER_LIMIT >> 20} MiB")
    return Answer(status=answer.status, headers=answer.headers, data=data)


def is_in_the_clear(server: WebServer, url: str) -> bool:
    """Whether a login would go over the network for anybody to read."""
    return url.startswith("http://") and bool(server.username or server.token.get_secret_value())


def misconfigured(*, key: str, takes: str) -> Mapping[int, str]:
    """Answers that say that the configuration is wrong and not the result, and what to look at (``Peer``)."""
    return {
        401: "check its username and password, or token",
        403: "its login may not write: check its username and password, or token",
        404: f"is {key} right?",
        405: f"is {key} right? It accepts no {takes} there",
        410: f"is {key} right?",
    }


def misfortune(peer: Peer, answer: Answer) -> TemporaryError | None:
    """Why an answer that is no success says nothing about the result itself; None where it does (any other 4xx).

    What says that the configuration is wrong waits for a person without losing the result.
    """
    status = answer.status
    if status < 400:
        return peer.away(f"{peer} answered {status}, a redirect: is {peer.key} right?")
    if (hint := misconfigured(key=peer.key, takes=peer.takes).get(status)) is not None:
        return peer.away(f"{peer} answered {status}: {hint}")
    if status >= 500 or status in BUSY:
        wait_s = _retry_after_s(answer.headers.get("Retry-After", ""))
        return peer.away(f"{peer} answered {status}", retry_after_s=wait_s)
    return None


def _login(server: WebServer) -> dict[str, str]:
    token = server.token.get_secret_value()
    if token:
        return {"Authorization": f"Bearer {token}"}
    if server.username:
        return dict(urllib3.make_headers(basic_auth=f"{server.username}:{server.password.get_secret_value()}"))
    return {}


def _retry_after_s(text: str) -> float | None:
    """Retry-After in seconds from now (RFC 9110 10.2.3: a number, or a date); None where there is none."""
    if text.strip().isdigit():
        return min(float(text), RETRY_AFTER_MAX_S)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    wait_s = (at - datetime.now(tz=UTC)).total_seconds()
    return min(wait_s, RETRY_AFTER_MAX_S) if wait_s > 0 else None
