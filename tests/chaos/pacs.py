"""One more DICOM node, to which every result goes by C-STORE; it can refuse, and it offers storage commitment."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from servers import free_port

from chaos.secured import Secured

OUT_OF_RESOURCES = 0xA700
KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"
COMMITMENT = "1.2.840.10008.1.20.1"
"""Storage Commitment Push Model SOP Class."""


class Pacs:
    """A C-STORE SCP in this process that remembers what it took."""

    def __init__(self, secured: Secured | None = None) -> None:
        self._secured = secured
        self.port = free_port()
        self.reports_to = 0
        """Orthanc's DICOM port."""
        self.refuse = False
        self.refused = 0
        self.kept: dict[str, str] = {}
        """SOP Instance UID -> Study Instance UID."""
        self.rejected: set[str] = set()
        """SOP Instance UIDs that a rejection note has listed."""
        self._lock = threading.Lock()
        entity = AE(ae_title="PACS")
        entity.supported_contexts = AllStoragePresentationContexts
        entity.add_supported_context("1.2.840.10008.1.1")
        entity.add_supported_context(COMMITMENT, scu_role=True, scp_role=True)
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._commit),
            (evt.EVT_CONN_OPEN, _no_delay),
        ]
        self._server: Any = entity.start_server(
            ("127.0.0.1", self.port), block=False, evt_handlers=handlers,
            ssl_context=secured.port() if secured else None,
        )  # fmt: skip

    def close(self) -> None:
        """Take nothing more."""
        self._server.shutdown()

    def studies(self, study_uid: str) -> set[str]:
        """SOP Instance UIDs that it holds of a study."""
        with self._lock:
            return {sop for sop, study in self.kept.items() if study == study_uid}

    def _store(self, event: Any) -> int:
        if self.refuse:
            self.refused += 1
            return OUT_OF_RESOURCES
        dataset = event.dataset
        with self._lock:
            if dataset.SOPClassUID == KEY_OBJECT_SELECTION:
                for study in dataset.CurrentRequestedProcedureEvidenceSequence:
                    for series in study.ReferencedSeriesSequence:
                        self.rejected |= {str(item.ReferencedSOPInstanceUID) for item in series.ReferencedSOPSequence}
            else:
                self.kept[str(dataset.SOPInstanceUID)] = str(dataset.StudyInstanceUID)
        return 0x0000

    def _commit(self, event: Any) -> tuple[int, None]:
        """Answer the request, then report (PS3.4 J.3)."""
        asked = event.action_information
        report = Dataset()
        report.TransactionUID = asked.TransactionUID
        known = [item for item in asked.ReferencedSOPSequence if str(item.ReferencedSOPInstanceUID) in self.kept]
        missing = [item for item in asked.ReferencedSOPSequence if item not in known]
        report.ReferencedSOPSequence = known
        if missing:
            for item in missing:
                item.FailureReason = 0x0112
            report.FailedSOPSequence = missing
        threading.Thread(target=self._report, args=(report, 2 if missing else 1), daemon=True).start()
        return 0x0000, None

    def _report(self, report: Dataset, kind: int) -> None:
        """N-EVENT-REPORT on an association of its own: Orthanc has released the one that asked (PS3.4 J.3.3)."""
        time.sleep(0.05)
        entity = AE(ae_title="PACS")
        entity.add_requested_context(COMMITMENT)
        role = build_role(COMMITMENT, scp_role=True)
        tls_args = (self._secured.caller(), "127.0.0.1") if self._secured else None
        association = entity.associate(
            "127.0.0.1", self.reports_to, ae_title="ORTHANC", ext_neg=[role], tls_args=tls_args
        )
        if association.is_established:  # an archive that died meanwhile asks again
            association.send_n_event_report(report, kind, COMMITMENT, UID("1.2.840.10008.1.20.1.1"))
            association.release()


def _no_delay(event: Any) -> None:
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
