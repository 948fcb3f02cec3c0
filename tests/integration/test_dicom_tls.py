"""DICOM over TLS with real peers: who gets through to each port, as docs/security.md says."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
from dicom_cases import study_files
from dicom_front import fronted
from pynetdicom import AE
from servers import OrthancServer, binary, free_port, make_orthanc, running

from medai.router.announcements.listener import VERIFICATION, AnnouncementListener
from medai.router.onebox import authority
from medai.router.onebox.site import OPENSSL_CONF
from medai.router.settings.dicom_in import DicomInSettings
from medai.router.settings.tables import AnnouncementsSettings
from medai.router.settings.tls import ServerTls

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"
HEAD = "| client | relay | Orthanc 1.10.1 itself | announcements |"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A folder of certificates, as ``medai tls`` makes them, and three ports."""

    folder: Path
    strangers: Path
    """Another authority's folder."""
    archive: OrthancServer
    """Which speaks TLS itself."""
    relay: int
    """Before an archive of its own, which speaks none."""
    announcements: int

    def file(self, name: str) -> str:
        return str(self.folder / name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, strangers = (tmp_path_factory.mktemp(name) / "tls" for name in ("ours", "theirs"))
    for each in (folder, strangers):
        authority.make_authority(each)
        authority.make_pair(each, "scanner", ())
        authority.make_pair(each, "port", authority.LOOPBACK)
    (folder / "openssl.cnf").write_text(OPENSSL_CONF)
    made = make_orthanc(folder / "orthanc", **DicomInSettings(open=True, tls=files(folder)).orthanc())
    made = replace(made, environment={**made.environment, "OPENSSL_CONF": str(folder / "openssl.cnf")})
    plain = make_orthanc(folder / "plain")
    secured = {"tls": files(folder).model_dump()}
    with (
        announcements(folder) as port, running(made) as archive, running(plain) as behind,
        fronted(behind.dicom_port, dicom_in=secured) as (relay, _),
    ):  # fmt: skip
        yield Place(folder=folder, strangers=strangers, archive=archive, relay=relay, announcements=port)


def files(folder: Path) -> ServerTls:
    return ServerTls(
        certificate_file=str(folder / "port.pem"), key_file=str(folder / "port.key"), ca_file=str(folder / "ca.pem")
    )


@contextmanager
def announcements(folder: Path) -> Iterator[int]:
    settings = AnnouncementsSettings(port=free_port(), tls=files(folder))
    listener = AnnouncementListener(settings, None, lambda: 1.0)  # type: ignore[arg-type]  # nothing is announced
    listener.start()
    try:
        yield settings.port
    finally:
        listener.stop()


Client = Callable[[Place, int], bool]


def dcmtk(*profile: str) -> Client:
    """echoscu, with our scanner's certificate where no other options are given."""

    def echo(place: Place, port: int) -> bool:
        shown = ["+tls", place.file("scanner.key"), place.file("scanner.pem"), "+cf", place.file("ca.pem"), *profile]
        if profile[:1] == ("--anonymous-tls",):
            shown = ["+tla", "+cf", place.file("ca.pem")]
        elif not profile:
            shown = []
        command = [binary("echoscu"), "-to", "10", *shown, "-aec", "ORTHANC", "localhost", str(port)]
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0

    return echo


def pynetdicom(
    *, low: str = "TLSv1_2", high: str = "TLSv1_3", suites: str = "", shows: str = "ours", trusts: str = "ours"
) -> Client:
    """An echo by Python's ssl, down to what OpenSSL itself would no longer offer."""

    def echo(place: Place, port: int) -> bool:
        folders = {"ours": place.folder, "theirs": place.strangers}
        context = ssl.create_default_context(cafile=str(folders[trusts] / "ca.pem"))
        context.set_ciphers(suites or "ALL:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = ssl.TLSVersion[low], ssl.TLSVersion[high]
        if shows:
            context.load_cert_chain(folders[shows] / "scanner.pem", folders[shows] / "scanner.key")
        return echoed(context, port)

    return echo


def echoed(context: ssl.SSLContext, port: int) -> bool:
    entity = AE(ae_title="SCANNER")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
    entity.add_requested_context(VERIFICATION)
    made: list[ssl.SSLSocket] = []
    wrap = context.wrap_socket

    def noted(*arguments: Any, **options: Any) -> ssl.SSLSocket:
        made.append(wrap(*arguments, **options))
        return made[-1]

    context.wrap_socket = noted  # type: ignore[method-assign]
    association: Any = entity.associate("127.0.0.1", port, ae_title="ORTHANC", tls_args=(context, "localhost"))
    if not association.is_established:
        for each in made:  # pynetdicom forgets to close a socket whose handshake failed
            each.close()
        return False
    status = association.send_c_echo()
    association.release()
    return bool(status.Status == 0)


CLIENTS: Mapping[str, Client] = {
    "DCMTK `--profile-bcp195-nd` (its default)": dcmtk("--profile-bcp195-nd"),
    "DCMTK `--profile-bcp195`": dcmtk("--profile-bcp195"),
    "DCMTK `--profile-bcp195-ex`": dcmtk("--profile-bcp195-ex"),
    "DCMTK `--profile-aes` (retired: no forward secrecy)": dcmtk("--profile-aes"),
    "DCMTK `--profile-null` (retired: nothing encrypted)": dcmtk("--profile-null"),
    "DCMTK `--anonymous-tls` (no certificate)": dcmtk("--anonymous-tls"),
    "DCMTK without TLS": dcmtk(),
    "pynetdicom, TLS 1.3": pynetdicom(low="TLSv1_3"),
    "pynetdicom, TLS 1.2, ECDHE and AES-GCM": pynetdicom(high="TLSv1_2", suites="ECDHE+AESGCM"),
    "pynetdicom, TLS 1.2, AES-CBC without forward secrecy": pynetdicom(high="TLSv1_2", suites="AES128-SHA"),
    "pynetdicom, TLS 1.2, null suites": pynetdicom(high="TLSv1_2", suites="eNULL:@SECLEVEL=0"),
    "pynetdicom, TLS 1.1": pynetdicom(low="TLSv1_1", high="TLSv1_1"),
    "pynetdicom, TLS 1.0": pynetdicom(low="TLSv1", high="TLSv1"),
    "pynetdicom, no certificate": pynetdicom(shows=""),
    "pynetdicom, another authority's certificate": pynetdicom(shows="theirs"),
    "pynetdicom, trusting another authority": pynetdicom(trusts="theirs"),
}


def promised() -> dict[str, tuple[bool, ...]]:
    """The table of the page: client -> whether it talks to the relay, to Orthanc, and to the announcements port."""
    _, _, after = PAGE.read_text(encoding="utf-8").partition(HEAD)
    table, _, _ = after.partition("\n\n")
    rows = (line.strip("|").split("|") for line in table.splitlines()[2:])
    return {row[0].strip(): tuple(cell.strip() == "yes" for cell in row[1:]) for row in rows}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("client", CLIENTS)
def test_each_client_talks_or_is_refused_as_the_page_says(place: Place, client: str) -> None:
    ask = CLIENTS[client]
    found = tuple(ask(place, port) for port in (place.relay, place.archive.dicom_port, place.announcements))
    assert found == promised()[client]


def test_the_page_names_these_clients_and_no_others() -> None:
    assert list(promised()) == list(CLIENTS)


def test_images_are_stored_over_tls(place: Place, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.dcm" for number in range(3)]
    for file, data in zip(files, study_files("tls", slices=3), strict=True):
        file.write_bytes(data)
    shown = ["+tls", place.file("scanner.key"), place.file("scanner.pem"), "+cf", place.file("ca.pem")]
    command = [binary("storescu"), *shown, "-aec", "ORTHANC", "localhost", str(place.archive.dicom_port), *files]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert place.archive.get("/statistics")["CountInstances"] == 3


@pytest.mark.parametrize(
    ("secured", "whose", "answered"), [(True, "", True), (True, "other", False), (False, "", False)]
)
def test_orthanc_calls_a_node_over_tls_whose_authority_it_trusts(
    place: Place, secured: bool, whose: str, answered: bool
) -> None:
    folder = place.strangers if whose else place.folder
    with announcements(folder) as port:
        node = {"AET": "MEDAI", "Host": "127.0.0.1", "Port": port, "UseDicomTls": secured}
        url = f"{place.archive.url}/modalities/node"
        assert urllib3.request("PUT", url, json=node).status == 200
        assert (urllib3.request("POST", f"{url}/echo", json={}, timeout=20.0).status == 200) is answered
