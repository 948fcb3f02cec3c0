"""``ledger.accounts``: the people who may look and act, and what they did.

Passwords are kept as argon2id hashes (RFC 9106), those of before as scrypt's (RFC 7914) until their next login, tokens
as SHA-256 of 256 random bits. What a person does is written
down in the transaction that does it wherever the action is the ledger's own. Next: console/auth.py.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from base64 import b64decode
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from medai.router.errors import MedaiError
from medai.router.ledger import schema as t
from medai.router.ledger.database import Part
from medai.router.ledger.history import noted
from medai.router.ledger.rows import rows

HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""19 MiB and two passes: OWASP's first choice of parameters (Password Storage Cheat Sheet)."""
SCRYPT = {"n": 2**14, "r": 8, "p": 1}
"""Of hashes that were made before argon2."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
PASSWORD_MIN = 10
USED_S = 30.0
"""That a token was used is written down so often at most."""


class Role(StrEnum):
    """What an account may do; each may all that those before it may."""

    SERVICE = "service"
    """A program that watches: counts, times and models, no study. It has no password, only tokens."""
    READER = "reader"
    """Look at studies, images and reports, and say what they were worth."""
    OPERATOR = "operator"
    """Act on readings and deliveries, and see whose they are."""
    ADMINISTRATOR = "administrator"
    """Make accounts, end sessions, read the audit trail."""

    def may(self, needed: Role) -> bool:
        """Whether this role suffices."""
        order = list(Role)
        return order.index(self) >= order.index(needed)

    def within(self, most: str | None) -> Role:
        """This role, or the lower one that a token is limited to."""
        return Role(most) if most and self.may(Role(most)) else self


class AccountFault(MedaiError):
    """An account can't be made or changed so; the text says why."""


class AccountExists(AccountFault):
    """The name is taken."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """A person or a program with a token; the role is what it may at this moment, with this token."""

    name: str
    role: Role
    kind: str = "session"
    """Of the token: session or api."""
    is_local: bool = True
    """Whether no provider vouches for it."""
    token_id: int = 0
    """Of the token; 0 where a password was shown."""


@dataclass(frozen=True, kw_only=True)
class AccountRow:
    """An account as people manage it, without its password."""

    name: str
    role: Role
    created_at: float
    disabled: bool
    signed_in_at: float | None
    """When somebody last signed in by it; None: not since that is kept."""
    issuer: str | None
    """The provider (OpenID Connect) that vouches for it and says its role; None: an account of this console alone."""

    @property
    def has_no_password(self) -> bool:
        """Whether it signs in by something else."""
        return bool(self.issuer) or self.role is Role.SERVICE


@dataclass(frozen=True, kw_only=True)
class TokenRow:
    """A token as people manage it, without what opens the door."""

    id: int
    account: str
    kind: str
    label: str
    created_at: float
    expires_at: float
    role: str | None
    """What it may at most; None: what the account may."""
    used_at: float | None


class Accounts(Part):
    """Accounts, tokens and the audit log."""

    def add(self, name: str, password: str | None, role: Role, now: float) -> None:
        """Raises AccountExists where the name is taken, AccountFault where name or password will not do.

        A service has no password: tokens are made for it.
        """
        if not NAME.fullmatch(name):
            raise AccountFault(
                "a name consists of letters, digits and . _ @ - (64 at most), and begins with a letter or digit"
            )
        if (password is None) != (role is Role.SERVICE):
            raise AccountFault("a service has no password, and every other account has one")
        kept = NO_PASSWORD if password is None else _hash(password)
        values = {"name": name, "password": kept, "role": role.value, "created_at": now, "disabled": False}
        try:
            with self._database.begin() as db:
                db.execute(insert(t.accounts).values(**values))
        except IntegrityError as error:
            raise AccountExists(f"an account named {name!r} exists") from error

    def set_password(self, name: str, password: str) -> None:
        """Change it; whoever is logged in under the name is no more."""
        if self.named(name).has_no_password:
            raise AccountFault(f"{name} has no password: a service shows a token, and a provider knows its own people")
        with self._database.begin() as db:
            db.execute(update(t.accounts).where(t.accounts.c.name == name).values(password=_hash(password)))
            db.execute(delete(t.tokens).where(t.tokens.c.account == name))

    def set_role(self, name: str, role: Role) -> None:
        """From the next request on; tokens that were made for less stay so."""
        before = self.named(name)
        if before.issuer:
            raise AccountFault(f"the role of {name} is what the provider says, at each sign-in")
        if Role.SERVICE in (before.role, role) and before.role is not role:
            raise AccountFault("a service stays one, and nobody else becomes one: add another account")
        with self._database.begin() as db:
            db.execute(update(t.accounts).where(t.accounts.c.name == name).values(role=role.value))

    def disable(self, name: str, *, disabled: bool = True) -> None:
        """Let an account in no more, or again."""
        with self._database.begin() as db:
            mine = t.accounts.c.name == name
            if db.execute(update(t.accounts).where(mine).values(disabled=disabled)).rowcount != 1:
                raise AccountFault(f"no account is named {name!r}")
            db.execute(delete(t.tokens).where(t.tokens.c.account == name))

    def listed(self) -> list[AccountRow]:
        """Every account, without its password."""
        with self._database.begin(reads_only=True) as db:
            return [_account_row(row) for row in db.execute(select(*_COLUMNS).order_by(t.accounts.c.name))]

    def named(self, name: str) -> AccountRow:
        """One account. Raises AccountFault where there is none."""
        with self._database.begin(reads_only=True) as db:
            row = db.execute(select(*_COLUMNS).where(t.accounts.c.name == name)).first()
        if row is None:
            raise AccountFault(f"no account is named {name!r}")
        return _account_row(row)

    def has_any(self) -> bool:
        """Whether anybody can log in."""
        with self._database.begin(reads_only=True) as db:
            return bool(db.execute(select(func.count()).select_from(t.accounts)).scalar_one())

    def by_password(self, name: str, password: str) -> Account | None:
        """Whose name and password these are; takes as long for a name that nobody has."""
        with self._database.begin(reads_only=True) as db:
            row = db.execute(select(t.accounts).where(t.accounts.c.name == name)).mappings().first()
        kept = str(row["password"]) if row else NO_PASSWORD
        if not _matches(password, kept) or row is None or row["disabled"]:
            return None
        if _is_old(kept):
            mine = and_(t.accounts.c.name == name, t.accounts.c.password == kept)
            with self._database.begin() as db:
                db.execute(update(t.accounts).where(mine).values(password=HASHER.hash(password)))
        return Account(name=str(row["name"]), role=Role(row["role"]))

    def signed_in(self, issuer: str, subject: str, name: str, role: Role, now: float) -> str:
        """The account of somebody for whom a provider vouches, made at the first sign-in; what they may is what the
        provider says at each.

        Raises AccountFault where it is disabled, or where somebody else has the name. An account keeps its first name.
        """
        a = t.accounts.c
        who = and_(a.issuer == issuer, a.subject == subject)
        values = {
            "name": name, "password": NO_PASSWORD, "role": role.value, "created_at": now, "disabled": False,
            "issuer": issuer, "subject": subject,
        }  # fmt: skip
        try:
            with self._database.begin() as db:
                found = db.execute(select(a.name, a.role, a.disabled).where(who)).first()
                if found is None:
                    db.execute(insert(t.accounts).values(**values))
                    noted(db, name, "account", now, detail=f"{name}, {role.value}, by the provider")
                elif found.disabled:
                    raise AccountFault("your account is disabled here: ask an administrator of this console")
                elif found.role != role.value:
                    db.execute(update(t.accounts).where(who).values(role=role.value))
                    detail = f"{found.name}, {found.role} to {role.value}, by the provider"
                    noted(db, found.name, "account role", now, detail=detail)
        except IntegrityError as error:
            taken = f"somebody else has the name {name} here: ask an administrator of this console"
            raise AccountExists(taken) from error
        return str(found.name) if found is not None else name

    def issue_token(
        self, account: str, now: float, *, kind: str, label: str, lasts_s: float, role: Role | None = None
    ) -> str:
        """A new token, told this once; ``kind`` is "session" or "api"; ``role``: what it may at most."""
        token = f"medai_{secrets.token_urlsafe(32)}"
        values = {
            "digest": _digest(token), "account": account, "kind": kind, "label": label, "created_at": now,
            "expires_at": now + lasts_s, "role": role.value if role else None, "used_at": now,
        }  # fmt: skip
        with self._database.begin() as db:
            db.execute(delete(t.tokens).where(t.tokens.c.expires_at < now))
            db.execute(insert(t.tokens).values(**values))
            if kind == "session":
                db.execute(update(t.accounts).where(t.accounts.c.name == account).values(signed_in_at=now))
        return token

    def by_token(
        self, token: str, now: float, *, idle_s: float = math.inf, away_s: float = math.inf, in_use: bool = True
    ) -> Account | None:
        """Whose token it is, while it lasts; a session that nobody used for ``idle_s`` is over.

        ``away_s``: a program's token does not hold once its owner, for whom a provider vouches, has not signed in for
        so long. ``in_use``: a person asks, and no page that keeps itself fresh.
        """
        k, a = t.tokens.c, t.accounts.c
        valid = and_(k.digest == _digest(token), k.expires_at > now, ~a.disabled)
        query = select(
            k.id, a.name, a.role, k.role.label("at_most"), k.kind, k.used_at, k.created_at, a.issuer, a.signed_in_at
        )
        with self._database.begin(reads_only=True) as db:
            row = db.execute(query.join(t.tokens, k.account == a.name).where(valid)).first()
        if row is None:
            return None
        used_at = row.created_at if row.used_at is None else float(row.used_at)
        if row.kind == "session" and now - used_at > idle_s:
            return None
        if row.kind != "session" and row.issuer and now - (row.signed_in_at or 0.0) > away_s:
            return None
        if in_use and now - used_at > USED_S:
            with self._database.begin() as db:
                db.execute(update(t.tokens).where(k.id == row.id).values(used_at=now))
        role = Role(row.role)
        return Account(
            name=str(row.name),
            role=role.within(row.at_most),
            kind=str(row.kind),
            is_local=not row.issuer,
            token_id=int(row.id),
        )

    def prolong(self, token: str, until: float) -> None:
        """Let a token hold until then at least."""
        mine = and_(t.tokens.c.digest == _digest(token), t.tokens.c.expires_at < until)
        with self._database.begin() as db:
            db.execute(update(t.tokens).where(mine).values(expires_at=until))

    def revoke_token(self, token: str) -> None:
        """Log out."""
        with self._database.begin() as db:
            db.execute(delete(t.tokens).where(t.tokens.c.digest == _digest(token)))

    def tokens(self, now: float, *, account: str | None = None, idle_s: float = math.inf) -> list[TokenRow]:
        """The tokens that hold, of one account or of all, newest first; never what opens the door.

        ``idle_s``: see ``by_token``.
        """
        k = t.tokens.c
        columns = [k[name] for name in TokenRow.__dataclass_fields__]
        query = select(*columns).where(k.expires_at > now).order_by(k.id.desc())
        if math.isfinite(idle_s):
            query = query.where(or_(k.kind != "session", func.coalesce(k.used_at, k.created_at) >= now - idle_s))
        if account is not None:
            query = query.where(t.tokens.c.account == account)
        with self._database.begin(reads_only=True) as db:
            return rows(db, query, TokenRow)

    def revoke(self, token_id: int, *, account: str | None = None) -> bool:
        """End a token (of this account); False where there is none."""
        mine = t.tokens.c.id == token_id
        if account is not None:
            mine = and_(mine, t.tokens.c.account == account)
        with self._database.begin() as db:
            return db.execute(delete(t.tokens).where(mine)).rowcount == 1

    def note_action(
        self, account: str, action: str, now: float, *, study_id: int | None = None, job_id: str | None = None,
        detail: str = "",
    ) -> None:  # fmt: skip
        """Write down what somebody did or asked to see."""
        with self._database.begin() as db:
            noted(db, account, action, now, study_id=study_id, job_id=job_id, detail=detail)


def _account_row(row: Row[Any]) -> AccountRow:
    return AccountRow(**{**row._mapping, "role": Role(row.role)})


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _hash(password: str) -> str:
    if len(password) < PASSWORD_MIN:
        raise AccountFault(f"a password needs {PASSWORD_MIN} characters or more")
    return HASHER.hash(password)


def _matches(password: str, kept: str) -> bool:
    if not kept.startswith(OLD):
        try:
            return HASHER.verify(kept, password)
        except VerificationError:
            return False
    _, salt, digest = kept.split("$")
    tried = hashlib.scrypt(password.encode(), salt=b64decode(salt), n=SCRYPT["n"], r=SCRYPT["r"], p=SCRYPT["p"])
    return hmac.compare_digest(tried, b64decode(digest))


def _is_old(kept: str) -> bool:
    return kept.startswith(OLD) or HASHER.check_needs_rehash(kept)


OLD = "scrypt$"
NO_PASSWORD = f"$argon2id$v=19$m=19456,t=2,p=1${'A' * 22}${'A' * 43}"
"""What a password is held against where nobody has the name, or who has it has none: all zeros is no one's digest."""
_COLUMNS = tuple(t.accounts.c[name] for name in AccountRow.__dataclass_fields__)
