"""The robustness grid: what befalls images, who sees what, and what the numbers are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.data import MemorySource
from blemish.evaluation.robustness import (
    CLEAN,
    EQUAL,
    STRENGTHS,
    Profile,
    robustness,
    robustness_grid,
)
from blemish.functional.random import generator_for, rand
from blemish.functional.resample import bicubic
from blemish.metrics import psnr


def pictures(n: int = 2) -> MemorySource:
    rough = rand((n, 3, 6, 6), generator_for("pictures"))
    images = torch.nn.functional.interpolate(rough, size=(49, 51), mode="bicubic").clamp(0, 1)
    return MemorySource((images * 255).round().to(torch.uint8), title="t", names="n")


def square() -> MemorySource:
    images = torch.stack([pictures(1).read(0)[:, :48, :48]])
    return MemorySource(images, title="t", names="n")


def enlarge(y: Tensor) -> Tensor:
    return bicubic(y, (2 * y.shape[-2], 2 * y.shape[-1]))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_every_kind_has_its_strengths_and_the_scale(scale: int) -> None:
    grid = robustness_grid(scale)
    assert {len(row) for name, row in grid.items() if name != CLEAN} == {STRENGTHS}
    assert all(d.scale == scale for row in grid.values() for d in row)
    profile = robustness(lambda y: bicubic(y, (48 // scale * scale,) * 2), square(), scale)
    assert (profile.clean == EQUAL) == (scale == 1)
    assert profile.worst[0] < profile.mean < EQUAL


def test_stronger_damage_is_worse() -> None:
    profile = robustness(enlarge, pictures(), 2)
    assert set(profile.scores) == set(robustness_grid(2))
    for name in profile.scores:
        column = profile.column(name)
        # Random shakes may be shorter than they can be; rings are where edges are.
        if name not in ("motion", "ringing"):
            assert column == sorted(column, reverse=True), name
        assert max(column) <= profile.clean + 1e-6, name


def test_all_restorers_see_the_same_and_scores_are_as_said() -> None:
    seen: list[list[Tensor]] = [[], []]
    source = pictures()

    def watched(log: list[Tensor]) -> object:
        def restore(y: Tensor) -> Tensor:
            log.append(y)
            return enlarge(y) + 0.5 / 255 * len(log) / 100

        return restore

    profiles = [robustness(watched(log), source, 2) for log in seen]  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))
    assert profiles[0] == profiles[1]
    assert len(seen[0]) == 2 * sum(map(len, robustness_grid(2).values()))
    assert all(y.shape == (1, 3, 24, 25) for y in seen[0])
    x = source.read(0)[None, :, :48, :50].float() / 255
    estimate = (enlarge(seen[0][0]).clamp(0, 1) * 255).round() / 255
    assert_close(
        profiles[0].scores[CLEAN][0][0],
        float(psnr(estimate, x, space="y", crop=2)),
        rtol=1e-3,
        atol=0,
    )


def test_the_mean_and_the_worst_leave_the_clean_column_out() -> None:
    scores = {
        CLEAN: [[0.0, 100.0]],
        "noise": [[30.0, 34.0], [20.0, 24.0]],
        "jpeg": [[28.0, 28.0], [26.0, 30.0]],
    }
    profile = Profile(scores)
    assert (profile.clean, profile.mean) == (50.0, 27.5)
    assert profile.pictures == [26.0, 29.0]
    assert profile.worst == (22.0, "noise 2")
