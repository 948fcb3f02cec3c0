"""A real Orthanc gives expert labels and no others, asks for a login, and tells nobody what it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dicom_cases import PLANTED, to_bytes
from drawn_cases import block, ct_slices, rtstruct, seg, square
from servers import OrthancServer, make_orthanc, running

from medai.training.data.datasets import open_dataset
from medai.training.errors import DataError

LIVER, SPLEEN = block((3, 4, 4), (7, 9, 8)), block((9, 2, 3), (12, 6, 12))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OrthancServer]:
    """Three CTs: one with a person's SEG, one with an algorithm's SEG, one with an RTSTRUCT."""
    with running(make_orthanc(tmp_path_factory.mktemp("orthanc"))) as server:
        for study in ("person", "machine", "contours"):
            images = ct_slices(study, PatientID=f"{PLANTED['mrn']}-{study}")
            objects = {
                "person": lambda images=images: seg(images, {"liver": LIVER, "spleen": SPLEEN}),
                "machine": lambda images=images: seg(images, {"liver": LIVER}, algorithm="AUTOMATIC"),
                "contours": lambda images=images: rtstruct(images, {"Spleen": [square(images, 3, 4, 9)]}),
            }
            for dataset in (*images, objects[study]()):
                server.post(to_bytes(dataset))
        yield server


def test_what_a_person_drew_comes_out_and_what_an_algorithm_drew_does_not(archive: OrthancServer) -> None:
    dataset = open_dataset(archive.url)
    assert dataset.label_names == {1: "liver", 2: "spleen"}
    assert len(dataset.cases) == 2
    assert [oddity.text for oddity in dataset.oddities if "no wanted structure" in oddity.text]
    drawn = [case.load().labels for case in dataset.cases]
    assert any(np.array_equal(labels, LIVER * 1 + SPLEEN * 2) for labels in drawn)
    assert any(np.array_equal(labels, block((3, 4, 4), (4, 9, 9)) * 2) for labels in drawn)
    assert PLANTED["mrn"] not in repr(dataset)


def test_a_login_is_asked_for_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secured = make_orthanc(tmp_path, AuthenticationEnabled=True, RegisteredUsers={"reader": "s3cret-word"})
    with running(secured) as server:
        monkeypatch.setenv("MEDAI_ORTHANC__USERNAME", "reader")
        monkeypatch.setenv("MEDAI_ORTHANC__PASSWORD", "wr0ng-word")
        with pytest.raises(DataError, match="refuses the login") as caught:
            open_dataset(server.url)
        assert "wr0ng-word" not in str(caught.value)
        with_login = server.url.replace("//", "//reader:s3cret-word@")
        with pytest.raises(DataError, match="holds no case with labels") as caught:
            open_dataset(with_login)
        assert "s3cret-word" not in str(caught.value)


def test_an_orthanc_that_is_away_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"the Orthanc at 127.0.0.1:9 does not answer"):
        open_dataset("http://reader:s3cret-word@127.0.0.1:9")
