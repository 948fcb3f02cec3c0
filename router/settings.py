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


class Section(BaseModel):
    """A table of medai.toml: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OrthancSettings(Section):
    """The archive: its REST API, and how the router follows it."""

    url: str = "http://127.0.0.1:8042"
    username: str = ""
    password: SecretStr = SecretStr("")
    dicomweb_url: str = ""
    """Base of the WADO-RS addresses in the ORU, as the RIS reaches it; default: ``url`` + /dicom-web."""
    poll_s: Seconds = 0.1
    sweep_s: Seconds = 60.0
    backlog_h: float = 24.0
    """At the very first start, studies that arrived within this many hours are read; older ones are left alone."""
    timeout_s: Seconds = 30.0

    @property
    def wado_root(self) -> str:
        """Where a reader of the ORU finds the study by DICOMweb."""
        return (self.dicomweb_url or f"{self.url.rstrip('/')}/dicom-web").rstrip("/")


class LedgerSettings(Section):
    """The ledger's database: SQLite by default, PostgreSQL by URL (postgresql+psycopg://…)."""

    url: str = "sqlite:///medai-ledger.sqlite"


class BrokerSettings(Section):
    """Redis, which carries job ids and nothing else."""

    url: str = "redis://127.0.0.1:6379/0"


class RisSettings(Section):
    """Where the ORU goes (MLLP) and what its header says. ``host`` empty: no RIS, nothing is sent."""

    host: str = ""
    port: Port = 2576
    timeout_s: Seconds = 10.0
    sending_application: str = "MEDAI"
    sending_facility: str = "AI"
    receiving_application: str = "RIS"
    receiving_facility: str = "HOSPITAL"
    processing_id: Literal["P", "T", "D"] = "P"
    tls: bool = False
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""


class Hl7InSettings(Section):
    """The router's own MLLP listener for orders (ORM^O01, OMI^O23). ``port`` 0 in a file means off."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Port = 2575


class WatchFolderSettings(Section):
    """A folder whose DICOM files and zips are sent to Orthanc. ``path`` empty: off."""

    path: str = ""
    settle_s: Seconds = 2.0
    """A file is taken when its size and time have not changed for this long."""
    max_zip_gb: float = 8.0
    """A zip that unpacks to more is rejected."""


class MetricsSettings(Section):
    """Prometheus metrics, /health and /ready of the router. ``port`` 0 means off."""

    host: str = "127.0.0.1"
    port: Port = 9108


class WorkerSettings(Section):
    """One worker process: which queue, how it holds a job, how it retries."""

    queue: Literal["auto", "cpu", "gpu"] = "auto"
    """``auto``: gpu (and cpu) where a CUDA device is found, else cpu."""
    lease_s: Annotated[float, Field(gt=1)] = 20.0
    max_attempts: Annotated[int, Field(ge=1)] = 5
    retry_s: Seconds = 5.0
    """First back-off; doubles with each attempt up to ``retry_max_s``."""
    retry_max_s: Seconds = 300.0
    give_up_h: float = 72.0
    """A peer that stays away this long fails the job; until then temporary errors are retried."""
    fetch_threads: Annotated[int, Field(ge=1, le=32)] = 4
    torch_threads: Annotated[int, Field(ge=0)] = 0
    """0: as many as there are cores."""


class ModelsSettings(Section):
    """Where models are: folders of MONAI bundles beside those that ship, and weights that do not ship."""

    folders: tuple[str, ...] = ()
    weights: dict[str, str] = Field(default_factory=dict)
    """Model name -> file or folder with its weights, for a bundle that ships without them."""


class ResultSettings(Section):
    """What the results say of this installation."""

    manufacturer: str = "Med-AI"
    device_name: str = "MEDAI"
    serial_number: str = "1"
    institution: str = ""
    series_number_base: Annotated[int, Field(ge=1, le=90000)] = 9000


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
    orientation: tuple[Literal["axial", "coronal", "sagittal", "oblique"], ...] = ()
    slices_min: Annotated[int, Field(ge=1)] = 1
    slices_max: Annotated[int, Field(ge=1)] = 5000
    thickness_min_mm: Seconds = 0.0
    thickness_max_mm: Seconds = 1000.0
    image_type_excludes: tuple[str, ...] = ("LOCALIZER", "DERIVED", "SCREEN SAVE", "PROJECTION IMAGE", "MIP")
    prefer: Literal["most_slices", "thinnest", "first"] = "most_slices"
    take: Literal["best", "all"] = "best"
    """``best``: the preferred one; ``all``: a job for each."""


class RouteSettings(Section):
    """One route: which studies, which series of them, which model, where the results go."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
    when: str = "true"
    """CEL over ``study`` and ``series``; see docs/routes.md."""
    model: str
    model_version: str = ""
    """Empty: the version that the worker's registry holds when the job is made."""
    queue: Literal["cpu", "gpu"] = "cpu"
    priority: Literal["order", "stat", "urgent", "routine", "background"] = "order"
    """``order``: from the order, else the Requested Procedure Priority, else routine."""
    destinations: tuple[str, ...] = ("archive", "ris")
    series: SeriesSettings = SeriesSettings()
    completeness: CompletenessSettings = CompletenessSettings()


class DicomDestination(Section):
    """An extra DICOM node for the results: the name it has in Orthanc's DicomModalities."""

    modality: str


class LogSettings(Section):
    """Logs are JSON lines on standard error, without patient identifiers."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"
    key: SecretStr = SecretStr("")
    """Key of the hash that stands for a study in the logs; empty: one is made per ledger."""


class Settings(BaseSettings):
    """The whole of medai.toml."""

    model_config = SettingsConfigDict(
        env_prefix="MEDAI_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
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
