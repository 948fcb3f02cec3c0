"""A whole Med-AI on one machine, in one directory: its ports, its passwords and its configuration files.

``Site.create`` writes what is missing and never overwrites ``medai.toml``: that file is the user's from then on.
Next: supervisor.py (which starts it).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from medai.router import private, tls
from medai.router.errors import SettingsError
from medai.router.files.whole import whole
from medai.router.onebox import authority
from medai.router.settings import load as settings
from medai.router.settings.tables import Settings
from medai.router.settings.tls import ClientTls, ServerTls

DEFAULT_PORTS: Mapping[str, int] = {
    "orthanc_http": 8042,
    "orthanc_dicom": 4242,
    "redis": 6380,
    "metrics": 9108,
    "hl7_in": 2575,
    "ris_mllp": 2576,
    "ris_http": 8090,
    "console": 8088,
    "ris_dicom": 11112,
    "orthanc_https": 8043,
    "orthanc_dicom_own": 4243,
}
FREE_RANGE = range(12_000, 32_000)
PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins")
SYSTEM_BINARIES = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, kw_only=True)
class Site:
    """One directory with everything that ``medai up`` starts."""

    folder: Path
    ports: Mapping[str, int]
    username: str
    password: str
    workers: int = 1
    """How many worker processes ``medai up`` starts."""
    shared: bool = False
    """Whether somebody kept other things in the folder before: those are not closed to others."""
    tls: bool = False
    """Whether it was made with TLS between all parts, by certificates of its own in the folder ``tls``."""

    @property
    def config(self) -> Path:
        """The configuration that router and worker read."""
        return self.folder / "medai.toml"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.folder / "logs"

    @property
    def orthanc_url(self) -> str:
        """Orthanc's REST API; with TLS, what stands before it (front.py)."""
        if self.tls:
            return f"https://127.0.0.1:{self.ports['orthanc_https']}"
        return f"http://127.0.0.1:{self.ports['orthanc_http']}"

    @property
    def ris_url(self) -> str:
        """The mock RIS's page."""
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.ports['ris_http']}"

    @property
    def console_url(self) -> str:
        """The web console and the REST API."""
        return f"http{'s' if self.settings.console.tls.is_on else ''}://127.0.0.1:{self.ports['console']}"

    @property
    def metrics_url(self) -> str:
        """The router's metrics, /health and /ready."""
        return f"http{'s' if self.settings.metrics.tls.is_on else ''}://127.0.0.1:{self.ports['metrics']}"

    @property
    def settings(self) -> Settings:
        """``medai.toml`` as it is now."""
        return settings.load(str(self.config))

    def certificate(self, name: str) -> ServerTls:
        """The files of a part of a site with TLS."""
        folder = self.folder / "tls"
        return ServerTls(
            certificate_file=str(folder / f"{name}.pem"),
            key_file=str(folder / f"{name}.key"),
            ca_file=str(folder / f"{authority.AUTHORITY}.pem"),
        )

    @property
    def trust(self) -> ClientTls:
        """How a part of a site with TLS trusts another, and shows who it is."""
        return ClientTls(**self.certificate("router").model_dump(exclude={"require_client_certificate"}))

    @property
    def used_ports(self) -> Mapping[str, int]:
        """Those that a part of this site listens on."""
        unused = {"orthanc_https": not self.tls, "orthanc_dicom_own": not self.settings.dicom_in.front.is_on}
        return {name: port for name, port in self.ports.items() if not unused.get(name)}

    @property
    def dicom_port(self) -> int:
        """Where scanners send to: the relay's port, or Orthanc's own where there is none."""
        return self.settings.dicom_in.front.port or self.ports["orthanc_dicom"]

    @property
    def archive_dicom_port(self) -> int:
        """Orthanc's own."""
        front = self.settings.dicom_in.front
        return front.archive_port if front.is_on else self.ports["orthanc_dicom"]

    @classmethod
    def load(cls, folder: Path) -> Site:
        """A site that was created before; SettingsError when there is none."""
        file = folder / "site.json"
        if not file.is_file():
            raise SettingsError(f"{folder} holds no Med-AI system: start one with 'medai up --dir {folder}'")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            content["ports"] = {**_ports_since(content["ports"]), **content["ports"]}
            return cls(folder=folder, **content)
        except (ValueError, TypeError, KeyError) as error:
            raise SettingsError(f"{file} is damaged: put its last good version back, or use another --dir") from error

    @classmethod
    def create(cls, folder: Path, *, free_ports: bool, workers: int | None = None, tls: bool = False) -> Site:
        """The site in ``folder``, made when it is not there yet; ``workers``: None leaves their number as it is.

        ``tls`` holds for a site that is made: the configuration of one that is there is its owner's.
        """
        private.keep_private()
        folder = folder.resolve()
        if (folder / "site.json").is_file():
            site = cls.load(folder)
            if tls and not site.tls:
                raise SettingsError(
                    f"the system in {folder} was made without TLS: make one with --tls in another directory, "
                    "or give its parts certificates by hand (docs/security.md)"
                )
            if not site.shared:
                private.mend(folder)
        else:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            shared = any(folder.iterdir())
            if not shared:
                private.mend(folder)
            ports = pick_ports() if free_ports else usual_ports()
            password = secrets.token_urlsafe(12)
            site = cls(folder=folder, ports=ports, username="medai", password=password, shared=shared, tls=tls)
            site.keep()
        if workers is not None and workers != site.workers:
            site = replace(site, workers=workers)
            site.keep()
        site.write_files()
        return site

    def keep(self) -> None:
        """Write site.json."""
        content = {k: v for k, v in asdict(self).items() if k != "folder" and (k not in ("shared", "tls") or v)}
        _write_private(self.folder / "site.json", json.dumps(content, indent=2))

    def write_files(self) -> None:
        """Orthanc's configuration, and ``medai.toml`` when the user has none yet."""
        for name in ("orthanc-db", "redis", "ris", "logs", "inbox"):
            (self.folder / name).mkdir(exist_ok=True)
        if self.tls:
            self._make_certificates()
        if not self.config.exists():
            _write_private(self.config, self.medai_toml())
        self._give_redis_a_password()
        _write_private(self.folder / "redis.conf", self.redis_conf())
        _write_private(self.folder / "orthanc.json", json.dumps(self.orthanc_config(), indent=2))
        _write_private(self.openssl_conf, OPENSSL_CONF)

    @property
    def openssl_conf(self) -> Path:
        """What Orthanc's OpenSSL is told."""
        return self.folder / "openssl.cnf"

    def _make_certificates(self) -> None:
        folder = self.folder / "tls"
        if not (folder / f"{authority.AUTHORITY}.pem").exists():
            authority.make_authority(folder)
        for part in CERTIFIED:
            if not (folder / f"{part}.pem").exists():
                authority.make_pair(folder, part, authority.LOOPBACK)

    def _give_redis_a_password(self) -> None:
        """Into the one line of ``medai.toml`` that an older version wrote without one; any other line is the user's."""
        text = self.config.read_text(encoding="utf-8")
        bare = f'url = "redis://127.0.0.1:{self.ports["redis"]}/0"'
        if bare in text.splitlines():
            _write_private(self.config, text.replace(bare, f'url = "{self._new_redis_url()}"'))

    def _new_redis_url(self) -> str:
        return f"redis{'s' if self.tls else ''}://:{secrets.token_urlsafe(24)}@127.0.0.1:{self.ports['redis']}/0"

    @property
    def redis_url(self) -> str:
        """The broker as ``medai.toml`` names it, password and all."""
        return self.settings.broker.url

    def redis_conf(self) -> str:
        """Redis's settings, in a file: a password on a command line is everybody's."""
        password = unquote(urlsplit(self.redis_url).password or "")
        lines = [
            "bind 127.0.0.1",
            *self._redis_ports(),
            f"dir {_quoted(self.folder / 'redis')}",
            "appendonly yes",
            'save ""',
            "daemonize no",
        ]
        return "\n".join([*lines, f"requirepass {_quoted(password)}"] if password else lines)

    def _redis_ports(self) -> list[str]:
        if not self.tls:
            return [f"port {self.ports['redis']}"]
        files = self.certificate("redis")
        return [
            "port 0",
            f"tls-port {self.ports['redis']}",
            f"tls-cert-file {_quoted(files.certificate_file)}",
            f"tls-key-file {_quoted(files.key_file)}",
            f"tls-ca-cert-file {_quoted(files.ca_file)}",
            "tls-auth-clients yes",
            'tls-protocols "TLSv1.2 TLSv1.3"',
            f"tls-ciphers {':'.join(tls.SUITES)}",
        ]

    def orthanc_config(self) -> dict[str, Any]:
        """Orthanc's settings, each for a reason given in docs/orthanc.md, section 5."""
        return {
            "Name": "Med-AI",
            "StorageDirectory": str(self.folder / "orthanc-db"),
            "IndexDirectory": str(self.folder / "orthanc-db"),
            "HttpPort": self.ports["orthanc_http"],
            "DicomPort": self.archive_dicom_port,
            "DicomAet": "ORTHANC",
            **self.settings.dicom_in.orthanc(),
            "UnknownSopClassAccepted": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {self.username: self.password},
            "Plugins": plugins(),
            "StableAge": 1,
            "KeepAlive": True,
            "TcpNoDelay": True,
            "HttpThreadsCount": 16,
            "StorageCompression": False,
            "HttpCompressionEnabled": False,
            "OverwriteInstances": False,
            "SyncStorageArea": True,
            "SaveJobs": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": True},
        }

    def medai_toml(self) -> str:
        """The first configuration: the shipped routes, pointed at this site's own servers."""
        ours = _lines(self.trust) if self.tls else ""
        return TOML.format(
            orthanc=self.orthanc_url,
            user=self.username,
            password=self.password,
            ledger=_quoted(f"sqlite:///{self.folder / 'ledger.sqlite'}"),
            redis=self._new_redis_url(),
            ris=self.ports["ris_mllp"],
            hl7=self.ports["hl7_in"],
            metrics=self.ports["metrics"],
            console=self.ports["console"],
            dicom=self.ports["orthanc_dicom"],
            dicom_own=self.ports["orthanc_dicom_own"],
            inbox=_quoted(self.folder / "inbox"),
            ours=ours,
            ris_tls=f"tls = true\n{ours}" if self.tls else "",
            **{
                f"{table}_tls": f"\n[{table}.tls]\n{_lines(self.certificate(part))}" if self.tls else ""
                for table, part in PORTS_WITH_TLS.items()
            },
        )

    def describe(self) -> dict[str, Any]:
        """What ``medai up --json`` prints."""
        return {
            "dir": str(self.folder),
            "orthanc": {
                "url": self.orthanc_url,
                "username": self.username,
                "password": self.password,
                "dicom_port": self.dicom_port,
                "aet": "ORTHANC",
            },
            "ris": {
                "http": self.ris_url,
                "mllp_port": self.ports["ris_mllp"],
                "dicom_port": self.ports["ris_dicom"],
                "aet": "MEDAI_RIS",
            },
            "router": {
                "metrics": f"{self.metrics_url}/metrics",
                "hl7_port": self.ports["hl7_in"],
            },
            "console": {"url": self.console_url},
            "redis": {"url": self.redis_url},
            "ledger": {"url": f"sqlite:///{self.folder / 'ledger.sqlite'}"},
            "workers": self.workers,
            "watch_folder": str(self.folder / "inbox"),
            "config": str(self.config),
            "logs": str(self.logs),
            **({"tls": self.trust.model_dump()} if self.tls else {}),
        }


CERTIFIED = ("router", "console", "orthanc", "redis", "ris")
"""Whose certificates a site with TLS has."""
PORTS_WITH_TLS: Mapping[str, str] = {
    "dicom_in": "orthanc", "hl7_in": "router", "metrics": "router", "console": "console",
}  # fmt: skip
"""Table of medai.toml -> whose certificate its port shows."""
OPENSSL_CONF = """\
# Orthanc 1.10.1 can't be told which versions of TLS it may speak and would take 1.0 (DCMTK's profile): OpenSSL is told.
openssl_conf = openssl
[openssl]
ssl_conf = ssl
[ssl]
system_default = tls
[tls]
MinProtocol = TLSv1.2
"""


TOML = """\
# Med-AI on one machine. Yours to edit; every key is explained in docs/configuration.md.
# After a change: medai check, then medai down and medai up.
routing = "first"

[orthanc]
url = "{orthanc}"
username = "{user}"
password = "{password}"
{ours}
# Whoever reaches the DICOM port may send. To let in only those you name: open = false, and for each scanner
# [[dicom_in.senders]] with ae_title = "CT1" and host = "10.0.0.5"; then medai down and medai up.
[dicom_in]
open = true
{dicom_in_tls}
# The relay before Orthanc's DICOM port, for scanners. archive_port is Orthanc's own: let nobody else reach it.
[dicom_in.front]
host = "0.0.0.0"
port = {dicom}
archive_port = {dicom_own}

[ledger]
url = {ledger}

[broker]
url = "{redis}"
{ours}
[ris]
host = "127.0.0.1"
port = {ris}
processing_id = "T"
{ris_tls}
[hl7_in]
port = {hl7}
{hl7_in_tls}
[metrics]
port = {metrics}
{metrics_tls}
[console]
port = {console}
{console_tls}
[watch_folder]
path = {inbox}

# A T1-weighted head: at least 60 thin slices; BodyPartExamined may be absent, but must not name another part.
[[routes]]
name = "mr-hippocampus"
when = 'study.Modality == "MR"'
model = "mr_hippocampus"
[routes.series]
where = '''
(!has(s.BodyPartExamined) || s.BodyPartExamined in ["", "HEAD", "BRAIN"])
&& has(s.SeriesDescription) && s.SeriesDescription.matches("(?i)(t1|mprage|bravo|spgr|tfe)")
'''
modality = ["MR"]
slices_min = 60
thickness_max_mm = 2.0
# Anonymised and reformatted T1 volumes are often marked DERIVED: they are welcome here.
image_type_excludes = ["LOCALIZER", "PROJECTION IMAGE", "MIP", "MPR", "SCREEN SAVE"]
prefer = "thinnest"

# Lungs in a CT that says it shows the chest.
[[routes]]
name = "ct-lungs"
when = 'study.Modality == "CT" && series.exists(s, has(s.BodyPartExamined) && s.BodyPartExamined == "CHEST")'
model = "ct_lungs"
[routes.series]
modality = ["CT"]
orientation = ["axial"]
slices_min = 20
thickness_max_mm = 6.0
prefer = "thinnest"
"""


def _ports_since(known: Mapping[str, int]) -> dict[str, int]:
    """Ports of parts that came after this site was made: the usual ones, for its medai.toml names no others."""
    return {name: port for name, port in DEFAULT_PORTS.items() if name not in known}


def _lines(files: ServerTls | ClientTls) -> str:
    """The keys of a table for these files."""
    values = files.model_dump(exclude={"require_client_certificate"})
    return "".join(f"{key} = {_quoted(value)}\n" for key, value in values.items())


def _quoted(text: str | Path) -> str:
    return json.dumps(str(text), ensure_ascii=False)  # a JSON string is a TOML string too


def plugins() -> list[str]:
    """Orthanc's DICOMweb plugin, where it is installed."""
    found = (Path(folder) / "libOrthancDicomWeb.so" for folder in PLUGIN_FOLDERS)
    return [str(path) for path in found if path.exists()][:1]


def find_binary(*names: str) -> str:
    """The first of these programs that is installed; SettingsError says how to get it."""
    path = f"{os.environ.get('PATH', '')}:{SYSTEM_BINARIES}"
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise SettingsError(f"{names[0]} is not installed: run ./medai, which installs it, or 'docker compose up'")


def pick_ports() -> dict[str, int]:
    """Free loopback ports, all held open until each has been found, so that no two are the same."""
    held: list[socket.socket] = []
    try:
        while len(held) < len(DEFAULT_PORTS):
            probe = socket.socket()
            held.append(probe)
            try:
                # Below the range from which the system takes ports for outgoing connections: nobody else gets it soon.
                probe.bind(("127.0.0.1", secrets.choice(FREE_RANGE)))
            except OSError:
                held.pop().close()
        return {name: probe.getsockname()[1] for name, probe in zip(DEFAULT_PORTS, held, strict=True)}
    finally:
        for probe in held:
            probe.close()


def usual_ports() -> dict[str, int]:
    """The usual port of each part; where something else listens already, a free one instead."""
    spare = pick_ports()
    return {name: spare[name] if port_is_taken(port) else port for name, port in DEFAULT_PORTS.items()}


def port_is_taken(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something listens on a loopback port already."""
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read (it holds a password), whole or not at all."""
    with whole(path) as partial:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text if text.endswith("\n") else text + "\n")


def python() -> str:
    """This interpreter."""
    return sys.executable
