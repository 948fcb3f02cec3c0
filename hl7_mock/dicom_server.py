"""The RIS's DICOM side: C-ECHO, worklist (C-FIND) and performed procedure steps (N-CREATE, N-SET), on pynetdicom.

Its handlers run in pynetdicom's threads and read snapshots. Next: worklist.py, mpps.py.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any

import structlog
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from medai.hl7_mock import worklist
from medai.hl7_mock.mpps import PROCESSING_FAILURE, SUCCESS, RefusedError, StepBook
from medai.hl7_mock.orders import Order, OrderBook

VERIFICATION = "1.2.840.10008.1.1"
WORKLIST = "1.2.840.10008.5.1.4.31"
MPPS = "1.2.840.10008.3.1.2.3.3"
PENDING, CANCELLED, UNABLE = 0xFF00, 0xFE00, 0xC000
UNKNOWN_UID = "/"

log = structlog.get_logger()


class DicomServer:
    """Listens on a port until ``stop``."""

    def __init__(self, book: OrderBook, steps: StepBook, *, ae_title: str) -> None:
        self._book, self._steps = book, steps
        self._entity = AE(ae_title=ae_title)
        for sop_class in (VERIFICATION, WORKLIST, MPPS):
            self._entity.add_supported_context(sop_class)
        self._server: Any = None

    def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Begin to listen; raises OSError."""
        handlers: list[Any] = [
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_N_CREATE, self._create),
            (evt.EVT_N_SET, self._set),
            (evt.EVT_CONN_OPEN, _no_delay),
        ]
        self._server = self._entity.start_server((host, port), block=False, evt_handlers=handlers, ssl_context=tls)

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    def scheduled(self) -> tuple[Order, ...]:
        """Orders whose study nobody has begun: the worklist."""
        open_orders = [order for order in self._book.orders if not order.cancelled]
        taken = [self._steps.of(accession=o.details.request.accession, study_uid=o.details.request.study_uid)
                 for o in open_orders]  # fmt: skip
        return tuple(order for order, step in zip(open_orders, taken, strict=True) if step is None)

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        query: Dataset = event.identifier
        for found in worklist.answers(query, self.scheduled()):
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield PENDING, found

    def _create(self, event: Any) -> tuple[int | Dataset, Dataset | None]:
        uid, said = str(event.request.AffectedSOPInstanceUID or ""), event.attribute_list
        return self._answer(lambda: self._steps.begin(uid, said), said, uid)

    def _set(self, event: Any) -> tuple[int | Dataset, Dataset | None]:
        uid, said = str(event.request.RequestedSOPInstanceUID), event.modification_list
        return self._answer(lambda: self._steps.change(uid, said), said, uid)

    def _answer(self, act: Any, said: Dataset, uid: str) -> tuple[int | Dataset, Dataset | None]:
        try:
            if not uid or UNKNOWN_UID in uid:
                raise RefusedError(0x0117, "the SOP Instance UID is none")
            act()
        except RefusedError as error:
            log.warning("mpps_refused", status=f"0x{error.status:04X}", reason=str(error))
            status = Dataset()
            status.Status, status.ErrorComment = error.status, str(error)[:64]
            if error.status == PROCESSING_FAILURE:
                status.ErrorID = 0xA710
            return status, None
        except OSError as error:
            log.error("mpps_not_stored", error=error.strerror)
            return PROCESSING_FAILURE, None
        return SUCCESS, said


def _no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
