"""What a user installs: a wheel with one name in it, which works beside the user's own packages of any name.

Built from a copy of the sources, installed without the checkout; its dependencies are those of this environment. Every
command is run in a folder that holds packages called as ours were once, and as ours is now: each ends whoever imports it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_cases import study_files
from servers import make_redis, running

from medai.router.cli.main import ELSEWHERE, make_parser
from medai.training.cli import COMMANDS as TRAINING

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
TOPS = ("router", "workers", "models", "hl7_mock", "trials", "training")
SOURCES = (*TOPS, "pyproject.toml", "README.md", "LICENSE")
OWN = tuple(
    name for action in make_parser()._actions if action.choices for name in action.choices if name not in ELSEWHERE
)
ALIVE_S = 240.0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet", "-w", "dist"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; the folder of its commands."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--quiet", str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # After the wheel, and without what an editable installation adds: that is a .pth file, which is not read from here.
    (packages / "dependencies.pth").write_text(
        "\n".join([sysconfig.get_path("purelib"), *site.getsitepackages()]) + "\n"
    )
    return folder / "bin"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder."""
    folder = tmp_path_factory.mktemp("user")
    for name in (*TOPS, "medai"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f'raise SystemExit("imported the user\'s own {name}")\n')
    return folder


def environment() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if name != "PYTHONPATH" and not name.startswith("MEDAI_")}


def run(installed: Path, elsewhere: Path, *words: str, code: int = 0) -> str:
    """What a command prints, run in the user's folder."""
    done = subprocess.run(
        [str(installed / words[0]), *words[1:]],
        cwd=elsewhere, env=environment(), capture_output=True, text=True, timeout=ALIVE_S, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def test_the_wheel_holds_one_name_with_all_its_data(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"medai", wheel.name.partition("-py3")[0] + ".dist-info"}
    there = {name.removeprefix("medai/") for name in names if name.startswith("medai/")}
    held = {
        path.relative_to(ROOT).as_posix()
        for top in TOPS
        for path in (ROOT / top).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert there == held


@pytest.mark.parametrize("name", TOPS)
def test_no_general_name_can_be_imported(installed: Path, tmp_path: Path, name: str) -> None:
    command = [str(installed / "python"), "-c", f"import {name}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"No module named '{name}'" in done.stderr


def test_what_is_imported_is_what_was_installed(installed: Path, elsewhere: Path) -> None:
    place = run(installed, elsewhere, "python", "-P", "-c", "import medai.router.contract as m; print(m.__file__)")
    assert Path(place.strip()).is_relative_to(installed.parent)


HELP = """
import sys
from {module} import main
for name in {names}:
    try:
        main([name, "--help"])
    except SystemExit as ended:
        assert not ended.code, ended.code
"""


@pytest.mark.parametrize(
    ("program", "module", "names"),
    [("medai", "medai.router.cli.main", OWN), ("medai-train", "medai.training.cli", tuple(TRAINING))],
)
def test_the_help_of_every_command(
    installed: Path, elsewhere: Path, program: str, module: str, names: tuple[str, ...]
) -> None:
    assert f"usage: {program}" in run(installed, elsewhere, program, "--help")
    told = run(installed, elsewhere, "python", "-P", "-c", HELP.format(module=module, names=names))
    assert [name for name in names if f"usage: {program} {name}" not in told] == []


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_help_of_a_command_that_is_a_process_of_its_own(installed: Path, elsewhere: Path, name: str) -> None:
    assert f"usage: medai {name}" in run(installed, elsewhere, "medai", name, "--help")


@pytest.fixture(scope="module")
def models(installed: Path, elsewhere: Path) -> Path:
    """Small models, and a configuration that reads with them."""
    run(installed, elsewhere, "python", "-P", "-m", "medai.trials.hospital.light_model", "light")
    (elsewhere / "light.toml").write_text('[models]\nfolders = ["light"]\n')
    return elsewhere / "light"


def test_a_study_is_read_from_files(installed: Path, elsewhere: Path, models: Path) -> None:
    (elsewhere / "study").mkdir()
    for number, data in enumerate(study_files("wheel")):
        (elsewhere / "study" / f"{number}.dcm").write_bytes(data)
    words = ("process", "study", "--out", "results", "--model", "trial_mr", "--config", "light.toml", "--json")
    told = json.loads(run(installed, elsewhere, "medai", *words))
    assert told["ok"] is True
    made = {path.name for path in (elsewhere / "results").rglob("*") if path.is_file()}
    assert {"seg.dcm", "sr.dcm", "sc.dcm", "oru.hl7"} <= made


def test_a_model_is_tried_in_a_process_of_its_own_and_added(installed: Path, elsewhere: Path, models: Path) -> None:
    (elsewhere / "own.toml").write_text("")
    run(installed, elsewhere, "medai", "models", "add", "light/trial_mr", "--config", "own.toml")
    assert "trial_mr" in run(installed, elsewhere, "medai", "models", "list", "--config", "own.toml")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[int]:
    with running(make_redis(tmp_path / "redis")) as server:
        yield server.port


def test_a_worker_and_its_child_import_nothing_of_the_users(
    installed: Path, elsewhere: Path, models: Path, broker: int
) -> None:
    """Celery puts the current folder on the path while it looks for some modules: not while it looks for ours."""
    (elsewhere / "worker.toml").write_text(
        f'[ledger]\nurl = "sqlite:///ledger.sqlite"\n[broker]\nurl = "redis://127.0.0.1:{broker}/0"\n'
        '[models]\nfolders = ["light"]\n[[routes]]\nname = "mr"\nmodel = "trial_mr"\n[worker]\nqueue = "cpu"\n'
    )
    command = [str(installed / "medai"), "worker", "--config", "worker.toml"]
    with subprocess.Popen(
        command, cwd=elsewhere, env=environment(), stderr=subprocess.PIPE, text=True
    ) as worker:  # fmt: skip
        assert worker.stderr is not None
        said: list[str] = []
        try:
            for line in worker.stderr:
                said.append(line)
                if '"worker_ready"' in line:
                    break
        finally:
            worker.send_signal(signal.SIGTERM)
        said += worker.stderr.readlines()
    assert any('"worker_ready"' in line for line in said), "".join(said)[-4000:]
    assert worker.returncode == 0, "".join(said)[-4000:]
    assert not any("imported the user's own" in line for line in said)
