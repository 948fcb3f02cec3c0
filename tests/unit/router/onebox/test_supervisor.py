"""What supervisord is told, read back by supervisord's own parser; nothing is started here."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medai.router.errors import SettingsError
from medai.router.onebox import authority, supervisor
from medai.router.onebox.site import Site
from medai.router.onebox.supervisor import PARTS, PartFailed, socket_path, tail_of, wait_ready, write_supervisord

options = pytest.importorskip("supervisor.options", reason="supervisor comes with the extra 'onebox'")


@pytest.fixture(autouse=True)
def _programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "find_binary", lambda *names: f"/opt/some where/{names[0]}")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.create(tmp_path / "a b 50% %(here)s 'q' ü", free_ports=True)


def parsed(site: Site) -> Any:
    read = options.ServerOptions()
    read.realize(["-c", str(write_supervisord(site))])
    return read


def test_every_part_gets_its_command_and_log_whatever_the_directory_is_called(site: Site) -> None:
    programs = {p.name: p for group in parsed(site).process_group_configs for p in group.process_configs}
    assert set(programs) == set(PARTS)
    for name, (command, _) in supervisor.commands(site).items():
        assert shlex.split(programs[name].command) == command
        assert programs[name].directory == str(site.folder)
        assert programs[name].stdout_logfile == f"{site.logs}/{name}.log"
        assert programs[name].environment["PYTHONUNBUFFERED"] == "1"


def test_supervisord_keeps_its_own_files_in_the_directory(site: Site) -> None:
    read = parsed(site)
    assert read.logfile == f"{site.logs}/supervisord.log"
    assert read.pidfile == f"{site.folder}/supervisord.pid"
    assert [item["file"] for item in read.server_configs] == [str(socket_path(site))]
    assert read.server_configs[0]["chmod"] == 0o700


def test_a_part_that_dies_is_started_again(site: Site) -> None:
    for group in parsed(site).process_group_configs:
        for program in group.process_configs:
            assert (program.autostart, program.autorestart is not False) == (True, True)
            assert program.killasgroup


def test_a_site_with_tls_has_a_relay_before_orthanc_and_tells_its_openssl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "RSA_BITS", 2048)  # made in a fifth of the time
    site = Site.create(tmp_path / "s", free_ports=True, tls=True)
    programs = {p.name: p for group in parsed(site).process_group_configs for p in group.process_configs}
    assert set(programs) == {*PARTS, "front"}
    assert programs["orthanc"].environment["OPENSSL_CONF"] == "openssl.cnf"
    assert "--tls-everywhere" in programs["ris"].command


def test_orthanc_sends_small_packets_at_once(site: Site) -> None:
    programs = {p.name: p for group in parsed(site).process_group_configs for p in group.process_configs}
    assert programs["orthanc"].environment["TCP_NODELAY"] == "1"


def test_our_own_parts_run_by_this_interpreter_with_this_configuration(site: Site) -> None:
    for name, module in (("router", "medai.router.cli"), ("worker", "medai.workers.cli")):
        command, _ = supervisor.commands(site)[name]
        assert command == [sys.executable, "-P", "-m", module, name, "--config", str(site.config)]


@pytest.mark.parametrize("mark", [" #1", " ;x"])
def test_a_name_that_supervisord_would_cut_short_is_refused(tmp_path: Path, mark: str) -> None:
    site = Site.create(tmp_path / f"site{mark}", free_ports=True)
    with pytest.raises(SettingsError, match="choose another directory"):
        write_supervisord(site)


def plain(folder: Path) -> Site:
    return Site(folder=folder, ports={}, username="u", password="p")


def test_the_socket_lies_in_the_directory_when_its_path_fits() -> None:
    assert socket_path(plain(Path("/srv/medai"))) == Path("/srv/medai/supervisor.sock")


@pytest.mark.parametrize("name", ["x" * 120, "ü" * 60])
def test_a_path_too_long_for_a_socket_is_replaced_by_a_short_one_that_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / (name + "y")).mkdir()
    site = plain(tmp_path / name)
    path = socket_path(site)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(path)) < 100
    assert socket_path(site) == path
    other = socket_path(plain(tmp_path / (name + "y")))
    assert other != path
    path.parent.rmdir()
    other.parent.rmdir()


def test_a_short_folder_that_is_not_ours_alone_is_not_used(tmp_path: Path) -> None:
    (tmp_path / ("x" * 120)).mkdir()
    site = plain(tmp_path / ("x" * 120))
    squatted = tmp_path / "squatted"
    squatted.mkdir(mode=0o777)
    squatted.chmod(0o777)
    (site.folder / "run").symlink_to(squatted)
    path = socket_path(site)
    assert path.parent != squatted
    path.parent.rmdir()


def test_where_nothing_runs_there_are_no_states_and_nothing_to_stop(site: Site) -> None:
    said: list[str] = []
    assert supervisor.states(site) == {}
    assert supervisor.down(site, report=said.append) is False
    assert said == []


def test_a_port_that_is_taken_stops_the_start_before_anything_runs(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = site.ports["redis"]
    monkeypatch.setattr(supervisor, "port_is_taken", lambda port: port == taken)
    with pytest.raises(SettingsError, match=rf"ports are taken: {taken} \(redis\)"):
        supervisor.up(site, report=lambda _: None)
    assert not (site.folder / "supervisord.conf").exists()


Answers = dict[str, Callable[[], bool]]


def test_ready_is_when_each_part_has_answered_in_turn(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = iter([False, False, True])
    answers: Answers = {**dict.fromkeys(PARTS, lambda: True), "redis": lambda: next(slow)}
    monkeypatch.setattr(supervisor, "probes", lambda _: answers)
    monkeypatch.setattr("time.sleep", lambda _: None)
    said: list[str] = []
    wait_ready(site, report=said.append, ready_s=60)
    assert said == [f"{name} answers" for name in PARTS]


def test_a_part_that_does_not_answer_shows_the_end_of_its_log(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Answers = {**dict.fromkeys(PARTS, lambda: True), "worker": lambda: False}
    monkeypatch.setattr(supervisor, "probes", lambda _: answers)
    (site.logs / "worker.log").write_text("a line\nno weights found\n")
    with pytest.raises(PartFailed, match=r"worker did not come up(?s:.*)no weights found"):
        wait_ready(site, report=lambda _: None, ready_s=-1.0)


@pytest.mark.parametrize(
    ("state", "age_s", "ends"),
    [("RUNNING", 60, False), ("RUNNING", 1, True), ("BACKOFF", 60, True), ("FATAL", 60, True)],
)
def test_a_part_that_was_only_just_started_again_keeps_ending(
    monkeypatch: pytest.MonkeyPatch, state: str, age_s: float, ends: bool
) -> None:
    item = {"statename": state, "start": time.time() - age_s}
    monkeypatch.setattr(supervisor, "states", lambda _: {"redis": item})
    assert supervisor.keeps_ending(plain(Path("/x")), "redis") is ends
    assert supervisor.keeps_ending(plain(Path("/x")), "worker") is False, "supervisord does not know it"


def test_the_tail_of_a_log_is_short_and_a_missing_log_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"first\n" + b"\xff\n" * 30)
    assert len(tail_of(tmp_path / "x.log").splitlines()) == 15
    assert "does not exist" in tail_of(tmp_path / "y.log")


def test_a_system_may_have_several_workers_and_remembers_how_many(tmp_path: Path) -> None:
    site = Site.create(tmp_path / "s", free_ports=True, workers=3)
    programs = {p.name: p for group in parsed(site).process_group_configs for p in group.process_configs}
    assert {"worker", "worker-2", "worker-3"} < set(programs)
    assert programs["worker-3"].command == programs["worker"].command
    assert Site.create(tmp_path / "s", free_ports=True).workers == 3
    assert Site.load(tmp_path / "s").describe()["workers"] == 3


def test_another_number_of_workers_is_not_taken_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site.create(tmp_path / "s", free_ports=True, workers=2)
    running = {name: {"statename": "RUNNING", "start": 0.0} for name in PARTS}
    monkeypatch.setattr(supervisor, "states", lambda _: running)
    with pytest.raises(SettingsError, match="changing the number of workers needs a restart"):
        supervisor.up(site, report=lambda _: None)


def test_only_a_part_that_there_is_can_be_stopped(site: Site) -> None:
    with pytest.raises(SettingsError, match="no part is named 'gpu'; there are orthanc, dicom-front, redis"):
        supervisor.switch(site, "gpu", on=False)
    with pytest.raises(SettingsError, match="nothing runs in"):
        supervisor.switch(site, "ris", on=False)


def test_orthancs_own_ports_are_closed_to_others_where_a_relay_stands_before_it(site: Site) -> None:
    command, _ = supervisor.commands(site)["orthanc"]
    ports = f"{site.ports['orthanc_http']},{site.archive_dicom_port}"
    assert command[3:] == [
        "medai.router.onebox.closed",
        ports,
        "/opt/some where/Orthanc",
        f"{site.folder}/orthanc.json",
    ]
    text = site.config.read_text()
    site.config.write_text(text.replace(f"port = {site.ports['orthanc_dicom']}\n", "port = 0\n"))
    assert supervisor.commands(site)["orthanc"][0][4] == str(site.ports["orthanc_http"])
    assert "dicom-front" not in supervisor.commands(site)
    assert site.dicom_port == site.archive_dicom_port == site.ports["orthanc_dicom"]
