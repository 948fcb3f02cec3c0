"""A bundle of a run: complete, the same bytes each time, refused where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import judging_cases as cases
import pytest
import torch
from judging_cases import exported
from safetensors.torch import load_file, save_file

from medai.models.errors import ModelUnavailable
from medai.models.format.bundle import read_bundle
from medai.models.format.recipe import Recipe
from medai.models.networks.definition import build
from medai.models.networks.runners import make_runner
from medai.training.errors import TrainingError
from medai.training.export.bundle import bundle_of_run, export
from medai.training.export.description import read_description
from medai.training.runs import read_split


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_bundle_of_a_run_is_read_back_with_all_that_its_description_says(tmp_path: Path) -> None:
    bundle = read_bundle(exported(tmp_path), None)
    assert bundle.card.title == "Shell and core of a block"
    assert [segment.name for segment in bundle.segments] == ["Shell", "Core"]
    assert bundle.plausible[1].ml == (0.01, 10.0)
    recipe = Recipe.model_validate(bundle.parameters)
    assert recipe.feed.intensity.kind == "none"
    assert recipe.inferer.multiple == 4
    build(recipe.network_def).load_state_dict(load_file(bundle.weights[0]))


def test_the_bundle_keeps_configuration_and_split_but_no_path_of_the_machine(tmp_path: Path) -> None:
    bundle = exported(tmp_path)
    kept = read_split(bundle / "docs" / "split.json")
    assert (kept.dataset, kept.sides["test"], kept.seen) == ("blocks", ("c",), {"a", "b"})
    assert 'root = ""' in (bundle / "docs" / "training.toml").read_text(encoding="utf-8")
    assert not [name for name, content in files(bundle).items() if b"/nowhere" in content or b"tmp" in content]


def test_the_same_run_and_description_give_the_same_bytes(tmp_path: Path) -> None:
    first = files(exported(tmp_path))
    second = files(exported(tmp_path, replace=True))
    assert first == second


def test_weights_of_ten_megabytes_are_refused_with_the_way_out(tmp_path: Path) -> None:
    definition = {
        "_target_": "monai.networks.nets.UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": 3,
        "channels": [128, 800],
        "strides": [1],
    }
    weights = build(definition).state_dict()
    cases.make_run(tmp_path / "run", network_def=definition, weights=weights)
    with pytest.raises(TrainingError, match=r"MB; less than 10 MB are allowed. Store them in 16 bits"):
        exported(tmp_path)
    assert not (tmp_path / "bundles" / "blocks").exists()


def test_a_bundle_that_is_there_is_not_written_over_unless_asked(tmp_path: Path) -> None:
    bundle = exported(tmp_path)
    with pytest.raises(TrainingError, match="--replace"):
        exported(tmp_path)
    (bundle / "stray.txt").write_text("old", encoding="utf-8")
    exported(tmp_path, replace=True)
    assert not (bundle / "stray.txt").exists()


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "bundles" / "blocks" / "thesis.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years", encoding="utf-8")
    with pytest.raises(TrainingError, match="is not a bundle"):
        exported(tmp_path, replace=True)
    assert precious.read_text(encoding="utf-8") == "years"


def test_an_unfinished_run_is_refused_naming_what_it_lacks(tmp_path: Path) -> None:
    cases.make_run(tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(TrainingError, match=r"lacks summary\.json"):
        exported(tmp_path)


def test_extra_keys_and_files_go_into_the_bundle_and_hashed_ones_count_as_weights(tmp_path: Path) -> None:
    (tmp_path / "template.nii.gz").write_bytes(b"template")
    text = cases.DESCRIPTION.replace(
        "[input]",
        'hashed = ["models/template.nii.gz"]\n[inference]\nmargin_mm = 20\n'
        '[files]\n"models/template.nii.gz" = "template.nii.gz"\n[input]',
    )
    cases.make_run(tmp_path / "run")
    folder = tmp_path / "bundle"
    bundle = export([tmp_path / "run"], folder, read_description(cases.write_description(tmp_path, text)))
    assert bundle.parameters["margin_mm"] == 20
    assert [path.name for path in bundle.weights] == ["model.safetensors", "template.nii.gz"]


def test_a_run_can_be_judged_as_a_bundle_before_anybody_described_it(tmp_path: Path) -> None:
    with bundle_of_run(cases.make_run(tmp_path / "run")) as folder:
        bundle = read_bundle(folder, None)
        assert [segment.name for segment in bundle.segments] == ["shell", "core"]
    assert not folder.exists()


def test_several_runs_become_one_bundle_whose_networks_answer_together(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("first", "second")]
    for number, run in enumerate(runs):
        cases.make_run(run)
        weights = load_file(run / "best.safetensors")
        shifted = {name: value + 0.25 * number for name, value in weights.items() if value.is_floating_point()}
        save_file({**weights, **shifted}, run / "best.safetensors")
    description = read_description(cases.write_description(tmp_path))
    bundle = export(runs, tmp_path / "bundles" / "pair", description)
    assert [path.name for path in bundle.weights] == ["model.safetensors", "model_2.safetensors"]
    recipe = Recipe.model_validate(bundle.parameters)
    device, image = torch.device("cpu"), torch.rand((1, 1, 8, 8, 8)) * 4
    both = make_runner(recipe, bundle.weights, device, name="pair")
    single = [make_runner(recipe, (path,), device, name="one") for path in bundle.weights]
    with torch.inference_mode():
        torch.testing.assert_close(both(image), (single[0](image) + single[1](image)) / 2)
    text = (bundle.folder / "docs" / "README.md").read_text(encoding="utf-8")
    assert "The mean of 2 networks" in text


def test_runs_of_different_networks_answer_together(tmp_path: Path) -> None:
    plain, wide = cases.make_run(tmp_path / "plain"), tmp_path / "wide"
    definition = {**json.loads((plain / "summary.json").read_text(encoding="utf-8"))["network_def"]}
    other = {**definition, "channels": [2 * width for width in definition["channels"]]}
    cases.make_run(wide, network_def=other, weights=build(other).state_dict())
    bundle = export([plain, wide], tmp_path / "pair", read_description(cases.write_description(tmp_path)))
    recipe = Recipe.model_validate(bundle.parameters)
    assert recipe.members == (other,)
    device, image = torch.device("cpu"), torch.rand((1, 1, 8, 8, 8))
    both = make_runner(recipe, bundle.weights, device, name="pair")
    single = [
        make_runner(Recipe(network_def=one), (path,), device, name="one")
        for one, path in zip((definition, other), bundle.weights, strict=True)
    ]
    with torch.inference_mode():
        torch.testing.assert_close(both(image), (single[0](image) + single[1](image)) / 2)
    with pytest.raises(ModelUnavailable, match="2 networks are defined, but there are 1 weight files"):
        make_runner(recipe, bundle.weights[:1], device, name="pair")


def test_runs_that_differ_are_not_averaged(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("first", "second")]
    for run in runs:
        cases.make_run(run)
    kept = json.loads((runs[1] / "split.json").read_text(encoding="utf-8"))
    changed = {**kept, "train": [*kept["train"], *kept["test"]], "test": []}
    (runs[1] / "split.json").write_text(json.dumps(changed), encoding="utf-8")
    description = read_description(cases.write_description(tmp_path))
    with pytest.raises(TrainingError, match="differ in the held-out test cases"):
        export(runs, tmp_path / "bundle", description)
    assert not (tmp_path / "bundle").exists()


def staged(tmp_path: Path, **kept: list[str]) -> list[Path]:
    """Two runs, the second of which began with the first one's weights; ``kept`` changes the first one's split."""
    coarse, fine = cases.make_run(tmp_path / "coarse"), cases.make_run(tmp_path / "fine")
    text = (fine / "config.toml").read_text(encoding="utf-8")
    assert 'start = ""' in text
    (fine / "config.toml").write_text(text.replace('start = ""', f'start = "{coarse}"'), encoding="utf-8")
    split = json.loads((coarse / "split.json").read_text(encoding="utf-8"))
    (coarse / "split.json").write_text(json.dumps({**split, **kept}), encoding="utf-8")
    return [coarse, fine]


def test_the_run_that_another_began_from_is_told_of_with_its_configuration(tmp_path: Path) -> None:
    _, fine = staged(tmp_path)
    description = read_description(cases.write_description(tmp_path))
    bundle = export([fine], tmp_path / "blocks", description)
    docs = bundle.folder / "docs"
    assert 'start = "runs/coarse"' in (docs / "training.toml").read_text(encoding="utf-8")
    assert 'start = ""' in (docs / "training_coarse.toml").read_text(encoding="utf-8")
    text = (docs / "README.md").read_text(encoding="utf-8")
    first = "medai-train fit bundles/blocks/docs/training_coarse.toml --data DATA --out runs/coarse"
    assert text.index(first) < text.index(
        "medai-train fit bundles/blocks/docs/training.toml --data DATA --out runs/fine"
    )


def test_a_case_that_an_earlier_stage_saw_cannot_be_held_out(tmp_path: Path) -> None:
    _, fine = staged(tmp_path, train=["a", "c"], test=[])
    description = read_description(cases.write_description(tmp_path))
    with pytest.raises(TrainingError, match="c: held out by one run, seen by another"):
        export([fine], tmp_path / "blocks", description)
