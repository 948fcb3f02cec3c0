"""The command ``medai``. Parts that live elsewhere (worker, RIS, demo) are started as modules, never imported.

Exit codes: 0 good, 1 something is missing or failed, 2 wrong usage or configuration, 130 interrupted.
Next: options.py (what they share), people.py, daemon/service.py, onebox/supervisor.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medai.router.cli.options import (
    command,
    load_settings,
    open_ledger,
    parse_duration_s,
    person,
    print_json,
    site_folder,
)
from medai.router.cli.people import account_commands, edit_commands, survey_commands
from medai.router.errors import MedaiError, SettingsError, failed
from medai.router.settings import tables as configuration

if TYPE_CHECKING:
    from medai.router.ledger.deadletters import DeadLetter
    from medai.router.onebox.site import Site

ELSEWHERE: Mapping[str, tuple[str, str]] = {
    "worker": ("medai.workers.cli", "run one worker"),
    "process": ("medai.workers.cli", "read one study from files, with no server at all"),
    "models": ("medai.workers.models_cli", "add, list, show and remove models"),
    "ris": ("medai.hl7_mock.cli", "run the mock RIS"),
    "demo": ("medai.trials.demo.command", "see it work on a real study, in one command"),
    "scan": ("medai.trials.scanner.command", "send studies as a scanner does, with a scanner's habits"),
    "trial": ("medai.trials.trial_cli", "try it in a simulated hospital, simulate and plan its capacity"),
}
"""Commands of other packages: the module that runs them. The router imports none of these."""
WITH_NAME = frozenset({"worker", "process"})
"""Modules that serve more than one command are told which."""

EVERY = 1_000_000
EXAMPLES = """\
examples:
  medai demo                          see it work, on a real head, in one command
  medai trial run monday-morning --out monday     a hospital's morning, with a report
  medai scan --archive localhost:4242 --habit late-slices    one scanner, by hand
  medai up                            start the whole system on this machine
  medai status                        what waits, how long, who works
  medai top                           the same, live
  medai jobs --state failed           what went wrong, and why
  medai dead                          what needs a person; then medai retry or medai drop
  medai job 1f0c                      one reading's story: decisions, stages, attempts
  medai turnaround --since 24h --by route
  medai edits list                    what readers made of our results
  medai process STUDY/ --out RESULTS/ the same reading with no server
  medai check                         is the configuration right, does every peer answer?
  medai models add MY_MODEL/          check a model of your own and make it one that a route can name
"""
AGREED = """
With --json standard output is one JSON document, and an error is JSON on standard error.
Exit codes: 0 good, 1 something is missing or failed, 2 wrong usage or configuration, 130 interrupted.
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
        return failed(options, str(error), 2)
    except MedaiError as error:
        return failed(options, str(error), 1)
    except KeyboardInterrupt:
        return failed(options, "interrupted", 130)
    except BrokenPipeError:  # `medai jobs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _exec_elsewhere(arguments: Sequence[str]) -> int:
    name = arguments[0]
    rest = list(arguments) if name in WITH_NAME else list(arguments[1:])
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", ELSEWHERE[name][0], *rest])  # noqa: S606 - our own module


def make_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="medai",
        description="Med-AI: an event-driven DICOM AI router around Orthanc.",
        epilog=EXAMPLES + AGREED,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _lifecycle_commands(commands)
    _report_commands(commands)
    for name, (_, text) in ELSEWHERE.items():
        commands.add_parser(name, help=f"{text} (medai {name} --help)", add_help=False)
    return parser


def _lifecycle_commands(commands: Any) -> None:
    up = command(commands, "up", cmd_up, "start the whole system on this machine", example="medai up --dir /srv/medai")
    up.add_argument("--free-ports", action="store_true", help="make the directory with free ports, not the usual ones")
    text = "how many workers read at the same time (default: as before, at first 1)"
    up.add_argument("--workers", type=_workers, metavar="N", help=text)
    up.add_argument("--prepare", action="store_true", help="write the configuration to be edited, and start nothing")
    up.add_argument("--part", metavar="PART", help="only start this again, after 'medai down --part'")
    down = command(
        commands, "down", cmd_down, "stop the system that 'medai up' started", example="medai down --dir /srv/medai"
    )
    down.add_argument("--part", metavar="PART", help="only this: orthanc, redis, ris, router, console, worker")
    command(
        commands,
        "router",
        cmd_router,
        "run the router alone",
        example="medai router --config medai.toml",
        answers=False,
    )
    text = "serve the web console and the REST API"
    command(commands, "console", cmd_console, text, example="medai console --config medai.toml", answers=False)
    account_commands(commands)
    text = "check the configuration and reach every peer"
    command(commands, "check", cmd_check, text, example="medai check --config medai.toml")


def _report_commands(commands: Any) -> None:
    from medai.router.contract import JobState

    jobs = command(commands, "jobs", cmd_jobs, "list readings, newest first", example="medai jobs --state failed")
    jobs.add_argument("--study-uid", help="only this study (with --json also what was decided about it)")
    jobs.add_argument("--state", choices=[state.value for state in JobState])
    jobs.add_argument("--limit", type=int, default=50)
    job = command(commands, "job", cmd_job, "one reading's story", example="medai job 1f0c2a")
    job.add_argument("job_id", metavar="ID", help="job id, or its first characters")
    _dead_commands(commands)
    edit_commands(commands)
    text = "queue depth, oldest waiting, workers, models"
    command(commands, "status", cmd_status, text, example="medai status --json")
    text = "the same, live: queues, workers, turnaround, destinations, last studies (q leaves)"
    top = command(commands, "top", cmd_top, text, example="medai top --every 5")
    top.add_argument("--every", type=_interval, default=2.0, metavar="S", help="seconds between two looks (default 2)")
    top.add_argument("--once", action="store_true", help="print once, as plain text; so it is without a terminal")
    turn = command(
        commands,
        "turnaround",
        cmd_turnaround,
        "p50, p95 and p99 of each stage and of the whole",
        example="medai turnaround --since 7d --by priority",
    )
    turn.add_argument("--since", default="24h", help="how far back: 90s, 30m, 24h, 7d (default 24h)")
    turn.add_argument("--by", choices=["route", "modality", "priority"])
    survey_commands(commands)


def _dead_commands(commands: Any) -> None:
    text = "list dead letters: readings and deliveries that need a person"
    dead = command(commands, "dead", cmd_dead, text, example="medai dead --json")
    dead.add_argument("id", metavar="ID", nargs="?", default="", help="only this one, with its whole history")
    text = "try a dead letter again"
    retry = command(commands, "retry", cmd_retry, text, example="medai retry --all")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="as 'medai dead' prints it, or its first characters")
    which.add_argument("--all", action="store_true", help="all but images that can't be read")
    text = "settle a dead letter without a result"
    drop = command(commands, "drop", cmd_drop, text, example="medai drop 1f0c2a41/ris --reason entered-by-hand")
    drop.add_argument("id", metavar="ID", help="as 'medai dead' prints it, or its first characters")
    drop.add_argument("--reason", required=True, help="why; kept in the ledger")


# -- commands


def cmd_up(options: argparse.Namespace) -> int:
    """Start, or find running."""
    from medai.router.onebox import supervisor
    from medai.router.onebox.site import Site

    site = Site.create(site_folder(options), free_ports=options.free_ports, workers=options.workers)
    if options.prepare:
        return _prepared(site, as_json=options.json)
    if options.part:
        return _part_started(site, options.part, as_json=options.json)
    password = _first_password(site.config)
    supervisor.up(site, report=lambda text: print(text, file=sys.stderr, flush=True))
    if options.json:
        first = {"first_login": {"name": "admin", "password": password}} if password else {}
        print_json({**site.describe(), **first})
        return 0
    where = site.describe()
    login = f"user admin, password {password}: shown this once" if password else "log in as before"
    print(
        f"Med-AI runs in {where['dir']}\n"
        f"  send studies to   DICOM {where['orthanc']['aet']} at 127.0.0.1:{where['orthanc']['dicom_port']}\n"
        f"  or drop files in  {where['watch_folder']}\n"
        f"  archive           {where['orthanc']['url']}  (user {site.username}, password {site.password})\n"
        f"  console           {where['console']['url']}  ({login})\n"
        f"  RIS               {where['ris']['http']}\n"
        f"  routes            {where['config']}\n"
        f"  logs              {where['logs']}\n"
        f"next: medai status --dir {where['dir']}"
    )
    return 0


def _prepared(site: Site, *, as_json: bool) -> int:
    if as_json:
        print_json(site.describe())
    else:
        print(f"nothing was started; edit {site.config}, then: medai up --dir {site.folder}")
    return 0


def _part_started(site: Site, part: str, *, as_json: bool) -> int:
    from medai.router.onebox import supervisor

    supervisor.switch(site, part, on=True)
    if as_json:
        print_json(site.describe())
    else:
        print(f"{part} runs")
    return 0


def _workers(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 64:
        raise argparse.ArgumentTypeError("must be 1 to 64")
    return number


def _first_password(config: Path) -> str | None:
    """Make the console's first account before anything runs, so that its password is told here and in no log."""
    from medai.router.console import app
    from medai.router.ledger import Ledger

    ledger = Ledger(configuration.load(str(config)).ledger.url)
    try:
        ledger.migrate()
        return app.first_account(ledger, time.time())
    finally:
        ledger.close()


def cmd_down(options: argparse.Namespace) -> int:
    """Stop."""
    from medai.router.onebox import supervisor
    from medai.router.onebox.site import Site

    site = Site.load(site_folder(options).resolve())
    if options.part:
        supervisor.switch(site, options.part, on=False)
        ran = True
    else:
        ran = supervisor.down(site, report=lambda text: print(text, file=sys.stderr, flush=True))
    if options.json:
        print_json({"stopped": ran})
    else:
        print("stopped" if ran else "nothing was running")
    return 0


def cmd_router(options: argparse.Namespace) -> int:
    """The daemon."""
    from medai.router.daemon.service import run_router

    return run_router(load_settings(options))


def cmd_console(options: argparse.Namespace) -> int:
    """Serve the console until told to stop; the first start makes the account admin and prints its password."""
    try:
        from medai.router.console import app
    except ModuleNotFoundError as error:
        raise SettingsError(f"the console needs {error.name}: pip install 'med-ai[console]'") from error
    from medai.router import log as logs
    from medai.router.version import program_version

    settings = load_settings(options)
    ledger = open_ledger(options)
    password = app.first_account(ledger, time.time())
    if password:
        print(f"first account: admin, password {password} (shown this once)", flush=True)
    logs.configure(level=settings.log.level, style=settings.log.format, process="console")
    app.run_console(settings, ledger, version=program_version())
    ledger.close()
    return 0


def cmd_check(options: argparse.Namespace) -> int:
    """Findings; 1 when one is an error."""
    from medai.router.cli import check

    findings = check.check(load_settings(options))
    if options.json:
        print_json([vars(finding) for finding in findings])
    else:
        marks = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}
        for finding in findings:
            print(f"{marks[finding.level]}  {finding.what}: {finding.text}")
    return 1 if any(finding.level == "error" for finding in findings) else 0


def cmd_jobs(options: argparse.Namespace) -> int:
    """The list."""
    from medai.router.cli import text as screens
    from medai.router.reports import readings as reports

    ledger = open_ledger(options)
    rows = reports.jobs(ledger, study_uid=options.study_uid, state=options.state, limit=options.limit)
    if options.json:
        content: dict[str, Any] = {"jobs": rows}
        if options.study_uid:
            content["study"] = reports.study(ledger, options.study_uid)
            content["decisions"] = reports.decisions(ledger, study_uid=options.study_uid)
        print_json(content)
    else:
        print(screens.jobs(rows, time.time()))
    return 0


def cmd_job(options: argparse.Namespace) -> int:
    """One job; 1 when there is none of that id."""
    from medai.router.cli import text as screens
    from medai.router.reports import readings as reports

    ledger = open_ledger(options)
    rows = reports.jobs(ledger, job_id=options.job_id, limit=3)
    if len(rows) != 1:
        what = "no job has" if not rows else "more than one job has"
        raise MedaiError(f"{what} an id that begins with {options.job_id!r}: see 'medai jobs'")
    story = {
        **rows[0],
        "decisions": reports.decisions(ledger, job_id=rows[0]["job_id"]),
        "attempts": reports.attempts(ledger, rows[0]["job_id"]),
    }
    if options.json:
        print_json(story)
    else:
        print(screens.job(story))
    return 0


def cmd_dead(options: argparse.Namespace) -> int:
    """The list; one with its history."""
    from medai.router.cli import text as screens
    from medai.router.reports import readings as reports

    ledger = open_ledger(options)
    letters = ledger.dead_letters(prefix=options.id)
    rows: list[dict[str, Any]] = [{**asdict(letter), "retry_helps": letter.retry_helps} for letter in letters]
    if options.id:
        for row in rows:
            row["attempts_made"] = reports.attempts(ledger, row["job_id"])
            row["deliveries_tried"] = [asdict(tried) for tried in ledger.history(row["job_id"])]
    if options.json:
        print_json({"dead_letters": rows})
    else:
        print(screens.dead_letters(rows, time.time()))
        for row in rows if options.id else ():
            print(screens.history(row))
    if options.id and not rows:
        raise MedaiError(f"no dead letter has an id that begins with {options.id!r}: see 'medai dead'")
    return 0


def cmd_retry(options: argparse.Namespace) -> int:
    """Another try; 1 when there was nothing to try."""
    ledger = open_ledger(options)
    letters = ledger.dead_letters(prefix=options.id or "", limit=EVERY)
    chosen = [letter for letter in letters if letter.retry_helps] if options.all else _one(letters, options.id)
    done = [letter.id for letter in chosen if ledger.retry(letter, time.time(), by=person())]
    left = len(letters) - len(done)
    if options.json:
        print_json({"retried": done, "left": left})
    else:
        print(f"{len(done)} tried again" + (f"; {left} left (no retry helps them by itself)" if left else ""))
    return 0 if done or options.all else 1


def cmd_drop(options: argparse.Namespace) -> int:
    """Settle one; 1 when it is no dead letter any more."""
    ledger = open_ledger(options)
    (letter,) = _one(ledger.dead_letters(prefix=options.id), options.id)
    done = ledger.drop(letter, options.reason, time.time(), by=person())
    if options.json:
        print_json({"dropped": [letter.id] if done else []})
    else:
        print(f"{letter.id} dropped" if done else f"{letter.id} is no dead letter any more")
    return 0 if done else 1


def _one(letters: list[DeadLetter], prefix: str) -> list[DeadLetter]:
    """Exactly one; raises MedaiError, saying what to do."""
    if not prefix:
        raise MedaiError("no id was given: see 'medai dead'")  # perhaps a script's empty variable
    exact = [letter for letter in letters if letter.id == prefix]
    found = exact or letters
    if not found:
        raise MedaiError(f"no dead letter has an id that begins with {prefix!r}: see 'medai dead'")
    if len(found) > 1:
        raise MedaiError(f"{len(found)} dead letters have ids that begin with {prefix!r}: name one of {_ids(found)}")
    return found


def _ids(letters: list[DeadLetter]) -> str:
    return ", ".join(letter.id for letter in letters[:5])


def cmd_status(options: argparse.Namespace) -> int:
    """The queue and who works on it."""
    from medai.router.cli import text as screens
    from medai.router.reports import readings as reports

    now = time.time()
    status = reports.status(open_ledger(options), now)
    if options.json:
        print_json(status)
    else:
        print(screens.status(status, now))
    return 0


def cmd_top(options: argparse.Namespace) -> int:
    """Live on a terminal, once elsewhere."""
    try:
        from rich.console import Console

        from medai.router.cli import top, top_screen
    except ModuleNotFoundError as error:
        raise SettingsError(f"medai top needs {error.name}: pip install 'med-ai[console]'") from error
    from medai.router.ledger import Ledger

    settings = load_settings(options)
    ledger = Ledger(settings.ledger.url)
    migrated: list[bool] = []

    def ask() -> dict[str, Any]:
        if not migrated:  # not at the start: a ledger that is away is waited for on the screen
            ledger.migrate()
            migrated.append(True)
        return top.gather(ledger, time.time(), settings.objectives)

    console = Console()
    if not options.json and not options.once and console.is_terminal:
        return top_screen.run(ask, every_s=options.every, console=console)
    content = ask()
    if options.json:
        print_json(content)
    else:
        console.print(top.draw(content, time.time()))
    return 0


def _interval(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.2 <= value <= 3600.0:
        raise argparse.ArgumentTypeError(f"{text!r}: give seconds, 0.2 to 3600")
    return value


def cmd_turnaround(options: argparse.Namespace) -> int:
    """Percentiles."""
    from medai.router.cli import text as screens
    from medai.router.reports import readings as reports

    since = time.time() - parse_duration_s(options.since)
    groups = reports.turnaround(open_ledger(options), since=since, by=options.by)
    if options.json:
        print_json({"since": since, "by": options.by, "groups": groups})
    else:
        print(screens.turnaround(groups, options.since, options.by))
    return 0
