"""Accounts, tokens and the audit log: who may come in, for how long, and what is kept of it."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest
from ledger_cases import T0
from sqlalchemy import select, update

from medai.router.ledger import Ledger
from medai.router.ledger import schema as t
from medai.router.ledger.accounts import SCRYPT, AccountFault, Role
from medai.router.reports.story import actions

PASSWORD = "correct horse"


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    ledger.accounts.add("ana", PASSWORD, Role.OPERATOR, T0)
    return ledger


def test_a_password_lets_its_account_in_and_no_other(ledger: Ledger) -> None:
    account = ledger.accounts.by_password("ana", PASSWORD)
    assert account is not None
    assert (account.name, account.role) == ("ana", Role.OPERATOR)
    assert ledger.accounts.by_password("ana", PASSWORD + "x") is None
    assert ledger.accounts.by_password("bob", PASSWORD) is None


def test_neither_password_nor_token_is_kept_in_clear(ledger: Ledger) -> None:
    token = ledger.accounts.issue_token("ana", T0, kind="api", label="script", lasts_s=60)
    with ledger.begin() as db:
        kept = f"{db.execute(select(t.accounts)).all()}{db.execute(select(t.tokens)).all()}"
    assert PASSWORD not in kept
    assert token not in kept


def test_two_accounts_with_one_password_are_kept_differently(ledger: Ledger) -> None:
    ledger.accounts.add("bob", PASSWORD, Role.READER, T0)
    with ledger.begin() as db:
        first, second = db.execute(select(t.accounts.c.password)).scalars()
    assert first != second


def test_a_token_lasts_as_long_as_was_said(ledger: Ledger) -> None:
    token = ledger.accounts.issue_token("ana", T0, kind="session", label="", lasts_s=60)
    assert ledger.accounts.by_token(token, T0 + 59) is not None
    assert ledger.accounts.by_token(token, T0 + 61) is None
    assert ledger.accounts.by_token(token[:-1], T0) is None


def test_expired_tokens_are_forgotten(ledger: Ledger) -> None:
    ledger.accounts.issue_token("ana", T0, kind="session", label="", lasts_s=60)
    ledger.accounts.issue_token("ana", T0 + 100, kind="session", label="", lasts_s=60)
    with ledger.begin() as db:
        assert len(db.execute(select(t.tokens)).all()) == 1


@pytest.mark.parametrize("how", ["revoked", "disabled", "new password"])
def test_a_token_that_was_taken_back_lets_nobody_in(ledger: Ledger, how: str) -> None:
    token = ledger.accounts.issue_token("ana", T0, kind="session", label="", lasts_s=60)
    if how == "revoked":
        ledger.accounts.revoke_token(token)
    elif how == "disabled":
        ledger.accounts.disable("ana")
        assert ledger.accounts.by_password("ana", PASSWORD) is None
    else:
        ledger.accounts.set_password("ana", "another password")
        assert ledger.accounts.by_password("ana", PASSWORD) is None
    assert ledger.accounts.by_token(token, T0 + 1) is None


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        ("ana", PASSWORD, "exists"),
        ("", PASSWORD, "letters"),
        ("a b", PASSWORD, "letters"),
        ("<script>", PASSWORD, "letters"),
        ("a" * 65, PASSWORD, "letters"),
        ("bob", "short", "characters"),
    ],
)
def test_what_will_not_do_is_refused_with_its_reason(ledger: Ledger, name: str, password: str, words: str) -> None:
    with pytest.raises(AccountFault, match=words):
        ledger.accounts.add(name, password, Role.READER, T0)
    assert [row.name for row in ledger.accounts.listed()] == ["ana"]


def test_an_account_that_does_not_exist_can_not_be_changed(ledger: Ledger) -> None:
    with pytest.raises(AccountFault, match="no account"):
        ledger.accounts.set_password("bob", PASSWORD)
    with pytest.raises(AccountFault, match="no account"):
        ledger.accounts.disable("bob")


def test_each_role_may_what_those_before_it_may() -> None:
    may = {role: [needed for needed in Role if role.may(needed)] for role in Role}
    assert may == {
        Role.SERVICE: [Role.SERVICE],
        Role.READER: [Role.SERVICE, Role.READER],
        Role.OPERATOR: [Role.SERVICE, Role.READER, Role.OPERATOR],
        Role.ADMINISTRATOR: list(Role),
    }


def test_the_audit_log_is_paged_newest_first_and_by_study(ledger: Ledger) -> None:
    for number in range(5):
        ledger.accounts.note_action("ana", f"act{number}", T0 + number, study_id=number % 2)
    newest = actions(ledger, limit=2)
    assert [row.action for row in newest] == ["act4", "act3"]
    assert [row.action for row in actions(ledger, before=newest[-1].id)] == ["act2", "act1", "act0"]
    assert [row.action for row in actions(ledger, study_id=1)] == ["act3", "act1"]


def test_a_token_is_limited_to_its_role_and_follows_an_account_that_may_less() -> None:
    assert [Role.ADMINISTRATOR.within(most) for most in (None, "reader", "administrator")] == [
        Role.ADMINISTRATOR,
        Role.READER,
        Role.ADMINISTRATOR,
    ]
    assert Role.READER.within("administrator") is Role.READER


def test_a_session_that_nobody_used_is_over_and_a_programs_token_is_not(ledger: Ledger) -> None:
    session = ledger.accounts.issue_token("ana", T0, kind="session", label="", lasts_s=9999)
    program = ledger.accounts.issue_token("ana", T0, kind="api", label="", lasts_s=9999)
    assert ledger.accounts.by_token(session, T0 + 60, idle_s=60) is not None, "in use: 60 more seconds"
    assert ledger.accounts.by_token(session, T0 + 119, idle_s=60, in_use=False) is not None
    assert ledger.accounts.by_token(session, T0 + 121, idle_s=60) is None
    assert ledger.accounts.by_token(program, T0 + 121, idle_s=60) is not None


def test_a_password_of_before_lets_its_account_in_and_is_hashed_anew(ledger: Ledger) -> None:
    salt = b"sixteen bytes ok"
    old = b64encode(hashlib.scrypt(PASSWORD.encode(), salt=salt, n=SCRYPT["n"], r=8, p=1)).decode()
    with ledger.begin() as db:
        db.execute(update(t.accounts).values(password=f"scrypt${b64encode(salt).decode()}${old}"))
    assert ledger.accounts.by_password("ana", PASSWORD + "x") is None
    for _ in range(2):
        assert ledger.accounts.by_password("ana", PASSWORD) is not None
        with ledger.begin() as db:
            assert str(db.execute(select(t.accounts.c.password)).scalar_one()).startswith("$argon2id$")


def test_a_service_has_no_password_and_stays_a_service(ledger: Ledger) -> None:
    ledger.accounts.add("dashboard", None, Role.SERVICE, T0)
    for password in ("", "x" * 20):
        assert ledger.accounts.by_password("dashboard", password) is None
    with pytest.raises(AccountFault, match="no password"):
        ledger.accounts.set_password("dashboard", PASSWORD)
    for name, role in (("dashboard", Role.READER), ("ana", Role.SERVICE)):
        with pytest.raises(AccountFault, match="a service stays one"):
            ledger.accounts.set_role(name, role)
    for password, role in ((None, Role.READER), (PASSWORD, Role.SERVICE)):
        with pytest.raises(AccountFault, match="a service has no password"):
            ledger.accounts.add("other", password, role, T0)


def test_another_role_holds_from_the_next_request_on(ledger: Ledger) -> None:
    token = ledger.accounts.issue_token("ana", T0, kind="session", label="", lasts_s=60)
    ledger.accounts.set_role("ana", Role.READER)
    found = ledger.accounts.by_token(token, T0 + 1)
    assert found is not None
    assert found.role is Role.READER
    assert ledger.accounts.named("ana").signed_in_at == T0
