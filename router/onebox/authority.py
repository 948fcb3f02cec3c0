"""A certificate authority of the site's own, and certificates from it, for a first set-up.

A hospital that has an authority uses that one instead. The authority's key signs and is needed for nothing else: it
belongs off the machine once the certificates are made. Next: cli/tls.py (who asks), router/tls.py (who uses them).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from medai.router.errors import SettingsError

AUTHORITY = "ca"
AUTHORITY_LASTS = timedelta(days=3650)
LASTS = timedelta(days=825)
EARLIER = timedelta(hours=1)
"""So much before now a certificate begins: clocks differ."""
LOOPBACK = ("localhost", "127.0.0.1")
RSA_BITS = 3072
"""Of every key but the authority's: DCMTK's profiles of BCP 195 know RSA alone below TLS 1.3, as do many scanners."""
Public = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make_authority(folder: Path, now: datetime | None = None) -> Path:
    """The authority's certificate and key in ``folder``; raises SettingsError where there is one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Med-AI site authority")])
    usage = _usage(signs_certificates=True)
    builder = _builder(name, name, key.public_key(), AUTHORITY_LASTS, now or datetime.now(UTC))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    return _write(folder, AUTHORITY, certificate, key)


def make_pair(folder: Path, name: str, hosts: Sequence[str], now: datetime | None = None) -> Path:
    """A certificate for a server (``hosts``: its names and addresses) or a client (none), and its key.

    Raises SettingsError where there is no authority, or one of this name already.
    """
    issuer, signer = _authority(folder)
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
    builder = _builder(subject, issuer.subject, key.public_key(), LASTS, now or datetime.now(UTC))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    known_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(known_by, critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(each) for each in hosts]), critical=False)
    return _write(folder, name, builder.sign(signer, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Public, lasts: timedelta, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + lasts)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate((folder / f"{AUTHORITY}.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / f"{AUTHORITY}.key").read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{folder} holds no authority that can sign: run 'medai tls init' first") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SettingsError(f"the authority in {folder} was not made by 'medai tls init'")
    return certificate, key


def _write(folder: Path, name: str, certificate: x509.Certificate, key: Private) -> Path:
    """Both files, never over others; the key is private from its first byte on."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / f"{name}.pem"
    files = (
        (folder / f"{name}.key", key.private_bytes(*form), 0o600),
        (path, certificate.public_bytes(form[0]), 0o644),
    )
    for place, data, mode in files:
        try:
            with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
        except FileExistsError as error:
            raise SettingsError(f"{place} exists: it is left as it is") from error
    return path
