"""The seeded stream: which studies come in a round, and the senders that bring them as modalities would.

A sender retries each image until Orthanc has it. What a study should lead to (``Study.routes``, ``revisions``) is known
here, from what was sent, and nowhere else. Next: checks.py.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import urllib3
from dicom_cases import slice_of, study_uid, to_bytes

from chaos.site import Site

SIZE = 64
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ORDER_WAIT_S = 8.0
"""How long a modality waits for its worklist entry before it goes on without."""
LATE_WAIT_S = 100.0


@dataclass(kw_only=True)
class Study:
    """One study: what is sent, and what was."""

    name: str
    modality: str
    both: bool
    slices: int
    late: int
    """Images that come after the first result, or some seconds after the others."""
    late_after_s: float | None
    """None: after the first result, which makes a revision; else while the first job may be at any stage."""
    twice: bool
    ordered: bool
    priority: str
    starts_s: float
    gap_s: float
    round: int
    # what happened
    placer: str = ""
    order_known: bool = False
    """The router acknowledged the order before the first image was sent."""
    sent: int = 0
    finished_at: float = 0.0
    clock_moved: bool = False
    """A clock was stepped while it was read: moments in the ledger can't be compared."""

    @property
    def uid(self) -> str:
        """Study Instance UID."""
        return study_uid(self.name)

    @property
    def accession(self) -> str:
        """At most 16 characters."""
        return f"A{self.uid[-14:]}"

    @property
    def routes(self) -> tuple[str, ...]:
        """The routes that must read it."""
        if self.modality == "CT":
            return ("ct",)
        return ("mr", "second") if self.both else ("mr",)

    @property
    def images(self) -> int:
        """How many there are in all."""
        return self.slices + self.late

    def image(self, index: int) -> bytes:
        """One image as a DICOM file; the same bytes each time."""
        changes: dict[str, Any] = {
            "PatientID": f"CH{self.uid[-10:]}",
            "PatientName": f"Chaos^{self.name}",
            "AccessionNumber": self.accession,
            "StudyDescription": "BOTH" if self.both else "ONE",
            "Modality": self.modality,
        }
        if self.modality == "CT":
            changes |= {"SOPClassUID": CT_IMAGE, "RescaleSlope": 1, "RescaleIntercept": 0}
        image = slice_of(index, study=self.name, size=SIZE, **changes)
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        return to_bytes(image)


def plan(seed: int, number: int, *, count: int | None = None) -> list[Study]:
    """The studies of one round: the same for the same seed and number."""
    dice = random.Random(f"{seed}/{number}/studies")  # noqa: S311 - the same again for the same seed
    studies = []
    for index in range(count or dice.randint(3, 5)):
        modality = dice.choice(["MR", "MR", "CT"])
        late = dice.choice([0, 0, 0, 2, 3])
        studies.append(
            Study(
                name=f"{seed}-{number}-{index}",
                modality=modality,
                both=modality == "MR" and dice.random() < 0.3,
                slices=dice.randint(8, 14),
                late=late,
                late_after_s=dice.choice([None, dice.uniform(1.5, 6.0)]),
                twice=dice.random() < 0.2,
                ordered=dice.random() < 0.6,
                priority=dice.choice(["R", "R", "A", "S"]),
                starts_s=dice.uniform(0.0, 3.0),
                gap_s=dice.choice([0.0, 0.02, 0.1]),
                round=number,
            )
        )
    return studies


class Sender(threading.Thread):
    """Brings one study, whatever happens meanwhile; ``failed`` tells what it could not do."""

    def __init__(self, site: Site, study: Study, told: Callable[[str, Study], None]) -> None:
        super().__init__(name=f"sender-{study.name}", daemon=True)
        self._site, self._study, self._told = site, study, told
        self._over = threading.Event()
        self.failed = ""

    def give_up(self) -> None:
        """The round is over."""
        self._over.set()

    def run(self) -> None:
        """Order, send, send again, send what is late."""
        study = self._study
        self._over.wait(study.starts_s)
        if study.ordered:
            self._order()
        self._send(range(study.slices))
        if study.twice:
            self._over.wait(1.5)
            self._send(range(study.slices))
        if study.late:
            if study.late_after_s is None:
                self._wait_for_result()
            else:
                self._over.wait(study.late_after_s)
            self._send(range(study.slices, study.images))
        study.finished_at = time.time()
        self._told("sent", study)

    def _order(self) -> None:
        study = self._study
        wanted = {
            "patient_id": f"CH{study.uid[-10:]}", "patient_name": f"Chaos^{study.name}", "birth_date": "19010203",
            "sex": "O", "accession": study.accession, "study_uid": study.uid, "modality": study.modality,
            "priority": study.priority,
        }  # fmt: skip
        until = time.monotonic() + ORDER_WAIT_S
        while not self._over.is_set() and time.monotonic() < until:
            try:
                order = self._site.ask_ris("POST", "/orders", wanted)  # asking twice gives the same order
                study.placer = str(order["placer"])
                if order["ack"] == "AA":
                    study.order_known = True
                    return
            except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError):
                pass  # the RIS is away: a clerk would try again
            self._over.wait(0.3)

    def _send(self, indices: range) -> None:
        for index in indices:
            data = self._study.image(index)
            while not self._over.is_set() and not self._store(data):
                self._over.wait(0.3)
            if index >= self._study.sent:
                self._study.sent = index + 1
                self._told("image", self._study)
            self._over.wait(self._study.gap_s)

    def _store(self, data: bytes) -> bool:
        try:
            answer = self._site.http.request("POST", f"{self._site.orthanc.url}/instances", body=data, timeout=5.0)
            return answer.status == 200 and json.loads(answer.data)["Status"] in ("Success", "AlreadyStored")
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError):
            return False

    def _wait_for_result(self) -> None:
        """Until every route's first result is at the RIS, or too long."""
        until = time.monotonic() + LATE_WAIT_S
        while not self._over.is_set() and time.monotonic() < until:
            try:
                found = self._site.ask_ris("GET", f"/results?study_uid={self._study.uid}")
                if len(found) >= len(self._study.routes):
                    return
            except (urllib3.exceptions.HTTPError, OSError, ValueError):
                pass  # the RIS is away
            self._over.wait(0.5)
