"""What goes back: DICOM SEG, SR and key image to the archive, ORU^R01 to the RIS, a Bundle to each FHIR server.

``encode_all`` makes them all; the others are sent only after the objects are stored (docs/standards.md, section 3).
Everything here is a pure function of its arguments: a retry makes the same bytes.
Next: source.py (what the images say), identity.py (UIDs and texts), seg.py, sr.py, key_image.py, oru.py, fhir.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from pydicom import Dataset

from medai.models.volume import Check, Plausibility, Segmentation, Stack
from medai.router.contract import Job, Measurement
from medai.router.settings.destinations import FhirDestination
from medai.router.settings.tables import ResultSettings, Settings
from medai.workers.results.fhir import encode_fhir
from medai.workers.results.identity import ResultUids
from medai.workers.results.key_image import encode_key_image
from medai.workers.results.measure import measure
from medai.workers.results.oru import encode_oru
from medai.workers.results.seg import encode_seg
from medai.workers.results.source import Source
from medai.workers.results.sr import encode_sr

__all__ = ["ENCODERS", "Context", "ResultUids", "Results", "Source", "as_json", "encode_all"]


@dataclass(frozen=True, kw_only=True)
class Context:
    """All that an encoder may look at. ``created_at`` is when the job was made, so that a retry repeats it."""

    source: Source
    segmentation: Segmentation
    measurements: tuple[Measurement, ...]
    job: Job
    settings: ResultSettings
    created_at: datetime


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


def _seg(context: Context, _made: Mapping[str, Dataset]) -> Dataset:
    return encode_seg(context.source, context.segmentation, context.job, context.settings, context.created_at)


def _sr(context: Context, made: Mapping[str, Dataset]) -> Dataset:
    return encode_sr(
        context.source,
        made["seg"],
        context.segmentation,
        context.measurements,
        context.job,
        context.settings,
        context.created_at,
    )


def _sc(context: Context, _made: Mapping[str, Dataset]) -> Dataset:
    return encode_key_image(
        context.source,
        context.segmentation,
        context.measurements,
        context.job,
        context.settings,
        context.created_at,
    )


ENCODERS: Mapping[str, Callable[[Context, Mapping[str, Dataset]], Dataset]] = {"seg": _seg, "sr": _sr, "sc": _sc}
"""Each gets the context and what those before it made."""


def encode_all(
    stack: Stack, segmentation: Segmentation, job: Job, settings: Settings, *, created_at: datetime
) -> Results:
    """Measure, then encode every object and the ORU; raises GeometryMismatch when the mask does not fit.

    ``created_at`` is the job's creation on the clock of the hospital (where the images name their time zone, DICOM
    times are converted to it).
    """
    source = Source(headers=stack.datasets, volume=stack.volume)
    source.require_fits(segmentation)
    context = Context(
        source=source,
        segmentation=segmentation,
        measurements=measure(source.volume, segmentation),
        job=job,
        settings=settings.results,
        created_at=created_at,
    )
    made: dict[str, Dataset] = {}
    for name, encode in ENCODERS.items():
        made[name] = encode(context, made)
    return Results(
        objects=made,
        oru=_oru(context, settings),
        measurements=context.measurements,
        warnings=segmentation.warnings,
        checks=segmentation.checks,
        uids=ResultUids.of(job.job_id),
        fhir=_fhir(context, settings),
    )


def _fhir(context: Context, settings: Settings) -> Mapping[str, bytes]:
    """One for each, since servers know patients under different systems."""
    named = ((name, settings.destinations.get(name)) for name in context.job.destinations)
    return {
        name: encode_fhir(
            context.job,
            context.measurements,
            context.segmentation,
            context.source,
            ResultUids.of(context.job.job_id),
            destination,
            settings.orthanc.wado_root,
            context.created_at,
        )
        for name, destination in named
        if isinstance(destination, FhirDestination)
    }


def _oru(context: Context, settings: Settings) -> bytes:
    return encode_oru(
        context.job,
        context.measurements,
        context.segmentation,
        context.source,
        ResultUids.of(context.job.job_id),
        settings.ris,
        settings.orthanc.wado_root,
        context.created_at,
        status="C" if context.job.revision > 1 else "P",
    )
