"""The commands of ``medai`` about people: accounts, what they said in surveys, what readers made of our results.

Next: options.py, ledger/accounts.py, reports/survey_summary.py, reports/agreement.py.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medai.router.cli.options import command, load_settings, open_ledger, parse_duration_s, person, print_json
from medai.router.errors import MedaiError, SettingsError
from medai.router.words import counted

if TYPE_CHECKING:
    from medai.router.ledger import Ledger

DONE = {"add": "added; the console's page Tokens makes its token", "disable": "disabled", "enable": "enabled"}
"""What is said of an account to which no password was given."""
SHOWN = 1_000
"""Edits that 'medai edits list' tells, the newest."""


def account_commands(commands: Any) -> None:
    """``medai account``."""
    from medai.router.ledger.accounts import Role

    text = "who may use the console: list, add, role, password, disable, enable"
    account = command(commands, "account", cmd_account, text, example="medai account add ana --role operator")
    account.add_argument("what", choices=["list", "add", "role", "password", "disable", "enable"])
    account.add_argument("name", metavar="NAME", nargs="?")
    roles = [role.value for role in Role]
    account.add_argument("new_role", metavar="ROLE", nargs="?", choices=roles, help="of 'role': the new one")
    account.add_argument("--role", choices=roles, default=Role.READER.value, help="of 'add' (default: %(default)s)")


def survey_commands(commands: Any) -> None:
    """``medai survey``."""
    text = "what people say about readings and about the system: summary, export"
    survey = commands.add_parser(
        "survey",
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog="example: medai survey export usefulness --out usefulness.csv",
    )
    what = survey.add_subparsers(dest="what", metavar="WHAT", required=True)
    text = "means, medians, shares and scores, with their intervals"
    command(what, "summary", cmd_survey_summary, text, example="medai survey summary --json")
    text = "every answer as CSV (with --json as JSON); readers are numbers"
    export = command(what, "export", cmd_survey_export, text, example="medai survey export sus --out sus.csv")
    export.add_argument("survey", choices=["usefulness", "sus"])
    export.add_argument("--out", type=Path, metavar="FILE", help="write there (default: print)")
    export.add_argument("--names", action="store_true", help="account names beside the numbers; this is recorded")


def edit_commands(commands: Any) -> None:
    """``medai edits``."""
    text = "what readers made of our results: list it, or export it for medai-train"
    edits = command(commands, "edits", cmd_edits, text, example="medai edits export --out edits/ --model ct_lungs")
    edits.add_argument("what", choices=["list", "export"])
    edits.add_argument(
        "--out", type=Path, metavar="DIR", help="a new folder for the export; its files identify patients"
    )
    edits.add_argument("--model", help="only readings by this model")
    edits.add_argument("--since", help="how far back: 24h, 30d (default: all)")


def cmd_account(options: argparse.Namespace) -> int:
    """Accounts of the console. A new password is made here and shown once."""
    from medai.router.ledger.accounts import Role

    ledger = open_ledger(options)
    if options.what == "list":
        rows = ledger.accounts.listed()
        text = "\n".join(f"{r.name:<24} {r.role:<13} {'disabled' if r.disabled else ''}".rstrip() for r in rows)
        shown = text or "no accounts yet: medai account add NAME --role administrator"
        print_json([asdict(row) for row in rows]) if options.json else print(shown)
        return 0
    if not options.name:
        raise SettingsError(f"name the account: medai account {options.what} NAME")
    if (options.what == "role") != bool(options.new_role):
        raise SettingsError("name account and role: medai account role NAME ROLE (with 'add' it is --role ROLE)")
    password, told, detail = None, DONE.get(options.what, ""), options.name
    if options.what == "add":
        role = Role(options.role)
        password = None if role is Role.SERVICE else secrets.token_urlsafe(12)
        ledger.accounts.add(options.name, password, role, time.time())
    elif options.what == "password":
        password = secrets.token_urlsafe(12)
        ledger.accounts.set_password(options.name, password)
    elif options.what == "role":
        before, role = ledger.accounts.named(options.name).role, Role(options.new_role)
        ledger.accounts.set_role(options.name, role)
        detail = f"{options.name}, {before.value} to {role.value}"
        told = f"{role.value} from the next request on, was {before.value}"
    else:
        ledger.accounts.disable(options.name, disabled=options.what == "disable")
    ledger.accounts.note_action(person(), f"account {options.what}", time.time(), detail=detail)
    done = {"name": options.name, "done": options.what, **({"password": password} if password else {})}
    shown = f"{options.name}: {f'password {password} (shown this once)' if password else told}"
    print_json(done) if options.json else print(shown)
    return 0


def cmd_survey_summary(options: argparse.Namespace) -> int:
    """What both surveys came to."""
    from medai.router.reports import survey_summary

    found = survey_summary.summary(open_ledger(options))
    print_json(found) if options.json else print(survey_summary.screen(found))
    return 0


def cmd_survey_export(options: argparse.Namespace) -> int:
    """Every answer; who asked for it is written down, as in the console."""
    from medai.router.reports import survey_csv

    ledger = open_ledger(options)
    detail = f"{options.survey}, {'with' if options.names else 'no'} names"
    ledger.accounts.note_action(person(), "survey export", time.time(), detail=detail)
    if options.json:
        rows = list(survey_csv.rows(ledger, options.survey, names=options.names))
        parts: Iterable[str] = [json.dumps(rows, indent=2, ensure_ascii=False), "\n"]
    else:
        parts = survey_csv.text(ledger, options.survey, names=options.names)
    write_text(parts, options.out)
    return 0


def write_text(parts: Iterable[str], out: Path | None) -> None:
    """Print text, or write it to a file as it is. Raises MedaiError where that can't be written."""
    if out is None:
        for part in parts:
            print(part, end="")
        return
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            file.writelines(parts)
    except OSError as error:
        raise MedaiError(f"can't write {out}: {error.strerror}") from error


def cmd_edits(options: argparse.Namespace) -> int:
    """The list, or the folder for ``medai-train edits``."""
    from medai.router.cli import text
    from medai.router.reports import agreement

    ledger = open_ledger(options)
    since = time.time() - parse_duration_s(options.since) if options.since else None
    if options.what == "list":
        found = agreement.edits(ledger, model=options.model, since=since, limit=SHOWN)
        print_json({"edits": found}) if options.json else print(text.edits(found, time.time()))
        return 0
    if options.out is None:
        raise SettingsError("name the folder: medai edits export --out DIR")
    return _export_edits(options, ledger, since)


def _export_edits(options: argparse.Namespace, ledger: Ledger, since: float | None) -> int:
    from medai.router.orthanc.client import Orthanc
    from medai.router.reports import edit_export

    orthanc = Orthanc(load_settings(options).orthanc)
    made = edit_export.export(ledger, orthanc, options.out, model=options.model, since=since)
    orthanc.close()
    ledger.accounts.note_action(
        person(), "edits export", time.time(), detail=f"{counted(made.cases, 'reading')} with images"
    )
    if options.json:
        print_json({"out": str(options.out), **asdict(made)})
        return 0
    print("\n".join(["left out:", *made.left_out]) if made.left_out else "", end="\n" if made.left_out else "")
    print(f"{counted(made.cases, 'edited reading')} in {options.out}; they identify patients: guard them like images")
    print(f"next: medai-train edits {options.out} --out DATA")
    return 0
