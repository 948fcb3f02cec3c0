"""Everything that can be configured, parsed once in the entry point from ``medai.toml`` and ``MEDAI_*``.

``load(path)`` is the only way in; no module reads a setting at import. An unknown key is an error that names
the nearest known one. Environment variables win: ``MEDAI_ORTHANC__PASSWORD=…`` sets ``[orthanc] password``.
Next: contract.py.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as EnvironmentFault

from router.errors import SettingsError

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of medai.toml: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


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
    """How often the change log is asked for news."""
    sweep_s: Seconds = 60.0
    """How often all studies are compared with the ledger, for those that no event announced."""
    backlog_h: float = 24.0
    """At the very first start, studies that arrived within this many hours are read; older ones are left alone."""
    timeout_s: Positive = 30.0
    """Longest wait for one answer of Orthanc."""

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
    """Send by TLS 1.2 or newer."""
    ca_file: str = ""
    """Certificate authority of the RIS; empty: the system's."""
    certificate_file: str = ""
    """Client certificate, where the RIS asks for one."""
    key_file: str = ""
    """Key of the client certificate."""


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


class MetricsSettings(Section):
    """Prometheus metrics, /health and /ready of the router. ``port`` 0 means off."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: Port = 9108
    """Port for Prometheus; 0: off."""


class WorkerSettings(Section):
    """One worker process: which queue, how it holds a job, how it retries."""

    queue: Literal["auto", "cpu", "gpu"] = "auto"
    """``auto``: gpu (and cpu) where a CUDA device is found, else cpu."""
    lease_s: Annotated[float, Field(gt=1)] = 20.0
    """A job whose worker is silent for this long is given to another."""
    max_attempts: Annotated[int, Field(ge=1)] = 5
    """A job that ends unexpectedly this often fails."""
    retry_s: Seconds = 5.0
    """First back-off; doubles with each attempt up to ``retry_max_s``."""
    retry_max_s: Seconds = 300.0
    """Longest back-off."""
    give_up_h: float = 72.0
    """A peer that stays away this long fails the job; until then temporary errors are retried."""
    fetch_threads: Annotated[int, Field(ge=1, le=32)] = 4
    """Connections to Orthanc while a series is fetched."""
    torch_threads: Annotated[int, Field(ge=0)] = 0
    """0: as many as there are cores."""
    guard: Literal["refuse", "warn", "off"] = "refuse"
    """When a series shows another body part than its model reads, or lies otherwise than its header says: ``refuse``
    to read it, ``warn`` in the result, or ``off``, do not look. Only models whose bundle names body parts are
    guarded, and only where the model series_kind can run."""


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
    """``best``: the preferred one; ``all``: a job for each."""


class RouteSettings(Section):
    """One route: which studies, which series of them, which model, where the results go."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    """Lower-case letters, digits, - and _; in every decision, metric and filler number."""
    when: str = "true"
    """CEL over ``study`` and ``series``; see docs/routes.md."""
    model: str
    """Which model reads the series."""
    model_version: str = ""
    """Empty: the version that the worker's registry holds when the job is made."""
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
    worker: WorkerSettings = WorkerSettings()
    models: ModelsSettings = ModelsSettings()
    results: ResultSettings = ResultSettings()
    log: LogSettings = LogSettings()
    routes: tuple[RouteSettings, ...] = ()
    destinations: dict[str, DicomDestination] = Field(default_factory=dict)

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
        raise SettingsError(f"environment: {error}; a table or list is written as JSON") from error
    except ValidationError as error:
        where = str(path) if path else "settings"
        faults = "\n".join(f"  {_explain(fault)}" for fault in error.errors())
        raise SettingsError(f"{where}:\n{faults}") from error


def _explain(fault: Any) -> str:
    place = ".".join(str(part) for part in fault["loc"]) or "(whole file)"
    if fault["type"] != "extra_forbidden":
        return f"{place}: {fault['msg'].removeprefix('Value error, ')}"
    near = difflib.get_close_matches(str(fault["loc"][-1]), _known_keys(Settings), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{place}: unknown key{hint}"


def _known_keys(model: type[BaseModel]) -> set[str]:
    keys: set[str] = set()
    for name, info in model.model_fields.items():
        keys.add(name)
        for inner in (info.annotation, *getattr(info.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                keys |= _known_keys(inner)
    return keys
