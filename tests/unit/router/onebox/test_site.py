"""A system in one directory: made once, private, and the user's configuration is never overwritten."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from medai.router.cli import hops
from medai.router.errors import SettingsError
from medai.router.onebox import authority
from medai.router.onebox.site import DEFAULT_PORTS, Site, find_binary, pick_ports
from medai.router.routing.rules import Rules
from medai.router.settings import load as settings
from medai.router.settings.tables import Settings

ODD = 'a b 50% "q" ü'
"""A directory's name may hold all of this."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site.create(tmp_path / "site", free_ports=True)


def load(site: Site, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings.load(str(site.config))


def test_free_ports_are_all_different() -> None:
    ports = pick_ports()
    assert set(ports) == set(DEFAULT_PORTS)
    assert len(set(ports.values())) == len(ports)
    assert len(set(DEFAULT_PORTS.values())) == len(DEFAULT_PORTS)


def test_the_first_configuration_loads_and_its_routes_compile(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(site, monkeypatch)
    Rules(loaded.routes, loaded.routing)
    assert [route.name for route in loaded.routes] == ["mr-hippocampus", "ct-lungs"]
    assert loaded.orthanc.url == site.orthanc_url
    assert loaded.orthanc.password.get_secret_value() == site.password
    ports = (loaded.ris.port, loaded.hl7_in.port, loaded.metrics.port)
    assert ports == tuple(site.ports[name] for name in ("ris_mllp", "hl7_in", "metrics"))
    assert loaded.broker.url == site.redis_url
    assert loaded.broker.url.endswith(f"@127.0.0.1:{site.ports['redis']}/0")


def test_redis_asks_for_a_password_that_stands_in_private_files_alone(site: Site) -> None:
    password = urlsplit(site.redis_url).password
    assert password
    assert len(password) >= 32
    assert f'requirepass "{password}"' in (site.folder / "redis.conf").read_text().splitlines()
    assert stat.S_IMODE((site.folder / "redis.conf").stat().st_mode) == 0o600


def test_a_site_of_an_older_version_gets_a_password_for_redis_but_keeps_an_address_of_its_owners(site: Site) -> None:
    bare = f'url = "redis://127.0.0.1:{site.ports["redis"]}/0"'
    site.config.write_text(f"# mine\n[broker]\n{bare}\n")
    again = Site.create(site.folder, free_ports=False)
    assert site.config.read_text().startswith("# mine\n[broker]\n")
    assert urlsplit(again.redis_url).password
    site.config.write_text('[broker]\nurl = "redis://elsewhere/3"\n')
    assert Site.create(site.folder, free_ports=False).redis_url == "redis://elsewhere/3"
    assert "requirepass" not in (site.folder / "redis.conf").read_text()


def test_a_directory_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site.create(tmp_path / ODD, free_ports=True)
    loaded = load(site, monkeypatch)
    assert loaded.watch_folder.path == str(tmp_path / ODD / "inbox")
    assert loaded.ledger.url == f"sqlite:///{tmp_path / ODD / 'ledger.sqlite'}"
    assert json.loads((site.folder / "orthanc.json").read_text())["StorageDirectory"] == str(
        tmp_path / ODD / "orthanc-db"
    )


def test_the_users_configuration_is_never_overwritten(site: Site) -> None:
    site.config.write_text("# mine\n")
    again = Site.create(site.folder, free_ports=False)
    assert site.config.read_text() == "# mine\n"
    assert again == site, "ports and password stay what they were"


def test_orthancs_configuration_is_written_again_at_each_start(site: Site) -> None:
    (site.folder / "orthanc.json").write_text("old")
    Site.create(site.folder, free_ports=False)
    assert json.loads((site.folder / "orthanc.json").read_text())["HttpPort"] == site.ports["orthanc_http"]


def test_files_with_a_password_are_for_their_owner_alone(site: Site) -> None:
    for name in ("site.json", "medai.toml", "orthanc.json"):
        path = site.folder / name
        assert site.password in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, name
    assert list(site.folder.glob("*.new")) == [], "nothing half written is left"


def test_what_somebody_keeps_in_the_folder_stays_as_it_was(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    notes = tmp_path / "notes"
    notes.mkdir(mode=0o755)
    notes.chmod(0o755)
    Site.create(tmp_path, free_ports=True)
    made = Site.create(tmp_path, free_ports=True)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path, notes)] == [0o755, 0o755]
    assert (made.folder / "site.json").stat().st_mode & 0o777 == 0o600


def test_each_system_has_its_own_password(tmp_path: Path, site: Site) -> None:
    other = Site.create(tmp_path / "other", free_ports=True)
    assert other.password != site.password
    assert len(site.password) >= 16


def test_the_archive_asks_for_a_login_and_answers_this_machine_only(site: Site) -> None:
    config = site.orthanc_config()
    assert config["AuthenticationEnabled"] is True
    assert config["RemoteAccessAllowed"] is False
    assert config["RegisteredUsers"] == {"medai": site.password}


def test_a_site_with_tls_leaves_no_hop_in_the_clear_and_keeps_its_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "RSA_BITS", 2048)  # made in a fifth of the time
    site = Site.create(tmp_path / ODD, free_ports=True, tls=True)
    loaded = site.settings
    assert loaded.orthanc.url == site.orthanc_url == f"https://127.0.0.1:{site.ports['orthanc_https']}"
    assert site.console_url.startswith("https:")
    assert site.metrics_url.startswith("https:")
    assert loaded.ris.tls
    assert loaded.hl7_in.tls.require_client_certificate
    assert not loaded.console.tls.require_client_certificate
    assert loaded.broker.url.startswith("rediss:")
    assert list(hops.unusable(loaded)) == []
    assert {"port 0", f"tls-port {site.ports['redis']}"} <= set(site.redis_conf().splitlines())
    archive = site.orthanc_config()
    assert archive["DicomTlsEnabled"] is False, "the relay before it speaks TLS"
    assert archive["DicomTlsCertificate"] == str(site.folder / "tls" / "orthanc.pem"), "for the nodes that it calls"
    assert "MinProtocol = TLSv1.2" in site.openssl_conf.read_text()
    before = {path: path.read_bytes() for path in (site.folder / "tls").iterdir()}
    assert Site.create(site.folder, free_ports=False) == site
    assert {path: path.read_bytes() for path in (site.folder / "tls").iterdir()} == before
    assert {path.stat().st_mode & 0o777 for path in before if path.suffix == ".key"} == {0o600}


def test_a_site_that_was_made_without_tls_is_not_changed_behind_its_owner_s_back(site: Site) -> None:
    with pytest.raises(SettingsError, match="was made without TLS"):
        Site.create(site.folder, free_ports=False, tls=True)
    assert not (site.folder / "tls").exists()
    assert "orthanc_https" not in site.used_ports


def test_a_directory_without_a_system_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no Med-AI system: start one with 'medai up --dir"):
        Site.load(tmp_path)


def test_the_description_says_where_everything_is(site: Site) -> None:
    told = site.describe()
    assert site.archive_dicom_port == site.ports["orthanc_dicom_own"] == site.orthanc_config()["DicomPort"]
    assert json.loads(json.dumps(told)) == told
    assert told["orthanc"]["dicom_port"] == site.ports["orthanc_dicom"]
    assert told["config"] == str(site.config)


def test_a_program_that_is_missing_says_how_to_get_it() -> None:
    assert Path(find_binary("no-such-program", "sh")).name == "sh"
    with pytest.raises(SettingsError, match=r"no-such-program is not installed: run \./medai"):
        find_binary("no-such-program")
