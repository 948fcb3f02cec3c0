"""The provider of sign-ins (OpenID Connect): where it sends people, and what it says of one who comes back.

Authlib and joserfc do the protocol: the request with PKCE (RFC 7636, S256), signature and claims of the ID token
(OpenID Connect Core 3.1.3.7). Here is what a site must bound and fix: how long and how much a provider may answer,
which signatures count, which claim is whose role. Next: signin.py (the pages), settings/oidc.py.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import urllib3
from authlib.common.urls import add_params_to_uri
from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from authlib.oidc.discovery import get_well_known_url
from cachetools import TTLCache
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet, import_key
from joserfc.jws import JWSRegistry

from medai.router.errors import MedaiError, TemporaryError
from medai.router.ledger.accounts import NAME, Role
from medai.router.settings.oidc import OidcSettings, is_safe_url
from medai.router.settings.tls import ClientTls
from medai.router.tls import client_context

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures that count: those by a key that the provider alone has. "none" and an HMAC, which could be made with a
public key for its secret, are not among them."""
KEY_TYPES = frozenset({"RSA", "EC", "OKP"})
ANSWER_MAX = 256 * 1024
FRESH_S = 3600.0
"""The provider's addresses and keys are so old at most."""
AWAY_S = 5.0
"""A provider that was away is not asked again for so long."""
ANEW_S = 30.0
"""For a key that is not known the provider is asked so often at most."""
LEEWAY_S = 60
"""Clocks differ by so much at most."""
LATER = frozenset({408, 425, 429})
"""Of the answers that refuse (4xx), those that only ask for patience."""
LONGEST = 4.0
"""A whole answer takes so many times ``timeout_s`` at most."""


class ProviderAway(TemporaryError):
    """The provider does not answer, or says something else than a provider says."""


class SignInRefused(MedaiError):
    """Somebody is not let in; the text says why, to themselves."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the provider does what (OpenID Connect Discovery)."""

    authorization: str
    token: str
    keys: str
    userinfo: str
    end_session: str
    takes_secret_in_body: bool
    """Whether it takes the client's secret in the body alone, and not as HTTP Basic."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who came back from the provider."""

    subject: str
    name: str
    role: Role
    id_token: str
    refresh_token: str
    """By which the provider is asked again; empty where it gave none."""


class Provider:
    """One provider. Its methods wait for it: call them from a thread that may."""

    def __init__(
        self, settings: OidcSettings, clock: Callable[[], float], timer: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings = settings
        self.base = settings.console_url.rstrip("/")
        self.back = f"{self.base}/login/oidc/back"
        self._secret = settings.secret()
        self._clock = clock
        self._timer = timer
        context = client_context(ClientTls(ca_file=settings.ca_file), where="console.oidc")
        timeout = urllib3.Timeout(connect=settings.timeout_s, read=settings.timeout_s)
        self._pool = urllib3.PoolManager(ssl_context=context, timeout=timeout, retries=False)
        self._lock = threading.Lock()
        self._places: TTLCache[str, Place] = TTLCache(1, FRESH_S, timer)
        self._keys: TTLCache[str, KeySet] = TTLCache(1, FRESH_S, timer)
        self._anew: TTLCache[str, bool] = TTLCache(1, ANEW_S, timer)
        self._away: TTLCache[str, str] = TTLCache(1, AWAY_S, timer)

    # -- there and back

    def begin(self, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent. Raises ProviderAway."""
        return str(
            prepare_grant_uri(
                self.place().authorization, client_id=self.settings.client_id, response_type="code",
                redirect_uri=self.back, scope=list(self.settings.scopes), state=state, nonce=nonce,
                code_challenge=create_s256_code_challenge(verifier), code_challenge_method="S256",
            )
        )  # fmt: skip

    def finish(self, code: str, nonce: str, verifier: str) -> Person:
        """Who it is that came back with a code. Raises SignInRefused, ProviderAway."""
        answer = self._granted(
            "authorization_code", refused="the provider took the code for nothing", redirect_uri=self.back, code=code,
            code_verifier=verifier,
        )  # fmt: skip
        id_token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(id_token, str) or not isinstance(access_token, str):
            raise SignInRefused("the provider gave no ID token")
        claims = self._verified(id_token, access_token, nonce)
        subject = claims["sub"]
        if not 0 < len(subject) <= 255:
            raise SignInRefused("the provider's name for you is longer than a name may be")
        return self._person(self._with_userinfo(claims, access_token), answer, id_token)

    def again(self, known: Person) -> Person:
        """What somebody may by now, by their refresh token. Raises SignInRefused where the provider no longer vouches
        for them, ProviderAway."""
        refused = "the provider no longer vouches for this session"
        answer = self._granted("refresh_token", refused=refused, refresh_token=known.refresh_token)
        id_token, access_token = answer.get("id_token"), answer.get("access_token")
        if not isinstance(access_token, str) or not (isinstance(id_token, str) or self.place().userinfo):
            raise ProviderAway("the provider says nothing of whom it vouches for")
        new = isinstance(id_token, str)
        claims = self._verified(str(id_token), access_token, "") if new else {"sub": known.subject}
        if claims["sub"] != known.subject:
            raise SignInRefused("the provider speaks of two people")
        told = {"refresh_token": known.refresh_token, **answer}
        return self._person(self._with_userinfo(claims, access_token), told, str(id_token) if new else known.id_token)

    def _person(self, claims: Mapping[str, Any], answer: Mapping[str, Any], id_token: str) -> Person:
        refresh = answer.get("refresh_token")
        return Person(
            subject=claims["sub"], name=self._name(claims), role=self._role(claims), id_token=id_token,
            refresh_token=refresh if isinstance(refresh, str) else "",
        )  # fmt: skip

    def goodbye(self, id_token: str | None) -> str:
        """Where a browser ends its session with the provider, too (RP-Initiated Logout); empty where there is none."""
        try:
            end = self.place().end_session
        except ProviderAway:
            return ""
        wanted = {"client_id": self.settings.client_id, "post_logout_redirect_uri": f"{self.base}/login"}
        if id_token:
            wanted["id_token_hint"] = id_token
        return str(add_params_to_uri(end, wanted)) if end else ""

    # -- what the provider is

    def place(self) -> Place:
        """Its addresses, asked once in a while; others wait for whoever asks."""
        with self._lock:
            found = self._places.get("")
            if found is None:
                if reason := self._away.get(""):
                    raise ProviderAway(reason)
                try:
                    found = self._discovered()
                except ProviderAway as error:
                    self._away[""] = str(error)
                    raise
                self._places[""] = found
            return found

    def _discovered(self) -> Place:
        said = self._asked("GET", get_well_known_url(self.settings.issuer, external=True))
        if said.get("issuer") != self.settings.issuer:
            raise ProviderAway("the provider does not go by the name that [console.oidc] issuer gives it")
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint")
        found = {name: said.get(name) or "" for name in names}
        for name, address in found.items():
            wanted = name in names[:3]
            if not isinstance(address, str) or ((wanted or address) and not is_safe_url(address)):
                raise ProviderAway(f"the provider's {name} is no https address")
        methods = said.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        return Place(
            authorization=found["authorization_endpoint"], token=found["token_endpoint"], keys=found["jwks_uri"],
            userinfo=found["userinfo_endpoint"], end_session=found["end_session_endpoint"],
            takes_secret_in_body="client_secret_basic" not in methods and "client_secret_post" in methods,
        )  # fmt: skip

    def _key_set(self, *, anew: bool = False) -> KeySet:
        with self._lock:
            found = self._keys.get("")
            if found is not None and (not anew or "" in self._anew):
                return found
        said = self._asked("GET", self.place().keys).get("keys")
        keys = [key for each in (said if isinstance(said, list) else []) if (key := _key(each)) is not None]
        if not keys:
            raise ProviderAway("the provider shows no key to verify it by")
        with self._lock:
            self._keys[""] = KeySet(keys)
            self._anew[""] = True
            return self._keys[""]

    # -- what it says of somebody

    def _granted(self, by: str, *, refused: str, **what: str) -> Mapping[str, Any]:
        """What the token endpoint gives for a code or a refresh token."""
        place = self.place()
        body = prepare_token_request(by, "", **what)
        kind = "client_secret_post" if place.takes_secret_in_body else "client_secret_basic"
        client = ClientAuth(self.settings.client_id, self._secret, kind if self._secret else "none")
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        address, headers, body = client.prepare("POST", place.token, headers, body)
        return self._asked("POST", address, headers=headers, body=body, refused=refused)

    def _verified(self, id_token: str, access_token: str, nonce: str) -> Mapping[str, Any]:
        """The claims of an ID token that is the provider's, for this console, of this sign-in, and of now."""
        registry = JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
        try:
            try:
                token = jwt.decode(id_token, self._key_set(), registry=registry)
            except InvalidKeyIdError:
                token = jwt.decode(id_token, self._key_set(anew=True), registry=registry)
            claims = CodeIDToken(
                token.claims,
                token.header,
                {
                    "iss": {"essential": True, "value": self.settings.issuer},
                    "aud": {"essential": True, "value": self.settings.client_id},
                },
                {"nonce": nonce, "client_id": self.settings.client_id, "access_token": access_token},
            )
            claims.validate(now=int(self._clock()), leeway=LEEWAY_S)
        except (JoseError, ValueError, TypeError) as error:
            # what a forger sends is read by libraries, whose words are not for whoever sent it
            raise SignInRefused(f"the provider's ID token does not hold ({type(error).__name__})") from error
        return dict(claims)

    def _with_userinfo(self, claims: Mapping[str, Any], access_token: str) -> Mapping[str, Any]:
        """The claims, with those that the provider tells only when it is asked; the ID token's own count first."""
        has_all = self.settings.name_claim in claims and _at(claims, self.settings.role_claim) is not None
        address = self.place().userinfo
        if has_all or not address:
            return claims
        said = self._asked(
            "GET", address, headers={"Authorization": f"Bearer {access_token}"},
            refused="the provider does not say who you are",
        )  # fmt: skip
        if said.get("sub") != claims["sub"]:
            raise SignInRefused("the provider speaks of two people")
        return {**said, **claims}

    def _name(self, claims: Mapping[str, Any]) -> str:
        name = claims.get(self.settings.name_claim)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise SignInRefused(
                f"the provider's {self.settings.name_claim} is no name for an account here: it consists of letters, "
                "digits and . _ @ -"
            )
        return name

    def _role(self, claims: Mapping[str, Any]) -> Role:
        said = _at(claims, self.settings.role_claim)
        values = said if isinstance(said, list) else [said]
        roles = [Role(self.settings.roles[v]) for v in values if isinstance(v, str) and v in self.settings.roles]
        if not roles:
            raise SignInRefused("your account at the provider has no role here: ask whoever gives out roles there")
        return max(roles, key=list(Role).index)

    # -- asking

    def _asked(
        self, method: str, address: str, *, headers: Mapping[str, str] | None = None, body: str | None = None,
        refused: str = "",
    ) -> Mapping[str, Any]:  # fmt: skip
        """A JSON object. Raises ProviderAway, and SignInRefused where ``refused`` says what a 4xx means."""
        ends = self._timer() + LONGEST * self.settings.timeout_s
        sent = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}
        host = urlsplit(address).hostname
        try:
            answer = self._pool.request(method, address, headers=sent, body=body, preload_content=False, redirect=False)
            try:
                content = self._read(answer, ends)
            finally:
                answer.close()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ProviderAway(f"the provider ({host}) does not answer: {type(error).__name__}") from error
        if refused and 400 <= answer.status < 500 and answer.status not in LATER:
            raise SignInRefused(refused)
        try:
            said = json.loads(content) if answer.status == 200 else None
        except ValueError:  # UnicodeDecodeError is one
            said = None
        if not isinstance(said, dict):
            raise ProviderAway(f"the provider ({host}) answers with something else ({answer.status})")
        return said

    def _read(self, answer: urllib3.BaseHTTPResponse, ends: float) -> bytes:
        content = b""
        while len(content) <= ANSWER_MAX and self._timer() < ends:
            chunk = answer.read1(16_384)
            if not chunk:
                return content
            content += chunk
        raise urllib3.exceptions.HTTPError("too long an answer")


def _key(said: object) -> Any:
    """A key that signs; None for one of another use, or one that this library can't read."""
    if not isinstance(said, dict) or said.get("kty") not in KEY_TYPES or said.get("use", "sig") != "sig":
        return None
    try:
        return import_key(said)
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _at(claims: Mapping[str, Any], path: tuple[str, ...]) -> object:
    found: object = claims
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found
