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
from urllib.parse import unquote, urlsplit, urlunsplit

from training import config
from training.config import TrainingConfig
from training.errors import ConfigError, TrainingError
from training.etl.steps import STATE, STEPS, Order, take

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
        print(f"{folder} is complete")
        return
    if sys.version_info[:2] > NEWEST_PYTHON:
        raise TrainingError("Mage needs Python 3.11 or 3.12: run this command with one of them")
    print(f"making {folder} (about 180 packages, 1.4 GB; some minutes)")
    venv.EnvBuilder(with_pip=True, clear=folder.exists()).create(folder)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, "-c", str(CONSTRAINTS), "mage-ai"], check=False)  # noqa: S603 - our own words
    if done.returncode:
        raise TrainingError("pip could not install Mage; what it said is above")
    (folder / COMPLETE).write_text("", encoding="utf-8")
    print(f"{folder} is complete")


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
        "path": str(HERE.parent.parent),
    }
    command = [str(folder.resolve() / "bin" / "mage"), "run", str(project), PIPELINE]
    done = subprocess.run(  # noqa: S603 - our own words
        [*command, "--runtime-vars", json.dumps(variables)], check=False, cwd=work, env=_environment(work, login)
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
    make = commands.add_parser("setup", help="make Mage's environment")
    make.add_argument("--venv", type=Path, metavar="DIR", help=f"default: {VENV_VARIABLE}, else .medai/etl-...")
    pipeline = commands.add_parser("run", help="run the pipeline load, validate, resample, augment, export")
    pipeline.add_argument("--venv", type=Path, metavar="DIR", help="the environment that setup made")
    pipeline.add_argument("--data", required=True, help="a data set's folder, or an Orthanc's URL (docs/data.md)")
    pipeline.add_argument("--keep", action="store_true", help="keep the folder work/ with what each step made")
    step = commands.add_parser("step", help="one block's work (Mage calls this)")
    step.add_argument("name", choices=list(STEPS))
    step.add_argument("--in", dest="source", required=True, help="the step before; for load a data set")
    for command in (pipeline, step):
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="an empty folder")
        command.add_argument("--config", type=Path, required=True, metavar="TOML", help="a training's configuration")
        command.add_argument("--copies", type=int, default=1, metavar="N", help="augmented copies of a training case")


def run(options: argparse.Namespace) -> int:
    """0 when it is done."""
    if options.etl == "setup":
        setup(options.venv or default_venv())
    elif options.etl == "run":
        run_pipeline(options.data, options.out, options)
        print(f"{options.out}: medai-train fit {options.out / 'config.toml'} --data {options.out} --out RUN")
    else:
        state = take(options.name, _order(options))
        print(f"{options.name}: {len(state.cases)} cases")
    return 0


def _order(options: argparse.Namespace) -> Order:
    return Order(source=options.source, out=options.out, config=_settings(options), copies=options.copies)


def _settings(options: argparse.Namespace) -> TrainingConfig:
    if options.copies < 0:
        raise ConfigError("--copies must be 0 or more")
    return config.read(options.config)
