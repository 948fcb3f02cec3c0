"""A whole site on one machine, attacked by whoever else is on it: another local user, a stranger on its ports."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import urllib3
from dicom_cases import slice_of, to_bytes
from servers import binary, wait_for

from medai.router.onebox import supervisor
from medai.router.onebox.site import Site

pytestmark = pytest.mark.slow
NOBODY = 65_534
NAME = "PLANTNAME^ZEBEDEE"


def medai(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, as a user types it, with the umask of a careless one."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "medai.router.cli", *arguments], umask=0,
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Made by an older version, which left it open; then started, and with a patient in it."""
    # Not in pytest's own folder, which is closed to other users as it is.
    above = Path(tempfile.mkdtemp(prefix="medai-attacked-"))
    above.chmod(0o755)
    folder = above / "site"
    medai("up", "--prepare", "--free-ports", "--dir", str(folder))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    try:
        medai("up", "--dir", str(folder))
        made = Site.load(folder)
        login = urllib3.make_headers(basic_auth=f"{made.username}:{made.password}")
        data = to_bytes(slice_of(1, study="planted", PatientName=NAME))
        assert urllib3.request("POST", f"{made.orthanc_url}/instances", body=data, headers=login).status == 200
        yield made
    finally:
        medai("down", "--dir", str(folder))
        shutil.rmtree(above)


def as_nobody(*command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program of the system as another user of this machine."""
    return subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, check=False, cwd="/", timeout=60
    )


def holds(site: Site, text: bytes) -> bool:
    """Whether a file of the site's archive has this in it: the planted patient must be there to be found at all."""
    return any(text in path.read_bytes() for path in (site.folder / "orthanc-db").rglob("*") if path.is_file())


def test_every_file_and_folder_of_a_site_is_for_its_owner_alone(site: Site) -> None:
    wait_for(
        lambda: (site.folder / "ledger.sqlite").exists() and holds(site, NAME.encode()), what="the planted patient"
    )
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in (site.folder, *site.folder.rglob("*"))}
    opened = {str(path.relative_to(site.folder.parent)): oct(mode) for path, mode in modes.items()
              if mode & 0o077 and not path.is_symlink()}  # fmt: skip
    assert opened == {}


def test_every_part_of_a_site_makes_files_that_only_its_owner_reads(site: Site) -> None:
    found = {}
    for name, item in supervisor.states(site).items():
        lines = Path(f"/proc/{item['pid']}/status").read_text().splitlines()
        found[name] = next(line.split()[1] for line in lines if line.startswith("Umask:"))
    assert set(found) == set(supervisor.PARTS)
    assert set(found.values()) == {"0077"}, found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user; the modes are tested above")
def test_another_user_of_the_machine_reads_nothing_of_a_site(site: Site) -> None:
    assert as_nobody("/usr/bin/test", "-x", str(site.folder.parent)).returncode == 0, "the way there is open"
    listed = as_nobody("/usr/bin/find", str(site.folder)).stdout.decode()
    assert listed.splitlines() == [str(site.folder)]
    for path in site.folder.rglob("*"):
        if path.is_file():
            read = as_nobody("/bin/cat", str(path)) if path.parent == site.folder else None
            assert read is None or (read.returncode != 0 and not read.stdout), path


def test_redis_answers_nobody_without_its_password(site: Site) -> None:
    stranger = redis.Redis(port=site.ports["redis"])
    for ask in (stranger.ping, lambda: stranger.config_get("requirepass"), lambda: stranger.rpush("cpu", "poison")):
        with pytest.raises(redis.AuthenticationError):
            ask()
    stranger.close()
    with redis.Redis.from_url(site.redis_url) as ours:
        assert ours.ping()


def test_no_password_stands_on_a_command_line_which_everybody_reads(site: Site) -> None:
    password = urlsplit(site.redis_url).password
    assert password
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if password.encode() in line or site.password.encode() in line]


def test_the_archives_own_ports_are_reached_by_its_parts_alone(site: Site) -> None:
    """Idle connections there would stop it past the relay. A stranger is played by another address of this machine."""

    def reached(port: int, by: str) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=0.5, source_address=(by, 0)):
                return True
        except TimeoutError:
            return False

    own = {site.ports["orthanc_http"], site.archive_dicom_port}
    assert {port for port in own if reached(port, "127.0.0.1")} == own
    assert {port for port in own if reached(port, "127.0.0.9")} == set()
    assert reached(site.dicom_port, "127.0.0.9"), "the scanners' port"


def test_a_scanner_stores_while_a_thousand_connections_to_its_port_say_nothing(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "slice.dcm"
    file.write_bytes(to_bytes(slice_of(1, study="beside idle ones")))
    with ExitStack() as stack:
        for _ in range(1_000):
            stack.enter_context(socket.create_connection(("127.0.0.1", site.dicom_port), timeout=10))
        command = [binary("storescu"), "-aec", "ORTHANC", "127.0.0.1", str(site.dicom_port), str(file)]
        assert subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0
