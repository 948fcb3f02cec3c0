"""Keep every HL7 message of a trial as a file: orders, patients, results, reports, as the RIS sent and took them.

So that any other receiver can be asked what it thinks of them. Next: arm.py.
"""

from __future__ import annotations

from pathlib import Path

from medai.trials.box import Box


def keep(box: Box, folder: Path) -> int:
    """Write them into ``folder``, numbered, one message a file (CR between segments); how many. Raises BoxError."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = [
        str(message["text"])
        for path in ("/orders", "/patients", "/reports")
        for item in box.ask_ris("GET", path)
        for message in item.get("messages", [])
    ]
    texts += [str(result["raw"]) for result in box.ask_ris("GET", "/results")]
    for number, text in enumerate(texts, start=1):
        kind = _kind(text)
        (folder / f"{number:05d}-{kind}.hl7").write_text(text, encoding="utf-8", newline="")
    return len(texts)


def _kind(text: str) -> str:
    """MSH-9, as in ``ORU-R01``."""
    fields = text.split("\r", 1)[0].split("|")
    return "-".join(fields[8].split("^")[:2]) if len(fields) > 8 else "unknown"
