"""The command ``medai``. Parts that live elsewhere (worker, RIS, demo) are started as modules, never imported.

Exit codes: 0 good, 1 something is missing or failed, 2 wrong usage or configuration. Next: service.py, supervisor.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from router import settings as configuration
from router.errors import MedaiError, SettingsError
from router.settings import Settings

ELSEWHERE: Mapping[str, tuple[str, str]] = {
    "worker": ("workers.cli", "run one worker"),
    "process": ("workers.cli", "read one study from files, with no server at all"),
    "models": ("workers.models_cli", "add, list, show and remove models"),
    "ris": ("hl7_mock.cli", "run the mock RIS"),
    "demo": ("trials.demo", "see it work on a real study, in one command"),
}
"""Commands of other packages: the module that runs them. The router imports none of these."""
WITH_NAME = frozenset({"worker", "process"})
"""Modules that serve more than one command are told which."""

EXAMPLES = """\
examples:
  medai demo                          see it work, on a real head, in one command
  medai up                            start the whole system on this machine
  medai status                        what waits, how long, who works
  medai jobs --state failed           what went wrong, and why
  medai job 1f0c                      one reading's story: decisions, stages, attempts
  medai turnaround --since 24h --by route
  medai process STUDY/ --out RESULTS/ the same reading with no server
  medai check                         is the configuration right, does every peer answer?
  medai models add MY_MODEL/          check a model of your own and make it one that a route can name
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in ELSEWHERE:
        return _exec_elsewhere(arguments)
    parser = make_parser()
    options = parser.parse_args(arguments)
    if not options.command:
        parser.print_help()
        return 0
    try:
        return int(options.run(options))
    except SettingsError as error:
        print(f"medai: {error}", file=sys.stderr)
        return 2
    except MedaiError as error:
        print(f"medai: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("medai: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `medai jobs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _exec_elsewhere(arguments: Sequence[str]) -> int:
    name = arguments[0]
    rest = list(arguments) if name in WITH_NAME else list(arguments[1:])
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", ELSEWHERE[name][0], *rest])  # noqa: S606 - our own module


def make_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="medai",
        description="Med-AI: an event-driven DICOM AI router around Orthanc.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _lifecycle_commands(commands)
    _report_commands(commands)
    for name, (_, text) in ELSEWHERE.items():
        commands.add_parser(name, help=f"{text} (medai {name} --help)", add_help=False)
    return parser


def _command(commands: Any, name: str, run: Any, text: str, *, example: str = "") -> argparse.ArgumentParser:
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
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _lifecycle_commands(commands: Any) -> None:
    up = _command(commands, "up", cmd_up, "start the whole system on this machine", example="medai up --dir /srv/medai")
    up.add_argument("--free-ports", action="store_true", help="make the directory with free ports, not the usual ones")
    _command(
        commands, "down", cmd_down, "stop the system that 'medai up' started", example="medai down --dir /srv/medai"
    )
    _command(commands, "router", cmd_router, "run the router alone", example="medai router --config medai.toml")
    text = "check the configuration and reach every peer"
    _command(commands, "check", cmd_check, text, example="medai check --config medai.toml")


def _report_commands(commands: Any) -> None:
    jobs = _command(commands, "jobs", cmd_jobs, "list readings, newest first", example="medai jobs --state failed")
    jobs.add_argument("--study-uid", help="only this study (with --json also what was decided about it)")
    jobs.add_argument("--state", choices=["pending", "running", "done", "failed", "superseded", "cancelled"])
    jobs.add_argument("--limit", type=int, default=50)
    job = _command(commands, "job", cmd_job, "one reading's story", example="medai job 1f0c2a")
    job.add_argument("job_id", metavar="ID", help="job id, or its first characters")
    text = "queue depth, oldest waiting, workers, models"
    _command(commands, "status", cmd_status, text, example="medai status --json")
    turn = _command(
        commands,
        "turnaround",
        cmd_turnaround,
        "p50, p95 and p99 of each stage and of the whole",
        example="medai turnaround --since 7d --by priority",
    )
    turn.add_argument("--since", default="24h", help="how far back: 90s, 30m, 24h, 7d (default 24h)")
    turn.add_argument("--by", choices=["route", "modality", "priority"])


# -- which system


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


def _ledger(options: argparse.Namespace) -> Any:
    from router.ledger import Ledger

    ledger = Ledger(load_settings(options).ledger.url)
    ledger.migrate()
    return ledger


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


# -- commands


def cmd_up(options: argparse.Namespace) -> int:
    """Start, or find running."""
    from router import supervisor
    from router.site import Site

    site = Site.create(site_folder(options), free_ports=options.free_ports)
    supervisor.up(site, report=lambda text: print(text, file=sys.stderr, flush=True))
    if options.json:
        _print_json(site.describe())
        return 0
    where = site.describe()
    print(
        f"Med-AI runs in {where['dir']}\n"
        f"  send studies to   DICOM {where['orthanc']['aet']} at 127.0.0.1:{where['orthanc']['dicom_port']}\n"
        f"  or drop files in  {where['watch_folder']}\n"
        f"  archive           {where['orthanc']['url']}  (user {site.username}, password {site.password})\n"
        f"  RIS               {where['ris']['http']}\n"
        f"  routes            {where['config']}\n"
        f"  logs              {where['logs']}\n"
        f"next: medai status --dir {where['dir']}"
    )
    return 0


def cmd_down(options: argparse.Namespace) -> int:
    """Stop."""
    from router import supervisor
    from router.site import Site

    ran = supervisor.down(
        Site.load(site_folder(options).resolve()), report=lambda text: print(text, file=sys.stderr, flush=True)
    )
    if options.json:
        _print_json({"stopped": ran})
    else:
        print("stopped" if ran else "nothing was running")
    return 0


def cmd_router(options: argparse.Namespace) -> int:
    """The daemon."""
    from router.service import run_router

    return run_router(load_settings(options))


def cmd_check(options: argparse.Namespace) -> int:
    """Findings; 1 when one is an error."""
    from router import check

    findings = check.check(load_settings(options))
    if options.json:
        _print_json([vars(finding) for finding in findings])
    else:
        marks = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}
        for finding in findings:
            print(f"{marks[finding.level]}  {finding.what}: {finding.text}")
    return 1 if any(finding.level == "error" for finding in findings) else 0


def cmd_jobs(options: argparse.Namespace) -> int:
    """The list."""
    from router import reports, screens

    ledger = _ledger(options)
    rows = reports.jobs(ledger, study_uid=options.study_uid, state=options.state, limit=options.limit)
    if options.json:
        content: dict[str, Any] = {"jobs": rows}
        if options.study_uid:
            content["study"] = reports.study(ledger, options.study_uid)
            content["decisions"] = reports.decisions(ledger, study_uid=options.study_uid)
        _print_json(content)
    else:
        print(screens.jobs(rows, time.time()))
    return 0


def cmd_job(options: argparse.Namespace) -> int:
    """One job; 1 when there is none of that id."""
    from router import reports, screens

    ledger = _ledger(options)
    rows = reports.jobs(ledger, job_id=options.job_id, limit=3)
    if len(rows) != 1:
        what = "no job has" if not rows else "more than one job has"
        print(f"medai: {what} an id that begins with {options.job_id!r}: see 'medai jobs'", file=sys.stderr)
        return 1
    story = {
        **rows[0],
        "decisions": reports.decisions(ledger, job_id=rows[0]["job_id"]),
        "attempts": reports.attempts(ledger, rows[0]["job_id"]),
    }
    if options.json:
        _print_json(story)
    else:
        print(screens.job(story))
    return 0


def cmd_status(options: argparse.Namespace) -> int:
    """The queue and who works on it."""
    from router import reports, screens

    now = time.time()
    status = reports.status(_ledger(options), now)
    if options.json:
        _print_json(status)
    else:
        print(screens.status(status, now))
    return 0


def cmd_turnaround(options: argparse.Namespace) -> int:
    """Percentiles."""
    from router import reports, screens

    since = time.time() - parse_duration_s(options.since)
    groups = reports.turnaround(_ledger(options), since=since, by=options.by)
    if options.json:
        _print_json({"since": since, "by": options.by, "groups": groups})
    else:
        print(screens.turnaround(groups, options.since, options.by))
    return 0


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


if __name__ == "__main__":
    raise SystemExit(main())
