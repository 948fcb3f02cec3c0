"""The units of systemd: closed to other users, and less exposed than systemd itself calls medium."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from medai.router.onebox.site import OPENSSL_CONF

ROOT = Path(__file__).resolve().parents[3]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
ORTHANC = ROOT / "deploy/systemd/orthanc.service.d/medai.conf"
EXPOSED = 30
"""systemd's measure times ten: it calls 2.6 to 5.0 medium."""


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_the_units_of_every_part_are_here() -> None:
    assert [unit.stem for unit in UNITS] == [
        "medai-console",
        "medai-dicom-front",
        "medai-ris",
        "medai-router",
        "medai-worker@",
    ]


@pytest.mark.parametrize("path", [*UNITS, ORTHANC], ids=lambda path: str(path.stem))
def test_what_a_service_keeps_is_for_its_own_user_alone(path: Path) -> None:
    assert {"UMask=0077", "StateDirectoryMode=0700"} <= set(lines(path))


def test_orthanc_speaks_no_old_tls_under_systemd_either() -> None:
    beside = ORTHANC.with_name("openssl.cnf")
    assert beside.read_text(encoding="utf-8") == OPENSSL_CONF, "what 'medai up' gives its Orthanc"
    assert f"Environment=OPENSSL_CONF=/etc/systemd/system/orthanc.service.d/{beside.name}" in lines(ORTHANC)


@pytest.mark.parametrize("path", [*UNITS, ORTHANC], ids=lambda path: str(path.stem))
def test_systemd_itself_finds_little_exposed(path: Path, tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:  # a machine without systemd: what the file must say is in the test above
        return
    unit = tmp_path / path.name.replace("@", "@0").replace(".conf", ".service")
    base = ["[Service]", "User=orthanc", "ExecStart=/usr/sbin/Orthanc"] if path == ORTHANC else []
    unit.write_text("\n".join([*base, *lines(path), ""]))
    done = subprocess.run(
        [program, "security", "--offline=true", f"--threshold={EXPOSED}", "--no-pager", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if "✗" in line)
