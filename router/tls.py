"""The one place that makes TLS contexts, as BCP 195 (RFC 9325, RFC 8996) and DICOM PS3.15 B.12 want them.

TLS 1.2 with forward secrecy and authenticated encryption alone, and TLS 1.3. Next: settings/tls.py (the files).
"""

from __future__ import annotations

import ssl
from asyncio import sslproto

from medai.router.errors import SettingsError
from medai.router.settings.tls import ClientTls, ServerTls

SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
)
"""Of TLS 1.2: the four that RFC 9325 (4.2) recommends. Those of TLS 1.3 are all sound."""

RECORD_BYTES = 32 * 1024
"""What asyncio reads of TLS at once: a record and its overhead fit in."""


def server_context(tls: ServerTls, *, where: str) -> ssl.SSLContext | None:
    """For a port; None where its TLS is off. ``where``: the table of the settings, for SettingsError."""
    if not tls.is_on:
        return None
    sslproto.SSLProtocol.max_size = RECORD_BYTES  # asyncio's own is 256 KiB, filled for each connection that is made
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED if tls.require_client_certificate else ssl.CERT_NONE
    if tls.ca_file and not tls.require_client_certificate:
        context.verify_mode = ssl.CERT_OPTIONAL
    _load(context, tls.ca_file, tls.certificate_file, tls.key_file, where)
    return context


def client_context(tls: ClientTls, *, where: str) -> ssl.SSLContext:
    """For a connection to a server, whose certificate and name are checked."""
    context = ssl.create_default_context() if not tls.ca_file else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    _load(context, tls.ca_file, tls.certificate_file, tls.key_file, where)
    return context


def own_context(tls: ServerTls, *, where: str) -> ssl.SSLContext | None:
    """For asking a port of our own whether it answers, by whatever address: it must show the certificate that it is
    configured with, whoever signed that. None where its TLS is off."""
    if not tls.is_on:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _load(context, tls.certificate_file, tls.certificate_file, tls.key_file, where)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(SUITES))
    context.options |= ssl.OP_NO_COMPRESSION


def _load(context: ssl.SSLContext, ca: str, certificate: str, key: str, where: str) -> None:
    """Raises SettingsError, which names the file and never what is in it."""
    named = ca
    try:
        if ca:
            context.load_verify_locations(cafile=ca)
        named = f"{certificate} or its key"
        if certificate:
            context.load_cert_chain(certificate, key or None, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise SettingsError(f"[{where}]: {named} cannot be used for TLS ({reason})") from error


def _no_password() -> bytes:
    """A key with a password would make OpenSSL ask for it at the terminal."""
    raise ValueError("the key has a password")
