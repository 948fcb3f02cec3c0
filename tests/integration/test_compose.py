"""docker-compose.yml is valid, every service tells whether it is well, and its files fit the code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from medai.router.settings import load as settings


def compose_command() -> list[str]:
    """Whichever Compose is here: Debian's package needs no engine."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    if shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        return ["docker", "compose"]
    pytest.skip("neither docker-compose nor docker compose is installed")


@pytest.fixture(scope="module")
def services(project_root: Path, secrets: Path) -> dict[str, Any]:
    """The services as Compose understands them, every profile included, with passwords made for this test."""
    done = configured(project_root, secrets)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return found


@pytest.fixture(scope="module")
def secrets(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What deploy/docker/secrets.sh makes."""
    path = tmp_path_factory.mktemp("secrets") / "made.env"
    subprocess.run(["sh", str(project_root / "deploy/docker/secrets.sh"), str(path)], check=True)
    return path


def configured(project_root: Path, secrets: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """docker-compose.yml as Compose reads it."""
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    return subprocess.run(
        [
            *compose_command(),
            "--env-file",
            str(secrets),
            "-f",
            project_root / "docker-compose.yml",
            "--profile",
            "gpu",
            "--profile",
            "monitoring",
            "config",
        ],
        cwd=project_root,
        env=clean | {"COMPOSE_PROFILES": "gpu,monitoring"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_compose_finds_every_part_of_the_system(services: dict[str, Any]) -> None:
    assert set(services) == {
        "orthanc", "redis", "postgres", "router", "worker", "worker-gpu", "ris", "console", "prometheus",
        "grafana", "dicom",
    }  # fmt: skip


def test_every_service_has_a_health_check_and_comes_back(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service.get("healthcheck", {}).get("test"), name
        assert service.get("restart") == "unless-stopped", name


def test_the_router_and_the_workers_wait_until_the_servers_are_well(services: dict[str, Any]) -> None:
    for name in ("router", "console", "worker", "worker-gpu"):
        needs = services[name]["depends_on"]
        assert {server: need["condition"] for server, need in needs.items()} == dict.fromkeys(
            ("orthanc", "redis", "postgres"), "service_healthy"
        )


def test_orthanc_sends_its_acknowledgements_without_delay(services: dict[str, Any]) -> None:
    assert services["orthanc"]["environment"]["TCP_NODELAY"] == "1"


def test_no_port_is_open_to_the_network_unless_asked_for(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for port in service.get("ports", []):
            address = port if isinstance(port, str) else str(port.get("host_ip", ""))
            assert address.startswith("127.0.0.1"), f"{name}: {port}"


def test_every_image_is_built_here_or_pinned(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert "build" in service or ":" in service["image"], name
        assert not service["image"].endswith(":latest"), name


def test_an_image_of_others_is_taken_by_its_digest_once_that_is_known(project_root: Path, secrets: Path) -> None:
    digest = "@sha256:" + "0123456789abcdef" * 4
    names = ("PYTHON", "NODE", "ORTHANC", "REDIS", "POSTGRES", "PROMETHEUS", "GRAFANA")
    told = configured(project_root, secrets, **{f"{name}_DIGEST": digest for name in names})
    found = yaml.safe_load(told.stdout)["services"]
    for name, service in found.items():
        if "build" in service:
            assert service["build"]["args"]["PYTHON_DIGEST"] == digest, name
        else:
            assert service["image"].endswith(digest), name


def test_only_the_gpu_worker_asks_for_a_gpu(services: dict[str, Any]) -> None:
    devices = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices[0]["capabilities"] == ["gpu"]
    assert "deploy" not in services["worker"]


def test_the_router_reads_its_settings_as_compose_gives_them(
    services: dict[str, Any], project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in services["router"]["environment"].items():
        if name != "MEDAI_CONFIG":
            monkeypatch.setenv(name, str(value))
    read = settings.load(str(project_root / "deploy" / "docker" / "medai.toml"))
    assert read.orthanc.url == "http://orthanc:8042"
    assert read.ledger.url.startswith("postgresql+psycopg://medai:")
    assert (read.ris.host, read.ris.port) == ("ris", 2576)
    assert read.orthanc.password.get_secret_value() in services["orthanc"]["environment"]["ORTHANC__REGISTERED_USERS"]


def test_who_writes_the_audit_trail_shares_a_folder_apart_from_the_database(
    services: dict[str, Any], project_root: Path
) -> None:
    for name in ("router", "console"):
        folder = services[name]["environment"]["MEDAI_LEDGER__AUDIT_FOLDER"]
        assert f"audit-data:{folder}" in " ".join(map(str, services[name]["volumes"])).replace("'", ""), name
    for name in ("postgres", "worker", "orthanc"):
        assert "audit-data" not in str(services[name]["volumes"])
    dockerfile = (project_root / "deploy" / "docker" / "Dockerfile").read_text()
    assert f"install -d -o medai -g medai -m 0700 {folder}" in dockerfile, "a new volume takes its owner from the image"


def test_the_console_is_told_its_name_and_its_proxy(
    project_root: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"CONSOLE_ALLOWED_HOSTS": '["medai.hospital.example"]', "CONSOLE_TRUSTED_PROXIES": '["172.16.0.0/12"]'}
    found = yaml.safe_load(configured(project_root, secrets, **told).stdout)["services"]
    for name, value in found["console"]["environment"].items():
        if name != "MEDAI_CONFIG":
            monkeypatch.setenv(name, str(value))
    read = settings.load(str(project_root / "deploy" / "docker" / "medai.toml"))
    assert read.console.allowed_hosts == ("medai.hospital.example",)
    assert read.console.trusted_proxies == ("172.16.0.0/12",)


def test_every_build_target_exists(services: dict[str, Any], project_root: Path) -> None:
    for service in services.values():
        if "build" in service:
            dockerfile = (project_root / service["build"]["dockerfile"]).read_text()
            assert f" AS {service['build']['target']}\n" in dockerfile


def test_orthancs_configuration_takes_every_object_and_loses_none(project_root: Path) -> None:
    config = json.loads((project_root / "orthanc" / "orthanc.json").read_text())
    assert config["UnknownSopClassAccepted"] is True
    assert config["SyncStorageArea"] is True
    assert config["MaximumStorageSize"] == 0
    assert config["AuthenticationEnabled"] is True


def test_nothing_starts_with_a_password_that_nobody_made(project_root: Path, tmp_path: Path) -> None:
    (tmp_path / "no.env").touch()
    done = configured(project_root, tmp_path / "no.env")
    assert done.returncode != 0
    assert "secrets.sh" in done.stderr
    assert "change-me" not in (project_root / "docker-compose.yml").read_text()


def test_the_passwords_are_made_once_and_for_their_owner_alone(secrets: Path, project_root: Path) -> None:
    before = secrets.read_text()
    values = [line.partition("=")[2] for line in before.splitlines()]
    assert len(set(values)) == 4
    assert {len(value) for value in values} == {48}
    assert secrets.stat().st_mode & 0o777 == 0o600
    subprocess.run(["sh", str(project_root / "deploy/docker/secrets.sh"), str(secrets)], check=True)
    assert secrets.read_text() == before


def test_dicom_and_orders_alone_can_be_opened_to_other_machines(project_root: Path, secrets: Path) -> None:
    everything = dict.fromkeys(("BIND", "DICOM_BIND", "MLLP_BIND"), "0.0.0.0")
    found = yaml.safe_load(configured(project_root, secrets, **everything).stdout)["services"]
    opened = {str(port).split(":")[-1] if isinstance(port, str) else str(port["target"])
              for service in found.values() for port in service.get("ports", [])
              if not (port if isinstance(port, str) else str(port.get("host_ip"))).startswith("127.0.0.1")}  # fmt: skip
    assert {port.partition("/")[0] for port in opened} == {"4242", "2575"}


def test_no_container_keeps_a_right_that_it_does_not_need(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if "build" in service:
            assert service["read_only"] is True, name
            assert not service.get("cap_add"), name
            assert not service.get("privileged"), name


def test_redis_is_reached_with_its_password_alone(services: dict[str, Any]) -> None:
    password = services["redis"]["environment"]["REDISCLI_AUTH"]
    assert f":{password}@redis:" in services["router"]["environment"]["MEDAI_BROKER__URL"]
    assert password not in " ".join(services["redis"]["command"])
