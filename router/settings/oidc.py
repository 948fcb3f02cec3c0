"""The table [console.oidc] of medai.toml: people sign in at the hospital's own provider. Next: console/provider.py."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from medai.router.errors import SettingsError
from medai.router.settings.section import Positive, Section

PersonRole = Literal["reader", "operator", "administrator"]


class OidcSettings(Section):
    """Sign-in at the hospital's provider (OpenID Connect), such as Keycloak, Entra ID or AD FS. Off without ``issuer``.

    Register ``console_url`` with /login/oidc/back as the redirect URI, and with /login as that after logout.
    """

    issuer: str = ""
    """The provider, as it names itself; its discovery document is below it."""
    client_id: str = ""
    """What the provider calls this console."""
    client_secret: SecretStr = SecretStr("")
    """Its secret; better given as MEDAI_CONSOLE__OIDC__CLIENT_SECRET or in a file. Empty: a public client."""
    client_secret_file: str = ""
    """File that holds the secret and nothing else."""
    console_url: str = ""
    """Where browsers reach the console, such as "https://medai.hospital.example"; the provider sends people back there.
    Its host must be one that the console answers to."""
    scopes: tuple[str, ...] = ("openid", "profile")
    """What is asked for."""
    name_claim: str = "preferred_username"
    """Claim that names the account here."""
    role_claim: tuple[str, ...] = ("roles",)
    """Path to the claim that says the role, such as ["realm_access", "roles"]: a text or a list of them."""
    roles: dict[str, PersonRole] = Field(default_factory=dict)
    """Value of that claim -> reader, operator or administrator; of several the highest counts. Without one nobody is
    let in."""
    ca_file: str = ""
    """Authority of the provider's certificate (PEM); empty: the system's."""
    button: Annotated[str, Field(min_length=1, max_length=60)] = "Sign in with the hospital's account"
    """What the button on the login page says."""
    timeout_s: Positive = 5.0
    """Longest silence of the provider."""
    vouched_h: Positive = 1.0
    """A session ends so many hours after the provider has last vouched for its user: at the sign-in, and whenever it is
    asked again (``check_min``). Whoever still has a session there is let in again by one click."""
    check_min: Positive = 5.0
    """How often the provider is asked whether it still vouches for a user who is at work, and for which role, where it
    gave a refresh token (some give one for the scope "offline_access" alone): a role that is taken away there is gone
    here after so many minutes. Without such a token it is gone with the session."""
    tokens_days: Positive = 14.0
    """A program's token of somebody who has not signed in for so many days does not hold: who has left the hospital
    leaves no token behind."""

    @property
    def is_on(self) -> bool:
        """Whether people sign in so."""
        return bool(self.issuer)

    def secret(self) -> str:
        """The client's secret, from where it is given. Raises SettingsError."""
        if not self.client_secret_file:
            return self.client_secret.get_secret_value()
        try:
            found = Path(self.client_secret_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise SettingsError(f"[console.oidc] client_secret_file can't be read: {reason}") from error
        if not found:
            raise SettingsError("[console.oidc] client_secret_file is empty")
        return found

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.is_on:
            if self.client_id or self.console_url or self.roles:
                raise ValueError("issuer is not set: nobody could sign in by it")
            return self
        missing = [name for name in ("client_id", "console_url", "roles") if not getattr(self, name)]
        if missing:
            raise ValueError(f"{' and '.join(missing)} must be set where issuer is")
        if not is_safe_url(self.issuer) or urlsplit(self.issuer).query:
            raise ValueError("issuer must be an https address (http on this machine alone)")
        if not is_safe_url(self.console_url) or urlsplit(self.console_url).path.strip("/"):
            raise ValueError("console_url must be an https address (http on this machine alone) without a path")
        if "openid" not in self.scopes:
            raise ValueError('scopes must hold "openid"')
        if not self.role_claim:
            raise ValueError("role_claim must name a claim")
        if self.client_secret_file and self.client_secret.get_secret_value():
            raise ValueError("give client_secret or client_secret_file, not both")
        return self


def is_safe_url(address: str) -> bool:
    """Whether nobody on the way hears what is said to this address: TLS, or this machine."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    if not parts.hostname or parts.username or parts.password or parts.fragment or port == 0:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname))


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
