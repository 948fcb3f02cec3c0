"""[console.oidc]: a half-made table is refused with what is missing, and the secret comes from where it is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from medai.router.errors import SettingsError
from medai.router.settings.oidc import OidcSettings, is_safe_url
from medai.router.settings.tables import ConsoleSettings, Settings

WHOLE: dict[str, Any] = {
    "issuer": "https://id.example/realms/x", "client_id": "medai", "console_url": "https://medai.example",
    "roles": {"a": "reader"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"issuer": ""}, "issuer is not set"), ({"client_id": "", "roles": {}}, "client_id and roles must be set"),
        ({"issuer": "http://id.example"}, "issuer must be an https address"),
        ({"issuer": "https://id.example?x"}, "issuer must be an https address"),
        ({"console_url": "http://medai.example"}, "console_url must be an https address"),
        ({"console_url": "https://medai.example/console"}, "without a path"), ({"scopes": ["profile"]}, "openid"),
        ({"role_claim": []}, "role_claim must name a claim"), ({"roles": {"a": "service"}}, "reader"),
        ({"client_secret": "x", "client_secret_file": "y"}, "not both"),
    ],
)  # fmt: skip
def test_a_half_made_table_is_refused_with_what_is_missing(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        OidcSettings(**{**WHOLE, **change})


def test_without_local_accounts_there_must_be_a_provider() -> None:
    with pytest.raises(ValidationError, match="nobody could sign in"):
        ConsoleSettings(local_accounts=False)
    assert ConsoleSettings(local_accounts=False, oidc=OidcSettings(**WHOLE)).oidc.is_on


def test_the_secret_comes_from_the_environment_or_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDAI_CONSOLE__OIDC__CLIENT_SECRET", "from outside")
    assert Settings(console={"oidc": WHOLE}).console.oidc.secret() == "from outside"  # type: ignore[arg-type]
    file = tmp_path / "secret"
    given = OidcSettings(**WHOLE, client_secret_file=str(file))
    with pytest.raises(SettingsError, match="No such file"):
        given.secret()
    file.write_text("from a file\n")
    assert given.secret() == "from a file"
    file.write_text("\n")
    with pytest.raises(SettingsError, match="is empty"):
        given.secret()


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("https://id.example", True), ("http://127.0.0.1:80/x", True), ("http://[::1]:80", True),
        ("http://localhost", True), ("http://id.example", False), ("http://localhost.example", False), ("", False),
        ("https://", False), ("https://a:b@id.example", False), ("https://id.example/#x", False),
        ("https://id.example:x", False), ("file:///etc/passwd", False), ("http://127.0.0.1.example", False),
    ],
)  # fmt: skip
def test_nobody_on_the_way_hears_what_is_said_to_the_provider(address: str, safe: bool) -> None:
    assert is_safe_url(address) is safe
