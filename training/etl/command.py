"""``medai-train etl``: ``setup`` makes Mage's environment, ``run`` runs the pipeline, ``step`` is one block's work.

Mage pins about 180 packages, numpy 1 among them, that this project cannot live with; so it gets a virtual environment
of its own, and its blocks call this environment's Python. A run gets a home, a database and a copy of the Mage project
in the output's ``work`` folder: nothing is read from or left in the user's home, and statistics are off.
Next: steps.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from medai.training import config
from medai.training.config import TrainingConfig
from medai.training.errors import ConfigError, TrainingError
from medai.training.etl.steps import STATE, STEPS, Order, take
from medai.training.output import answer, json_argument
from medai.training.words import counted

HERE = Path(__file__).resolve().parent
CONSTRAINTS = HERE / "constraints.txt"
PROJECT = HERE / "mage_project"
PIPELINE = "prepare"
COMPLETE = "complete"
VENV_VARIABLE = "MEDAI_ETL_VENV"
NEWEST_PYTHON = (3, 12)
"""Mage's numpy has no wheels for newer ones."""
EXAMPLES = """\
examples:
  medai-train etl setup
  medai-train etl run --data DATA --out prepared/ --config training/configs/mr_hippocampus.toml
  medai-train fit prepared/config.toml --data prepared/ --out runs/prepared
"""


def default_venv() -> Path:
    """MEDAI_ETL_VENV, else a folder in .medai/ that is named for what it holds."""
    if named := os.environ.get(VENV_VARIABLE):
        return Path(named)
    digest = hashlib.sha256(CONSTRAINTS.read_bytes()).hexdigest()[:8]
    return Path(".medai") / f"etl-{digest}"


def setup(folder: Path) -> None:
    """Make the environment; nothing is done where it is complete. Raises TrainingError."""
    if (folder / COMPLETE).is_file():
        return
    if sys.version_info[:2] > NEWEST_PYTHON:
        raise TrainingError("Mage needs Python 3.11 or 3.12: run this command with one of them")
    print(f"making {folder} (about 180 packages, 1.4 GB; some minutes)", file=sys.stderr)
    venv.EnvBuilder(with_pip=True, clear=folder.exists()).create(folder)
    python = folder / "bin" / "python"
    # Of its 13,000 modules a run imports some hundreds: they are compiled when they are.
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    done = subprocess.run([*command, "-c", str(CONSTRAINTS), "mage-ai"], check=False, stdout=2)  # noqa: S603 - our own words
    if done.returncode:
        raise TrainingError("pip could not install Mage; what it said is above")
    (folder / COMPLETE).write_text("", encoding="utf-8")


def run_pipeline(data: str, out: Path, options: argparse.Namespace) -> None:
    """Run the Mage pipeline without a window. Raises TrainingError where it stops."""
    folder = options.venv or default_venv()
    if not (folder / COMPLETE).is_file():
        raise TrainingError(f"Mage is not installed in {folder}: run medai-train etl setup")
    if out.exists() and any(out.iterdir()):
        raise TrainingError(f"{out} is not empty: choose another folder")
    settings = _settings(options)  # wrong usage is told before anything starts
    work = (out / "work").resolve()
    project = work / "mage" / PROJECT.name
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__"))
    (work / "config.toml").write_text(config.to_toml(settings), encoding="utf-8")
    url, login = _without_login(data)
    variables = {
        "python": sys.executable,
        "data": url if "://" in url else str(Path(data).expanduser().resolve()),
        "work": str(work),
        "out": str(out.resolve()),
        "config": str(work / "config.toml"),
        "copies": options.copies,
        "path": os.environ.get("PYTHONPATH", ""),
    }
    command = [str(folder.resolve() / "bin" / "mage"), "run", str(project), PIPELINE]
    done = subprocess.run(  # noqa: S603 - our own words
        [*command, "--runtime-vars", json.dumps(variables)],
        check=False,
        cwd=work,
        env=_environment(work, login),
        stdout=2,
    )
    if done.returncode or not (out / "manifest.json").is_file():
        raise TrainingError(f"the pipeline stopped; what failed is above, and what it made until then is in {work}")
    shutil.copytree(work / "validate" / "qa", out / "qa")
    (out / STATE).unlink()
    if not options.keep:
        shutil.rmtree(work)


def _environment(work: Path, login: Mapping[str, str]) -> dict[str, str]:
    """Little of ours and a home of its own; no proxies, no cloud credentials."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    ours = {name: value for name, value in os.environ.items() if name.startswith("MEDAI_")}
    (work / "home").mkdir(parents=True, exist_ok=True)
    return {
        **kept,
        **ours,
        **login,
        "HOME": str(work / "home"),
        "MAGE_DATA_DIR": str(work / "mage" / "data"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _without_login(data: str) -> tuple[str, dict[str, str]]:
    """An Orthanc's login goes by the environment: what is on a command line, all users of the machine can read."""
    parts = urlsplit(data)
    if not parts.username:
        return data, {}
    url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return url, {
        "MEDAI_ORTHANC__USERNAME": unquote(parts.username),
        "MEDAI_ORTHANC__PASSWORD": unquote(parts.password or ""),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``medai-train etl``."""
    parser.epilog = EXAMPLES
    commands = parser.add_subparsers(dest="etl", metavar="COMMAND", required=True)
    make = _command(commands, "setup", "make Mage's environment", "medai-train etl setup")
    make.add_argument("--venv", type=Path, metavar="DIR", help=f"default: {VENV_VARIABLE}, else .medai/etl-...")
    text = "run the pipeline load, validate, resample, augment, export"
    example = "medai-train etl run --data DATA --out prepared/ --config training/configs/mr_hippocampus.toml"
    pipeline = _command(commands, "run", text, example)
    pipeline.add_argument("--venv", type=Path, metavar="DIR", help="the environment that setup made")
    pipeline.add_argument("--data", required=True, help="a data set's folder, or an Orthanc's URL (docs/data.md)")
    pipeline.add_argument("--keep", action="store_true", help="keep the folder work/ with what each step made")
    example = "medai-train etl step load --in DATA --out load/ --config config.toml"
    step = _command(commands, "step", "one block's work (Mage calls this)", example)
    step.add_argument("name", choices=list(STEPS))
    step.add_argument("--in", dest="source", required=True, help="the step before; for load a data set")
    for command in (pipeline, step):
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="an empty folder")
        command.add_argument("--config", type=Path, required=True, metavar="TOML", help="a training's configuration")
        command.add_argument("--copies", type=int, default=1, metavar="N", help="augmented copies of a training case")


def _command(commands: Any, name: str, text: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=f"example: {example}"
    )
    json_argument(parser, "what was done")
    return parser


def run(options: argparse.Namespace) -> int:
    """0 when it is done."""
    if options.etl == "setup":
        folder = options.venv or default_venv()
        setup(folder)
        answer(options, {"environment": str(folder)}, f"{folder} is complete")
    elif options.etl == "run":
        run_pipeline(options.data, options.out, options)
        following = f"medai-train fit {options.out / 'config.toml'} --data {options.out} --out RUN"
        answer(options, {"folder": str(options.out), "next": following}, f"{options.out}: {following}")
    else:
        state = take(options.name, _order(options))
        answer(
            options,
            {"step": options.name, "cases": len(state.cases)},
            f"{options.name}: {counted(len(state.cases), 'case')}",
        )
    return 0


def _order(options: argparse.Namespace) -> Order:
    return Order(source=options.source, out=options.out, config=_settings(options), copies=options.copies)


def _settings(options: argparse.Namespace) -> TrainingConfig:
    if options.copies < 0:
        raise ConfigError("--copies must be 0 or more")
    return config.read(options.config)
