"""What ``medai check`` says of TLS: each hop that others could read is named with its setting, and no other."""

from __future__ import annotations

from typing import Any

import pytest

from medai.router.cli import hops
from medai.router.settings.tables import Settings

FAR: dict[str, Any] = {
    "orthanc": {"url": "http://pacs:8042"},
    "ledger": {"url": "postgresql+psycopg://m:secret@db/medai"},
    "broker": {"url": "redis://:secret@10.0.0.5/0"},
    "ris": {"host": "ris.example"},
    "metrics": {"host": "0.0.0.0"},
    "console": {"host": "10.0.0.1"},
    "announcements": {"host": "10.0.0.1", "port": 11113},
    "tracing": {"enabled": True, "endpoint": "http://collector:4318"},
    "workitems": {"url": "http://manager/dicom-web"},
    "destinations": {"ehr": {"fhir_url": "http://ehr/fhir"}, "vna": {"stow_url": "http://vna/dicom-web"}},
}
FILES = {"certificate_file": "c", "key_file": "k", "ca_file": "a"}
CLOSED: dict[str, Any] = {
    "orthanc": {"url": "https://pacs:8042"},
    "dicom_in": {"tls": FILES},
    "ledger": {"url": "postgresql+psycopg://m:secret@db/medai?sslmode=verify-full&sslrootcert=a"},
    "broker": {"url": "rediss://:secret@10.0.0.5/0"},
    "ris": {"host": "ris.example", "tls": True},
    "metrics": {"host": "0.0.0.0", "tls": FILES},
    "console": {"host": "10.0.0.1", "tls": FILES},
    "announcements": {"host": "10.0.0.1", "port": 11113, "tls": FILES},
    "tracing": {"enabled": True, "endpoint": "https://collector:4318"},
    "workitems": {"url": "https://manager/dicom-web"},
    "destinations": {"ehr": {"fhir_url": "https://ehr/fhir"}, "vna": {"stow_url": "https://vna/dicom-web"}},
}


def test_every_hop_over_the_network_without_tls_is_named_with_its_setting_and_no_password() -> None:
    said = list(hops.in_the_clear(Settings(**FAR)))
    settings = [
        "[console.tls]", "[metrics.tls]", "[announcements.tls]", "[orthanc] url", "[dicom_in.tls]", "[broker] url",
        "[ledger] url", "[ris] tls", "[tracing] endpoint", "[workitems] url", "[destinations.ehr]", "[destinations.vna]",
    ]  # fmt: skip
    assert [next(name for name in settings if name in line) for line in said] == settings
    assert "secret" not in "".join(said)


@pytest.mark.parametrize("given", [CLOSED, {}], ids=["over TLS", "on this machine alone"])
def test_what_is_over_tls_or_on_loopback_is_not_named(given: dict[str, Any]) -> None:
    assert list(hops.in_the_clear(Settings(**given))) == []


def test_files_that_cannot_be_used_are_told() -> None:
    assert len(list(hops.unusable(Settings(**CLOSED)))) == 3
    assert list(hops.unusable(Settings())) == []
