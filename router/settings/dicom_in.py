"""Who may send images to the archive by DICOM. Next: tables.py; onebox/site.py (what Orthanc is told)."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, field_validator

from medai.router.settings.ports import Count, SharedPort
from medai.router.settings.section import AeTitle, Port, Positive, Section
from medai.router.settings.tls import ServerTls

TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.*",
    "1.2.840.10008.1.2.5",
)
"""What Orthanc accepts by C-STORE: all of its own but Deflated (…1.2.1.99), of which 1 MB can unpack to a gigabyte."""

RELAY = "127.0.0.1"
"""Where everything comes from that comes by the relay of a site of 'medai up'."""


class DicomSender(Section):
    """A node that may send images."""

    ae_title: AeTitle
    """Its AE title; also its name for a destination, with - for what is neither letter, digit, - nor _."""
    host: str
    """Its address (no name: Orthanc compares it with where a connection comes from)."""
    port: Annotated[int, Field(ge=1, le=65535)] = 104
    """Its own DICOM port, where it has one."""

    @field_validator("host")
    @classmethod
    def _is_an_address(cls, text: str) -> str:
        return str(ipaddress.ip_address(text))


class DicomFrontSettings(SharedPort):
    """The relay before the archive's DICOM port ('medai dicom-front'; 'medai up' starts it): only whole requests for an
    association reach the archive, from whom ``[dicom_in]`` lets in, and no more at a time than it serves."""

    port: Port = 0
    """Port that the scanners send to; 0: no relay, the archive has its own port."""
    archive_host: str = "127.0.0.1"
    """Where the archive is."""
    archive_port: Port = 4243
    """The archive's own DICOM port, which the relay alone should reach: close it to others."""
    called_ae_titles: tuple[AeTitle, ...] = ("ORTHANC",)
    """AE titles of the archive, by one of which it must be called; empty: any."""
    associations: Count = 4
    """Associations that the archive has at a time: as many as it has threads for DICOM (1.10: 4; later its
    DicomThreadsCount). With more, each image waits for a second and longer."""
    associations_of_peer: Count = 3
    """Of these from one address (IPv6: one /64)."""
    wait_s: Positive = 20.0
    """Others wait this long for a place, and are then refused for the moment (local limit exceeded)."""
    spare_after_s: Positive = 10.0
    """While others wait, an association in which nothing has come for this long is ended (A-ABORT); six times as long
    where the archive has not answered yet."""
    idle_s: Positive = 600.0
    """An association that is silent for this long is ended (A-ABORT); Orthanc's own DicomScpTimeout is 30 s."""

    @property
    def is_on(self) -> bool:
        """Whether there is a relay."""
        return self.port > 0


class DicomInSettings(Section):
    """Who may send images to the archive by DICOM. ``medai up`` tells its Orthanc at the next start; for an Orthanc of
    your own ``medai check`` says what to set there."""

    open: bool = False
    """Anybody who reaches the port may send, by choice: named senders or not."""
    senders: tuple[DicomSender, ...] = ()
    """Nodes that may send, as [[dicom_in.senders]]; others are refused. None named: anybody may, and check warns."""
    tls: ServerTls = ServerTls()
    """DICOM over TLS, with client certificates: by the relay, else by the archive."""
    front: DicomFrontSettings = DicomFrontSettings()

    @property
    def anybody(self) -> bool:
        """Whether a stranger may send."""
        return self.open or not self.senders

    def orthanc(self) -> Mapping[str, Any]:
        """The keys of Orthanc's configuration that say so."""
        return {
            "DicomCheckCalledAet": True,
            "DicomCheckModalityHost": not self.anybody,
            "DicomAlwaysAllowStore": self.anybody,
            "AcceptedTransferSyntaxes": list(TRANSFER_SYNTAXES),
            "DicomModalities": dict(self._nodes()),
            **self._tls(),
        }

    def _nodes(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Each sender as Orthanc reaches it, under its title as far as Orthanc takes that for a name; and as it comes
        from the relay."""
        numbers: Counter[str] = Counter()
        for sender in self.senders:
            name = re.sub("[^A-Za-z0-9_-]", "-", sender.ae_title)
            numbers[name] += 1
            name += f"-{numbers[name]}" if numbers[name] > 1 else ""
            node = {"AET": sender.ae_title, "Port": sender.port, "UseDicomTls": self.tls.is_on}
            comes_as_it_is = not self.front.is_on or sender.host == RELAY
            yield name, {**node, "Host": sender.host, **_rights(sends=comes_as_it_is)}
            if not comes_as_it_is:
                yield f"{name}_by_relay", {**node, "Host": RELAY, **_rights(sends=True)}

    def _tls(self) -> Mapping[str, Any]:
        """Versions and suites are not among them: Orthanc takes those from 1.12.4 on (docs/security.md)."""
        if not self.tls.is_on:
            return {}
        return {
            "DicomTlsEnabled": not self.front.is_on,
            "DicomTlsCertificate": self.tls.certificate_file,
            "DicomTlsPrivateKey": self.tls.key_file,
            "DicomTlsTrustedCertificates": self.tls.ca_file,
            "DicomTlsRemoteCertificateRequired": self.tls.require_client_certificate,
        }


def _rights(*, sends: bool) -> Mapping[str, bool]:
    """What a node may ask of Orthanc."""
    refused = ("AllowFind", "AllowFindWorklist", "AllowMove", "AllowGet", "AllowStorageCommitment")
    return {"AllowEcho": sends, "AllowStore": sends} | dict.fromkeys(refused, False)
