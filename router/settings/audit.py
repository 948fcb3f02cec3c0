"""The tables [audit], [audit.syslog] and [audit.fhir] of medai.toml: where the audit trail goes.

Next: audit/exporter.py.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from medai.router.settings.destinations import FhirDestination, WebServer
from medai.router.settings.section import Port, Positive, Section
from medai.router.settings.tls import ClientTls

SYSLOG, FHIR = "audit-syslog", "audit-fhir"
"""The receivers, as the ledger, the metrics and people know them."""


class SyslogSettings(ClientTls):
    """An audit record repository that takes DICOM audit messages (PS3.15 A.5) by syslog over TLS (RFC 5425). ``host``
    empty: off."""

    host: str = ""
    """Name or address of the repository; its certificate must be for it. Empty: off."""
    port: Port = 6514
    """Its port."""
    timeout_s: Positive = 10.0
    """Longest wait for it to connect, to take a message, and to say that it has read all."""


class AuditFhirSettings(WebServer):
    """A FHIR R4 server that takes AuditEvents. ``fhir_url`` empty: off. Log in by token, or by username and
    password."""

    fhir_url: Annotated[str, Field(pattern=r"^(https?://[^\s/@?#]+(/[^\s@?#]*)?)?$")] = ""
    """Base of the FHIR server, such as https://audit.example/fhir; a login does not belong in it. Empty: off."""
    password: SecretStr = SecretStr("")
    """Its password; better given as MEDAI_AUDIT__FHIR__PASSWORD than in a file."""
    token: SecretStr = SecretStr("")
    """Bearer token; better given as MEDAI_AUDIT__FHIR__TOKEN than in a file."""
    patient_system: Annotated[str, Field(pattern=r"^((urn:|https?://)\S+)?$")] = ""
    """URI of the hospital's patient identifiers, such as urn:oid:1.2.3; empty: an identifier is told without one."""

    @property
    def destination(self) -> FhirDestination:
        """The same as a destination for results has it."""
        same = {name: getattr(self, name) for name in (*WebServer.model_fields, "fhir_url")}
        return FhirDestination(version="R4", **same)


class AuditSettings(Section):
    """Where every line of the audit trail goes besides the ledger. What can't go waits, and goes in its order."""

    source: Annotated[str, Field(pattern=r"^[!-~]{1,64}$")] = "MEDAI"
    """Who this system is to the receivers (AuditSourceID); without spaces."""
    site: Annotated[str, Field(max_length=64)] = ""
    """The hospital or department (AuditEnterpriseSiteID)."""
    poll_s: Positive = 2.0
    """How often new lines are looked for."""
    syslog: SyslogSettings = SyslogSettings()
    fhir: AuditFhirSettings = AuditFhirSettings()

    @property
    def receivers(self) -> tuple[str, ...]:
        """The names of those that are configured."""
        return tuple(name for name, address in ((SYSLOG, self.syslog.host), (FHIR, self.fhir.fhir_url)) if address)
