"""A good ORU^R01 to start from, and a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

GOOD = (
    "MSH|^~\\&|MEDAI|AI|RIS|HOSPITAL|20260102030405+0000||ORU^R01^ORU_R01|CTRL0000000000000001|P|2.5.1"
    "||||||UNICODE UTF-8",
    "PID|1||PAT1^^^HOSPITAL^MR||Doe^Jane||19700101|F",
    "PV1|1|O",
    "ORC|RE|ORD1|AI1",
    "OBR|1|ORD1|AI1|24627-2^CT Chest^LN|||20260102030000+0000|||||||||||ACC1|RP1|SPS1||20260102030405+0000||CT|P",
    "OBX|1|HD|113014^DICOM Study^DCM||1.2.840.1.2||||||P|||20260102030405+0000",
    "OBX|2|CWE|121071^Finding^DCM|1|39607008^Lung^SCT||||||P",
    "OBX|3|NM|118565006^Volume^SCT|1|4123.5|ml^milliliter^UCUM|||||P",
    "OBX|4|NM|112031^Attenuation^DCM|1|-780|[hnsf'U]^Hounsfield unit^UCUM||N|||P",
    "OBX|5|RP|121191^Referenced Segment^DCM||http://pacs/dicom-web/studies/1.2^^AP^DICOM||||||P",
)


@pytest.fixture
def oru() -> Callable[..., bytes]:
    """``oru((old, new), …)``: the good message after these replacements, each of which must find its place."""

    def make(*changes: tuple[str, str]) -> bytes:
        text = "".join(f"{segment}\r" for segment in GOOD)
        for old, new in changes:
            assert old in text, f"{old!r} is not in the message"
            text = text.replace(old, new)
        return text.encode()

    return make


@pytest.fixture
def clock() -> Callable[[], float]:
    """A moment that does not pass."""
    return lambda: 1_800_000_000.0


@pytest.fixture
def msa() -> Callable[[Any], tuple[str, str]]:
    """(MSA-1, MSA-2) of a reply on the wire."""

    def read(reply: Any) -> tuple[str, str]:
        assert reply.wire.startswith(b"\x0b")
        assert reply.wire.endswith(b"\x1c\r")
        line = next(line for line in reply.wire.decode().split("\r") if line.startswith("MSA|"))
        _, code, control_id, *_ = [*line.split("|"), ""]
        return code, control_id

    return read
