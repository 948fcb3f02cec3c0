"""ADT and batches as programs that are not ours write and send them: hl7types (PyPI), @medplum/hl7 (npm), hl7 (PyPI)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import hl7 as reader
import pytest
from hl7.client import MLLPClient
from hl7types import decode_er7, encode_er7
from hl7types.hl7.v2_5_1.messages import ACK, ADT_A01, ADT_A05, ADT_A18, ADT_A30, ADT_A39

from medai.router.hl7.listener import OrderListener
from medai.router.hl7.messages import parse
from medai.router.hl7.patients_in import PatientMessage
from medai.router.settings.tables import Hl7InSettings

PACKAGES = Path(sys.prefix) / "share" / "hl7-peer" / "node_modules"
PEER = Path(__file__).resolve().parents[1] / "peers" / "hl7_sender.mjs"
PERSON = "||Libert\u00e0^Anna||19811016|F"
STRUCTURES = {"ADT_A01": ADT_A01, "ADT_A05": ADT_A05, "ADT_A18": ADT_A18, "ADT_A30": ADT_A30, "ADT_A39": ADT_A39}


def adt(event: str, structure: str, *segments: str) -> str:
    """A message that hl7types has read into its own classes and written anew."""
    head = f"MSH|^~\\&|RIS|H|MEDAI|AI|20260102030405+0000||ADT^{event}^{structure}|{event}|P|2.5.1||||||UNICODE UTF-8"
    text = "\r".join([head, "EVN||20260102030405+0000|||||", *segments, ""])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return str(encode_er7(decode_er7(text, STRUCTURES[structure])))


def pid(number: str) -> str:
    return f"PID|1||{number}^^^H^MR{PERSON}"


def events() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(event, message, the pairs of prior and new identifier that it tells)"""
    update = [("", "B")]
    one = (pid("B"), "MRG|A^^^H^MR")
    visits = [(f"A{n:02}", "ADT_A01", (pid("B"), "PV1|1|I"), update) for n in (1, 4, 8, 13)]
    told = [
        *visits,
        ("A28", "ADT_A05", (pid("B"), "PV1|1|N"), update),
        ("A31", "ADT_A05", (pid("B"), "PV1|1|N"), update),
        ("A18", "ADT_A18", (*one, "PV1|1|I"), [("A", "B")]),
        ("A34", "ADT_A30", one, [("A", "B")]),
        ("A47", "ADT_A30", one, [("A", "B")]),
        ("A39", "ADT_A39", (*one, pid("D"), "MRG|C^^^H^MR"), [("A", "B"), ("C", "D")]),
        ("A40", "ADT_A39", (pid("B"), "MRG|A^^^H^MR~A2^^^H^MR", pid("D"), "MRG|C^^^H^MR"),
         [("A", "B"), ("A2", "B"), ("C", "D")]),
    ]  # fmt: skip
    return [(event, adt(event, structure, *segments), pairs) for event, structure, segments, pairs in told]


EVENTS = events()
BATCH = "\r".join(
    ["FHS|^~\\&|RIS|H|MEDAI|AI|20260102030405||||F1", "BHS|^~\\&|RIS|H|MEDAI|AI|20260102030405||||B1"]
    + [text.strip("\r") for _, text, _ in EVENTS] + [f"BTS|{len(EVENTS)}", "FTS|1", ""]
)  # fmt: skip


class Keeper:
    """What the listener was told of patients."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def keep(self, messages: Sequence[PatientMessage]) -> None:
        self.told += [(message.prior_id, message.patient_id) for message in messages]


@pytest.fixture
def listening() -> Iterator[tuple[Keeper, int]]:
    keeper = Keeper()
    listener = OrderListener(Hl7InSettings(port=0), lambda _: None, on_patient=keeper.keep)
    listener.start()
    yield keeper, listener.port
    listener.stop()


@pytest.mark.parametrize(("event", "text", "pairs"), EVENTS, ids=[event for event, _, _ in EVENTS])
def test_what_hl7types_writes_is_understood(event: str, text: str, pairs: list[tuple[str, str]]) -> None:
    found = [each for each in parse(text.encode())[1] if isinstance(each, PatientMessage)]
    assert [(each.prior_id, each.patient_id) for each in found] == pairs
    assert {each.kind for each in found} <= {"change" if event == "A47" else "merge" if pairs[0][0] else "update"}
    assert {each.patient_name for each in found} == {"Libert\u00e0^Anna"}


def test_a_foreign_sender_has_every_event_acknowledged(listening: tuple[Keeper, int]) -> None:
    keeper, port = listening
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    assert node is not None, "Node.js is missing: ./medai setup --test"
    assert (PACKAGES / "@medplum" / "hl7").is_dir(), "@medplum/hl7 is missing: ./medai setup --test"
    command = [node, str(PEER), str(PACKAGES), str(port)]
    texts = json.dumps([text for _, text, _ in EVENTS])
    ran = subprocess.run(command, input=texts, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ran.stdout) == [[event, "AA", event] for event, _, _ in EVENTS]
    assert keeper.told == [pair for _, _, pairs in EVENTS for pair in pairs]


def test_a_foreign_sender_has_a_batch_acknowledged_and_reads_the_answer(listening: tuple[Keeper, int]) -> None:
    keeper, port = listening
    with MLLPClient("127.0.0.1", port) as client:
        answer = client.send_message(str(reader.parse_file(BATCH))).decode().strip("\x0b\x1c\r")
    file = reader.parse_file(answer)
    assert str(file.header[12]) == "F1"
    (batch,) = file
    assert (str(batch.header[12]), str(batch.trailer[1])) == ("B1", str(len(EVENTS)))
    for message, (event, _, _) in zip(batch, EVENTS, strict=True):
        read = decode_er7(str(message), ACK)
        assert (str(read.MSA.msa_1), str(read.MSA.msa_2)) == ("AA", event)
    assert keeper.told == [pair for _, _, pairs in EVENTS for pair in pairs]
