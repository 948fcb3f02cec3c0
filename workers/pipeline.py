"""What a worker does with one job, on one page. **Read this first.**

``run`` fetches the series, makes a volume, looks whether it shows what the model reads, segments it, encodes SEG, SR,
key image and ORU, and stores the objects. Everything that touches the outside is a port, so that ``medai process``
(files) and tests (memory) run the same page. Next: guard.py, fetch.py, results/, deliver.py, tasks.py (claims and
retries).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Protocol

from pydicom.dataset import Dataset

from medai.models.errors import ModelFailed, ModelsError, ModelUnavailable
from medai.models.images.header import text
from medai.models.images.preprocess import series_to_volume
from medai.models.segmenters.case_figures import Figure, case_figures
from medai.models.segmenters.load import Segmenter
from medai.models.volume import Check, Segmentation, Stack
from medai.router.contract import Job, StampName
from medai.router.errors import PermanentError, ReadingBroke, TemporaryError
from medai.router.hl7.order_patient import LEFT_OUT, NUMBER, Doubt, ImagePatient, Released, by_nobody, choose
from medai.router.hl7.patients import Aliases
from medai.router.settings.tables import Settings, WorkerSettings
from medai.workers.results.encode import Results, encode_all
from medai.workers.sound_header import make_sound


class Ports(Protocol):
    """What the pipeline needs of the world."""

    settings: Settings

    def fetch(self, job: Job) -> Sequence[Dataset]:
        """The job's images with pixels."""
        ...

    def look(self, job: Job, stack: Stack) -> Check | None:
        """Whether the pixels show what the model reads; raises ModelRefused where they do not."""
        ...

    def model(self, name: str) -> Segmenter:
        """The model that reads them."""
        ...

    def aliases(self) -> Aliases:
        """Which patients the RIS has merged."""
        ...

    def released(self, job: Job, doubt: Doubt) -> bool:
        """Whether a person released an order that contradicts the job's images."""
        ...

    def stamp(self, job: Job, name: StampName) -> None:
        """A stage is done; raises LeaseLost when the job is no longer ours."""
        ...

    def store(self, job: Job, results: Results) -> None:
        """Keep SEG, SR, key image and ORU where they will be delivered from."""
        ...


def run(job: Job, ports: Ports, *, created_at: datetime) -> Results:
    """Read one series and store what the model found; raises TemporaryError or PermanentError."""
    images = ports.fetch(job)
    ports.stamp(job, StampName.FETCHED)
    with understandable():
        stack = prepare(images, ports.settings.worker)
        del images  # the volume holds the voxels now: do not hold them twice
        ports.stamp(job, StampName.PREPARED)
        looked = ports.look(job, stack)
        segmentation = ports.model(job.model).segment(stack.volume)
        segmentation.geometry.require_same(stack.volume.geometry, what="mask and image")
        segmentation = segmentation.checked(looked) if looked else segmentation
        ports.stamp(job, StampName.INFERRED)
        job, segmentation = join_order(
            job, stack.datasets[0], segmentation, ports.aliases, partial(ports.released, job)
        )
        results = encode_all(stack, segmentation, job, ports.settings, created_at=created_at)
        results = replace(results, figures=figures_of(stack, segmentation))
    ports.stamp(job, StampName.ENCODED)
    ports.store(job, results)
    return results


def figures_of(stack: Stack, segmentation: Segmentation) -> dict[str, Figure]:
    """What tells whether the model was shown what it was trained on; nothing in it tells whose image it was."""
    header = stack.datasets[0]
    return case_figures(
        stack.volume,
        segmentation.labels,
        [segment.number for segment in segmentation.segments],
        manufacturer=str(header.get("Manufacturer") or ""),
        device=str(header.get("ManufacturerModelName") or ""),
    )


def prepare(images: Sequence[Dataset], worker: WorkerSettings) -> Stack:
    """One regular volume, or NotAVolume with the slice that is wrong."""
    stack = series_to_volume(images, threads=worker.fetch_threads, max_bytes=worker.max_series_bytes)
    make_sound(stack.datasets[0])  # the header that speaks for the study in every result
    return stack


def join_order(
    job: Job,
    image: Dataset,
    segmentation: Segmentation,
    aliases: Callable[[], Aliases],
    released: Released = by_nobody,
) -> tuple[Job, Segmentation]:
    """Take the order that is of the images' patient, and no other: its numbers must not carry this result to the RIS.

    Patients whom the RIS has merged (``aliases``) are one. Images that name no patient take the best match. An order
    that says otherwise of the patient than the images waits for a person (``released``).
    """
    if job.order is None:
        return job, segmentation
    patient = patient_of(image)
    orders = (job.order, *job.other_orders)
    chosen = choose(orders, patient, aliases(), study_uid=job.study_uid, released=released)
    note = ""
    if chosen.order is None:
        differs = tuple(dict.fromkeys(name for doubt in chosen.doubts for name in doubt.differs))
        who = "another patient" if NUMBER in differs else f"another {' and '.join(differs)}"
        note = f"the order with this accession number names {who} than the images: {LEFT_OUT}"
    elif not patient.identifier and chosen.order.patient_id:
        note = "the images name no patient: the patient is the one of the order with their accession number"
    if note:
        segmentation = replace(segmentation, warnings=(*segmentation.warnings, note))
    return replace(job, order=chosen.order, other_orders=()), segmentation


def patient_of(image: Dataset) -> ImagePatient:
    """Whom a header names."""
    return ImagePatient(
        identifier=text(image, "PatientID").strip(),
        name=str(image.get("PatientName") or ""),
        birth_date=text(image, "PatientBirthDate"),
        sex=text(image, "PatientSex"),
    )


@contextmanager
def understandable() -> Iterator[None]:
    """Give the errors of ``models`` their disposition: bad images are final, a missing model may come back.

    A model whose process crashed has crashed: the next attempts are counted.
    """
    try:
        yield
    except ModelUnavailable as error:
        raise TemporaryError(str(error), retry_after_s=30.0) from error
    except ModelFailed as error:
        raise ReadingBroke(str(error)) from error
    except ModelsError as error:
        raise PermanentError(str(error)) from error
