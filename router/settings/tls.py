"""How a server proves who it is, and a client: the files of TLS. Next: router/tls.py (what is made of them)."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from medai.router.settings.section import Section


class ServerTls(Section):
    """TLS 1.2 or newer for those who connect. ``certificate_file`` empty: off."""

    certificate_file: str = ""
    """Certificate of this port, with those between it and its authority (PEM); empty: no TLS."""
    key_file: str = ""
    """Its key (PEM), readable by Med-AI alone."""
    ca_file: str = ""
    """Authority of the clients' certificates (PEM)."""
    require_client_certificate: bool = True
    """Whether a client must show a certificate of that authority."""

    @property
    def is_on(self) -> bool:
        """Whether the port speaks TLS."""
        return bool(self.certificate_file)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.is_on and (self.key_file or self.ca_file):
            raise ValueError("key_file or ca_file without certificate_file: TLS would be off")
        if self.is_on and not self.key_file:
            raise ValueError("certificate_file needs its key_file")
        if self.is_on and self.require_client_certificate and not self.ca_file:
            raise ValueError("name the ca_file of the clients' certificates, or set require_client_certificate = false")
        return self


class WebTls(ServerTls):
    """TLS 1.2 or newer for browsers and programs, who log in by other means. ``certificate_file`` empty: off."""

    require_client_certificate: bool = False
    """Whether a client must show a certificate of that authority."""


class ClientTls(Section):
    """How a server is trusted, and how we prove who we are where it asks."""

    ca_file: str = ""
    """Certificate authority of the server; empty: the system's."""
    certificate_file: str = ""
    """Client certificate (PEM), where the server asks for one."""
    key_file: str = ""
    """Key of the client certificate (PEM)."""

    @model_validator(mode="after")
    def _key_has_a_certificate(self) -> Self:
        if self.key_file and not self.certificate_file:
            raise ValueError("key_file without certificate_file: nothing would be shown to the server")
        return self
