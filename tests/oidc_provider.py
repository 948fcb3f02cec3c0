"""A provider of sign-ins as a process of its own: PyPI's oidc-provider-mock, with PKCE and, when told, with lies.

``python tests/oidc_provider.py PORT SECRET`` serves; SECRET is that of the client "medai". The package does not check PKCE, so it is checked here, before it.
``PUT /tests/next`` with a JSON object makes the next ID token another one: ``claims`` to change, ``alg`` to sign by
("none", or "HS256" with the public key for its secret), ``token`` to give instead; ``PUT /tests/key`` changes the key;
``PUT /tests/refreshes`` says whether refresh tokens are given.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # loopback
warnings.simplefilter("ignore")  # the package uses what Authlib will take away

import oidc_provider_mock  # noqa: E402
from joserfc import jwk, jws  # noqa: E402
from oidc_provider_mock import _storage  # noqa: E402 - the key with which a provider signs is nobody else's
from werkzeug.serving import make_server  # noqa: E402
from werkzeug.test import Client  # noqa: E402

Answer = Callable[..., Any]


def decoded(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Provider:
    """A WSGI application before the package's."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.app = oidc_provider_mock.app(issue_refresh_token=True)
        self.app.debug = False
        self.challenges: dict[str, str] = {}
        self.next: dict[str, Any] = {}
        self.last = ""
        self.key: dict[str, Any] | None = None
        self.asked: list[str] = []
        self.refreshes = True

    def __call__(self, environ: dict[str, Any], start: Answer) -> Iterable[bytes]:
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        self.asked.append(f"{method} {path}")
        if path.startswith("/tests/"):
            return answered(start, self.instructed(path, body))
        if path == "/oauth2/token" and not self.is_proven(environ, body):
            return answered(start, {"error": "invalid_grant"}, "400 Bad Request")
        answer = Client(self.app).open(path, method=method, query_string=environ["QUERY_STRING"], data=body,
                                       headers=headers_of(environ), base_url=f"http://{environ['HTTP_HOST']}")  # fmt: skip
        if path == "/oauth2/authorize" and method == "POST":
            asked, back = (
                parse_qs(environ["QUERY_STRING"]),
                parse_qs(answer.headers.get("Location", "?").partition("?")[2]),
            )
            if "code" in back and asked.get("code_challenge_method") == ["S256"]:
                self.challenges[back["code"][0]] = asked["code_challenge"][0]
        if path == "/jwks" and self.key is not None:
            return answered(start, {"keys": [jwk.import_key(self.key).as_dict(private=False)]})
        if path == "/oauth2/token" and answer.status_code == 200:
            said = answer.get_json()
            if "id_token" in said:
                self.last = said["id_token"] = self.told(said["id_token"])
            if not self.refreshes:
                said.pop("refresh_token", None)
            return answered(start, said)
        start(answer.status, list(answer.headers))
        return [answer.data]

    def instructed(self, path: str, body: bytes) -> object:
        """What a test tells the provider, or asks of it."""
        if path == "/tests/asked":
            return self.asked
        if path == "/tests/next":
            self.next = json.loads(body)
        elif path == "/tests/refreshes":
            self.refreshes = json.loads(body)
        else:
            self.key = jwk.RSAKey.generate_key(2048, {"kid": secrets.token_hex(4)}).as_dict(private=True)
        return {"last": self.last}

    def is_proven(self, environ: dict[str, Any], body: bytes) -> bool:
        """RFC 7636, and the client's secret."""
        given = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        proven = base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == self.challenges.get(given.get("code", ""))
        proven = proven or given.get("grant_type") == "refresh_token"
        basic = base64.b64encode(f"medai:{self.secret}".encode()).decode()
        return proven and environ.get("HTTP_AUTHORIZATION") == f"Basic {basic}"

    def told(self, token: str) -> Any:
        """The ID token, or a lie."""
        lie, self.next = self.next, {}
        if "token" in lie:
            return lie["token"]  # whatever it is
        if not lie and self.key is None:
            return token
        header, claims, _ = token.split(".")
        payload = json.dumps({**decoded(claims), **lie.get("claims", {})}).encode()
        real = jwk.import_key(self.key or self.real())
        alg = lie.get("alg", "RS256")
        if alg == "RS256":
            key: Any = jwk.RSAKey.generate_key(2048) if lie.get("by") == "another key" else real
            return jws.serialize_compact({**decoded(header), "kid": real.kid, "alg": "RS256"}, payload, key)
        begin = ".".join(
            base64.urlsafe_b64encode(part).rstrip(b"=").decode()
            for part in (json.dumps({"alg": alg, "typ": "JWT", "kid": real.kid}).encode(), payload)
        )
        if alg == "none":
            return f"{begin}."

        seal = hmac.new(real.as_pem(private=False), begin.encode(), hashlib.sha256).digest()
        return f"{begin}.{base64.urlsafe_b64encode(seal).rstrip(b'=').decode()}"

    def real(self) -> dict[str, Any]:
        with self.app.test_request_context("/"):
            self.app.preprocess_request()
            return dict(_storage.storage.jwk.as_dict(is_private=True))


def headers_of(environ: dict[str, Any]) -> dict[str, str]:
    found = {name[5:].replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
    return {**found, "Content-Type": environ.get("CONTENT_TYPE", "")}


def answered(start: Answer, said: object, status: str = "200 OK") -> Iterable[bytes]:
    start(status, [("Content-Type", "application/json")])
    return [json.dumps(said).encode()]


if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), Provider(sys.argv[2]), threaded=True).serve_forever()
