"""What every command of ``medai`` shares: its options, the system that it means, and how it answers. Next: main.py."""

from __future__ import annotations

import argparse
import getpass
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medai.router.errors import SettingsError
from medai.router.settings import load as configuration
from medai.router.settings.tables import Settings

if TYPE_CHECKING:
    from medai.router.ledger import Ledger


def command(
    commands: Any, name: str, run: Any, text: str, *, example: str = "", answers: bool = True
) -> argparse.ArgumentParser:
    """A command; ``answers`` False: it serves until it is stopped, and has nothing to print as JSON."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example: {example}" if example else "",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--dir", type=Path, help="directory of a system made by 'medai up' (default: .medai/site)")
    parser.add_argument("--config", help="medai.toml (default: that of --dir, ./medai.toml, /etc/medai/medai.toml)")
    if answers:
        parser.add_argument("--json", action="store_true", help="print JSON; an error is JSON on standard error")
    return parser


def site_folder(options: argparse.Namespace) -> Path:
    """``--dir``, else MEDAI_DIR, else .medai/site here."""
    return Path(options.dir or os.environ.get("MEDAI_DIR") or ".medai/site")


def load_settings(options: argparse.Namespace) -> Settings:
    """The settings that a command means."""
    if options.config:
        return configuration.load(options.config)
    inside = site_folder(options) / "medai.toml"
    if options.dir and not inside.is_file():
        raise SettingsError(f"{inside} does not exist: start a system there with 'medai up --dir {options.dir}'")
    if options.dir or (inside.is_file() and not os.environ.get("MEDAI_CONFIG") and not Path("medai.toml").exists()):
        return configuration.load(str(inside))
    if configuration.find_file(None) is None:
        raise SettingsError("no medai.toml found: run 'medai up', or name one with --config")
    return configuration.load(None)


def open_ledger(options: argparse.Namespace) -> Ledger:
    """The ledger of the system that a command means, migrated."""
    from medai.router.ledger import Ledger

    own = load_settings(options).ledger
    ledger = Ledger(own.url, audit_folder=own.audit_folder)
    ledger.migrate()
    return ledger


def person() -> str:
    """Who uses this shell, for the audit log."""
    return f"{getpass.getuser()} (shell)"


def print_json(value: object) -> None:
    """One JSON document on standard output; reports (reports/report.py) may be anywhere in it."""
    from pydantic_core import to_jsonable_python

    print(json.dumps(to_jsonable_python(value), indent=2, ensure_ascii=False))


def parse_duration_s(text: str) -> float:
    """ "90s", "30m", "24h", "7d" or plain seconds."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, factor = (text[:-1], units[text[-1]]) if text and text[-1] in units else (text, 1.0)
    try:
        value = float(number) * factor
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise SettingsError(f"--since {text!r}: write 90s, 30m, 24h or 7d")
    return value
