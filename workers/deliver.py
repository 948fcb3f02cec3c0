"""Hand a reading's results over: kept in the ledger first, then straight into the archive.

The ledger gets the objects' bytes, the ORU and what is owed to whom in one transaction; from then on no failure makes a
model run again. The worker stores into the archive itself, because it has the bytes at hand; where that fails, and for
every other destination, the router's courier goes on from the ledger. Next: router/delivery/courier.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
from pydicom.dataset import Dataset

from medai.models.images.header import text
from medai.router.contract import ARCHIVE, RIS, Job, JobState, control_id, orthanc_id
from medai.router.errors import MedaiError
from medai.router.ledger import Claim
from medai.router.ledger.claims import Claims, Owed, ResultObject
from medai.router.log import describe
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import Settings
from medai.workers.results.encode import Results, as_json
from medai.workers.results.parcels import to_bytes

log = structlog.get_logger(__name__)


def kept(kind: str, dataset: Dataset) -> ResultObject:
    """An object as the ledger keeps it."""
    patient = text(dataset, "PatientID").strip()
    uids = (str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID))
    return ResultObject(
        kind=kind, sop_uid=uids[2], series_uid=uids[1], orthanc_id=orthanc_id(patient, *uids), content=to_bytes(dataset)
    )


def keep(claim: Claim, results: Results, *, claims: Claims, settings: Settings, now: float) -> list[ResultObject]:
    """Everything of a reading into the ledger; raises LeaseLost when the job is no longer this worker's."""
    objects = [kept(kind, dataset) for kind, dataset in results.objects.items()]
    claims.keep(
        claim.job.job_id,
        claim.token,
        objects=objects,
        measurements=results.measurements,
        warnings=results.warnings,
        plausibility=as_json(results.plausibility),
        figures=results.figures,
        deliveries=owed(claim.job, results, settings),
        now=now,
    )
    return objects


def keep_others(
    claim: Claim, found: Sequence[tuple[str, Dataset]], *, claims: Claims, now: float
) -> list[ResultObject]:  # fmt: skip
    """What an AI outside made, into the ledger, owed to the archive; raises LeaseLost as ``keep`` does."""
    objects = [kept(kind, dataset) for kind, dataset in found]
    claims.keep(
        claim.job.job_id, claim.token, objects=objects, measurements=[], now=now,
        deliveries=[Owed(destination=ARCHIVE)],
        warnings=[f"made by an AI outside ({claim.job.model}): no check of ours looked at it"],
    )  # fmt: skip
    return objects


def owed(job: Job, results: Results, settings: Settings) -> list[Owed]:
    """The archive first, the RIS last, the other destinations of the route between them."""
    between = [name for name in job.destinations if name not in (ARCHIVE, RIS)]
    rows = [Owed(destination=ARCHIVE)]
    rows += [Owed(destination=name, payload=results.fhir.get(name) or results.parcels.get(name)) for name in between]
    if RIS in job.destinations and settings.ris.host:
        rows.append(Owed(destination=RIS, control_id=control_id(job.job_id, RIS), payload=results.oru))
    return rows


def hand_over(
    claim: Claim, objects: list[ResultObject], *, orthanc: Orthanc, claims: Claims, clock: Callable[[], float]
) -> JobState:
    """Store into the archive, and leave the rest to the courier, also where the archive fails now."""
    job_id = claim.job.job_id
    try:
        for item in objects:
            orthanc.store_result(item.kind, item.content)
    except MedaiError as error:
        log.warning("archive_left_to_the_courier", job=job_id, reason=describe(error))
        return claims.hand_over(job_id, claim.token, clock())
    return claims.hand_over(job_id, claim.token, clock(), archived=True)
