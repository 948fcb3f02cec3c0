"""Everything that can be configured, parsed once in the entry point from ``medai.toml`` and ``MEDAI_*``.

``load(path)`` is the only way in; no module reads a setting at import. An unknown key is an error that names
the nearest known one. Environment variables win: ``MEDAI_ORTHANC__PASSWORD=…`` sets ``[orthanc] password``.
Next: contract.py.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as EnvironmentFault

from medai.router.errors import SettingsError
from medai.router.settings.section import Port, Positive, Seconds, Section
from medai.router.settings.tracing import TracingSettings


class OrthancSettings(Section):
    """The archive: its REST API, and how the router follows it."""

    url: str = "http://127.0.0.1:8042"
    """Base of Orthanc's REST API."""
    username: str = ""
    """Orthanc user; empty: no login."""
    password: SecretStr = SecretStr("")
    """Orthanc password; better given as MEDAI_ORTHANC__PASSWORD than in a file."""
    dicomweb_url: str = ""
    """Base of the WADO-RS addresses in the ORU, as the RIS reaches it; default: ``url`` + /dicom-web."""
    poll_s: Seconds = 0.1
    """How often Orthanc's change log is polled."""
    sweep_s: Seconds = 60.0
    """How often all studies are compared with the ledger, for those that no event announced."""
    backlog_h: float = 24.0
    """At the very first start, studies that arrived within this many hours are read; older ones are left alone."""
    timeout_s: Positive = 30.0
    """Longest wait for one answer from Orthanc."""
    follow_patient_updates: bool = False
    """Whether an update or a merge of patients (ADT^A08, ADT^A40) also changes the studies in Orthanc (IHE PIR). Leave
    it off where the hospital's PACS does that itself and sends the studies anew."""

    @property
    def wado_root(self) -> str:
        """Where a reader of the ORU finds the study by DICOMweb."""
        return (self.dicomweb_url or f"{self.url.rstrip('/')}/dicom-web").rstrip("/")


class LedgerSettings(Section):
    """The ledger's database: SQLite by default, PostgreSQL by URL (postgresql+psycopg://…)."""

    url: str = "sqlite:///medai-ledger.sqlite"
    """SQLAlchemy URL: sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE."""


class BrokerSettings(Section):
    """Redis, which carries job ids and nothing else."""

    url: str = "redis://127.0.0.1:6379/0"
    """redis:// or rediss:// (TLS), with the database number."""


class RisSettings(Section):
    """Where the ORU goes (MLLP) and what its header says. ``host`` empty: no RIS, nothing is sent."""

    host: str = ""
    """Name or address of the RIS; empty: nothing is sent."""
    port: Port = 2576
    """MLLP port of the RIS."""
    timeout_s: Positive = 10.0
    """Longest wait for an acknowledgement."""
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
    ca_file: str = ""
    """Certificate authority of the RIS; empty: the system's."""
    certificate_file: str = ""
    """Client certificate, where the RIS asks for one."""
    key_file: str = ""
    """Key of the client certificate."""
    withdraw_within_h: Annotated[float, Field(ge=0)] = 168.0
    """A study deleted from the archive within this many hours of its result withdraws it at the RIS (ORU, status X);
    later deletions are taken for housekeeping. 0: never."""


class Hl7InSettings(Section):
    """The router's own MLLP listener for orders (ORM^O01, OMI^O23). ``enabled = false`` turns it off."""

    enabled: bool = True
    """Whether the router listens for orders."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: Port = 2575
    """Port for orders."""


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


class ConsoleSettings(Section):
    """The web console and the REST API."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all, then behind a proxy with TLS."""
    port: Port = 8088
    """Port of the console."""
    session_h: Positive = 12.0
    """After this many hours a browser logs in again."""
    viewer: str = ""
    """Folder of a built OHIF viewer; default: share/ohif in the Python environment, where set-up puts it."""
    dicom_web: str = "/dicom-web/"
    """Where Orthanc's DICOMweb plugin answers (its Root)."""


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


class CompletenessSettings(Section):
    """When a study counts as complete, for one route."""

    quiet_s: Seconds = 3.0
    """Seconds without a new image after which a study of unknown size counts as complete."""
    max_wait_s: Seconds = 60.0
    """Longest wait for images that were announced but do not come, from the last one that came."""
    expect: tuple[str, ...] = ("NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances")
    """Attributes trusted as expected counts; ``ImagesInAcquisition`` may be added where scanners are known to
    send one series an acquisition."""


class SeriesSettings(Section):
    """Which series of a matching study a route takes."""

    where: str = ""
    """CEL over ``s`` (one series) and ``study``; empty: all."""
    modality: tuple[str, ...] = ()
    """Modalities to take; empty: any image modality."""
    orientation: tuple[Literal["axial", "coronal", "sagittal", "oblique"], ...] = ()
    """Planes to take; empty: any."""
    slices_min: Annotated[int, Field(ge=1)] = 1
    """Fewest images of the series."""
    slices_max: Annotated[int, Field(ge=1)] = 5000
    """Most images of the series."""
    thickness_min_mm: Seconds = 0.0
    """Thinnest slices to take."""
    thickness_max_mm: Seconds = 1000.0
    """Thickest slices to take."""
    image_type_excludes: tuple[str, ...] = ("LOCALIZER", "DERIVED", "SCREEN SAVE", "PROJECTION IMAGE", "MIP")
    """Series whose Image Type holds one of these are left out."""
    prefer: Literal["most_slices", "thinnest", "first"] = "most_slices"
    """Which of several series that qualify is the best one."""
    take: Literal["best", "all"] = "best"
    """``best``: the preferred one; ``all``: a reading of each."""


class RouteSettings(Section):
    """One route: which studies, which series of them, which model, where the results go."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    """Lower-case letters, digits, - and _; in every decision, metric and filler number."""
    when: str = "true"
    """CEL over ``study`` and ``series``; see docs/routes.md."""
    model: str
    """Which model reads the series."""
    model_version: str = ""
    """Empty: the version that the worker's registry holds when the reading is created."""
    queue: Literal["cpu", "gpu"] = "cpu"
    """Which workers read it; a GPU worker serves both queues, and uses its GPU for either."""
    priority: Literal["order", "stat", "urgent", "routine", "background"] = "order"
    """``order``: from the order, else the Requested Procedure Priority, else routine."""
    destinations: tuple[str, ...] = ("archive", "ris")
    """"archive" (required), "ris", and names of [destinations]."""
    series: SeriesSettings = SeriesSettings()
    """Which series of the study it takes: [routes.series]."""
    completeness: CompletenessSettings = CompletenessSettings()
    """When the study counts as complete: [routes.completeness]."""


class DicomDestination(Section):
    """An extra DICOM node for the results: the name it has in Orthanc's DicomModalities."""

    modality: str
    """Its name in DicomModalities."""
    commitment: Literal["auto", "required", "off"] = "auto"
    """Storage commitment after C-STORE. ``auto``: asked for, and C-STORE counts alone where the node does not offer it;
    ``required``: the delivery waits until the node commits; ``off``: not asked for."""
    commitment_timeout_s: Positive = 30.0
    """Longest wait for the node's report on a storage commitment."""


class FhirDestination(Section):
    """A FHIR R5 server for the results, which takes a transaction. Log in by token, or by username and password."""

    fhir_url: Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")]
    """Base of the FHIR server, such as https://ehr.example/fhir; a login does not belong in it."""
    username: str = ""
    """User for HTTP Basic; empty: no such login."""
    password: SecretStr = SecretStr("")
    """Its password; better given as MEDAI_DESTINATIONS__NAME__PASSWORD than in a file."""
    token: SecretStr = SecretStr("")
    """Bearer token; better given as MEDAI_DESTINATIONS__NAME__TOKEN than in a file."""
    timeout_s: Positive = 30.0
    """Longest wait for one answer."""
    ca_file: str = ""
    """Certificate authority of the server; empty: the system's."""
    patient_systems: dict[str, Annotated[str, Field(pattern=r"^(urn:|https?://)\S+$")]] = Field(default_factory=dict)
    """Assigning authority -> URI of its patient identifiers (HOSPITAL = "urn:oid:1.2.3"), where order and images know
    it by name alone; "" stands for identifiers that name none. One that is not listed is named in words."""

    @model_validator(mode="after")
    def _one_login(self) -> FhirDestination:
        if self.username and self.token.get_secret_value():
            raise ValueError("give either token or username and password, not both")
        return self


def _kind(value: Any) -> str | None:
    """Which destination a table is: told apart by the key that each must have, and None where that fails."""
    if isinstance(value, Section):
        return "fhir" if isinstance(value, FhirDestination) else "dicom"
    keys = {"modality", "fhir_url"} & set(value if isinstance(value, dict) else ())
    return {"modality": "dicom", "fhir_url": "fhir"}[keys.pop()] if len(keys) == 1 else None


Destination = Annotated[
    Annotated[DicomDestination, Tag("dicom")] | Annotated[FhirDestination, Tag("fhir")],
    Discriminator(
        _kind,
        custom_error_type="destination_kind",
        custom_error_message="a destination has either modality (a DICOM node) or fhir_url (a FHIR server), not both",
    ),
]


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
    broker: BrokerSettings = BrokerSettings()
    ris: RisSettings = RisSettings()
    hl7_in: Hl7InSettings = Hl7InSettings()
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
        """Environment over file (which ``load`` passes in as init values)."""
        return env_settings, InitSettingsSource(settings_cls, getattr(init_settings, "init_kwargs", {}))

    def route(self, name: str) -> RouteSettings | None:
        """The route of that name, if it is configured."""
        return next((route for route in self.routes if route.name == name), None)


def find_file(explicit: str | None) -> Path | None:
    """The configuration file: ``--config``, else MEDAI_CONFIG, else ./medai.toml, else /etc/medai/medai.toml."""
    named = explicit or os.environ.get("MEDAI_CONFIG")
    if named:
        path = Path(named)
        if not path.is_file():
            raise SettingsError(f"configuration file {path} does not exist")
        return path
    return next((p for p in (Path("medai.toml"), Path("/etc/medai/medai.toml")) if p.is_file()), None)


def load(explicit: str | None = None) -> Settings:
    """Read and check the configuration; raises SettingsError with every fault, each naming its key."""
    path = find_file(explicit)
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not valid TOML: {error}") from error
        except OSError as error:
            raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    if path is not None and isinstance(values.get("models", {}), dict):
        # Beside the file, wherever a process was started.
        beside = str(path.resolve().with_name("medai-models"))
        values["models"] = {"added": beside, **values.get("models", {})}
    try:
        return Settings(**values)
    except EnvironmentFault as error:  # its text names the key, not the value
        raise SettingsError(f"environment: {error}; write a table or list as JSON") from error
    except ValidationError as error:
        where = str(path) if path else "settings"
        faults = "\n".join(f"  {_explain(fault)}" for fault in error.errors())
        raise SettingsError(f"{where}:\n{faults}") from error


def _explain(fault: Any) -> str:
    parts = [str(part) for part in fault["loc"]]
    if parts[:1] == ["destinations"] and parts[2:3] in (["dicom"], ["fhir"]):
        del parts[2]  # pydantic's word for the kind is no key of the file
    place = ".".join(parts) or "(whole file)"
    if fault["type"] != "extra_forbidden":
        return f"{place}: {fault['msg'].removeprefix('Value error, ')}"
    near = difflib.get_close_matches(parts[-1], _known_keys(Settings), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{place}: unknown key{hint}"


def tables_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The tables that a field of this type holds: none, one, or (destinations) one for each kind."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from tables_of(inner)


def _known_keys(model: type[BaseModel]) -> set[str]:
    keys: set[str] = set()
    for name, info in model.model_fields.items():
        keys.add(name)
        for inner in tables_of(info.annotation):
            keys |= _known_keys(inner)
    return keys
