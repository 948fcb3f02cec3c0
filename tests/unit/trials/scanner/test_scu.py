"""The sender, against a storage SCP that misbehaves on demand."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, MRImageStorage
from pynetdicom import AE, evt

from medai.trials.scanner.scu import MAX_CONTEXTS, Peer, SendError, _batches, echo, send

Answer = Callable[[Any], int]


@contextmanager
def storage(answer: Answer) -> Iterator[Peer]:
    """An SCP on a free loopback port that takes MR images and answers with ``answer(event)``."""
    entity = AE(ae_title="SCP")
    entity.add_supported_context(MRImageStorage, [ExplicitVRLittleEndian, JPEGLSLossless])
    entity.add_supported_context("1.2.840.10008.1.1")
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, answer)])
    try:
        yield Peer(host="127.0.0.1", port=server.server_address[1], called_aet="SCP", timeout_s=5)
    finally:
        server.shutdown()


@pytest.fixture
def slices(tmp_path: Path) -> list[Path]:
    """Six MR files that differ in their UID."""
    source = pydicom.dcmread(str(get_testdata_file("MR_small.dcm")))
    files = []
    for number in range(6):
        source.SOPInstanceUID = source.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        files.append(tmp_path / f"{number}.dcm")
        source.save_as(files[-1])
    return files


def test_every_file_arrives_and_progress_is_told(slices: list[Path]) -> None:
    arrived: list[str] = []
    told: list[tuple[int, int]] = []

    def answer(event: Any) -> int:
        arrived.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    with storage(answer) as peer:
        result = send(slices, peer, on_progress=lambda done, total: told.append((done, total)))
    assert arrived == [f"1.2.3.{number}" for number in range(6)]
    assert told[-1] == (6, 6)
    assert (result.sent, result.resent, result.failures) == (6, 0, ())
    assert result.images_per_s > 0


def test_several_associations_share_the_files(slices: list[Path]) -> None:
    arrived: list[str] = []

    def answer(event: Any) -> int:
        arrived.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    with storage(answer) as peer:
        result = send(slices, peer, associations=3)
    assert sorted(arrived) == [f"1.2.3.{number}" for number in range(6)]
    assert result.sent == 6


def test_a_lost_answer_means_send_again(slices: list[Path]) -> None:
    seen: list[str] = []

    def answer(event: Any) -> int:
        seen.append(str(event.request.AffectedSOPInstanceUID))
        if len(seen) == 2:
            event.assoc.abort()
        return 0x0000

    with storage(answer) as peer:
        result = send(slices, peer)
    assert (result.sent, result.resent, result.failures) == (6, 1, ())
    assert seen.count("1.2.3.1") == 2


def test_a_refused_file_is_reported_and_the_others_go_on(slices: list[Path]) -> None:
    with storage(lambda event: 0xA700 if event.request.AffectedSOPInstanceUID.endswith(".3") else 0) as peer:
        result = send(slices, peer)
    assert result.sent == 5
    assert [(failure.file.name, failure.reason) for failure in result.failures] == [("3.dcm", "C-STORE status 0xA700")]


def test_a_transfer_syntax_that_the_peer_lacks_fails_with_its_name(slices: list[Path]) -> None:
    rle = Path(str(get_testdata_file("MR_small_RLE.dcm")))
    with storage(lambda _: 0) as peer:
        result = send([*slices, rle], peer)
    assert result.sent == 6
    assert "transfer syntax 1.2.840.10008.1.2.5" in result.failures[0].reason


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom leaves its socket to gc
def test_nobody_listening_is_an_error_that_names_the_node(slices: list[Path]) -> None:
    with storage(lambda _: 0) as peer:
        assert echo(peer)
    assert not echo(peer)
    with pytest.raises(SendError, match=rf"SCP at 127\.0\.0\.1:{peer.port}"):
        send(slices, peer)
    gc.collect()


def test_more_kinds_than_an_association_holds_are_sent_in_batches(
    slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = iter((f"1.2.{number}", "1.2.840.10008.1.2") for number in range(200))
    monkeypatch.setattr("medai.trials.scanner.scu._kind", lambda _: next(kinds))
    batches = _batches(slices[:1] * 200)
    assert [len(batch) for batch in batches] == [MAX_CONTEXTS, 200 - MAX_CONTEXTS]
