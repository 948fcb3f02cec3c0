"""``medai process``: the same reading with no server at all. Files in, files out.

A folder or zip of DICOM gives SEG, SR, key image and ORU; a NIfTI file gives a mask and a key image. The pipeline is
the worker's own page (pipeline.py); only its ports are files. Next: source_files.py (finding the series).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image
from pydicom.dataset import Dataset

from medai.models.confined.sandbox import Limits
from medai.models.images.preprocess import labels_to_nifti, nifti_to_volume
from medai.models.registry import SHIPPED, Registry
from medai.models.segmenters.load import Segmenter
from medai.models.volume import Check, Plausibility, Segmentation, Stack, Volume
from medai.router.contract import Job, JobId, Measurement, OrthancId, StampName, StudyUID, make_job_id, sources_hash
from medai.router.errors import PermanentError
from medai.router.files.whole import whole
from medai.router.hl7.order_patient import Doubt
from medai.router.hl7.patients import Aliases
from medai.router.settings.tables import Settings
from medai.workers import pipeline
from medai.workers.guard import Watch
from medai.workers.results.encode import Results, as_json
from medai.workers.results.key_image import render_key_image, to_png
from medai.workers.results.measure import measure
from medai.workers.results.parcels import to_bytes
from medai.workers.source_files import read_series

Report = Callable[[str], None]
NIFTI = (".nii", ".nii.gz")
USUAL = {"MR": ("mr_hippocampus", "mr_brain"), "CT": ("ct_lungs",)}
"""Which model reads a modality when nobody names one: the first of these that can run here."""


@dataclass(kw_only=True)
class FilePorts:
    """The pipeline's ports on files: images that are in memory, results that go to a folder."""

    settings: Settings
    images: list[Dataset]
    segmenter: Segmenter
    watch: Watch
    out: Path
    report: Report
    stamps: dict[str, float] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def fetch(self, job: Job) -> Sequence[Dataset]:
        """The images, handed over: nobody else holds their pixels."""
        images, self.images = self.images, []
        return images

    def look(self, job: Job, stack: Stack) -> Check | None:
        """By the model's guard."""
        return self.watch.look(job.model, stack.volume, stack.datasets[0])

    def model(self, name: str) -> Segmenter:
        """The one that was loaded."""
        return self.segmenter

    def stamp(self, job: Job, name: StampName) -> None:
        """Say how far it is."""
        self.stamps[name.value] = time.time()
        self.report(f"{name.value.replace('_', ' ')}")

    def aliases(self) -> Aliases:
        """No RIS, no merges."""
        return Aliases()

    def released(self, job: Job, doubt: Doubt) -> bool:
        """Nobody is asked."""
        return False

    def store(self, job: Job, results: Results) -> None:
        """Write every file under a temporary name, then rename: a reader never sees half a file."""
        content = {f"{kind}.dcm": to_bytes(dataset) for kind, dataset in results.objects.items()}
        content["key_image.png"] = to_png(Image.fromarray(results.objects["sc"].pixel_array))
        content["oru.hl7"] = results.oru
        for name, data in content.items():
            write(self.out / name, data)
            self.files[name] = str(self.out / name)


def registry_of(settings: Settings) -> Registry:
    """The models that the settings name, as a worker runs them."""
    models = settings.models
    limits = Limits(seconds=models.limit_s, memory_bytes=int(models.memory_gb * 1024**3))
    return Registry((*models.places, SHIPPED), models.weights, threads=settings.worker.torch_threads, limits=limits)


def write(path: Path, data: bytes) -> None:
    """A file whole or not at all."""
    with whole(path) as partial:
        partial.write_bytes(data)


def process(
    path: Path,
    out: Path,
    *,
    settings: Settings,
    registry: Registry,
    model: str | None,
    series: int | None,
    report: Report,
) -> dict[str, Any]:
    """Read one study from files; returns what ``medai process --json`` prints. Raises PermanentError with a reason."""
    if not path.exists():
        raise PermanentError(f"{path} does not exist")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermanentError(f"{out} cannot be made a folder for the results: {error.strerror}") from error
    if path.is_file() and path.name.lower().endswith(NIFTI):
        watch = Watch(registry, settings.worker.guard)
        return process_nifti(
            path,
            out,
            registry=registry,
            watch=watch,
            model=model,
            report=report,
            max_bytes=settings.worker.max_series_bytes,
        )
    return process_dicom(path, out, settings=settings, registry=registry, model=model, series=series, report=report)


def process_dicom(
    path: Path,
    out: Path,
    *,
    settings: Settings,
    registry: Registry,
    model: str | None,
    series: int | None,
    report: Report,
) -> dict[str, Any]:
    """A folder or zip of DICOM."""
    chosen = read_series(path, number=series, worker=settings.worker)
    report(chosen.reason)
    segmenter = choose(registry, chosen.images[0].get("Modality", ""), model)
    job = local_job(chosen.images, segmenter)
    watch = Watch(registry, settings.worker.guard)
    ports = FilePorts(settings=settings, images=chosen.images, segmenter=segmenter, watch=watch, out=out, report=report)
    began = time.time()
    results = pipeline.run(job, ports, created_at=datetime.now(tz=UTC).astimezone().replace(microsecond=0))
    return summary(segmenter, results.measurements, results.plausibility, ports.files, time.time() - began)


def local_job(images: Sequence[Dataset], segmenter: Segmenter) -> Job:
    """A job as the router would have made it, so that the same series gives the same identifiers each time."""
    study = str(images[0].get("StudyInstanceUID", ""))
    sources = sources_hash(str(image.SOPInstanceUID) for image in images)
    name, version = segmenter.card.name, segmenter.card.version
    job_id = make_job_id(study_uid=study, sources=sources, route="process", model=name, version=version)
    return Job(
        job_id=JobId(job_id),
        study_uid=StudyUID(study),
        study_orthanc_id=OrthancId(""),
        series_orthanc_ids=(),
        sources_hash=sources,
        sources_count=len(images),
        route="process",
        model=name,
        model_version=version,
    )


def process_nifti(
    path: Path, out: Path, *, registry: Registry, watch: Watch, model: str | None, report: Report, max_bytes: int
) -> dict[str, Any]:
    """A NIfTI volume: there is no patient to write DICOM about, so a mask and a picture come out."""
    segmenter = choose(registry, "MR", model)
    began = time.time()
    with pipeline.understandable():
        volume = nifti_to_volume(path, modality=sorted(segmenter.spec.modalities)[0], max_bytes=max_bytes)
        report("prepared")
        looked = watch.look(segmenter.card.name, volume)
        segmentation = segmenter.segment(volume)
        segmentation = segmentation.checked(looked) if looked else segmentation
    report("inferred")
    files = write_nifti(volume, segmentation, out, path)
    return summary(segmenter, measure(volume, segmentation), segmentation.plausibility, files, time.time() - began)


def write_nifti(volume: Volume, segmentation: Segmentation, out: Path, source: Path) -> dict[str, str]:
    """Mask and key image beside each other."""
    stem = source.name.removesuffix(".gz").removesuffix(".nii")
    mask = out / f"{stem}_mask.nii.gz"
    unfinished = out / f"unfinished_{mask.name}"  # the ending tells SimpleITK the format
    labels_to_nifti(segmentation.labels, segmentation.geometry, unfinished)
    unfinished.replace(mask)
    picture = out / "key_image.png"
    write(picture, to_png(render_key_image(volume, segmentation, measure(volume, segmentation))))
    return {mask.name: str(mask), picture.name: str(picture)}


def choose(registry: Registry, modality: str | None, model: str | None) -> Segmenter:
    """The named model, else the usual one for this modality, else the only one that reads it."""
    if model is None:
        fits = [
            d.name
            for d in registry.describe()
            if d.available
            and registry.metadata(d.name).segments
            and modality in registry.metadata(d.name).spec.modalities
        ]
        usual = [name for name in USUAL.get(modality or "", ()) if name in fits]
        if not usual and len(fits) != 1:
            names = ", ".join(fits or registry.names())
            raise PermanentError(f"which model should read this {modality} series? Name one with --model: {names}")
        model = (usual or fits)[0]
    with pipeline.understandable():
        return registry.load(model)


def summary(
    segmenter: Segmenter,
    measurements: Sequence[Measurement],
    plausibility: Plausibility,
    files: dict[str, str],
    seconds: float,
) -> dict[str, Any]:
    """What came out."""
    return {
        "model": segmenter.card.name,
        "model_version": segmenter.card.version,
        "seconds": round(seconds, 3),
        "measurements": [asdict(item) for item in measurements],
        "warnings": list(plausibility.findings),
        "plausibility": as_json(plausibility),
        "files": files,
    }


def to_json(value: dict[str, Any]) -> str:
    """As printed."""
    return json.dumps(value, indent=2, ensure_ascii=False)
