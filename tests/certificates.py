"""Certificate authorities and certificates for tests, made by OpenSSL's own program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: str
    key: str


class Authority:
    """A certificate authority in a folder of its own."""

    def __init__(self, folder: Path, name: str = "site") -> None:
        self._folder = folder / name
        self._folder.mkdir()
        self._own = self._pair("ca")
        _openssl(
            "req", "-x509", "-new", "-key", self._own.key, "-out", self._own.certificate, "-days", "2",
            "-subj", f"/CN={name} CA",
        )  # fmt: skip

    @property
    def ca_file(self) -> str:
        """Its certificate."""
        return self._own.certificate

    def pair(self, name: str = "localhost") -> Pair:
        """A certificate for localhost and 127.0.0.1, for servers and clients alike."""
        made = self._pair(name)
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n", "ascii")
        _openssl("req", "-new", "-key", made.key, "-out", str(request), "-subj", f"/CN={name}")
        _openssl(
            "x509", "-req", "-in", str(request), "-CA", self._own.certificate, "-CAkey", self._own.key,
            "-CAcreateserial", "-days", "2", "-extfile", str(extensions), "-out", made.certificate,
        )  # fmt: skip
        return made

    def _pair(self, name: str) -> Pair:
        key = str(self._folder / f"{name}.key")
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        return Pair(certificate=str(self._folder / f"{name}.pem"), key=key)


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
