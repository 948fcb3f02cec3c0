"""The images can be built: nothing that a package needs is kept from the builder, and what they start exists.

Building them for real is ``./medai test --images`` (docs/containers.md).
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from images import compose, host, stand_ins
from images.contents import package_files, setuptools_section

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
INSTALL = "RUN pip install --no-deps --no-build-isolation ."
MEDAI = Path(sys.executable).with_name("medai")


@cache
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    return found


def rules() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_sent(path: str) -> bool:
    """Whether a file goes to the builder: no rule of .dockerignore names it or a folder above it."""
    parts = path.split("/")
    names = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    return not any(_pattern(rule).fullmatch(name) for rule in rules() for name in names)


def _pattern(rule: str) -> re.Pattern[str]:
    assert not rule.startswith("!"), "no exception is needed, and this test reads none"
    text = re.escape(rule).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.compile(text)


def stages() -> dict[str, tuple[str, list[str]]]:
    """Stage -> (what it starts from, its instructions)."""
    found: dict[str, tuple[str, list[str]]] = {}
    name = ""
    text = compose.DIGEST.sub("", re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"))).replace("\\\n", "")
    for line in filter(None, text.splitlines()):
        if begins := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            name = begins[2]
            found[name] = (begins[1], [])
        elif not re.fullmatch(r"ARG [A-Z]+_DIGEST=", line):
            found[name][1].append(line)
    return found


def copied_before_install(stage: str) -> set[str]:
    """What the stage, and those that it starts from, have copied from the builder when the package is installed."""
    base, lines = stages()[stage]
    before = copied_before_install(base) if base in stages() else set()
    for line in lines:
        if line == INSTALL:
            break
        if line.startswith("COPY ") and "--from" not in line:
            before |= set(line.split()[1:-1])
    return before


def installing_stages() -> list[str]:
    return [name for name, (_, lines) in stages().items() if INSTALL in lines]


def test_every_file_of_every_package_goes_to_the_builder() -> None:
    files = package_files(ROOT)
    assert {path for path in files if not is_sent(path)} == set()
    assert {path.split("/")[0] for path in files} == {"hl7_mock", "models", "router", "training", "trials", "workers"}


def test_every_folder_of_modules_is_a_listed_package() -> None:
    section = setuptools_section(ROOT)
    tops = {package.split(".")[1] for package in section["packages"]}
    there = {file.parent.relative_to(ROOT) for top in tops for file in (ROOT / top).rglob("*.py")}
    listed = {Path(*package.split(".")[1:]) for package in section["packages"]}
    data = {Path(file).parent for file in _data_files()}
    assert listed <= there
    assert there - listed <= data


@cache
def _data_files() -> set[str]:
    section = setuptools_section(ROOT)
    return {
        file.relative_to(ROOT).as_posix()
        for package, patterns in section["package-data"].items()
        for pattern in patterns
        for file in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }


def test_every_pattern_of_package_data_takes_something() -> None:
    for package, patterns in setuptools_section(ROOT)["package-data"].items():
        for pattern in patterns:
            assert any(ROOT.joinpath(*package.split(".")[1:]).glob(pattern)), f"{package}: {pattern}"


@pytest.mark.parametrize("path", ["pyproject.toml", "requirements.lock", "deploy/locked.py", "README.md", "LICENSE"])
def test_what_the_installation_reads_goes_to_the_builder(path: str) -> None:
    assert is_sent(path)


@pytest.mark.parametrize(
    "path",
    [".git/config", ".venv/bin/python", ".medai/setup.log", ".env", "router/__pycache__/a.pyc", "med_ai.egg-info/SOURCES.txt",
     "tests/unit/test_images.py", "docs/images/key-image.png"],
)  # fmt: skip
def test_no_password_no_environment_and_nothing_needless_goes_to_the_builder(path: str) -> None:
    assert not is_sent(path)


def test_the_rules_lie_where_every_builder_looks_for_them() -> None:
    assert (ROOT / ".dockerignore").is_file()
    assert not DOCKERFILE.with_name("Dockerfile.dockerignore").exists(), "BuildKit would read that one instead"


@pytest.mark.parametrize("stage", ["build-router", "build-ris", "build-worker"])
def test_each_image_is_installed_from_every_package(stage: str) -> None:
    assert stage in installing_stages()
    sources = copied_before_install(stage)
    needed = package_files(ROOT) | {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    left_out = {path for path in needed if "." not in sources and not {path, path.split("/")[0]} & sources}
    assert left_out == set()


def test_no_other_stage_installs_the_package() -> None:
    assert installing_stages() == ["build-router", "build-ris", "build-worker"]


def started() -> set[tuple[str, ...]]:
    """Every ``medai`` command line in the images and in docker-compose.yml, without the program's name."""
    found = {
        tuple(service["command"]) for service in services().values() if "build" in service and "command" in service
    }
    for _, lines in stages().values():
        found |= {tuple(json.loads(line[4:])) for line in lines if line.startswith("CMD ")}
    said = [str(service["healthcheck"]["test"]) for service in services().values()]
    comments = [line for line in (ROOT / "docker-compose.yml").read_text(encoding="utf-8").splitlines() if "#" in line]
    for text in [*said, *(line.partition(" exec ")[2] for line in comments)]:
        found |= {tuple(words.split()) for words in re.findall(r"\bmedai ((?:-*[a-z]+ ?)+)", text)}
    return found


def test_the_commands_are_found() -> None:
    assert {line[0] for line in started()} == {"router", "ris", "worker", "console", "dicom-front", "status", "account"}


def test_every_image_starts_the_command_medai() -> None:
    for target in ("router", "ris", "worker"):
        base, lines = stages()[target]
        assert 'ENTRYPOINT ["medai"]' in [*stages()[base][1], *lines]


@pytest.mark.parametrize("command", sorted({line[0] for line in started()}))
def test_each_command_that_a_container_runs_exists(command: str) -> None:
    lines = [line for line in started() if line[0] == command]
    done = subprocess.run([MEDAI, command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"usage: medai {command}" in done.stdout
    said = {word for line in lines for word in line[1:2]}  # an option, or what an account is asked for
    assert {word for word in said if word not in done.stdout} == set()


@pytest.mark.parametrize(("stage", "wanted"), [("router", "psycopg"), ("ris", "hl7types"), ("worker", "highdicom")])
def test_what_an_image_needs_is_what_its_extras_say(stage: str, wanted: str) -> None:
    line = next(line for line in stages()[f"build-{stage}"][1] if "locked.py" in line)
    extras = set(re.findall(r"locked\.py ([a-z ]+) >", line)[0].split()) - {"build"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extras <= set(project["optional-dependencies"])
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "locked.py", *extras], capture_output=True, text=True, check=True
    )
    assert f"\n{wanted}==" in done.stdout
    assert "dciodvfy" not in done.stdout


def test_every_file_that_pip_puts_into_an_image_has_its_sum_checked() -> None:
    for name in installing_stages():
        for command in re.findall(r"pip install [^;&]*", " ; ".join(stages()[name][1])):
            checked = "--require-hashes" in command or command.strip() == INSTALL.removeprefix("RUN ")
            by_choice = '--index-url "$TORCH_INDEX_URL" torch' in command
            assert checked or by_choice, f"{name}: {command}"


def test_something_stands_in_for_each_base_image() -> None:
    wanted = {name: service for name, service in services().items() if not service.get("profiles")}
    assert set(compose.base_images(wanted, ROOT)) == set(stand_ins.RECIPES)
    for folder in stand_ins.RECIPES.values():
        assert (stand_ins.FOLDER / folder / "Containerfile").is_file()


def test_no_file_of_the_images_names_a_registry() -> None:
    files = [DOCKERFILE, ROOT / "docker-compose.yml", *stand_ins.FOLDER.rglob("*file")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"https?://(?!127\.0\.0\.1|orthanc:|\{)", text), file
        assert "index-url " not in text.replace('--index-url "$TORCH_INDEX_URL"', ""), file


# -- what builds borrow from this machine


def test_a_variable_goes_before_pips_files_and_what_is_no_matter_of_a_build_is_left_out() -> None:
    lines = [
        ":env:.index-url='https://here/simple'",
        "global.index-url='https://there/simple'",
        "global.find-links='/srv/wheels'",
        "install.user='true'",
        "noise",
    ]
    assert host.pip_settings(lines) == {"index-url": "https://here/simple", "find-links": "/srv/wheels"}


def test_folders_that_settings_name_are_found_and_an_index_takes_what_lies_beside_it_along() -> None:
    values = ["https://here/simple", "file:///srv/index/simple/ /srv/wheels", "//registry/:_token"]
    assert list(host.named_paths(values)) == [Path("/srv/index"), Path("/srv/wheels")]


def test_of_npms_settings_the_way_to_the_registry_is_taken() -> None:
    lines = ["registry=https://here/", " cafile=/etc/ca.pem", "nodedir=/usr", "@own:registry=https://there/"]
    assert host.npm_settings(lines) == ["registry=https://here/", "cafile=/etc/ca.pem", "@own:registry=https://there/"]


def test_of_apts_settings_the_way_to_the_archive_is_taken() -> None:
    dump = 'APT "";\nAcquire::http "";\nAcquire::http::Proxy "http://here:3128";\nDir "/";\n'
    assert host.apt_settings(dump) == ['Acquire::http::Proxy "http://here:3128";']


# -- the stand-in for Orthanc's image


@pytest.fixture
def start() -> ModuleType:
    spec = importlib.util.spec_from_file_location("start", stand_ins.FOLDER / "orthanc" / "start.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_orthancs_variables_go_before_its_files(start: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "orthanc.json").write_text('{"StableAge": 60, "DicomWeb": {"Enable": true, "Root": "/x/"}}')
    told = {
        "ORTHANC__STABLE_AGE": "1",
        "ORTHANC__DICOM_WEB__ROOT": "/dicom-web/",
        "ORTHANC__REGISTERED_USERS": '{"a": "b"}',
    }
    read = start.merged(tmp_path, told | {"PATH": "/bin"})
    assert read["StableAge"] == 1
    assert read["DicomWeb"] == {"Enable": True, "Root": "/dicom-web/"}
    assert read["RegisteredUsers"] == {"a": "b"}
    assert read["Plugins"] == [start.DICOMWEB]


def test_orthanc_keeps_its_doors_shut_without_settings(start: ModuleType, tmp_path: Path) -> None:
    read = start.merged(tmp_path, {})
    assert (read["AuthenticationEnabled"], read["Plugins"]) == (True, [])
