"""The tables of ``medai.toml`` and what they are together: ``Settings``.

Environment variables win: ``MEDAI_ORTHANC__PASSWORD=…`` sets ``[orthanc] password``. No module reads a setting at
import. Next: load.py (the only way in), routes.py and destinations.py (the tables of which there may be several).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from medai.router.settings.audit import AuditSettings
from medai.router.settings.destinations import Destination
from medai.router.settings.dicom_in import DicomInSettings
from medai.router.settings.from_files import with_files
from medai.router.settings.oidc import OidcSettings
from medai.router.settings.outside import OutsideSettings
from medai.router.settings.ports import Count, SharedPort
from medai.router.settings.retention import RetentionSettings
from medai.router.settings.routes import RouteName, RouteSettings
from medai.router.settings.section import AeTitle, Port, Positive, Seconds, Section
from medai.router.settings.tls import ClientTls, ServerTls, WebTls
from medai.router.settings.tracing import TracingSettings
from medai.router.settings.workitems import WorkitemsSettings


class OrthancSettings(ClientTls):
    """The archive: its REST API, and how the router follows it. With https its certificate and name are verified."""

    url: str = "http://127.0.0.1:8042"
    """Base of Orthanc's REST API."""
    username: str = ""
    """Orthanc user; empty: no login."""
    password: SecretStr = SecretStr("")
    """Orthanc password; better given as MEDAI_ORTHANC__PASSWORD than in a file."""
    dicomweb_url: str = ""
    """Base of the WADO-RS addresses in ORU and FHIR, as their readers reach it; empty: results name no addresses."""
    poll_s: Seconds = 0.1
    """How often Orthanc's change log is polled."""
    sweep_s: Seconds = 60.0
    """How often all studies are compared with the ledger, for those that no event announced."""
    backlog_h: float = 24.0
    """At the very first start, studies that arrived within this many hours are read; older ones are left alone."""
    timeout_s: Positive = 30.0
    """Longest wait for one answer from Orthanc."""
    follow_patient_updates: bool = False
    """Whether an update or a merge of patients (ADT) also changes the studies in Orthanc (IHE PIR). Leave
    it off where the hospital's PACS does that itself and sends the studies anew."""

    @property
    def wado_root(self) -> str:
        """Where a reader of the ORU finds the study by DICOMweb; empty where nobody said."""
        return self.dicomweb_url.rstrip("/")


class LedgerSettings(Section):
    """The ledger's database: SQLite by default, PostgreSQL by URL (postgresql+psycopg://…)."""

    url: str = "sqlite:///medai-ledger.sqlite"
    """SQLAlchemy URL: sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE. With
    ?sslmode=verify-full&sslrootcert=FILE a PostgreSQL is spoken to over TLS, its certificate and name verified."""
    audit_folder: str = ""
    """Where the audit trail's key and newest seal are kept; default: beside an SQLite ledger, else nowhere."""


class BrokerSettings(ClientTls):
    """Redis, which carries job ids and nothing else."""

    url: str = "redis://127.0.0.1:6379/0"
    """redis:// or rediss:// (TLS, the server's certificate verified), with the database number."""

    @field_validator("url")
    @classmethod
    def _verifies(cls, url: str) -> str:
        if "ssl_" in url.partition("?")[2]:
            raise ValueError("no ssl_ options in the address: rediss:// is verified, with [broker] ca_file if need be")
        return url

    @property
    def tls(self) -> dict[str, str | bool]:
        """What redis-py and kombu are told of TLS; nothing for redis://."""
        if not self.url.startswith("rediss://"):
            return {}
        own: dict[str, str | bool] = {
            "ssl_ca_certs": self.ca_file, "ssl_certfile": self.certificate_file,
            "ssl_keyfile": self.key_file or self.certificate_file,
        }  # fmt: skip
        return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **{k: v for k, v in own.items() if v}}


class RisSettings(ClientTls):
    """Where the ORU goes (MLLP) and what its header says. ``host`` empty: no RIS, nothing is sent."""

    host: str = ""
    """Name or address of the RIS; empty: nothing is sent."""
    port: Port = 2576
    """MLLP port of the RIS."""
    timeout_s: Positive = 10.0
    """Longest wait for an acknowledgement."""
    version: Literal["2.5.1", "2.4", "2.3.1", "2.3"] = "2.5.1"
    """MSH-12: the HL7 version of the ORU. An older one leaves out what it does not know."""
    narrative: bool = False
    """Whether the ORU says all of it in words, too, in one observation (TX, LOINC 59776-5): for a dictation system."""
    sending_application: str = "MEDAI"
    """MSH-3 of the ORU."""
    sending_facility: str = "AI"
    """MSH-4 of the ORU."""
    receiving_application: str = "RIS"
    """MSH-5 of the ORU."""
    receiving_facility: str = "HOSPITAL"
    """MSH-6 of the ORU; also the assigning authority of PID-3 where the images name none."""
    processing_id: Literal["P", "T", "D"] = "P"
    """MSH-11: production, training (test) or debugging."""
    tls: bool = False
    """Send over TLS 1.2 or newer."""
    withdraw_within_h: Annotated[float, Field(ge=0)] = 168.0
    """A study deleted from the archive within this many hours of its result withdraws it at the RIS (ORU, status X);
    later deletions are taken for housekeeping. 0: never."""


Sender = Annotated[str, Field(pattern=r"^[^|\s][^|]*(\|[^|]+)?$")]
"""A sending application, alone or with its facility: APPLICATION|FACILITY."""


MergeRule = Literal["agreeing", "hold", "all"]
"""Which merges of patients are followed without asking."""


class Hl7InSettings(SharedPort):
    """The router's own MLLP listener for orders (ORM^O01, OMI^O23) and patients (ADT). ``enabled = false`` turns it
    off. Beyond loopback say who may connect: whoever does can change and cancel orders."""

    enabled: bool = True
    """Whether the router listens for orders."""
    port: Port = 2575
    """Port for orders."""
    allowed_senders: tuple[Sender, ...] = ()
    """Who may send, by MSH-3 or by MSH-3 and MSH-4: ["RIS|HOSPITAL", "ADTFEED"]; empty: whoever may connect. Others get
    AE with code 103."""
    tls: ServerTls = ServerTls()
    """MLLP over TLS, with client certificates."""
    merges: MergeRule = "agreeing"
    """Which merges of patients (ADT^A40 and others) are followed at once: agreeing: those that nothing contradicts
    which orders, results and images say of both; the others wait for a person ("medai held"). hold: none, a person
    looks at each. all: every one, whatever it says."""
    ignore: tuple[str, ...] = ()
    """Kinds of messages to acknowledge (AA) and leave unread, such as ["ADT^A11", "SIU^*"]: a feed that goes to every
    system waits for each answer, and what is refused here would stop it. * stands for every event."""

    @field_validator("ignore")
    @classmethod
    def _are_kinds(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        for kind in kinds:
            if not re.fullmatch(r"[A-Z][A-Z0-9]{2}\^([A-Z][A-Z0-9]{2}|\*)", kind):
                raise ValueError("not a kind of message: write TYPE^EVENT or TYPE^*, such as ADT^A11 or SIU^*")
        return kinds


class AnnouncementsSettings(SharedPort):
    """The router's own DICOM listener for what a study will hold: performed procedure steps (MPPS) and Instance
    Availability Notifications (IAN), which Orthanc rejects. ``port`` 0 means off."""

    port: Port = 0
    """Port for MPPS and IAN; 0: off."""
    connections: Count = 20
    """Associations at a time. Another one still gets in: the one that has been silent for longest ends for it, of those
    first that never announced anything."""
    connections_of_peer: Count = 10
    """Associations at a time from one address (IPv6: one /64), by the same rule."""
    idle_s: Positive = 60.0
    """An association that is silent for this long ends."""
    per_hour: Positive = 3600.0
    """Announcements in an hour from one address; more are refused (0213H, resource limitation)."""
    ae_title: AeTitle = "MEDAI"
    """The listener's own AE title; one that is called by another name answers all the same."""
    calling_ae_titles: tuple[AeTitle, ...] = ()
    """AE titles of those who may announce; empty: anybody who reaches the port."""
    tls: ServerTls = ServerTls()
    """DICOM over TLS, with client certificates."""
    keep_h: Positive = 168.0
    """An announcement is forgotten after this many hours without a word on it."""


class WatchFolderSettings(Section):
    """A folder whose DICOM files and zips are sent to Orthanc. ``path`` empty: off."""

    path: str = ""
    """The folder; empty: off."""
    settle_s: Seconds = 2.0
    """A file is taken when its size and time have not changed for this long."""
    max_zip_gb: float = 8.0
    """A zip that unpacks to more is rejected."""
    max_file_gb: Positive = 1.0
    """A larger DICOM file, in a zip or not, is rejected: each is held in memory while it is sent (GiB)."""


class MetricsSettings(Section):
    """Prometheus metrics, /health and /ready of the router. ``port`` 0 means off."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: Port = 9108
    """Port for Prometheus; 0: off."""
    tls: WebTls = WebTls()
    """https for those who ask."""


class ConsoleSettings(Section):
    """The web console and the REST API."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all, then with TLS, here or in a proxy before it."""
    port: Port = 8088
    """Port of the console."""
    tls: WebTls = WebTls()
    """https for browsers and programs."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which browsers reach the console, besides this machine's own and ``host``; "*": any."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of proxies before the console; their X-Forwarded-For says who tries passwords."""
    session_h: Positive = 12.0
    """After this many hours a browser logs in again."""
    session_idle_min: Seconds = 30.0
    """After this many minutes in which nobody did anything a browser logs in again; 0: never."""
    viewer: str = ""
    """Folder of a built OHIF viewer; default: share/ohif in the Python environment, where set-up puts it."""
    dicom_web: str = "/dicom-web/"
    """Where Orthanc's DICOMweb plugin answers (its Root)."""
    local_accounts: bool = True
    """Whether accounts of this console may sign in with their passwords; false: by ``[console.oidc]`` alone. Tokens of
    programs hold either way."""
    oidc: OidcSettings = OidcSettings()

    @model_validator(mode="after")
    def _somebody_may_sign_in(self) -> Self:
        if not self.local_accounts and not self.oidc.is_on:
            raise ValueError("local_accounts = false needs [console.oidc]: nobody could sign in")
        return self


class ObjectivesSettings(Section):
    """What the department was promised: seconds from a study's last image to the RIS's acknowledgement.

    Metrics, alerts and the console measure against these; nothing is read in another order because of them.
    """

    stat_s: Positive = 300.0
    """For STAT."""
    urgent_s: Positive = 900.0
    """For urgent."""
    routine_s: Positive = 1800.0
    """For routine."""
    background_s: Positive = 14400.0
    """For background."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Share of the readings that must keep it."""

    def limit_s(self, priority: str) -> float:
        """The objective of a priority, by its name in lower case."""
        return float(getattr(self, f"{priority}_s"))


class WorkerSettings(Section):
    """One worker process: which queue, how it holds a job, how it retries."""

    queue: Literal["auto", "cpu", "gpu"] = "auto"
    """``auto``: gpu (and cpu) where a CUDA device is found, else cpu."""
    lease_s: Annotated[float, Field(gt=1)] = 20.0
    """A reading whose worker is silent for this long is given to another."""
    max_attempts: Annotated[int, Field(ge=1)] = 5
    """A reading that ends unexpectedly this often fails."""
    retry_s: Seconds = 5.0
    """First back-off; doubles with each attempt up to ``retry_max_s``."""
    retry_max_s: Seconds = 60.0
    """Longest back-off."""
    give_up_h: float = 72.0
    """A peer that stays unreachable for this long makes a dead letter of the reading or delivery; until then it is
    tried again."""
    stop_s: Seconds = 20.0
    """A worker that is told to stop finishes its reading within this time, or hands it back."""
    scratch: str = ""
    """Folder for libraries' temporary files; default: the system's. What dead workers left there is removed."""
    scratch_max_gb: Positive = 8.0
    """A worker whose temporary files outgrow this stops with an alarm."""
    fetch_threads: Annotated[int, Field(ge=1, le=32)] = 4
    """Connections to Orthanc while a series is fetched."""
    max_series_gb: Positive = 4.0
    """A series whose files together, or whose pixels once unpacked, are larger is refused before they are fetched or
    unpacked (GiB). A worker's memory must hold about four times as much."""
    max_image_gb: Positive = 2.0
    """A larger DICOM file is refused unread (GiB)."""
    torch_threads: Annotated[int, Field(ge=0)] = 0
    """0: as many as there are cores."""
    guard: Literal["refuse", "warn", "off"] = "refuse"
    """What to do when a series shows another body part than its model reads, or lies otherwise than its header says:
    ``refuse`` to read it, ``warn`` in the result, or ``off`` (do not look). Only models whose bundle names body parts
    are guarded, and only where the model series_kind can run."""

    @property
    def max_series_bytes(self) -> int:
        """``max_series_gb`` in bytes."""
        return int(self.max_series_gb * 1024**3)

    @property
    def max_image_bytes(self) -> int:
        """``max_image_gb`` in bytes."""
        return int(self.max_image_gb * 1024**3)


class ModelsSettings(Section):
    """Where models are: folders of MONAI bundles beside those that ship, and weights that do not ship."""

    folders: tuple[str, ...] = ()
    """Folders that hold MONAI bundles, besides those that ship."""
    weights: dict[str, str] = Field(default_factory=dict)
    """Model name -> file or folder with its weights, for a bundle that ships without them."""
    limit_s: Positive = 3600.0
    """Longest reading of one series by a model that does not ship; then its process is ended, and it counts as a
    crash."""
    memory_gb: Annotated[float, Field(ge=0)] = 0.0
    """Most memory of the process of such a model (GiB); 0: three quarters of the machine's."""
    added: str = ""
    """Where ``medai models add`` puts models while ``folders`` is empty; default: medai-models beside medai.toml."""

    @property
    def adds_to(self) -> Path:
        """The folder of added models, which may not exist yet."""
        return Path(self.folders[0] if self.folders else self.added or ADDED)

    @property
    def places(self) -> tuple[Path, ...]:
        """Where to look for models besides those that ship: ``folders``, else what was added, where there is any."""
        if self.folders:
            return tuple(Path(folder) for folder in self.folders)
        return (self.adds_to,) if self.adds_to.is_dir() else ()


ADDED = ".medai/site/medai-models"
"""Where models are added with no configuration: the folder that 'medai up' will look in."""


class ResultSettings(Section):
    """What the results say of this installation."""

    manufacturer: str = "Med-AI"
    """Manufacturer (0008,0070) of the results."""
    device_name: str = "MEDAI"
    """Manufacturer's Model Name (0008,1090) of the results."""
    serial_number: str = "1"
    """Device Serial Number (0018,1000) of the results."""
    institution: str = ""
    """Institution Name (0008,0080) of the results; empty: left out."""
    series_number_base: Annotated[int, Field(ge=1, le=90000)] = 9000
    """Series Numbers of results start here."""


class LogSettings(Section):
    """Logs are JSON lines on standard error, without patient identifiers."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important level that is written."""
    format: Literal["json", "console"] = "json"
    """JSON lines, or text for people."""
    key: SecretStr = SecretStr("")
    """Key of the hash that stands for a study in the logs; empty: one is made per ledger."""


class Settings(BaseSettings):
    """The whole of medai.toml."""

    model_config = SettingsConfigDict(
        env_prefix="MEDAI_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        nested_model_default_partial_update=True,
    )

    routing: Literal["first", "all"] = "first"
    """``first``: the first matching route reads the study; ``all``: every matching one does."""
    orthanc: OrthancSettings = OrthancSettings()
    ledger: LedgerSettings = LedgerSettings()
    retention: RetentionSettings = RetentionSettings()
    audit: AuditSettings = AuditSettings()
    broker: BrokerSettings = BrokerSettings()
    ris: RisSettings = RisSettings()
    dicom_in: DicomInSettings = DicomInSettings()
    hl7_in: Hl7InSettings = Hl7InSettings()
    announcements: AnnouncementsSettings = AnnouncementsSettings()
    workitems: WorkitemsSettings = WorkitemsSettings()
    watch_folder: WatchFolderSettings = WatchFolderSettings()
    metrics: MetricsSettings = MetricsSettings()
    tracing: TracingSettings = TracingSettings()
    objectives: ObjectivesSettings = ObjectivesSettings()
    console: ConsoleSettings = ConsoleSettings()
    worker: WorkerSettings = WorkerSettings()
    models: ModelsSettings = ModelsSettings()
    results: ResultSettings = ResultSettings()
    log: LogSettings = LogSettings()
    routes: tuple[RouteSettings, ...] = ()
    destinations: dict[str, Destination] = Field(default_factory=dict)
    outside: dict[RouteName, OutsideSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_fit(self) -> Settings:
        names = [route.name for route in self.routes]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"routes share the name {doubled[0]!r}: each needs its own")
        known = {"archive", "ris", *self.destinations}
        for route in self.routes:
            for name in route.destinations:
                if name not in known:
                    raise ValueError(
                        f"route {route.name!r} sends to {name!r}, which is not defined: "
                        f"add [destinations.{name}] or use one of {', '.join(sorted(known))}"
                    )
            if "archive" not in route.destinations:
                raise ValueError(f"route {route.name!r} must list 'archive': the ORU is sent only after it is stored")
        if 0 < self.retention.messages_d * 24.0 < self.ris.withdraw_within_h:
            raise ValueError(
                "[retention] messages_d is shorter than [ris] withdraw_within_h: a result whose message is gone can't "
                "be withdrawn"
            )
        for name in self.workitems.routes.values():
            if name not in names:
                raise ValueError(
                    f"[workitems.routes] names the route {name!r}, which is not defined: add it to [[routes]]"
                )
        return self

    @model_validator(mode="after")
    def _outside_is_outside(self) -> Settings:
        for name, outside in self.outside.items():
            if urlsplit(outside.stow_url).netloc == urlsplit(self.orthanc.url).netloc:
                raise ValueError(
                    f"[outside.{name}] is this site's own archive: what is sent there would come in as a new study"
                )
        for route in self.routes:
            if route.model in self.outside and route.destinations != ("archive",):
                raise ValueError(
                    f'route {route.name!r} reads outside ({route.model}): its destinations must be ["archive"] alone, '
                    "since what comes back has no measurements of ours to tell"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over file (which ``load`` passes in as init values); a variable may name a file instead."""
        if isinstance(env_settings, EnvSettingsSource):
            env_settings.env_vars = with_files(env_settings.env_vars, settings_cls, "medai_")
        return env_settings, InitSettingsSource(settings_cls, getattr(init_settings, "init_kwargs", {}))

    def route(self, name: str) -> RouteSettings | None:
        """The route of that name, if it is configured."""
        return next((route for route in self.routes if route.name == name), None)
