"""What the API takes. Next: responses.py (what it gives), api.py."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from medai.router.ledger.accounts import NAME, PASSWORD_MIN, Role

NO_NUL = r"^[^\x00]*$"
"""Text that PostgreSQL takes, too."""
NAMED = f"^{NAME.pattern}$"
"""The name of an account."""


class Body(BaseModel):
    """What a request holds; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class Login(Body):
    """Name and password of an account."""

    name: str = Field(max_length=64, pattern=NO_NUL)
    password: str = Field(max_length=1024)


class NewPassword(Body):
    """A password to be set."""

    password: str = Field(min_length=PASSWORD_MIN, max_length=1024)


class OwnPassword(NewPassword):
    """One's own, for which one knows the old one."""

    old: str = Field(max_length=1024)


class NewToken(Body):
    """A token for a program."""

    label: str = Field(min_length=1, max_length=80, pattern=NO_NUL, description="What it is for.")
    days: float = Field(default=90.0, gt=0, le=366)
    role: Role | None = Field(default=None, description="What it may at most; default: what the account may.")
    account: str | None = Field(
        default=None, max_length=64, pattern=NAMED,
        description="Of a service, by an administrator; default: one's own account.",
    )  # fmt: skip


class NewRole(Body):
    """What an account may from now on."""

    role: Role


class NewAccount(Body):
    """An account to make; a service has no password."""

    name: str = Field(max_length=64, pattern=NAMED)
    password: str | None = Field(default=None, min_length=PASSWORD_MIN, max_length=1024)
    role: Role = Role.READER


class Reason(Body):
    """Why; kept in the ledger, and told to those whom it concerns."""

    reason: str = Field(min_length=3, max_length=500, pattern=NO_NUL)


class Again(Body):
    """Which model shall read the same images."""

    model: str = Field(min_length=1, max_length=64, pattern=NO_NUL)


VALUES_MAX = 20_000
NESTED_MAX = 8


def _small(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes of one header, as far as a person would write one down."""
    count, level = 0, [attributes]
    for _ in range(NESTED_MAX):
        inner = [list(v.values()) if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        level = [value for values in inner for value in values]
        count += len(level)
        if count > VALUES_MAX:
            raise ValueError(f"at most {VALUES_MAX} values")
    if level:
        raise ValueError(f"nested more than {NESTED_MAX} deep")
    return attributes


Attributes = Annotated[dict[str, Any], AfterValidator(_small)]


class MadeUp(Body):
    """A study that nobody sent: DICOM keywords and values."""

    attributes: Attributes = Field(default_factory=dict)
    series: list[Attributes] = Field(default_factory=list, max_length=200)


class RuleTest(Body):
    """A study to try routes on, and routes to try instead of those that are in force."""

    study_id: int | None = Field(default=None, ge=1, le=2**31 - 1, description="A study of the ledger; or give study.")
    study: MadeUp | None = Field(default=None, description="A made-up one.")
    routes: str | None = Field(
        default=None, max_length=50_000, description="[[routes]] of a medai.toml; default: those in force."
    )
