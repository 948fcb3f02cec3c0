"""``medai check``: what is wrong with a configuration, and whether every peer can be reached.

Each finding says what was tried, what came back and what to do. Nothing is changed anywhere. Next: settings/tables.py.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from medai.router import tls
from medai.router.audit import exporter
from medai.router.cli import hops
from medai.router.delivery import fhir, stow, web
from medai.router.errors import MedaiError, SettingsError
from medai.router.ledger import Ledger
from medai.router.orthanc.client import Orthanc
from medai.router.queue.dispatch import Dispatcher
from medai.router.reports.status import status
from medai.router.routing.rules import Rules
from medai.router.settings.destinations import DicomDestination, FhirDestination, StowDestination, WebServer
from medai.router.settings.tables import Settings
from medai.router.words import counted
from medai.router.workitems.server import Worklist

CT_IMAGES = "1.2.840.10008.5.1.4.1.1.2"
ANYWHERE = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
STRANGER = "MEDAI_STRANGER"
"""A calling AE title that no archive knows."""
FHIR_VERSIONS = {"R5": ("5.",), "R4": ("4.0", "4.3")}
"""How the versions begin that a destination may mean; 4.1 and 4.2 were drafts of R5."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at; ``level`` is ok, warning or error."""

    what: str
    level: str
    text: str


def check(settings: Settings) -> list[Finding]:
    """Everything, in the order in which a study meets it."""
    steps: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _routes,
        _orthanc,
        _web_servers,
        _broker,
        _ledger,
        _audit,
        _ris,
        _ports,
        _announcements,
        _workitems,
        _watch_folder,
        _sign_in,
        _tls,
    )
    return [finding for step in steps for finding in step(settings)]


def _ok(what: str, text: str) -> Finding:
    return Finding(what=what, level="ok", text=text)


def _bad(what: str, text: str) -> Finding:
    return Finding(what=what, level="error", text=text)


def _warn(what: str, text: str) -> Finding:
    return Finding(what=what, level="warning", text=text)


def _routes(settings: Settings) -> Iterator[Finding]:
    if not settings.routes:
        yield _warn("routes", "no route is configured: studies are recorded but none is read; see docs/routes.md")
    try:
        Rules(settings.routes, settings.routing)
    except SettingsError as error:
        yield _bad("routes", str(error))
        return
    for route in settings.routes:
        if "ris" in route.destinations and not settings.ris.host:
            yield _warn("routes", f"route {route.name} sends to the RIS, but [ris] host is empty: no ORU is sent")
    if settings.routes:
        yield _ok("routes", f"{counted(len(settings.routes), 'route')}, {settings.routing} match: " + _names(settings))


def _names(settings: Settings) -> str:
    return ", ".join(route.name for route in settings.routes)


def _orthanc(settings: Settings) -> Iterator[Finding]:
    try:
        orthanc = Orthanc(settings.orthanc)
        system = orthanc.system()
        port = _dicom_port(settings, system)
    except MedaiError as error:
        yield _bad("orthanc", f"{error}; is [orthanc] url right?")
        return
    yield _ok("orthanc", f"REST answers: Orthanc {system.get('Version')} at {orthanc.address}")
    yield _echo(port)
    yield from _strangers(settings, port)
    yield from _relay(settings, port.aet)
    known = dict(orthanc.get("/modalities?expand"))
    for name, destination in settings.destinations.items():
        if isinstance(destination, DicomDestination):
            yield _destination(orthanc, name, destination.modality, known)
            yield from _dicom_in_the_clear(name, known.get(destination.modality, {}))


def _destination(orthanc: Orthanc, name: str, modality: str, known: Mapping[str, Any]) -> Finding:
    if modality not in known:
        return _bad(f"destination {name}", f"Orthanc has no modality {modality!r}: add it to DicomModalities")
    try:
        orthanc.request("POST", f"/modalities/{modality}/echo", body=b"{}", timeout_s=15.0)
    except MedaiError:
        return _bad(f"destination {name}", f"no C-ECHO from Orthanc to {modality}: check its AET, host and port")
    return _ok(f"destination {name}", f"C-ECHO from Orthanc to {modality} succeeds")


def _dicom_in_the_clear(name: str, node: Mapping[str, Any]) -> Iterator[Finding]:
    if node and not node.get("UseDicomTls") and not hops.is_here(str(node.get("Host", ""))):
        text = f"DICOM to {node['Host']} is not over TLS: UseDicomTls in Orthanc's DicomModalities"
        yield _warn(f"destination {name}", text)


def _tls(settings: Settings) -> Iterator[Finding]:
    for text in hops.unusable(settings):
        yield _bad("tls", text)
    for text in hops.in_the_clear(settings):
        yield _warn("tls", text)


def _web_servers(settings: Settings) -> Iterator[Finding]:
    for name, destination in settings.destinations.items():
        if isinstance(destination, StowDestination):
            yield from _in_the_clear(f"destination {name}", destination, destination.stow_url)
            yield _dicomweb_server(f"destination {name}", name, destination)
        if isinstance(destination, FhirDestination):
            yield from _in_the_clear(f"destination {name}", destination, destination.fhir_url)
            yield _fhir_server(name, destination)
    for name, outside in settings.outside.items():
        yield from _in_the_clear(f"outside {name}", outside, outside.stow_url)
        yield _dicomweb_server(f"outside {name}", name, outside.server)


def _in_the_clear(what: str, server: WebServer, url: str) -> Iterator[Finding]:
    if web.is_in_the_clear(server, url):
        yield _warn(what, "its login goes over the network in the clear: use https")


def _dicomweb_server(what: str, name: str, destination: StowDestination) -> Finding:
    try:
        searched = stow.searchable(destination, name=name)
    except MedaiError as error:
        return _bad(what, str(error))
    if not searched:
        return _warn(what, "answers, but to no search (QIDO-RS): whether it takes results, the first one shows")
    return _ok(what, "DICOMweb answers")


def _fhir_server(name: str, destination: FhirDestination) -> Finding:
    what = f"destination {name}"
    try:
        found = fhir.capability(destination, name=name)
    except MedaiError as error:
        return _bad(what, str(error))
    version = str(found.get("fhirVersion", ""))
    if not version.startswith(FHIR_VERSIONS[destination.version]):
        return _bad(what, _other_fhir(version, destination))
    if not _takes_transactions(found):
        return _warn(what, f"FHIR {version} answers, but does not say that it accepts transactions")
    return _ok(what, f"FHIR {version} answers and accepts transactions")


def _other_fhir(version: str, destination: FhirDestination) -> str:
    """What is wrong, and what to write instead where the server speaks the other version."""
    told = f"speaks FHIR {version or 'of an unknown version'}, and the results for it are {destination.version}"
    spoken = next((name for name, begins in FHIR_VERSIONS.items() if version.startswith(begins)), None)
    return f'{told}: set version = "{spoken}"' if spoken else told


def _takes_transactions(capability: Mapping[str, Any]) -> bool:
    return any(
        interaction.get("code") == "transaction"
        for rest in capability.get("rest", [])
        for interaction in rest.get("interaction", [])
    )


@dataclass(frozen=True, kw_only=True)
class _DicomPort:
    """Orthanc's DICOM port as we reach it."""

    host: str
    port: int
    aet: str
    context: ssl.SSLContext | None

    def __str__(self) -> str:
        return f"{self.aet} at {self.host}:{self.port}" + (" over TLS" if self.context else "")

    @property
    def tls_args(self) -> tuple[ssl.SSLContext, str] | None:
        """What pynetdicom connects with."""
        return (self.context, self.host) if self.context else None


def _dicom_port(settings: Settings, system: Mapping[str, Any]) -> _DicomPort:
    """As scanners find it, by the relay where there is one. Over TLS it is trusted, and shown who we are, as the REST
    API is; raises SettingsError."""
    front = settings.dicom_in.front
    context = tls.client_context(settings.orthanc, where="orthanc") if settings.dicom_in.tls.is_on else None
    host = front.host if front.is_on else ANYWHERE[0]
    if host in ANYWHERE:
        host = urlsplit(settings.orthanc.url).hostname or "127.0.0.1"
    port = front.port or int(system["DicomPort"])
    return _DicomPort(host=host, port=port, aet=str(system["DicomAet"]), context=context)


def _relay(settings: Settings, aet: str) -> Iterator[Finding]:
    """What stands before the archive's DICOM port."""
    front = settings.dicom_in.front
    if not front.is_on:
        yield _warn("dicom relay", "idle connections can stop the archive's DICOM port: see [dicom_in.front]")
    elif front.called_ae_titles and aet not in front.called_ae_titles:
        yield _warn("dicom relay", f"the archive is {aet}, which [dicom_in.front] called_ae_titles does not name")


def _echo(port: _DicomPort) -> Finding:
    from pynetdicom import AE  # slow to import, and only this command needs it

    ae = AE(ae_title="MEDAI")
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = 5
    ae.add_requested_context("1.2.840.10008.1.1")
    association = ae.associate(port.host, port.port, ae_title=port.aet, tls_args=port.tls_args)
    if not association.is_established:
        return _bad("orthanc", f"no DICOM association with {port}: is the port reachable?")
    answer = association.send_c_echo()
    association.release()
    if getattr(answer, "Status", None) != 0:
        return _bad("orthanc", f"C-ECHO to {port} failed")
    return _ok("orthanc", f"C-ECHO to {port} succeeds")


def _strangers(settings: Settings, port: _DicomPort) -> Iterator[Finding]:
    """Whom the DICOM port lets in: tried as somebody whom nobody knows."""
    if _lets_in(port, f"NOT{port.aet}"[:16]):
        yield _warn("dicom in", "the archive takes images under any called AE title: set DicomCheckCalledAet")
    if not _lets_in(port, port.aet):
        yield _ok("dicom in", "a stranger may not send images")
    elif settings.dicom_in.open:
        yield _ok("dicom in", "anybody who reaches the port may send images: a choice ([dicom_in] open)")
    else:
        how = "DicomAlwaysAllowStore is true there" if settings.dicom_in.senders else "name [[dicom_in.senders]]"
        yield _warn("dicom in", f"anybody who reaches the port may send images: {how}, or say [dicom_in] open = true")


def _lets_in(port: _DicomPort, aet: str) -> bool:
    """Whether a C-STORE of a stranger is answered. What is sent names no study, so nothing is kept."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian
    from pynetdicom import AE  # slow to import, and only this command needs it

    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = CT_IMAGES, "2.25.0"
    ae = AE(ae_title=STRANGER)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = 5
    ae.add_requested_context(CT_IMAGES, ExplicitVRLittleEndian)
    association = ae.associate(port.host, port.port, ae_title=aet, tls_args=port.tls_args)
    if not association.is_established or not association.accepted_contexts:
        return False
    answered = "Status" in association.send_c_store(image)
    if association.is_established:
        association.release()
    return answered


def _broker(settings: Settings) -> Iterator[Finding]:
    dispatcher = Dispatcher(settings.broker)
    try:
        dispatcher.ping()
        yield _ok("redis", f"answers at {urlsplit(settings.broker.url).netloc.rpartition('@')[2]}")
    except MedaiError as error:
        yield _bad("redis", f"{error}; is [broker] url right?")
    finally:
        dispatcher.close()


def _ledger(settings: Settings) -> Iterator[Finding]:
    url = make_url(settings.ledger.url)
    where = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        folder = Path(url.database or ".").resolve().parent
        if not folder.is_dir():
            yield _bad("ledger", f"{where}: the folder {folder} does not exist")
        else:
            yield _warn("ledger", f"{where} does not exist yet: the router makes it at its first start")
        return
    ledger = Ledger(settings.ledger.url)
    try:
        yield from _ledger_content(settings, ledger, where)
    except MedaiError as error:
        yield _bad("ledger", f"{where}: {error}")
    finally:
        ledger.close()


def _ledger_content(settings: Settings, ledger: Ledger, where: str) -> Iterator[Finding]:
    now = status(ledger, time.time())
    yield _ok("ledger", f"answers at {where}: {counted(now.studies, 'study', 'studies')}")
    alive = [worker for worker in now.workers if worker.alive]
    none = "none is alive: start one with 'medai worker'"
    yield _ok("workers", f"{len(alive)} alive") if alive else _warn("workers", none)
    held = {model.name: model for model in now.models}
    for route in settings.routes:
        model = held.get(route.model)
        if model is None:
            yield _warn("models", f"route {route.name}: no worker has announced the model {route.model!r}")
        elif not model.available:
            yield _bad("models", f"route {route.name}: {route.model} is not available: {model.reason}")
        else:
            yield _ok("models", f"route {route.name}: {route.model} {model.version}")


def _audit(settings: Settings) -> Iterator[Finding]:
    for name, fault in exporter.probe(settings.audit).items():
        yield _bad(name, fault) if fault else _ok(name, "answers: the audit trail goes there")
    own = settings.audit.fhir
    if web.is_in_the_clear(own, own.fhir_url):
        yield _warn("audit-fhir", "its login goes over the network in the clear: use https")
    elif own.fhir_url.startswith("http://"):
        yield _warn("audit-fhir", "the audit trail names patients and goes over the network in the clear: use https")


def _ris(settings: Settings) -> Iterator[Finding]:
    if not settings.ris.host:
        return
    where = f"{settings.ris.host}:{settings.ris.port}"
    try:
        with socket.create_connection((settings.ris.host, settings.ris.port), timeout=5.0):
            yield _ok("ris", f"accepts MLLP connections at {where}")
    except OSError as error:
        yield _bad("ris", f"no connection to {where} ({type(error).__name__}): is [ris] host and port right?")


def _announcements(settings: Settings) -> Iterator[Finding]:
    own = settings.announcements
    if not own.port:
        return
    if not own.on_loopback and not own.allowed_peers:
        who = "anybody who reaches the port may announce"
        yield _warn("announcements", f"{who}: name [announcements] allowed_peers, and calling_ae_titles")
    where = f"{own.host}:{own.port}"
    try:
        with socket.create_connection((own.host, own.port), timeout=2.0):
            yield _ok("announcements", f"the router listens for MPPS and IAN at {where}")
    except OSError:
        yield _warn("announcements", f"nothing listens for MPPS and IAN at {where}: the router is not running")


def _workitems(settings: Settings) -> Iterator[Finding]:
    own = settings.workitems
    if not own.url:
        return
    if not own.routes:
        yield _warn("workitems", "[workitems.routes] is empty: no workitem is claimed")
    if web.is_in_the_clear(own, own.url):
        yield _warn("workitems", "its login goes over the network in the clear: use https")
    worklist = Worklist(own)
    try:
        worklist.answers()
    except MedaiError as error:
        yield _bad("workitems", str(error))
        return
    yield _ok("workitems", f"{worklist} answers a search (UPS-RS)")


def _ports(settings: Settings) -> Iterator[Finding]:
    """The router's own listener: taken by the router itself is good, by nothing means that it does not run."""
    if not settings.hl7_in.enabled:
        return
    for kind in settings.hl7_in.ignore:
        if kind.startswith(("ORM^", "OMI^", "OMG^")):
            yield _warn("orders", f"[hl7_in] ignore leaves {kind} unread: no order that comes so is seen")
    if not settings.hl7_in.on_loopback and not settings.hl7_in.allowed_peers:
        who = "anybody who reaches the port may order, cancel and merge patients"
        yield _warn("orders", f"{who}: name [hl7_in] allowed_peers, and allowed_senders")
    try:
        tls.server_context(settings.hl7_in.tls, where="hl7_in.tls")
    except SettingsError as error:
        yield _bad("orders", str(error))
    if not settings.hl7_in.on_loopback and not settings.hl7_in.tls.is_on:
        yield _warn("orders", "orders come over the network in the clear: see [hl7_in.tls], and 'medai tls init'")
    where = f"{settings.hl7_in.host}:{settings.hl7_in.port}"
    try:
        with socket.create_connection((settings.hl7_in.host, settings.hl7_in.port), timeout=2.0):
            yield _ok("orders", f"the router listens for orders at {where}")
    except OSError:
        yield _warn("orders", f"nothing listens for orders at {where}: the router is not running")


def _sign_in(settings: Settings) -> Iterator[Finding]:
    own = settings.console.oidc
    if not own.is_on:
        return
    try:
        from medai.router.console.signin import signins_of
    except ModuleNotFoundError as error:
        yield _warn("sign-in", f"not tried: the console needs {error.name}, which is not installed here")
        return
    try:
        signins_of(settings.console, time.time, time.monotonic).provider.place()
    except MedaiError as error:
        yield _bad("sign-in", str(error))
        return
    yield _ok("sign-in", f"{own.issuer} answers; register {own.console_url.rstrip('/')}/login/oidc/back there")


def _watch_folder(settings: Settings) -> Iterator[Finding]:
    path = settings.watch_folder.path
    if path and not Path(path).is_dir():
        yield _bad("watch folder", f"{path} is not a folder")
