"""The command ``medai``. Parts that live elsewhere (worker, RIS, demo) are started as modules, never imported.

Exit codes: 0 good, 1 something is missing or failed, 2 wrong usage or configuration, 130 interrupted.
Next: system.py, readings.py, people.py (the commands), options.py (what they share).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from medai.router.cli.audit import audit_commands
from medai.router.cli.held import held_commands
from medai.router.cli.keeping import keeping_commands
from medai.router.cli.people import account_commands, edit_commands, survey_commands
from medai.router.cli.readings import reading_commands
from medai.router.cli.system import system_commands
from medai.router.cli.tls import tls_commands
from medai.router.errors import MedaiError, SettingsError, failed
from medai.router.private import keep_private

ELSEWHERE: Mapping[str, tuple[str, str]] = {
    "dicom-front": ("medai.router.cli.dicom_front", "stand before the archive's DICOM port"),
    "worker": ("medai.workers.cli", "run one worker"),
    "process": ("medai.workers.cli", "read one study from files, with no server at all"),
    "deidentify": ("medai.workers.outside.cli", "write images without their patients, for research"),
    "models": ("medai.workers.models_cli", "add, list, show and remove models"),
    "ris": ("medai.hl7_mock.cli", "run the mock RIS"),
    "demo": ("medai.trials.demo.command", "see it work on a real study, in one command"),
    "scan": ("medai.trials.scanner.command", "send studies as a scanner does, with a scanner's habits"),
    "trial": ("medai.trials.trial_cli", "try it in a simulated hospital, simulate and plan its capacity"),
}
"""Commands of other packages, and one that loads little: the module that runs them. The router imports none of them."""
WITH_NAME = frozenset({"worker", "process"})
"""Modules that serve more than one command are told which."""

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
    keep_private()
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
    system_commands(commands)
    tls_commands(commands)
    account_commands(commands)
    audit_commands(commands)
    reading_commands(commands)
    held_commands(commands)
    keeping_commands(commands)
    edit_commands(commands)
    survey_commands(commands)
    for name, (_, text) in ELSEWHERE.items():
        commands.add_parser(name, help=f"{text} (medai {name} --help)", add_help=False)
    return parser
