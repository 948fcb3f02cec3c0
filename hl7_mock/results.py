"""What an ORU^R01 says: one reading for each OBR, and the history of each filler number.

Only reads; whether it is right is checks.py's matter, and whether it may follow what came before is inbox.py's.
Next: inbox.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from medai.hl7_mock.message import Message, Segment


@dataclass(frozen=True, kw_only=True)
class OrderGroup:
    """One OBR with the ORC before it and the OBX after it; ``number`` counts the OBR of the message from 1."""

    number: int
    obr: Segment
    orc: Segment | None
    observations: tuple[tuple[int, Segment], ...]
    """(which OBX of the whole message, from 1; the segment)."""

    @property
    def placer(self) -> str:
        """OBR-2, else ORC-2."""
        return self.obr.value(2) or (self.orc.value(2) if self.orc else "")

    @property
    def filler(self) -> str:
        """OBR-3, else ORC-3."""
        return self.obr.value(3) or (self.orc.value(3) if self.orc else "")


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One OBX. ``number`` is set for NM alone."""

    name: str
    code: str
    system: str
    label: str
    """OBX-3.5: the sender's own words for it, where it has some."""
    sub_id: str
    kind: str
    text: str
    number: float | None = None
    unit: str = ""
    flag: str = ""
    status: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One OBR as the RIS understands it."""

    filler: str
    placer: str
    accession: str
    study_uid: str
    status: str
    procedure: str
    modality: str
    patient_id: str
    patient_name: str
    observations: tuple[Observation, ...]

    @property
    def measurements(self) -> tuple[Observation, ...]:
        """The numbers."""
        return tuple(item for item in self.observations if item.number is not None)

    def subject_of(self, item: Observation) -> str:
        """What a measurement is of: the finding (121071 DCM) with the same OBX-4, where there is one."""
        if not item.sub_id:
            return ""
        same = (other for other in self.observations if other.sub_id == item.sub_id and other.code == "121071")
        return next((other.text for other in same), "")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One accepted message in a result's history."""

    status: str
    control_id: str
    received_at: float
    message_id: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """What holds now for one filler number, and how it came to hold."""

    reading: Reading
    history: tuple[Step, ...]

    @property
    def latest(self) -> Step:
        """The message that holds."""
        return self.history[-1]


def order_groups(message: Message) -> tuple[OrderGroup, ...]:
    """The OBR of a message in order; an OBX before the first OBR belongs to none."""
    groups: list[OrderGroup] = []
    orc: Segment | None = None
    obr: Segment | None = None
    seen: list[tuple[int, Segment]] = []
    counted = 0

    def close() -> None:
        if obr is not None:
            groups.append(OrderGroup(number=len(groups) + 1, obr=obr, orc=owner, observations=tuple(seen)))

    owner: Segment | None = None
    for segment in message.segments:
        if segment.name == "ORC":
            orc = segment
        elif segment.name == "OBR":
            close()
            obr, owner, orc, seen = segment, orc, None, []
        elif segment.name == "OBX":
            counted += 1
            seen.append((counted, segment))
    close()
    return tuple(groups)


def readings(message: Message) -> tuple[Reading, ...]:
    """One reading for each OBR; expects a message that checks.py let pass."""
    pid = message.first("PID")
    patient_id = pid.value(3) if pid else ""
    patient_name = _name(pid) if pid else ""
    return tuple(_reading(group, patient_id, patient_name) for group in order_groups(message))


def study_uids(observations: Iterable[Segment]) -> tuple[str, ...]:
    """The Study Instance UIDs of the OBX with type HD and code 113014 DCM."""
    return tuple(obx.value(5) for obx in observations if obx.raw(2) == "HD" and obx.value(3) == "113014")


def _name(pid: Segment) -> str:
    family, given = pid.value(5, 1), pid.value(5, 2)
    return ", ".join(part for part in (family, given) if part)


def _reading(group: OrderGroup, patient_id: str, patient_name: str) -> Reading:
    obr = group.obr
    segments = [segment for _, segment in group.observations]
    return Reading(
        filler=group.filler,
        placer=group.placer,
        accession=obr.value(18),
        study_uid=next(iter(study_uids(segments)), ""),
        status=obr.raw(25),
        procedure=obr.value(4, 2) or obr.value(4),
        modality=obr.value(24),
        patient_id=patient_id,
        patient_name=patient_name,
        observations=tuple(map(_observation, segments)),
    )


def _observation(obx: Segment) -> Observation:
    kind = obx.raw(2)
    coded = kind in {"CWE", "CE", "CNE"}
    return Observation(
        name=obx.value(3, 2) or obx.value(3),
        code=obx.value(3),
        system=obx.value(3, 3),
        label=obx.value(3, 5),
        sub_id=obx.raw(4),
        kind=kind,
        text=(obx.value(5, 2) or obx.value(5)) if coded else obx.value(5),
        number=float(obx.value(5)) if kind == "NM" and obx.raw(5) else None,
        unit=obx.value(6),
        flag=obx.value(8),
        status=obx.raw(11),
    )
