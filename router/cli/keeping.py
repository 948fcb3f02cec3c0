"""The commands of ``medai`` about what a site keeps: erase. Next: keeping/erase.py."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from medai.router.cli.options import command, load_settings, open_ledger, person, print_json
from medai.router.errors import MedaiError, SettingsError

if TYPE_CHECKING:
    from medai.router.keeping.erase import ErasureReport


def keeping_commands(commands: Any) -> None:
    """``medai erase``."""
    text = "erase one patient: from the ledger, from rejected files and, if you say so, from the archive"
    erase = command(commands, "erase", cmd_erase, text, example="medai erase --patient 4711 --issuer MAIN --dry-run")
    erase.add_argument(
        "--patient", required=True, metavar="ID", help='the identifier (PID-3, Patient ID); "-": from standard input'
    )
    erase.add_argument("--issuer", default="", metavar="NAME", help="who gave the identifier out (PID-3.4)")
    erase.add_argument("--studies-too", action="store_true", help="also the patient's studies in Orthanc")
    erase.add_argument("--dry-run", action="store_true", help="say what would be erased, and erase nothing")
    erase.add_argument("--yes", action="store_true", help="do not ask")


def cmd_erase(options: argparse.Namespace) -> int:
    """Show what there is, ask, erase it, and report."""
    from medai.router.hl7.patients import Patient
    from medai.router.keeping.erase import Eraser
    from medai.router.orthanc.client import Orthanc

    patient = Patient.of(sys.stdin.readline() if options.patient == "-" else options.patient, options.issuer)
    if not patient.identifier:
        raise SettingsError("--patient names nobody")
    settings, ledger = load_settings(options), open_ledger(options)
    orthanc = Orthanc(settings.orthanc)
    try:
        eraser = Eraser(settings, ledger, orthanc, studies_too=options.studies_too)
        plan = eraser.plan(patient)
        if options.dry_run or not plan.erased:
            _tell(plan, as_json=options.json)
            return 1 if plan.in_work else 0
        if plan.in_work:
            raise MedaiError("; ".join(plan.in_work))
        if not options.yes:
            _ask(plan)
        _tell(eraser.erase(patient, time.time(), by=person()), as_json=options.json)
    finally:
        orthanc.close()
        ledger.close()
    return 0


def _ask(plan: ErasureReport) -> None:
    if not sys.stdin.isatty():
        raise SettingsError("nobody can be asked here: look with --dry-run, then say --yes")
    print(_text(plan), file=sys.stderr)
    print('Erase this? It can\'t be undone. Type "erase": ', end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "erase":
        raise MedaiError("nothing was erased")


def _tell(report: ErasureReport, *, as_json: bool) -> None:
    print_json(report) if as_json else print(_text(report))


def _text(report: ErasureReport) -> str:
    done = "erased" if report.done else "to be erased"
    lines = [f"patient {report.patient} (a pseudonym, as in the audit trail)"]
    lines += [f"  {done}: {count} {what}" for what, count in report.erased.items()] or [
        "  nothing here is the patient's"
    ]
    lines += [f"  kept: {kept.count} {kept.what}: {kept.why}" for kept in report.kept]
    lines += [f"  in the way: {reason}" for reason in report.in_work]
    lines += [f"  look into: {path}" for path in report.look_into]
    return "\n".join(lines)
