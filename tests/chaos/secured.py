"""TLS on every hop of a system under test: one authority, one certificate for all parts. Next: site.py, proxy.py."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from certificates import Authority

from medai.router import tls
from medai.router.onebox.site import OPENSSL_CONF
from medai.router.settings.dicom_in import DicomInSettings
from medai.router.settings.tls import ClientTls, ServerTls


class Secured:
    """What each part of a system is told, so that it speaks TLS alone."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        authority = Authority(folder)
        self.pair = authority.pair()
        self.files = {
            "certificate_file": self.pair.certificate, "key_file": self.pair.key, "ca_file": authority.ca_file
        }  # fmt: skip
        self._openssl = folder / "openssl.cnf"
        self._openssl.write_text(OPENSSL_CONF)

    @property
    def lines(self) -> str:
        """The files, for a table of medai.toml."""
        return "".join(f'{key} = "{value}"\n' for key, value in self.files.items())

    def port(self) -> ssl.SSLContext:
        """Of a port that asks for certificates."""
        context = tls.server_context(ServerTls(**self.files), where="chaos")
        assert context is not None
        return context

    def caller(self) -> ssl.SSLContext:
        """Of whoever connects."""
        return tls.client_context(ClientTls(**self.files), where="chaos")

    def config(self, text: str) -> str:
        """A speaker's medai.toml over TLS. Orthanc's own port can't (docs/security.md): the proxy before it does."""
        text = text.replace('url = "http://', 'url = "https://').replace('url = "redis://', 'url = "rediss://')
        for table in ("[orthanc]\n", "[broker]\n"):
            text = text.replace(table, table + self.lines)
        text = text.replace("[ris]\n", "[ris]\ntls = true\n" + self.lines)
        return text.replace("[metrics]\n", "[hl7_in.tls]\n" + self.lines + "[metrics]\n")

    def database(self, url: str) -> str:
        """PostgreSQL's URL."""
        return f"{url}?sslmode=verify-full&sslrootcert={self.files['ca_file']}"

    @property
    def redis(self) -> list[str]:
        """More of Redis's command line, after its port."""
        return ["--tls-cert-file", self.pair.certificate, "--tls-key-file", self.pair.key,
                "--tls-ca-cert-file", self.files["ca_file"]]  # fmt: skip

    @property
    def ris(self) -> list[str]:
        """More of the mock RIS's command line."""
        return ["--tls-certificate", self.pair.certificate, "--tls-key", self.pair.key, "--tls-ca",
                self.files["ca_file"]]  # fmt: skip

    @property
    def archive(self) -> dict[str, Any]:
        """More of Orthanc's configuration."""
        told = DicomInSettings(open=True, tls=ServerTls(**self.files)).orthanc()
        return {key: value for key, value in told.items() if key.startswith("DicomTls")}

    @property
    def environment(self) -> dict[str, str]:
        """Orthanc's."""
        return {"OPENSSL_CONF": str(self._openssl)}
