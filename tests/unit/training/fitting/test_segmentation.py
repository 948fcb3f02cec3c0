"""Segmentation as a task: which patches an epoch holds, what the loss counts, and how a network is scored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from judging_cases import block_case

from medai.training.cases import Case
from medai.training.config import TrainingConfig, parse
from medai.training.data.prepare import Prepared, prepare
from medai.training.fitting.segmentation import Patches, SegmentationTask, make_loss, overlays


def config(**changes: Any) -> TrainingConfig:
    table: dict[str, Any] = {
        "name": "x", "data": {"classes": {"shell": [1], "core": [2]}}, "feed": {"intensity": {"kind": "none"}},
        "inferer": {"multiple": 1}, "network": {"channels": [4, 8]}, "budget": {"patch": [8, 8, 8]},
    }  # fmt: skip
    return parse({**table, **changes}, where="test")


def prepared(count: int = 3) -> list[Prepared]:
    return [
        prepare(Case(name=str(n), patient=str(n), read=block_case), block_case(noise=n), config()) for n in range(count)
    ]


def order(cases: list[Prepared], epoch: int, **budget: Any) -> list[int]:
    found = Patches(cases, config(budget={"patch": [8, 8, 8], **budget}), epoch, None)  # type: ignore[arg-type]
    assert len(found) == len(found._order)
    return [int(index) for index in found._order]


def test_an_epoch_takes_every_case_before_it_takes_one_again() -> None:
    cases = prepared()
    once = order(cases, 0, patches_per_case=2)
    assert sorted(once[:3]) == sorted(once[3:]) == [0, 1, 2]
    assert order(cases, 0, patches_per_case=2) == once
    assert any(order(cases, epoch, patches_per_case=2) != once for epoch in range(1, 5))
    assert len(order(cases, 0, cases_per_epoch=4, patches_per_case=1)) == 4


def test_a_network_that_draws_the_truth_scores_one_and_a_class_that_is_not_there_does_not_count() -> None:
    cases = prepared(2)
    task = SegmentationTask(config(), cases, cases)

    def perfect(images: torch.Tensor) -> torch.Tensor:
        """The blocks' values tell their classes."""
        values = images.round()
        return torch.cat([(values < 1.5), (values >= 1.5) & (values < 3.0), values >= 3.0], dim=1).float() * 20

    truth = [prepare(Case(name="t", patient="t", read=block_case), block_case(), config())]
    task = SegmentationTask(config(), cases, truth)
    found = task.validate(perfect, torch.device("cpu"))
    assert found == {"dice_shell": 1.0, "dice_core": 1.0, "score": 1.0}
    without = [Prepared(name="t", image=truth[0].image, target=np.minimum(truth[0].target, 1), fed=truth[0].fed)]
    scored = SegmentationTask(config(), cases, without).validate(perfect, torch.device("cpu"))
    assert np.isnan(scored["dice_core"])
    assert scored["score"] == scored["dice_shell"] < 1.0


def test_without_validation_cases_there_is_no_score() -> None:
    assert SegmentationTask(config(), prepared(1), []).validate(lambda x: x, torch.device("cpu"))["score"] == 0.0


def test_the_network_has_a_channel_for_each_class_and_one_for_the_background() -> None:
    task = SegmentationTask(config(), prepared(1), [])
    assert task.network_def()["out_channels"] == len(task.classes) == 3
    assert task.network_def()["spatial_dims"] == 3
    assert task.sample().shape == (1, 1, 8, 8, 8)


@pytest.mark.parametrize("name", ["ce", "dice_ce", "dice_focal"])
def test_a_loss_is_smaller_for_what_is_right(name: str) -> None:
    loss = make_loss(config(loss={"name": name}))
    target = torch.zeros((1, 3, 4, 4, 4))
    target[:, 1] = 1.0
    right, wrong = 9 * target, 9 * target.roll(1, dims=1)
    assert float(loss(right, target)) < 0.4 * float(loss(wrong, target))


def test_a_picture_shows_truth_and_answer_side_by_side_on_the_same_grey() -> None:
    image = np.linspace(0, 1, 24).reshape(4, 6)
    nothing, all_of_it = np.zeros((4, 6), np.uint8), np.ones((4, 6), np.uint8)
    found = overlays(image, [nothing, all_of_it])
    assert found.shape == (4, 12, 3)
    assert found.dtype == np.uint8
    assert (found[:, :6, 0] == found[:, :6, 2]).all(), "grey"
    assert (found[:, 6:, 0] >= found[:, 6:, 2]).all()
    assert (found[:, 6:, 0] > found[:, 6:, 2]).any(), "orange"
