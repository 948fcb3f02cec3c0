"""A patient is erased from a site with a real archive, by the command; and what the archive keeps is not read again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import keeping_cases as cases
import pytest
from dicom_cases import study_files, study_uid
from ledger_cases import T0
from servers import OrthancServer, make_orthanc, running

from medai.router.cli import main as cli
from medai.router.contract import orthanc_id
from medai.router.intake.changes import Subscription
from medai.router.intake.facts import FactsReader
from medai.router.ledger import Ledger
from medai.router.log import Pseudonyms
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import OrthancSettings

PATIENT = "PAT 4711"
FIRST, SECOND = study_uid("first"), study_uid("second")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    with running(make_orthanc(tmp_path_factory.mktemp("orthanc"))) as started:
        yield started


@pytest.fixture
def ledger(server: OrthancServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A site whose archive has two studies of the patient, and one of another."""
    monkeypatch.chdir(tmp_path)
    inbox = tmp_path / "inbox" / "rejected"
    inbox.mkdir(parents=True)
    for name, patient_id in (("first", PATIENT), ("second", PATIENT), ("other", "PAT99")):
        (image,) = study_files(name, slices=1, PatientID=patient_id, AccessionNumber=f"ACC-{name}")
        server.post(image)
        (inbox / f"{name}.dcm").write_bytes(image)
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    (tmp_path / "medai.toml").write_text(
        f'[ledger]\nurl = "{url}"\n[orthanc]\nurl = "{server.url}"\n[watch_folder]\npath = "{tmp_path / "inbox"}"\n'
    )
    ledger = Ledger(url)
    ledger.migrate()
    for patient_id, uid in ((PATIENT, FIRST), ("PAT99", study_uid("other"))):
        cases.read(ledger, patient_id, uid)
    yield ledger
    ledger.close()
    client = Orthanc(OrthancSettings(url=server.url))
    for study in server.get("/studies"):
        client.delete("studies", study)
    client.close()


def erased(capsys: pytest.CaptureFixture[str], *options: str, patient: str = PATIENT) -> dict[str, dict[str, int]]:
    capsys.readouterr()
    assert cli.main(["erase", "--patient", patient, "--yes", "--json", *options]) == 0
    answer = capsys.readouterr()
    assert all(word not in answer.out + answer.err for word in (PATIENT, FIRST, "Plantedname"))
    found: dict[str, dict[str, int]] = json.loads(answer.out)
    return found


def swept(server: OrthancServer, ledger: Ledger) -> set[str]:
    """What the router finds to do when it compares its archive with the ledger."""
    client = Orthanc(OrthancSettings(url=server.url))
    reader = FactsReader(
        client, ledger.orders, ledger.identities, ledger.deliveries, released=lambda _uid, _doubt: False
    )
    found = Subscription(client, ledger, reader, backlog_h=1e6, names=Pseudonyms("k"), clock=lambda: T0).sweep()
    client.close()
    return set(found)


def test_the_archive_keeps_its_studies_unless_it_is_asked_and_they_are_not_read_again(
    server: OrthancServer, ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = erased(capsys, "--dry-run")
    assert "patient erased" not in cases.tables(ledger, but=())
    done = erased(capsys)
    assert (plan["erased"], plan["done"], done["done"]) == (done["erased"], False, True)
    assert {what: done["erased"][what] for what in ("studies", "readings", "rejected files")} == {
        "studies": 1, "readings": 1, "rejected files": 2,
    }  # fmt: skip
    kept = {each["what"]: each["count"] for each in done["kept"]}  # type: ignore[index]
    assert (kept["archive studies"], kept["results at ris"]) == (2, 1)
    assert sorted(path.name for path in Path("inbox/rejected").iterdir()) == ["other.dcm"]
    assert len(server.get("/studies")) == 3
    assert erased(capsys)["erased"] == {}
    assert FIRST not in cases.tables(ledger)
    assert orthanc_id(PATIENT, FIRST) not in swept(server, ledger)
    assert FIRST not in cases.tables(ledger)
    assert ledger.verify_audit().faults == ()
    assert "patient erased" in cases.tables(ledger, but=())


def test_the_archives_studies_go_too_where_it_is_asked_also_those_that_were_never_read(
    server: OrthancServer, ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(f"{PATIENT}\n"))
    done = erased(capsys, "--studies-too", patient="-")
    assert done["erased"]["archive studies"] == 2
    assert server.get("/studies") == [orthanc_id("PAT99", study_uid("other"))]
    assert orthanc_id(PATIENT, FIRST) not in cases.tables(ledger)
    assert erased(capsys, "--studies-too")["erased"] == {}


def test_nobody_is_erased_unasked_and_nothing_while_the_archive_is_away(
    server: OrthancServer, ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cases.tables(ledger, but=("meta",))
    monkeypatch.setattr("sys.stdin", StringIO("erase\n"))
    assert cli.main(["erase", "--patient", PATIENT]) == 2
    assert cli.main(["erase", "--patient", " "]) == 2
    server.kill()
    assert cli.main(["erase", "--patient", PATIENT, "--yes"]) == 1
    assert PATIENT not in capsys.readouterr().err
    server.start()
    cases.read(ledger, PATIENT, SECOND, until=lambda _job: None)
    assert cli.main(["erase", "--patient", PATIENT, "--yes"]) == 1
    assert "1 reading not over" in capsys.readouterr().err
    assert cli.main(["erase", "--patient", PATIENT, "--dry-run"]) == 1
    assert "in the way: 1 reading not over" in capsys.readouterr().out
    assert set(before.splitlines()) <= set(cases.tables(ledger, but=("meta",)).splitlines())
