"""A site's own authority: its files are private, OpenSSL accepts what it signs, and a port and a sender use it."""

from __future__ import annotations

import json
import ssl
import subprocess
from pathlib import Path

import pytest

from medai.router import tls
from medai.router.cli import main as cli
from medai.router.hl7 import mllp
from medai.router.hl7.listener import OrderListener
from medai.router.settings.tables import Hl7InSettings
from medai.router.settings.tls import ClientTls, ServerTls


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tls"
    assert cli.main(["tls", "init", "--to", str(made), "--host", "router.example", "--host", "10.1.2.3"]) == 0
    return made


def test_keys_are_for_their_owner_alone(folder: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {name: mode for name, mode in modes.items() if name.endswith(".key")} == dict.fromkeys(
        ("ca.key", "router.key", "ris.key"), 0o600
    )
    assert folder.stat().st_mode & 0o777 == 0o700


def test_openssl_accepts_each_certificate_for_its_purpose_alone(folder: Path) -> None:
    def verified(name: str, purpose: str) -> bool:
        command = ["openssl", "verify", "-x509_strict", "-CAfile", str(folder / "ca.pem"), "-purpose", purpose]
        return subprocess.run([*command, str(folder / f"{name}.pem")], capture_output=True, check=False).returncode == 0

    assert [verified("router", "sslserver"), verified("router", "sslclient")] == [True, True]
    assert [verified("ris", "sslserver"), verified("ris", "sslclient")] == [False, True]
    text = subprocess.run(
        ["openssl", "x509", "-in", str(folder / "router.pem"), "-noout", "-ext", "subjectAltName"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert b"DNS:router.example, IP Address:10.1.2.3, DNS:localhost, IP Address:127.0.0.1" in text


def test_a_port_and_a_sender_of_the_site_trust_each_other_and_nobody_else(folder: Path, tmp_path: Path) -> None:
    ca_file = str(folder / "ca.pem")
    server = ServerTls(
        certificate_file=str(folder / "router.pem"), key_file=str(folder / "router.key"), ca_file=ca_file
    )
    listener = OrderListener(Hl7InSettings(port=0, tls=server), lambda _: None)
    listener.start()
    other = tmp_path / "other"
    assert cli.main(["tls", "init", "--to", str(other)]) == 0

    def ask(who: Path) -> bytes:
        shown = ClientTls(ca_file=ca_file, certificate_file=str(who / "ris.pem"), key_file=str(who / "ris.key"))
        context = tls.client_context(shown, where="test")
        return mllp.send(b"MSH|^~\\&|", host="localhost", port=listener.port, timeout_s=20, tls=context)

    try:
        assert b"MSA|" in ask(folder)
        with pytest.raises(Exception, match="TLS failed|cannot be reached|closed"):
            ask(other)
    finally:
        listener.stop()


def test_another_certificate_is_made_and_nothing_is_overwritten(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    assert cli.main(["tls", "add", "pacs", "--to", str(folder), "--host", "pacs.example", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certificates"] == [str(folder / "pacs.pem")]
    ssl.create_default_context(cafile=str(folder / "ca.pem")).load_cert_chain(folder / "pacs.pem", folder / "pacs.key")
    refused = (["init"], ["init", "x"], ["add"], ["add", "pacs"], ["add", "ca"], ["add", "../x"])
    for words in refused:
        assert cli.main(["tls", *words, "--to", str(folder)]) == 2, words
    assert cli.main(["tls", "add", "x", "--to", str(tmp_path / "none")]) == 2
    assert {name: (folder / name).read_bytes() for name in before} == before
