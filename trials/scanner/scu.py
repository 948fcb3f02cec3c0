"""Send DICOM files by C-STORE as a modality does, and verify by C-ECHO; built on pynetdicom.

Files go out in the transfer syntax they are stored in, never transcoded. Two lessons are built in: without
TCP_NODELAY each image waits for a delayed acknowledgement (30 instead of about 100 images/s), and an empty status
(pynetdicom lost the response) or a dropped association means "send again", which a DICOM archive bears. Next:
demo/command.py.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.filereader import read_file_meta_info
from pynetdicom import AE, _config, evt
from pynetdicom.presentation import build_context

from medai.router.words import counted

MAX_CONTEXTS = 128
"""An association holds no more presentation contexts (PS3.8 9.3.2.2: odd ids of one byte)."""
_VERIFICATION = "1.2.840.10008.1.1"
_SUCCESS_OR_WARNING = (0x0000, 0xB000, 0xB006, 0xB007)

Progress = Callable[[int, int], None]
"""Called with (files sent, files in all) after each file; from several threads with several associations."""


class SendError(Exception):
    """The peer could not be reached or refused the association; the text says which and what to do."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A DICOM node to send to, and the title we call ourselves."""

    host: str
    port: int
    called_aet: str = "ORTHANC"
    calling_aet: str = "MEDAI_TRIALS"
    timeout_s: float = 30.0
    tls: ssl.SSLContext | None = None
    """Verifies the node, by ``host``, and shows who we are; None: no TLS."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A file that the peer did not take."""

    file: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """What a transfer did. ``first_sent_at`` and ``last_sent_at`` are seconds since the epoch of C-STORE responses."""

    sent: int
    resent: int
    failures: tuple[Failure, ...]
    seconds: float
    first_sent_at: float
    last_sent_at: float

    @property
    def images_per_s(self) -> float:
        """Files taken per second, association set-up included."""
        return self.sent / self.seconds if self.seconds > 0 else 0.0


def echo(peer: Peer) -> bool:
    """Whether the peer answers C-ECHO."""
    try:
        association = associate(peer, [build_context(_VERIFICATION)])
    except SendError:
        return False
    status = association.send_c_echo()
    association.release()
    return bool(status) and int(status.Status) == 0


def send(
    files: Sequence[Path],
    peer: Peer,
    *,
    associations: int = 1,
    attempts: int = 5,
    on_progress: Progress | None = None,
) -> SendResult:
    """Send ``files`` in their order (each association takes the next one) and wait for every response.

    A file is tried ``attempts`` times. Raises SendError when no association can be opened; a file that the peer
    refuses is reported in ``failures`` and does not stop the others.
    """
    _config.STORE_SEND_CHUNKED_DATASET = True  # the library's switch for "send the file's bytes as they are"
    transfer = _Transfer(peer=peer, attempts=attempts, total=len(files), on_progress=on_progress)
    started = time.monotonic()
    for batch in _batches(files):
        _send_batch(batch, transfer, associations)
    times = transfer.times or [0.0]
    return SendResult(
        sent=len(transfer.times),
        resent=transfer.resent,
        failures=tuple(transfer.failures),
        seconds=time.monotonic() - started,
        first_sent_at=min(times),
        last_sent_at=max(times),
    )


@dataclass(kw_only=True)
class _Transfer:
    peer: Peer
    attempts: int
    total: int
    on_progress: Progress | None
    times: list[float] = field(default_factory=list)
    resent: int = 0
    failures: list[Failure] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def taken(self) -> None:
        with self.lock:
            self.times.append(time.time())
            done = len(self.times)
        if self.on_progress is not None:
            self.on_progress(done, self.total)

    def refused(self, item: _Item, reason: str) -> None:
        with self.lock:
            self.failures.append(Failure(file=item.file, reason=reason))

    def sent_again(self) -> None:
        with self.lock:
            self.resent += 1


@dataclass(kw_only=True)
class _Item:
    file: Path
    kind: tuple[str, str]
    """SOP Class UID and Transfer Syntax UID, from the file's own header."""
    tries: int = 0


def _batches(files: Sequence[Path]) -> list[list[_Item]]:
    """Split where one association would need more than 128 presentation contexts."""
    batches: list[list[_Item]] = [[]]
    kinds: set[tuple[str, str]] = set()
    for file in files:
        item = _Item(file=file, kind=_kind(file))
        if item.kind not in kinds and len(kinds) == MAX_CONTEXTS:
            batches.append([])
            kinds = set()
        kinds.add(item.kind)
        batches[-1].append(item)
    return batches


def _kind(file: Path) -> tuple[str, str]:
    meta = read_file_meta_info(file)
    return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)


def _send_batch(batch: list[_Item], transfer: _Transfer, associations: int) -> None:
    queue = deque(batch)
    errors: list[SendError] = []

    def work() -> None:
        try:
            _drain(queue, transfer)
        except SendError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, name=f"c-store-{n}") for n in range(min(associations, len(batch)))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:  # what is on its way is finished, nothing more is begun
        queue.clear()
        raise
    if queue and errors:
        raise errors[0]


def _drain(queue: deque[_Item], transfer: _Transfer) -> None:
    """Send from the shared queue until it is empty, over a new association when one breaks."""
    association: Any = None
    try:
        while queue:
            try:
                item = queue.popleft()
            except IndexError:  # another thread took the last one
                return
            if association is None or not association.is_established:
                association = _open(item, queue, transfer)
            _send_one(association, item, queue, transfer)
    finally:
        if association is not None and association.is_established:
            association.release()


def _open(item: _Item, queue: deque[_Item], transfer: _Transfer) -> Any:
    kinds = {item.kind, *(other.kind for other in list(queue))}
    try:
        return associate(transfer.peer, [build_context(sop_class, syntax) for sop_class, syntax in sorted(kinds)])
    except SendError:
        queue.appendleft(item)
        raise


def _send_one(association: Any, item: _Item, queue: deque[_Item], transfer: _Transfer) -> None:
    item.tries += 1
    if item.kind not in _accepted(association):
        transfer.refused(item, f"the peer accepts no {item.kind[0]} in transfer syntax {item.kind[1]}")
        return
    try:
        status = association.send_c_store(item.file)
    except (RuntimeError, ValueError) as error:  # the association broke; or the file can't be encoded
        _again(item, queue, transfer, f"{type(error).__name__}: {error}")
        return
    if not status or "Status" not in status:
        association.abort()
        _again(item, queue, transfer, "the peer gave no answer")
    elif int(status.Status) in _SUCCESS_OR_WARNING:
        transfer.taken()
    else:
        transfer.refused(item, f"C-STORE status 0x{int(status.Status):04X} {status.get('ErrorComment', '')}".strip())


def _again(item: _Item, queue: deque[_Item], transfer: _Transfer, reason: str) -> None:
    if item.tries >= transfer.attempts:
        transfer.refused(item, f"{reason} ({counted(item.tries, 'attempt')})")
        return
    transfer.sent_again()
    queue.appendleft(item)


def _accepted(association: Any) -> set[tuple[str, str]]:
    return {
        (str(context.abstract_syntax), str(syntax))
        for context in association.accepted_contexts
        for syntax in context.transfer_syntax
    }


def associate(peer: Peer, contexts: list[Any]) -> Any:
    """An established association with these presentation contexts; raises SendError."""
    entity = AE(ae_title=peer.calling_aet)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = peer.timeout_s
    association = entity.associate(
        peer.host,
        peer.port,
        contexts=contexts,
        ae_title=peer.called_aet,
        max_pdu=0,
        evt_handlers=[(evt.EVT_CONN_OPEN, _no_delay)],
        tls_args=(peer.tls, peer.host) if peer.tls is not None else None,
    )
    if not association.is_established:
        why = "refused the association (AE titles?)" if association.is_rejected else "did not answer"
        raise SendError(f"DICOM node {peer.called_aet} at {peer.host}:{peer.port} {why}")
    return association


def _no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
