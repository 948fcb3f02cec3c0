"""``medai models add``: what is checked, what is refused and why, and that nothing changes when it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign_cases import (
    LUNG,
    SPLEEN,
    Trap,
    checkpoint,
    disguised_torchscript,
    monai_bundle,
    monai_config,
    monai_unet,
    nnunet_folder,
    nnunet_network,
    onnx_folder,
    section,
    torchscript_folder,
    write_json,
)

from medai.models.errors import ModelUnavailable
from medai.models.foreign import adding, dry_run
from medai.models.foreign.adding import Step, add, name_of
from medai.models.foreign.dry_run import Trial
from medai.models.foreign.phantom import phantom
from medai.models.format.metadata import InputSpec
from medai.models.format.versions import previous
from medai.models.registry import Registry


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the dry run, where a test is about something else."""
    done = Trial(seconds=0.1, load_seconds=0.1, memory_mb=1, voxels=(4, 4, 4), found=())
    monkeypatch.setattr(dry_run, "run", lambda bundle, limit_s: done)


def refused(path: Path, models: Path, **options: Any) -> str:
    """Why a model was refused; nothing must have been put into the folder."""
    with pytest.raises(ModelUnavailable) as caught:
        add(path, models, **options)
    assert not models.exists() or not list(models.glob("*/configs"))
    return str(caught.value)


@pytest.mark.parametrize("make", [torchscript_folder, onnx_folder])
def test_a_graph_is_added_and_draws(make: Callable[..., Path], tmp_path: Path, models: Path) -> None:
    steps: list[Step] = []
    done = add(make(tmp_path / "My Lungs"), models, report=steps.append)
    assert done.name == "my_lungs"
    assert [step.what for step in steps] == ["files", "form", "hashes", "description", "dry run", "installed"]
    assert "MB); drew segments 1" in steps[4].text
    volume = phantom(InputSpec(modalities=frozenset({"CT"}), unit="HU"))
    labels = Registry((models,), device="cpu").load("my_lungs").draw(volume)
    inside = volume.voxels[labels > 0]
    assert inside.size > 1000
    assert inside.max() <= -650, "the graph draws below -0.5 of the window -1000 ... 400"


def test_the_same_again_changes_nothing_and_needs_no_dry_run(
    tmp_path: Path, models: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = torchscript_folder(tmp_path / "lungs")
    first = add(folder, models)
    monkeypatch.setattr(dry_run, "run", lambda *_args, **_options: pytest.fail("a dry run"))
    again = add(folder, models)
    assert (first.changed, again.changed, again.version) == (True, False, first.version)


def test_another_content_needs_replace_and_the_former_is_kept(tmp_path: Path, models: Path, quick: None) -> None:
    first = add(torchscript_folder(tmp_path / "lungs"), models)
    torchscript_folder(tmp_path / "lungs", title="Another title")
    with pytest.raises(ModelUnavailable, match="there is a model lungs already, version .*--replace"):
        add(tmp_path / "lungs", models)
    assert add(tmp_path / "lungs", models, replace=True).changed
    assert [item.version for item in previous(models, "lungs")] == [first.version]


def test_the_name_of_a_model_that_ships_needs_replace(tmp_path: Path, models: Path, quick: None) -> None:
    assert "name of a model that ships" in refused(torchscript_folder(tmp_path / "x"), models, name="mr_brain")


def test_hashes_of_the_weights_are_recorded_and_held(tmp_path: Path, models: Path, quick: None) -> None:
    done = add(torchscript_folder(tmp_path / "lungs"), models)
    metadata = json.loads((done.path / "configs" / "metadata.json").read_text())
    (digest,) = metadata["medai"]["weights"]["files"].values()
    assert len(digest) == 64
    (done.path / "models" / "model.ts").write_bytes(b"changed")
    with pytest.raises(ModelUnavailable, match="is not the file that this bundle was checked with"):
        Registry((models,)).metadata("lungs")


def test_a_hash_that_the_author_recorded_must_hold(tmp_path: Path, models: Path, quick: None) -> None:
    folder = torchscript_folder(tmp_path / "lungs", weights={"files": {"model.ts": "0" * 64}})
    assert "is not the file that its metadata.json was written for" in refused(folder, models)


def test_all_that_is_missing_is_listed_with_an_example(tmp_path: Path, models: Path) -> None:
    folder = torchscript_folder(tmp_path / "lungs")
    write_json(folder / "metadata.json", {"medai": {"segments": [{"number": 1, "name": "Lung"}]}})
    text = refused(folder, models)
    for place in ("title", "input", "segments.0.category", "segments.0.type", "segments.0.plausible"):
        assert f"medai.{place}: Field required (" in text
    assert "medai models add --example" in text


def test_a_code_with_a_typing_error_is_refused(tmp_path: Path, models: Path) -> None:
    folder = torchscript_folder(tmp_path / "lungs", segments=[{**LUNG, "type": ["39607080", "SCT", "Lung"]}])
    assert "'39607080' is no SNOMED CT identifier" in refused(folder, models)


def test_segments_must_answer_to_the_networks_channels(tmp_path: Path, models: Path) -> None:
    folder = torchscript_folder(tmp_path / "lungs", segments=[LUNG, {**LUNG, "number": 2, "name": "Trachea"}])
    assert "gives 2 channels; 2 segments by softmax need 3, the background first" in refused(folder, models)


def test_no_segments_at_all_are_refused(tmp_path: Path, models: Path) -> None:
    assert "medai.segments" in refused(torchscript_folder(tmp_path / "lungs", segments=[]), models)


def test_weights_alone_need_a_network(tmp_path: Path, models: Path) -> None:
    folder = tmp_path / "lungs"
    write_json(folder / "metadata.json", {"medai": section()})
    torch.save(monai_unet().state_dict(), folder / "net.pt")
    assert "medai.network_def must define their network" in refused(folder, models)


def test_a_file_needs_metadata_beside_it(tmp_path: Path, models: Path) -> None:
    folder = torchscript_folder(tmp_path / "lungs")
    (folder / "metadata.json").rename(folder / "model.json")
    assert adding.read(folder / "model.ts").kind == "a TorchScript graph"
    (folder / "model.json").unlink()
    assert "there is no metadata.json" in refused(folder / "model.ts", models)


def test_a_folder_that_is_no_model_says_what_would_be(tmp_path: Path, models: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "neither configs/metadata.json (MONAI bundle)" in refused(tmp_path / "empty", models)
    assert "does not exist" in refused(tmp_path / "nowhere", models)


def test_a_monai_bundle_takes_its_codes_from_a_file(tmp_path: Path, models: Path, quick: None) -> None:
    bundle = monai_bundle(tmp_path / "spleen", monai_unet(), monai_config([1.5, 1.5, 2.0], [16, 16, 16]))
    codes = write_json(tmp_path / "codes.json", {"segments": [{**SPLEEN}]})
    assert "medai.segments.0.type: Field required" in refused(bundle, models)
    done = add(bundle, models, codes=codes)
    metadata = json.loads((done.path / "configs" / "metadata.json").read_text())
    assert metadata["medai"]["title"] == "Decathlon spleen segmentation"
    assert (done.path / "configs" / "original_inference.json").is_file()
    assert (done.path / "docs" / "README.md").read_text() == "# Spleen\n"


def test_code_in_a_bundle_is_neither_copied_nor_run(tmp_path: Path, models: Path, quick: None) -> None:
    bundle = monai_bundle(tmp_path / "spleen", monai_unet(), monai_config([1.5, 1.5, 2.0], [16, 16, 16]))
    trap = tmp_path / "trap"
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").write_text(f"open({str(trap)!r}, 'w')")
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config["imports"].append(f"$open({str(trap)!r}, 'w')")
    write_json(bundle / "configs" / "inference.json", config)
    codes = write_json(tmp_path / "codes.json", {"segments": [SPLEEN]})
    done = add(bundle, models, codes=codes)
    assert not trap.exists()
    assert not list(done.path.rglob("*.py"))


def test_a_model_ts_stands_in_for_a_network_that_is_not_built(tmp_path: Path) -> None:
    config = monai_config([1.5, 1.5, 2.0], [16, 16, 16])
    config["network_def"] = {"_target_": "scripts.net.Mine"}
    bundle = monai_bundle(tmp_path / "spleen", monai_unet(), config)
    with pytest.raises(ModelUnavailable, match="network_def names Mine"):
        adding.read(bundle)
    torchscript_folder(bundle / "models")
    candidate = adding.read(bundle)
    assert (candidate.parameters["runner"], list(candidate.weights)) == ("torchscript", ["models/model.ts"])


@pytest.mark.parametrize("name", ["extra.pkl", "extra.pt", "extra.ckpt", "extra.pth", "extra.bin", "sub/extra.pt"])
def test_one_pickle_in_the_folder_refuses_the_whole(name: str, tmp_path: Path, models: Path) -> None:
    folder = torchscript_folder(tmp_path / "lungs")
    (folder / name).parent.mkdir(exist_ok=True)
    torch.save(Trap(tmp_path / "trap"), folder / name)
    assert "never run" in refused(folder, models)
    assert not (tmp_path / "trap").exists()


def test_pickled_code_in_the_form_of_each_kind_is_refused_and_not_run(tmp_path: Path, models: Path) -> None:
    trap = tmp_path / "trap"
    scripted = torchscript_folder(tmp_path / "scripted")
    disguised_torchscript(scripted / "model.ts", trap)
    nnunet = nnunet_folder(tmp_path / "nnunet", folds=1)
    attack = checkpoint(nnunet_network(0), init_args=Trap(trap))
    torch.save(attack, nnunet / "fold_0" / "checkpoint_final.pth")
    monai = monai_bundle(tmp_path / "monai", monai_unet(), monai_config([1, 1, 1], [16, 16, 16]))
    torch.save({"model": Trap(trap)}, monai / "models" / "model.pt")
    texts = [refused(folder, models) for folder in (scripted, nnunet, monai)]
    assert "the dry run" in texts[0], "torch's own reader finds no graph in it"
    assert all("holds pickled code, which is never run" in text for text in texts[1:])
    assert not trap.exists()


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path, models: Path) -> None:
    folder = torchscript_folder(tmp_path / "lungs")
    (tmp_path / "secret.txt").write_text("private")
    (folder / "README.md").symlink_to(tmp_path / "secret.txt")
    assert "README.md is a link that leads out of the folder" in refused(folder, models)


@pytest.mark.parametrize("place", ["../outside.safetensors", "/etc/hostname"])
def test_weights_outside_the_bundle_are_refused(place: str, tmp_path: Path, models: Path) -> None:
    folder = tmp_path / "own"
    ours = {**section(), "segmenter": "network", "weights": {"source": "bundle", "files": {place: ""}}}
    write_json(folder / "configs" / "metadata.json", {"medai": ours})
    write_json(folder / "configs" / "inference.json", {})
    (tmp_path / "outside.safetensors").write_bytes(b"private")
    assert "is not a place in a bundle" in refused(folder, models)


def test_a_model_that_takes_too_long_is_ended(tmp_path: Path, models: Path) -> None:
    assert "took more than 0.01 s (--limit)" in refused(torchscript_folder(tmp_path / "lungs"), models, limit_s=0.01)


def test_a_graph_that_fails_says_so_and_takes_no_worker_with_it(tmp_path: Path, models: Path) -> None:
    folder = torchscript_folder(tmp_path / "lungs", inferer={"multiple": 8, "dims": 2, "roi": [8, 8, 8]})
    assert "the dry run failed: lungs: inference.json: inferer: " in refused(folder, models)


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/My Model v2", "my_model_v2"), ("a/UNet_wdk24.pt", "unet_wdk24"), ("a/spleen_ct", "spleen_ct")],
)
def test_a_name_comes_from_the_path(path: str, name: str) -> None:
    assert name_of(Path(path)) == name
