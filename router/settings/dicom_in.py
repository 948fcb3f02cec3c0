"""Who may send images to the archive by DICOM. Next: tables.py; onebox/site.py (what Orthanc is told)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from medai.router.settings.section import AeTitle, Section
from medai.router.settings.tls import ServerTls

TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.*",
    "1.2.840.10008.1.2.5",
)
"""What Orthanc accepts by C-STORE: all of its own but Deflated (…1.2.1.99), of which 1 MB can unpack to a gigabyte."""


class DicomSender(Section):
    """A node that may send images."""

    ae_title: AeTitle
    """Its AE title."""
    host: str
    """Its address (no name: Orthanc compares it with where a connection comes from)."""
    port: Annotated[int, Field(ge=1, le=65535)] = 104
    """Its own DICOM port, where it has one."""

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
        return str(ipaddress.ip_address(text))


class DicomInSettings(Section):
    """Who may send images to the archive by DICOM. ``medai up`` tells its Orthanc at the next start; for an Orthanc of
    your own ``medai check`` says what to set there."""

    open: bool = False
    """Anybody who reaches the port may send, by choice: named senders or not."""
    senders: tuple[DicomSender, ...] = ()
    """Nodes that may send, as [[dicom_in.senders]]; others are refused. None named: anybody may, and check warns."""
    tls: ServerTls = ServerTls()
    """DICOM over TLS, with client certificates, by the archive: its files, which Orthanc reads, not Med-AI."""

    @property
    def anybody(self) -> bool:
        """Whether a stranger may send."""
        return self.open or not self.senders

    def orthanc(self) -> Mapping[str, Any]:
        """The keys of Orthanc's configuration that say so."""
        rights = {"AllowEcho": True, "AllowStore": True} | dict.fromkeys(
            ("AllowFind", "AllowFindWorklist", "AllowMove", "AllowGet", "AllowStorageCommitment"), False
        )
        return {
            "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": not self.anybody,
            "DicomAlwaysAllowStore": self.anybody,
            "AcceptedTransferSyntaxes": list(TRANSFER_SYNTAXES),
            "DicomModalities": {
                sender.ae_title: {
                    "AET": sender.ae_title, "Host": sender.host, "Port": sender.port, "UseDicomTls": self.tls.is_on,
                    **rights,
                }
                for sender in self.senders
            },
            **self._tls(),
        }  # fmt: skip

    def _tls(self) -> Mapping[str, Any]:
        """Versions and suites are not among them: Orthanc takes those from 1.12.4 on (docs/security.md)."""
        if not self.tls.is_on:
            return {}
        return {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": self.tls.certificate_file,
            "DicomTlsPrivateKey": self.tls.key_file,
            "DicomTlsTrustedCertificates": self.tls.ca_file,
            "DicomTlsRemoteCertificateRequired": self.tls.require_client_certificate,
        }
