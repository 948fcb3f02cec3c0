"""Every HL7 message of a trial is kept as a file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from medai.trials.box import Box
from medai.trials.hospital import messages


def test_every_message_is_kept_under_its_kind(tmp_path: Path) -> None:
    text = "MSH|^~\\&|A|B|C|D|2026||ORU^R01^ORU_R01|1|P|2.5.1\rPID|1\r"
    answers = {
        "/orders": [{"messages": [{"text": text}]}],
        "/patients": [],
        "/reports": [],
        "/results": [{"raw": text}],
    }
    box = cast(Box, SimpleNamespace(ask_ris=lambda _method, path: answers[path]))
    assert messages.keep(box, tmp_path / "m") == 2
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["00001-ORU-R01.hl7", "00002-ORU-R01.hl7"]
    assert (tmp_path / "m" / "00001-ORU-R01.hl7").read_bytes() == text.encode()
