"""What is asked of an AI outside: take these images (STOW-RS), what is there now (QIDO-RS), give me that (WADO-RS).

Nothing is taken but what was asked for: no port of ours waits for answers.
Next: exchange.py, router/delivery/web.py (the call).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.message import Message
from typing import Any

from medai.router.contract import is_uid
from medai.router.delivery import stow, web
from medai.router.errors import DestinationRefused, DestinationUnreachable
from medai.router.settings.outside import OutsideSettings

BATCH_BYTES = 64 * 1024**2
SOP, SERIES = "00080018", "0020000E"


class Server:
    """One AI outside."""

    def __init__(self, name: str, settings: OutsideSettings) -> None:
        self._name = name
        self._server = settings.server
        self._peer = stow.peer_of(self._server, name)

    def send(self, files: Mapping[str, bytes]) -> None:
        """Store files, by SOP Instance UID; raises DestinationUnreachable or DestinationRefused."""
        batch: dict[str, bytes] = {}
        for uid, content in files.items():
            if batch and sum(map(len, batch.values())) + len(content) > BATCH_BYTES:
                stow.send(batch, self._server, name=self._name)
                batch = {}
            batch[uid] = content
        stow.send(batch, self._server, name=self._name)

    def objects(self, study_uid: str) -> dict[str, str]:
        """SOP Instance UID of each object of a study -> its Series Instance UID."""
        path = f"/studies/{study_uid}/instances?includefield={SERIES}"
        answer = web.request("GET", self._peer, headers={"Accept": stow.ANSWER}, path=path)
        if answer.status == 204:
            return {}
        self._require_good(answer)
        try:
            told = json.loads(answer.data)
            found = {_uid(item, SOP): _uid(item, SERIES) for item in told}
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise DestinationUnreachable(f"{self._peer} answered something that is no answer to QIDO-RS") from error
        return found

    def object(self, study_uid: str, series_uid: str, sop_uid: str) -> bytes:
        """One object as a file."""
        path = f"/studies/{study_uid}/series/{series_uid}/instances/{sop_uid}"
        accepted = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        answer = web.request("GET", self._peer, headers={"Accept": accepted}, path=path)
        self._require_good(answer)
        return _only_part(answer.data, answer.headers.get("Content-Type", ""), self._peer)

    def _require_good(self, answer: web.Answer) -> None:
        if answer.status != 200:
            misfortune = web.misfortune(self._peer, answer)
            raise misfortune or DestinationRefused(f"{self._peer} refused to answer ({answer.status})")


def _uid(item: Any, tag: str) -> str:
    uid = str(item[tag]["Value"][0])
    if not is_uid(uid):
        raise ValueError("no UID")
    return uid


def _only_part(data: bytes, content_type: str, peer: web.Peer) -> bytes:
    """The content of a multipart body of one part."""
    header = Message()
    header["Content-Type"] = content_type
    mark = b"--" + str(header.get_param("boundary") or "").encode("latin-1", "replace")
    begin, end = data.find(b"\r\n\r\n"), data.rfind(b"\r\n" + mark)
    if len(mark) < 4 or data.count(mark) != 2 or not 0 <= begin < end:
        raise DestinationUnreachable(f"{peer} answered something that is no answer to WADO-RS")
    return data[begin + 4 : end]
