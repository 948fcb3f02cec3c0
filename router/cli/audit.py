"""``medai audit``: whether the trail is as it was written, and the trail as a file.

Next: ledger/trail.py (the seals), audit/written.py (the file).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medai.router.cli.options import command, load_settings, open_ledger, parse_duration_s, person, print_json
from medai.router.cli.people import write_text
from medai.router.errors import SettingsError
from medai.router.words import counted


def audit_commands(commands: Any) -> None:
    """``medai audit``."""
    text = "the audit trail: verify whether it is as it was written, export it"
    audit = commands.add_parser(
        "audit", help=text, description=text[0].upper() + text[1:] + ".", epilog="example: medai audit verify"
    )
    what = audit.add_subparsers(dest="what", metavar="WHAT", required=True)
    command(what, "verify", cmd_verify, "every line by its seal", example="medai audit verify")
    text = "every line as DICOM audit messages, FHIR AuditEvents (one a line) or CSV; it names patients"
    export = command(
        what, "export", cmd_export, text, example="medai audit export --since 30d --format csv --out a.csv"
    )
    export.add_argument("--since", help="how far back: 24h, 30d (default: all)")
    export.add_argument("--format", choices=["dicom", "fhir", "csv"], default="csv")
    export.add_argument("--out", type=Path, metavar="FILE", help="write there (default: print)")


def cmd_verify(options: argparse.Namespace) -> int:
    """Every line by its seal; 1 where one was changed, put in or taken away."""
    found = open_ledger(options).verify_audit()
    if options.json:
        print_json(asdict(found))
    else:
        good = (
            f"{counted(found.lines, 'line')}, each as it was written" if not found.faults else "NOT as it was written:"
        )
        print("\n".join([good, *found.faults, *(f"note: {each}" for each in found.notes)]))
    return 1 if found.faults else 0


def cmd_export(options: argparse.Namespace) -> int:
    """The file; who asked for it is a line of the trail, too."""
    from medai.router.audit.exporter import reporter_of
    from medai.router.audit.whose import Whose
    from medai.router.audit.written import Format, text_of
    from medai.router.orthanc.client import Orthanc

    if options.json:
        raise SettingsError("an export is written as --format says: leave --json out")
    settings = load_settings(options)
    ledger = open_ledger(options)
    since = time.time() - parse_duration_s(options.since) if options.since else 0.0
    ledger.accounts.note_action(person(), "audit", time.time(), detail=f"export as {options.format}")
    orthanc = Orthanc(settings.orthanc)
    lines = Whose(ledger.audit, orthanc).events(ledger.audit.all(since=since))
    own = settings.audit
    write_text(text_of(lines, Format(options.format), reporter_of(own), own.fhir.patient_system), options.out)
    orthanc.close()
    return 0
