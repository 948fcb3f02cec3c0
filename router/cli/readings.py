"""The commands of ``medai`` about readings: what waits, what was read, how long it took, what needs a person.

Next: text.py (what they print), reports/readings.py (where it comes from), ledger/deadletters.py, top.py.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medai.router.cli.options import command, load_settings, open_ledger, parse_duration_s, person, print_json
from medai.router.errors import MedaiError, SettingsError

if TYPE_CHECKING:
    from medai.router.cli.top import TopPage
    from medai.router.ledger.deadletters import DeadLetter
    from medai.router.reports.letters import LetterEntry

EVERY = 1_000_000
"""As many dead letters as there may be."""


def reading_commands(commands: Any) -> None:
    """``medai jobs``, ``job``, ``dead``, ``retry``, ``drop``, ``status``, ``top``, ``turnaround``."""
    from medai.router.contract import JobState

    jobs = command(commands, "jobs", cmd_jobs, "list readings, newest first", example="medai jobs --state failed")
    jobs.add_argument("--study-uid", help="only this study (with --json also what was decided about it)")
    jobs.add_argument("--state", choices=[state.value for state in JobState])
    jobs.add_argument("--limit", type=int, default=50)
    job = command(commands, "job", cmd_job, "one reading's story", example="medai job 1f0c2a")
    job.add_argument("job_id", metavar="ID", help="job id, or its first characters")
    _dead_commands(commands)
    text = "queue depth, oldest waiting, workers, models"
    command(commands, "status", cmd_status, text, example="medai status --json")
    text = "the same, live: queues, workers, turnaround, destinations, last studies (q quits)"
    top = command(commands, "top", cmd_top, text, example="medai top --every 5")
    top.add_argument(
        "--every", type=_interval, default=2.0, metavar="S", help="seconds between two updates (default 2)"
    )
    top.add_argument("--once", action="store_true", help="print once, as plain text (always so without a terminal)")
    turn = command(
        commands,
        "turnaround",
        cmd_turnaround,
        "p50, p95 and p99 of each stage and of the whole",
        example="medai turnaround --since 7d --by priority",
    )
    turn.add_argument("--since", default="24h", help="how far back: 90s, 30m, 24h, 7d (default 24h)")
    turn.add_argument("--by", choices=["route", "modality", "priority"])


def _dead_commands(commands: Any) -> None:
    text = "list dead letters: readings and deliveries that need a person"
    dead = command(commands, "dead", cmd_dead, text, example="medai dead --json")
    dead.add_argument("id", metavar="ID", nargs="?", default="", help="only this one, with its whole history")
    text = "try a dead letter again"
    retry = command(commands, "retry", cmd_retry, text, example="medai retry --all")
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="as 'medai dead' prints it, or its first characters")
    which.add_argument("--all", action="store_true", help="all of them, except images that can't be read")
    text = "settle a dead letter without a result"
    drop = command(commands, "drop", cmd_drop, text, example="medai drop 1f0c2a41/ris --reason entered-by-hand")
    drop.add_argument("id", metavar="ID", help="as 'medai dead' prints it, or its first characters")
    drop.add_argument("--reason", required=True, help="why; kept in the ledger")


def cmd_jobs(options: argparse.Namespace) -> int:
    """The list."""
    from medai.router.cli import text
    from medai.router.reports import readings

    ledger = open_ledger(options)
    found = readings.jobs(ledger, study_uid=options.study_uid, state=options.state, limit=options.limit)
    if not options.json:
        print(text.jobs(found, time.time()))
    elif options.study_uid:
        study = readings.study(ledger, options.study_uid)
        print_json(
            {"jobs": found, "study": study, "decisions": readings.decisions(ledger, study_uid=options.study_uid)}
        )
    else:
        print_json({"jobs": found})
    return 0


def cmd_job(options: argparse.Namespace) -> int:
    """One job; 1 when there is none of that id."""
    from medai.router.cli import text
    from medai.router.reports import readings
    from medai.router.reports.story import job_story

    ledger = open_ledger(options)
    found = readings.jobs(ledger, job_id=options.job_id, limit=3)
    if len(found) != 1:
        what = "no reading has" if not found else "more than one reading has"
        raise MedaiError(f"{what} an id that begins with {options.job_id!r}: see 'medai jobs'")
    story = job_story(ledger, found[0])
    print_json(story) if options.json else print(text.job(story, time.time()))
    return 0


def cmd_dead(options: argparse.Namespace) -> int:
    """The list; one with its history."""
    from medai.router.cli import text
    from medai.router.reports import letters

    ledger = open_ledger(options)
    found = ledger.dead.letters(prefix=options.id)
    stories = [letters.story(ledger, letter) for letter in found] if options.id else []
    entries: Sequence[LetterEntry] = stories or [letters.shell_entry(letter) for letter in found]
    if options.json:
        print_json({"dead_letters": entries})
    else:
        print("\n".join([text.dead_letters(entries, time.time()), *map(text.history, stories)]))
    if options.id and not found:
        raise MedaiError(f"no dead letter has an id that begins with {options.id!r}: see 'medai dead'")
    return 0


def cmd_retry(options: argparse.Namespace) -> int:
    """Another try; 1 when there was nothing to try."""
    ledger = open_ledger(options)
    letters = ledger.dead.letters(prefix=options.id or "", limit=EVERY)
    chosen = [letter for letter in letters if letter.retry_helps] if options.all else _one(letters, options.id)
    done = [letter.id for letter in chosen if ledger.dead.retry(letter, time.time(), by=person())]
    left = len(letters) - len(done)
    if options.json:
        print_json({"retried": done, "left": left})
    else:
        print(f"{len(done)} tried again" + (f"; {left} left (a retry alone would not help them)" if left else ""))
    return 0 if done or options.all else 1


def cmd_drop(options: argparse.Namespace) -> int:
    """Settle one; 1 when it is no longer a dead letter."""
    ledger = open_ledger(options)
    (letter,) = _one(ledger.dead.letters(prefix=options.id), options.id)
    done = ledger.dead.drop(letter, options.reason, time.time(), by=person())
    if options.json:
        print_json({"dropped": [letter.id] if done else []})
    else:
        print(f"{letter.id} dropped" if done else f"{letter.id} is no longer a dead letter")
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
    from medai.router.cli import text
    from medai.router.reports.status import status

    now = time.time()
    found = status(open_ledger(options), now)
    print_json(found) if options.json else print(text.status(found, now))
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
    ledger = Ledger(settings.ledger.url, audit_folder=settings.ledger.audit_folder)
    migrated: list[bool] = []

    def ask() -> TopPage:
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
    from medai.router.cli import text
    from medai.router.reports.turnaround import turnaround

    since = time.time() - parse_duration_s(options.since)
    groups = turnaround(open_ledger(options), since=since, by=options.by)
    if options.json:
        print_json({"since": since, "by": options.by, "groups": groups})
    else:
        print(text.turnaround(groups, options.since, options.by))
    return 0
