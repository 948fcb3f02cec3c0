"""``medai trial``: a hospital to try the system in. Each subcommand is a function that adds itself.

Exit codes: 0 good; 1 something was lost, answered twice or not kept; 2 wrong usage; 130 interrupted.
Next: hospital/trial.py (what ``run`` does).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medai.router.words import counted
from medai.trials.box import BoxError, Teller
from medai.trials.hospital import faults
from medai.trials.hospital.arm import Options
from medai.trials.hospital.record import ARMS, WITH_AI, TrialRun
from medai.trials.hospital.trial import run_trial
from medai.trials.report.command import report, summary
from medai.trials.report.page import write_report
from medai.trials.scenario import Scenario, ScenarioError, beside, load, shipped
from medai.trials.simulation.command import COMMANDS as MODEL_COMMANDS

EXAMPLES = """\
examples:
  medai trial list
  medai trial run monday-morning --out monday            a real system, a report in monday/
  medai trial run trauma-burst --arms with-ai,without-ai --out trauma
  medai trial run my-hospital.toml --data ~/dicom --out mine
  medai trial run all --short --out nightly              every shipped scenario, short forms
  medai trial simulate monday-morning --workers 2 --days 20
  medai trial plan monday-morning --objective p95=300s --service shipped --gpu
"""
Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand."""
    os.umask(0o077)  # the studies that a trial draws from may be patients'
    options = make_parser().parse_args(argv)
    command: Command = options.command
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return command(options)
    except (ScenarioError, BoxError) as error:
        code = 2 if isinstance(error, ScenarioError) else 1
        said = json.dumps({"error": str(error), "exit_code": code}) if options.json else f"medai trial: {error}"
        print(said, file=sys.stderr)
        return code
    except KeyboardInterrupt:
        print("medai trial: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `medai trial list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def make_parser() -> argparse.ArgumentParser:
    """The options of all subcommands."""
    made = argparse.ArgumentParser(
        prog="medai trial",
        description="A simulated hospital around the real system: what AI does to the workflow, and how much it takes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(dest="subcommand", required=True, metavar="COMMAND")
    for add in (_add_run, _add_list, _add_show, _add_faults, _add_report, _add_summary):
        add(commands)
    for add_model in MODEL_COMMANDS:
        add_model(commands, subcommand)
    return made


def subcommand(commands: Any, name: str, act: Command, about: str, example: str) -> argparse.ArgumentParser:
    """A subcommand with ``--json`` and an example."""
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about, epilog=f"example: {example}"
    )
    made.add_argument("--json", action="store_true", help="print JSON")
    made.set_defaults(command=act)
    return made


def _add_run(commands: Any) -> None:
    about = "drive the whole real system through a scenario and write a report"
    run = subcommand(commands, "run", _run, about, "medai trial run monday-morning --accelerate 60 --out monday")
    add = run.add_argument
    add("scenario", help=f"{', '.join(shipped())}, all, or a .toml file")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for record and report; must be new or empty")
    add("--arms", default=WITH_AI, help=f"{' and '.join(ARMS)}, separated by a comma (default {WITH_AI})")
    add("--accelerate", type=_positive, metavar="X", help="hospital seconds in a real second (default: the scenario's)")
    add("--seed", type=int, help="another seed: other arrivals (default: the scenario's)")
    add("--short", action="store_true", help="the scenario's short form")
    add("--data", type=Path, metavar="DIR", help="where the folders of 'data:' sources are")
    add("--tls", action="store_true", help="on a site with TLS between all parts")
    add("--keep-site", action="store_true", help="leave archive, ledger and logs in the folder")


def _add_list(commands: Any) -> None:
    subcommand(commands, "list", _list, "the shipped scenarios", "medai trial list --json")


def _add_show(commands: Any) -> None:
    made = subcommand(commands, "show", _show, "one scenario in full", "medai trial show monday-morning")
    made.add_argument("scenario")


def _add_faults(commands: Any) -> None:
    subcommand(commands, "faults", _faults, "what can be broken in a scenario", "medai trial faults")


def _add_report(commands: Any) -> None:
    about = "write the report of a trial again"
    made = subcommand(commands, "report", report, about, "medai trial report monday")
    made.add_argument("folder", type=Path, metavar="DIR", help="the --out of a run")


def _add_summary(commands: Any) -> None:
    about = "several trials in one table"
    made = subcommand(commands, "summary", summary, about, "medai trial summary nightly/*")
    made.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="the --out of runs")


def _run(options: argparse.Namespace) -> int:
    names = shipped() if options.scenario == "all" else (options.scenario,)
    arms = _arms(options.arms)
    if options.out.exists() and not options.out.is_dir():
        raise ScenarioError(f"{options.out} is a file: name a new folder")
    if options.out.exists() and any(options.out.iterdir()):
        raise ScenarioError(f"{options.out} is not empty: name a new folder, so that no two trials are mixed")
    done: list[dict[str, Any]] = []
    for name in names:
        done.append(_run_one(name, arms, options, options.out / name if len(names) > 1 else options.out))
        if done[-1]["interrupted"]:
            break
    if options.json:
        print(json.dumps(done if len(done) > 1 else done[0], indent=2))
    if any(each["interrupted"] for each in done):
        return 130
    return 0 if all(each["ok"] for each in done) else 1


def _run_one(name: str, arms: Sequence[str], options: argparse.Namespace, out: Path) -> dict[str, Any]:
    scenario = _chosen(name, options)
    teller = Teller(to=sys.stderr if options.json else sys.stdout)
    out.mkdir(parents=True, exist_ok=True)
    asked = Options(
        folder=out.absolute(), accelerate=options.accelerate or scenario.accelerate, tls=options.tls,
        keep_site=options.keep_site,
    )  # fmt: skip
    run = run_trial(scenario, arms, asked, data=options.data, beside=beside(name), say=teller.say)
    teller.say("writing the report ...")
    write_report(out)
    outcome = told(run, out)
    said = (
        f"{counted(outcome['studies'], 'study', 'studies')}, {outcome['lost']} lost, {outcome['twice']} answered twice"
    )
    teller.say(f"{said}: {out / 'report.html'}")
    return outcome


def told(run: TrialRun, folder: Path) -> dict[str, Any]:
    """The outcome in a few numbers."""
    lost = sum(row.lost for row in run.studies)
    twice = sum(row.duplicate for row in run.studies)
    return {
        "scenario": run.scenario.name,
        "studies": len(run.studies),
        "lost": lost,
        "twice": twice,
        "seconds": round(sum(run.length_s.values()), 1),
        "folder": str(folder),
        "interrupted": bool(run.machine.get("interrupted")),
        "ok": not lost and not twice,
    }


def _chosen(name: str, options: argparse.Namespace) -> Scenario:
    scenario = load(name)
    if options.short:
        scenario = scenario.as_short()
    return scenario if options.seed is None else scenario.model_copy(update={"seed": options.seed})


def _arms(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found or len(set(found)) != len(found) or not set(found) <= set(ARMS):
        raise ScenarioError(f"--arms {text!r}: name {' or '.join(ARMS)}, or both, separated by a comma")
    return found


def _list(options: argparse.Namespace) -> int:
    found = [load(name) for name in shipped()]
    if options.json:
        keys = {"name", "title", "duration_s", "accelerate"}
        print(json.dumps([each.model_dump(include=keys) for each in found], indent=2))
        return 0
    for each in found:
        hours, minutes = each.duration_s / 3600, each.duration_s / each.accelerate / 60
        print(f"{each.name:18} {each.title}; {hours:g} h, {minutes:.0f} min at {each.accelerate:g}x")
    return 0


def _show(options: argparse.Namespace) -> int:
    scenario = load(options.scenario)
    print(scenario.model_dump_json(indent=2))
    return 0


def _faults(options: argparse.Namespace) -> int:
    known = faults.playable()
    if options.json:
        shown = [{"name": f.name, "about": f.about, "lasts": f.end is not None} for f in known.values()]
        print(json.dumps(shown, indent=2))
        return 0
    for fault in known.values():
        print(f"{fault.name:20} {fault.about}")
    return 0


def _positive(text: str) -> float:
    value = float(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError("must be more than 0, and finite")
    return value


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
