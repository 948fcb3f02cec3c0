"""Send DICOM files to a DICOMweb server by STOW-RS (PS3.18 10.5): one POST, and an answer for each object.

An object counts as stored where the answer names it among those stored, or says that it was there before. Errors do
not quote the server's words, which may name a patient: of a refusal they hold the numbers of the reasons.
Next: web.py (the call), settings/destinations.py, cli/check.py.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medai.router.delivery import web
from medai.router.delivery.web import Peer
from medai.router.errors import DestinationRefused, DestinationUnreachable
from medai.router.settings.destinations import StowDestination
from medai.router.words import counted

ANSWER = "application/dicom+json"
REFERENCED, FAILED = "00081199", "00081198"
INSTANCE_UID, REASON = "00081155", "00081197"
STORED_BEFORE = 0x0111
"""Failure Reason "duplicate SOP instance": the object came by an earlier attempt."""
REASONS = {
    0x0110: "processing failure",
    0x0117: "invalid object",
    0x0122: "class not supported",
    0x0124: "not authorized",
    0xA700: "out of resources",
    0xA900: "data set does not match its class",
    0xC000: "cannot understand",
    0xC122: "transfer syntax not supported",
}
"""Failure Reason (0008,1197), PS3.18 I.2.2 and PS3.3 C.14.1.1; of a range its first number."""
FOR_GOOD = frozenset({0x0117, 0x0122, 0xA900, 0xC122})
"""Reasons that lie in the object; the others may pass, as 0xC000 does at archives whose database restarts."""
NOBODY = "2.25.0"
"""A Study Instance UID that no study has, to ask after."""


def send(files: Mapping[str, bytes], destination: StowDestination, *, name: str) -> str:
    """POST these DICOM files, by SOP Instance UID; the receipt is such as "200, 3 objects".

    Raises DestinationUnreachable (away, overloaded, or not as configured) and DestinationRefused (will not have them).
    """
    peer = peer_of(destination, name)
    boundary = _boundary(files.values())
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    answer = web.request(
        "POST", peer, headers={"Content-Type": kind, "Accept": ANSWER}, path="/studies",
        body=_body(list(files.values()), boundary),
    )  # fmt: skip
    told = _told(answer.data)
    reasons = {uid: reason for uid, reason in _failures(told) if uid in files and reason != STORED_BEFORE}
    stored = set(_stored(told)) | {uid for uid, reason in _failures(told) if reason == STORED_BEFORE}
    if files.keys() <= stored - reasons.keys():
        return f"{answer.status}, {counted(len(files), 'object')}"
    if reasons:  # also where the status says that all failed, or some
        raise _refused(peer, answer.status, len(files) - len(files.keys() & stored), reasons)
    if not 200 <= answer.status < 300:
        raise web.misfortune(peer, answer) or DestinationRefused(f"{peer} refused the result with {answer.status}")
    if REFERENCED not in told and FAILED not in told:
        raise DestinationUnreachable(f"{peer} answered something that is no answer to STOW-RS: is stow_url right?")
    kept = len(files.keys() & stored)
    raise DestinationUnreachable(f"{peer} says of {kept} of {counted(len(files), 'object')} that it stored them")


def searchable(destination: StowDestination, *, name: str) -> bool:
    """Whether the server answers a search (QIDO-RS) for a study that nobody has; False: it offers none.

    Nothing is stored, and no patient's data come back. Raises DestinationUnreachable or DestinationRefused.
    """
    peer = peer_of(destination, name)
    path = f"/studies?StudyInstanceUID={NOBODY}&limit=1"
    answer = web.request("GET", peer, headers={"Accept": ANSWER}, path=path)
    if answer.status in (405, 501):
        return False
    if not 200 <= answer.status < 300:
        raise web.misfortune(peer, answer) or DestinationUnreachable(f"{peer} answered {answer.status} to a search")
    return True


def peer_of(destination: StowDestination, name: str) -> Peer:
    """How a server is called, and got into."""
    return Peer(
        title=f"the DICOMweb server {name}", url=destination.stow_url, key="stow_url", server=destination,
        away=DestinationUnreachable, takes="STOW-RS",
    )  # fmt: skip


def _boundary(files: Any) -> str:
    """From the files' bytes: the same at each attempt, and in none of them."""
    digest = hashlib.sha256()
    for content in files:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()


def _body(files: Sequence[bytes], boundary: str) -> bytes:
    """The parts name no transfer syntax: the files say it, and Orthanc 1.10.1 silently drops a part that does."""
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
    return b"".join(b"".join((head, content, b"\r\n")) for content in files) + f"--{boundary}--\r\n".encode("ascii")


def _told(data: bytes) -> Mapping[str, Any]:
    """The answer's data set, or an empty one."""
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    if isinstance(found, list) and found:  # some servers wrap it as they do the results of a search
        found = found[0]
    return found if isinstance(found, dict) else {}


def _items(told: Mapping[str, Any], tag: str) -> Iterator[Mapping[str, Any]]:
    sequence = told.get(tag)
    values = sequence.get("Value") if isinstance(sequence, dict) else None
    yield from (item for item in values or () if isinstance(item, dict))


def _value(item: Mapping[str, Any], tag: str) -> Any:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _stored(told: Mapping[str, Any]) -> Iterator[str]:
    yield from (str(_value(item, INSTANCE_UID)) for item in _items(told, REFERENCED))


def _failures(told: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    for item in _items(told, FAILED):
        reason = str(_value(item, REASON))
        yield str(_value(item, INSTANCE_UID)), int(reason) if reason.isdecimal() else 0


def _refused(
    peer: Peer, status: int, missing: int, reasons: Mapping[str, int]
) -> DestinationUnreachable | DestinationRefused:
    counts = ", ".join(f"{count} {_reason(code)}" for code, count in sorted(Counter(reasons.values()).items()))
    text = f"{peer} answered {status} and did not store {counted(missing, 'object')} ({counts})"
    for_good = all(_known(code) in FOR_GOOD for code in reasons.values())
    return DestinationRefused(text) if for_good else DestinationUnreachable(text)


def _known(code: int) -> int:
    """A reason, or the first of its range (PS3.4 B.2.3)."""
    if code in REASONS:
        return code
    return 0xC000 if code >> 12 == 0xC else code & 0xFF00


def _reason(code: int) -> str:
    meaning = REASONS.get(_known(code))
    return f"{meaning} (0x{code:04X})" if meaning else f"0x{code:04X}"
