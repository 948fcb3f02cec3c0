"""What goes back: DICOM SEG, SR and key image to the archive, ORU^R01 to the RIS, a Bundle to each FHIR server.

``encode_all`` makes them all; the others are sent only after the objects are stored (docs/standards.md, section 3).
Everything here is a pure function of its arguments: a retry makes the same bytes.
Next: source.py (what the images say), identity.py (UIDs and texts), seg.py, sr.py, key_image.py, oru.py, fhir.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from pydicom import Dataset

from medai.models.volume import Check, Plausibility, Segmentation, Stack
from medai.router.contract import Job, Measurement
from medai.router.settings.destinations import FhirDestination
from medai.router.settings.tables import Settings
from medai.workers.results.context import Context
from medai.workers.results.fhir import encode_fhir
from medai.workers.results.frames import headers_of
from medai.workers.results.identity import ResultUids
from medai.workers.results.key_image import encode_key_image
from medai.workers.results.measure import measure
from medai.workers.results.oru import encode_oru
from medai.workers.results.parcels import encode_parcels
from medai.workers.results.seg import encode_seg
from medai.workers.results.source import Source
from medai.workers.results.sr import encode_sr


@dataclass(frozen=True, kw_only=True)
class Results:
    """What one job gives back. ``objects`` are the DICOM objects by kind, in the order in which to store them."""

    objects: Mapping[str, Dataset] = field(hash=False, compare=False)
    oru: bytes
    measurements: tuple[Measurement, ...]
    warnings: tuple[str, ...]
    uids: ResultUids
    checks: tuple[Check, ...] = ()
    figures: Mapping[str, float | str] = field(default_factory=dict, hash=False)
    """What models/segmenters/case_figures.py says of image and mask, to be compared with the training set."""
    fhir: Mapping[str, bytes] = field(default_factory=dict, hash=False)
    """The transaction Bundle for each FHIR server that the job goes to, by the destination's name."""
    parcels: Mapping[str, bytes] = field(default_factory=dict, hash=False)
    """What each destination for DICOM objects gets beside ``objects`` (router/files/parcel.py), by its name."""

    @property
    def plausibility(self) -> Plausibility:
        """What the checks came to."""
        return Plausibility(findings=self.warnings, checks=self.checks)


def as_json(plausibility: Plausibility) -> dict[str, Any]:
    """A verdict with its checks, for the ledger and for ``medai process --json``."""
    return {
        "verdict": plausibility.verdict,
        "summary": plausibility.summary,
        "passed": plausibility.passed,
        "made": plausibility.made,
        "checks": [asdict(check) for check in plausibility.checks],
    }


def encode_all(
    stack: Stack, segmentation: Segmentation, job: Job, settings: Settings, *, created_at: datetime
) -> Results:
    """Measure, then encode every object and the ORU; raises GeometryMismatch when the mask does not fit.

    ``created_at`` is the job's creation on the clock of the hospital (where the images name their time zone, DICOM
    times are converted to it).
    """
    headers, frames = headers_of(stack)
    source = Source(headers=headers, volume=stack.volume, frames=frames)
    source.require_fits(segmentation)
    context = Context(
        source=source,
        segmentation=segmentation,
        measurements=measure(source.volume, segmentation),
        job=job,
        settings=settings,
        created_at=created_at,
    )
    seg = encode_seg(context)
    objects = {"seg": seg, "sr": encode_sr(context, seg), "sc": encode_key_image(context)}
    return Results(
        objects=objects,
        oru=encode_oru(context),
        measurements=context.measurements,
        warnings=segmentation.warnings,
        checks=segmentation.checks,
        uids=context.uids,
        fhir=_fhir(context),
        parcels=encode_parcels(context, objects),
    )


def _fhir(context: Context) -> Mapping[str, bytes]:
    """One for each, since servers know patients under different systems."""
    named = ((name, context.settings.destinations.get(name)) for name in context.job.destinations)
    return {
        name: encode_fhir(context, destination)
        for name, destination in named
        if isinstance(destination, FhirDestination)
    }
