"""Others' models at work: MONAI's own pipeline agrees, a job reads a study by one, and the foreign lung U-Net draws."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
import urllib3
from dicom_cases import slice_of, study_files, study_uid
from foreign_cases import SPLEEN, ct_volume, monai_bundle, monai_config, monai_unet, write_json
from servers import OrthancServer, make_orthanc, make_ris, running

from medai.models.confined.segmenter import ConfinedSegmenter
from medai.models.foreign.adding import add
from medai.models.images.preprocess import series_to_volume, to_axial
from medai.models.networks.definition import SmallUNet
from medai.models.registry import Registry
from medai.models.segmenters.cleaning import largest, within
from medai.models.segmenters.feed import body
from medai.models.volume import Labels, Volume
from medai.router.contract import JobState, Priority, sources_hash
from medai.router.delivery.courier import Courier
from medai.router.intake.facts import FactsReader
from medai.router.ledger import Ledger, NewJob
from medai.router.orthanc.client import Orthanc
from medai.router.settings.tables import Settings
from medai.workers.models_cli import main as models_command
from medai.workers.tasks import JobRunner

pytestmark = pytest.mark.slow

SPACING = [2.0, 3.0, 4.0]
"""x, y, z."""
SHAPE = (16, 24, 32)
"""z, y, x."""


def by_monai(bundle: Path, volume: Volume) -> Labels:
    """The labels as MONAI's own parser, transforms and inferer make them of the bundle's configuration."""
    from monai.bundle import ConfigParser
    from monai.data import MetaTensor

    config = json.loads((bundle / "configs" / "inference.json").read_text())
    del config["preprocessing"]["transforms"][:2]  # the array is in memory already
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.geometry.affine
    array = np.ascontiguousarray(volume.voxels.transpose(2, 1, 0))[None].astype(np.float32)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # MONAI announces its own changes
        parser = ConfigParser({key: config[key] for key in ("network_def", "preprocessing", "inferer")})
        network = parser.get_parsed_content("network_def").eval()
        network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
        image = parser.get_parsed_content("preprocessing")({"image": MetaTensor(array, affine=to_ras)})["image"]
        logits = parser.get_parsed_content("inferer")(image[None], network)
    ras: Any = logits[0].argmax(0).numpy()
    # Back to LPS, then to [z, y, x].
    return np.asarray(ras[::-1, ::-1].transpose(2, 1, 0), dtype=np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A MONAI bundle with random weights whose windows overlap."""
    return monai_bundle(tmp_path / "spleen_ct", monai_unet(), monai_config(SPACING, [16, 16, 8]))


def test_a_monai_bundle_draws_what_monai_draws(bundle: Path, tmp_path: Path) -> None:
    codes = write_json(tmp_path / "codes.json", {"segments": [SPLEEN]})
    add(bundle, tmp_path / "models", codes=codes, limit_s=300)
    volume = ct_volume(SHAPE, (2.0, 3.0, 4.0))
    expected = by_monai(bundle, volume)
    found = Registry((tmp_path / "models",), device="cpu").load("spleen_ct").draw(volume)
    assert 0.02 < expected.mean() < 0.98, "both classes are drawn"
    assert (found == expected).mean() > 0.999
    turned = np.flip(expected, axis=2)
    assert (found == turned).mean() < 0.9, "another order of the axes would show"


# -- a job


def bright_unet() -> torch.nn.Module:
    """A U-Net of MONAI, fitted for a few seconds to find what is bright in noise."""
    network = monai_unet(3).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    images = np.stack([np.stack([slice_of(i, study="fit").pixel_array for i in range(16)])]).astype(np.float32)
    image = torch.from_numpy(images)[None]
    fed = (image - image.mean()) / image.std(correction=0)
    for _ in range(60):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(fed), (image[:, 0] > 400).long())
        loss.backward()
        optimiser.step()
    assert loss < 0.1
    return network.eval()


def test_a_job_reads_a_study_by_a_monai_bundle_that_was_added(tmp_path: Path) -> None:
    config = monai_config([3.0, 3.0, 3.0], [16, 16, 16])
    normal = {"_target_": "NormalizeIntensityd", "keys": "image"}
    steps = config["preprocessing"]["transforms"]
    steps[:] = [normal if step["_target_"] == "ScaleIntensityRanged" else step for step in steps]
    bundle = monai_bundle(tmp_path / "bright", bright_unet(), config)
    segment = {**SPLEEN, "name": "Ball", "plausible": {"ml": [1, 100]}}
    reads = {"modalities": ["MR"], "unit": "arbitrary"}
    codes = write_json(tmp_path / "codes.json", {"input": reads, "segments": [segment]})
    toml = tmp_path / "medai.toml"
    toml.write_text("")
    assert models_command(["add", str(bundle), "--codes", str(codes), "--config", str(toml)]) == 0
    orthanc, ris = make_orthanc(tmp_path / "orthanc"), make_ris(tmp_path / "ris")
    with running(orthanc), running(ris):
        settings = Settings(
            orthanc={"url": orthanc.url},
            ledger={"url": f"sqlite:///{tmp_path / 'ledger.sqlite'}"},
            ris={"host": "127.0.0.1", "port": ris.port, "processing_id": "T"},
            models={"added": str(tmp_path / "medai-models")},
        )
        ledger, client = Ledger(settings.ledger.url), Orthanc(settings.orthanc)
        ledger.migrate()
        registry = Registry(settings.models.places, device="cpu")
        runner = JobRunner(settings, orthanc=client, ledger=ledger, models=registry, worker="test")
        for data in study_files("a"):
            orthanc.post(data)
        job_id = job(ledger, client, model="bright", version=registry.card("bright").version)
        model = registry.load("bright")
        assert isinstance(model, ConfinedSegmenter)
        os.kill(model.process.pid, signal.SIGKILL)
        while model.process.is_there:
            time.sleep(0.01)
        assert runner.read(job_id) is JobState.DELIVERING, "its process was started anew"
        assert Courier(settings, ledger.deliveries, client).round() == 1, "the RIS"
        seg = next(found for found in objects(orthanc) if found.Modality == "SEG")
        (result,) = ris.get("/results")
        client.close()
        ledger.close()
    assert seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue == "78961009"
    ball = sum(int((slice_of(i, study="a").pixel_array > 400).sum()) for i in range(16)) * 0.027
    assert result["measurements"][0]["value"] == pytest.approx(ball, rel=0.1)


def job(ledger: Ledger, client: Orthanc, *, model: str, version: str) -> str:
    """A job for the only study, as the router would make it."""
    (study,) = client.studies(since=0, limit=10)
    view = FactsReader(client, ledger.orders, ledger.identities, ledger.deliveries).read(study["ID"])
    assert view is not None
    with ledger.begin() as db:
        ledger.studies.see(view.seen, at=0.0, due_at=None, db=db)
    row = ledger.studies.find(study["ID"])
    assert row is not None
    series = view.facts.series[0].orthanc_id
    sops = [item["MainDicomTags"]["SOPInstanceUID"] for item in client.instances(series)]
    new = NewJob(
        study_id=row.id, study_uid=study_uid("a"), route="bright", slot="", model=model, model_version=version,
        modality="MR", series=(series,), sources_hash=sources_hash(sops), sources_count=len(sops), queue="cpu",
        priority=Priority.ROUTINE, destinations=("archive", "ris"), quiet_s=3.0,
    )  # fmt: skip
    return ledger.jobs.create(new, study=row, reason="test", now=0.0)[0]


def objects(server: OrthancServer) -> list[pydicom.Dataset]:
    """All that Orthanc holds."""
    return [
        pydicom.dcmread(BytesIO(urllib3.request("GET", f"{server.url}/instances/{instance}/file").data))
        for instance in server.get("/instances")
    ]


# -- the foreign lung U-Net


LUNGS = {
    "version": "1.0.0",
    "description": "Both lungs as one structure in axial CT.",
    "intended_use": "Shows that a foreign model runs here. Not for clinical use.",
    "medai": {
        "title": "Lungs in CT (UNet-Small)",
        "input": {"modalities": ["CT"], "unit": "HU", "min_extent_mm": [200, 150, 5]},
        "network_def": {"_target_": "medai.models.networks.definition.SmallUNet", "channels": [16, 32, 64, 128]},
        "feed": {"axes": "LPS", "intensity": {"kind": "shift", "low": -1024}},
        "inferer": {"dims": 2, "multiple": 8, "activation": "sigmoid", "threshold": 0.5},
        "cleaning": {"components": 2, "fill_holes": True, "inside_body": True},
        "segments": [
            {
                "number": 1,
                "name": "Lungs",
                "category": ["91723000", "SCT", "Anatomical Structure"],
                "type": ["39607008", "SCT", "Lung"],
                "modifier": ["51440002", "SCT", "Bilateral"],
                "plausible": {"ml": [100, 9000], "refuse_below_ml": 50},
            }
        ],
        "weights": {"origin": "GitHub knottwill/UNet-Small, Models/UNet_wdk24.pt", "licence": "MIT"},
    },
}


def test_the_foreign_lung_unet_draws_lungs_as_its_own_code_does(
    shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    weights = shared_data("weights") / "ct_lung_unet_small" / "UNet_wdk24.pt"
    volume = few_slices(shared_data("ct_chest_LIDC-IDRI-0314"))
    folder = tmp_path / "foreign_lungs"
    folder.mkdir()
    (folder / weights.name).write_bytes(weights.read_bytes())
    write_json(folder / "metadata.json", LUNGS)
    add(folder, tmp_path / "models", limit_s=300)
    result = Registry((tmp_path / "models",), device="cpu").load("foreign_lungs").segment(volume)
    expected = by_hand(weights, volume)
    both = 2 * (result.labels.astype(bool) & expected).sum()
    assert both / (result.labels.sum() + expected.sum()) > 0.98
    inside = volume.voxels[result.labels > 0]
    assert -900 < np.median(inside) < -700, "lung, not air or soft tissue"
    assert result.model.version == "1.0.0+2d9356d7"


def few_slices(folder: Path) -> Volume:
    """Every eighth slice of the middle of the chest, as if they were thick."""
    series: dict[str, list[pydicom.Dataset]] = {}
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        if dataset.get("Modality") == "CT":
            series.setdefault(dataset.SeriesInstanceUID, []).append(dataset)
    images = sorted(max(series.values(), key=len), key=lambda image: float(image.ImagePositionPatient[2]))
    third = len(images) // 3
    return series_to_volume(images[third : 2 * third : 8]).volume


def by_hand(weights: Path, volume: Volume) -> Any:
    """Slice by slice over the whole image, in plain PyTorch; then the two largest pieces within the body."""
    network = SmallUNet().eval()
    network.load_state_dict(torch.load(weights, weights_only=True, map_location="cpu"))
    axial, turn = to_axial(volume)
    assert axial.voxels.shape[1:] == (512, 512)
    masks = []
    for image in axial.voxels:
        stored = torch.from_numpy(np.maximum(image.astype(np.float32), -1024) + 1024)[None, None]
        with torch.inference_mode():
            masks.append((torch.sigmoid(network(stored))[0, 0] > 0.5).numpy())
    mask = largest(within(np.stack(masks), body(axial.voxels) > 0), 2)
    return turn.undo(mask)
