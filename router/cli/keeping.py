"""The commands of ``medai`` about what a site keeps: erase, backup, restore. Next: keeping/erase.py."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medai.router.cli.options import command, load_settings, open_ledger, person, print_json, site_folder
from medai.router.errors import MedaiError, SettingsError
from medai.router.settings import load as configuration

if TYPE_CHECKING:
    from medai.router.keeping.backup import Source
    from medai.router.keeping.erase import ErasureReport


def keeping_commands(commands: Any) -> None:
    """``medai erase``, ``backup``, ``restore``."""
    text = "erase one patient: from the ledger, from rejected files and, if you say so, from the archive"
    erase = command(commands, "erase", cmd_erase, text, example="medai erase --patient 4711 --issuer MAIN --dry-run")
    erase.add_argument(
        "--patient", required=True, metavar="ID", help='the identifier (PID-3, Patient ID); "-": from standard input'
    )
    erase.add_argument("--issuer", default="", metavar="NAME", help="who gave the identifier out (PID-3.4)")
    erase.add_argument("--studies-too", action="store_true", help="also the patient's studies in Orthanc")
    erase.add_argument("--dry-run", action="store_true", help="say what would be erased, and erase nothing")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    text = "copy the ledger, settings and keys into one file, while the site runs"
    example = "medai backup /mnt/backups --passphrase-file /etc/medai/passphrase"
    backup = command(commands, "backup", cmd_backup, text, example=example)
    backup.add_argument("to", nargs="?", type=Path, metavar="FILE|FOLDER", help="a new file, or a folder for one")
    backup.add_argument("--models", action="store_true", help="also the models that were added")
    backup.add_argument("--images", action="store_true", help="also Orthanc's storage, with Orthanc stopped")
    backup.add_argument("--check", type=Path, metavar="FILE", help="write nothing: is this backup as it was written?")
    text = "make a site of a backup, in an empty folder or where an empty ledger is configured"
    restore = command(commands, "restore", cmd_restore, text, example="medai restore medai.backup --dir /srv/medai2")
    restore.add_argument("file", type=Path, metavar="FILE", help="as 'medai backup' made it")
    for each in (backup, restore):
        each.add_argument("--passphrase-file", type=Path, metavar="FILE", help="its first line encrypts the backup")


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
    found = ", ".join(f"{what}: {count}" for what, count in report.erased.items())
    lines.append(f"  {done}: {found}" if found else "  nothing here is the patient's")
    lines += [f"  kept: {kept.what}: {kept.count}; {kept.why}" for kept in report.kept]
    lines += [f"  in the way: {reason}" for reason in report.in_work]
    lines += [f"  look into: {path}" for path in report.look_into]
    return "\n".join(lines)


def cmd_backup(options: argparse.Namespace) -> int:
    """Write one, or look at one."""
    from medai.router.keeping import backup, restore

    passphrase = _passphrase(options)
    if options.check:
        checked = restore.check(options.check, passphrase)
        what = {"file": str(options.check), "files": checked.files, "size": checked.size}
        _say(options, {**what, "encrypted": checked.encrypted, **checked.about.model_dump()})
        return 0
    if options.to is None:
        raise SettingsError("name the new file, or a folder for it: medai backup FILE")
    now = time.time()
    to, ledger = backup.file_in(options.to, now).absolute(), open_ledger(options)
    with _ends_clean():
        about = backup.backup(
            _source(options), ledger, to, now,
            by=person(), models=options.models, images=options.images, passphrase=passphrase,
        )  # fmt: skip
    ledger.close()
    _say(options, {"file": str(to), "size": to.stat().st_size, "encrypted": bool(passphrase), **about.model_dump()})
    return 0


def cmd_restore(options: argparse.Namespace) -> int:
    """Into --dir, or where --config says."""
    from medai.router.keeping import restore

    if bool(options.dir) == bool(options.config):
        raise SettingsError("say where to: --dir FOLDER for a site of 'medai up', or --config FILE")
    folder = options.dir.absolute() if options.dir else None
    config = folder / "medai.toml" if folder else Path(options.config).absolute()
    with _ends_clean():
        made = restore.restore(
            options.file, _passphrase(options), time.time(), folder=folder, config=config, by=person()
        )
    _say(options, {"config": str(config), **made.about.model_dump()})
    if made.faults:
        raise MedaiError("restored; but the audit trail was not whole when it was backed up: medai audit verify")
    return 0


def _source(options: argparse.Namespace) -> Source:
    """What the command means: a site of 'medai up' where site.json lies beside the configuration, however named."""
    from medai.router.keeping.backup import Source
    from medai.router.onebox.site import Site

    settings, inside = load_settings(options), site_folder(options) / "medai.toml"
    elsewhere = options.config or (
        not options.dir and (os.environ.get("MEDAI_CONFIG") or Path("medai.toml").exists() or not inside.is_file())
    )
    config = inside if not elsewhere else configuration.find_file(options.config)
    if config is None:
        raise SettingsError("no medai.toml found: name one with --config")
    config = config.resolve()
    is_site = config.name == "medai.toml" and config.with_name("site.json").is_file()
    return Source(config=config, settings=settings, site=Site.load(config.parent) if is_site else None)


def _passphrase(options: argparse.Namespace) -> bytes | None:
    from medai.router.keeping.sealed import passphrase_of

    return passphrase_of(options.passphrase_file) if options.passphrase_file else None


@contextmanager
def _ends_clean() -> Iterator[None]:
    """A request to end (SIGTERM) is an interruption, after which nothing half done is left."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(options: argparse.Namespace, told: dict[str, Any]) -> None:
    if options.json:
        print_json(told)
        return
    for name, value in told.items():
        print(f"{name.replace('_', ' ')}: {', '.join(value) if isinstance(value, tuple) else value}")
