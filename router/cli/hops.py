"""The part of ``medai check`` on TLS: which connections cross the network in the clear. Next: check.py."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from sqlalchemy.engine import make_url

from medai.router import tls
from medai.router.errors import SettingsError
from medai.router.settings.destinations import FhirDestination, StowDestination
from medai.router.settings.tables import Settings
from medai.router.settings.tls import ServerTls

VERIFIED = "verify-full"
"""PostgreSQL's sslmode that checks authority and name."""


def in_the_clear(settings: Settings) -> Iterator[str]:
    """Each hop that others could read: what it is, and the setting that closes it."""
    for what, host, setting in (*_ports(settings), *_servers(settings), *_by_url(settings)):
        if host and not is_here(host):
            yield f"{what} ({host}) is not over TLS: see {setting}"


def unusable(settings: Settings) -> Iterator[str]:
    """What is wrong with the files of our ports."""
    ports: tuple[tuple[ServerTls, str], ...] = (
        (settings.console.tls, "console.tls"),
        (settings.metrics.tls, "metrics.tls"),
        (settings.announcements.tls, "announcements.tls"),
        *([(settings.dicom_in.tls, "dicom_in.tls")] if settings.dicom_in.front.is_on else []),
    )
    for files, where in ports:
        try:
            tls.server_context(files, where=where)
        except SettingsError as error:
            yield str(error)


def is_here(host: str) -> bool:
    """Whether a name or address is this machine's own loopback."""
    if host in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _ports(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Our own; that for orders has a finding of its own."""
    if not settings.console.tls.is_on:
        yield "the console", settings.console.host, "[console.tls], or keep a proxy with TLS before it"
    if settings.metrics.port and not settings.metrics.tls.is_on:
        yield "the metrics' port", settings.metrics.host, "[metrics.tls]"
    if settings.announcements.port and not settings.announcements.tls.is_on:
        yield "the announcements' port", settings.announcements.host, "[announcements.tls]"


def _servers(settings: Settings) -> Iterator[tuple[str, str, str]]:
    archive = urlsplit(settings.orthanc.url).hostname or ""
    if not settings.orthanc.url.startswith("https:"):
        yield "Orthanc's REST API", archive, "[orthanc] url (https) and ca_file"
    if not settings.dicom_in.tls.is_on:
        front = settings.dicom_in.front
        yield "the DICOM port for scanners", front.host if front.is_on else archive, "[dicom_in.tls]"
    if not settings.broker.tls:
        yield "Redis", urlsplit(settings.broker.url).hostname or "", "[broker] url (rediss) and ca_file"
    database = make_url(settings.ledger.url)
    if database.get_backend_name() == "postgresql" and database.query.get("sslmode") != VERIFIED:
        yield "PostgreSQL", database.host or "", f"[ledger] url: ?sslmode={VERIFIED}&sslrootcert=FILE"
    if not settings.ris.tls:
        yield "the RIS", settings.ris.host, "[ris] tls and ca_file"


def _by_url(settings: Settings) -> Iterator[tuple[str, str, str]]:
    servers = [
        ("the collector of traces", settings.tracing.url if settings.tracing.enabled else "", "[tracing] endpoint"),
        ("the worklist", settings.workitems.url, "[workitems] url"),
    ]
    for name, destination in settings.destinations.items():
        if isinstance(destination, StowDestination):
            servers.append((f"destination {name}", destination.stow_url, f"[destinations.{name}] stow_url"))
        elif isinstance(destination, FhirDestination):
            servers.append((f"destination {name}", destination.fhir_url, f"[destinations.{name}] fhir_url"))
    for name, outside in settings.outside.items():
        servers.append((f"outside {name}", outside.stow_url, f"[outside.{name}] stow_url"))
    for what, url, setting in servers:
        if url.startswith("http:"):
            yield what, urlsplit(url).hostname or "", f"{setting} (https)"
