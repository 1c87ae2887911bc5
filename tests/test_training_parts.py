"""Averages, meters, metrics files, progress, grids, phases, cost."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from training_toy import SIZE, Toy, toy_config

from blemish.functional.random import Randomness, rand
from blemish.recipes import configure
from blemish.systems.base import Group, Phase, System
from blemish.training.config import TrainingConfig
from blemish.training.cost import estimate
from blemish.training.ema import Averages
from blemish.training.grids import save_grid
from blemish.training.metrics import Meter, MetricsFile, TensorBoard, read_metrics
from blemish.training.players import Player
from blemish.training.processes import Team, assemble
from blemish.training.progress import Progress, duration


def test_average_of_a_ramp_has_its_closed_form() -> None:
    part = nn.Linear(1, 1, bias=False)
    part.register_buffer("count", torch.tensor(0))
    with torch.no_grad():
        part.weight.zero_()
        averages = Averages({"prior": part}, decay=0.75)
        for step in range(1, 11):
            part.weight.fill_(step)
            part.count.fill_(step)
            averages.update()
    # sum of (1 - b) b^(n - i) i, i = 1..n, is n - b (1 - b^n) / (1 - b)
    expected = 10 - 0.75 * (1 - 0.75**10) / 0.25
    assert averages.modules["prior"].weight.item() == pytest.approx(expected, rel=1e-6)
    assert averages.state_dict()["prior.count"] == 10


def test_averages_keep_sharing_between_parts() -> None:
    shared = nn.Linear(2, 2)
    averages = Averages({"a": nn.Sequential(shared), "b": nn.Sequential(shared)}, 0.5)
    assert averages.modules["a"][0] is averages.modules["b"][0]
    assert averages.modules["a"][0] is not shared
    with pytest.raises(ValueError, match=r"1\.5"):
        Averages({}, 1.5)


def test_meter_keeps_nan_and_resumes_exactly() -> None:
    one, values = Meter(), [0.1, -7.0, 1 / 3]
    one.add(["a", "b"], torch.tensor([values[0], values[1]]))
    other = Meter()
    other.load_state_dict(json.loads(json.dumps(one.state_dict())), torch.device("cpu"))
    for meter in (one, other):
        meter.add(["a"], torch.tensor([values[2]]))
    assert one.largest()["b"] == 7.0
    means = one.means()
    assert means == other.means()
    assert means["a"] == pytest.approx((0.1 + 1 / 3) / 2)
    assert one.means() == {}
    for value in (math.nan, 1.0):
        one.add(["a"], torch.tensor([value]))
    assert math.isnan(one.largest()["a"])


def test_metrics_file_is_cut_at_the_checkpoint(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.begin(None, 0)
    for images in (8, 16, 24):
        file.write({"images": images, "x": math.inf})
    with file.path.open("a") as text:
        text.write('{"images": 3')
    assert [line["images"] for line in read_metrics(file.path)] == [8, 16, 24]
    (tmp_path / "new").mkdir()
    new = MetricsFile(tmp_path / "new" / "metrics.jsonl")
    new.begin(file.path, 16)
    assert read_metrics(new.path) == [{"images": 8, "x": None}, {"images": 16, "x": None}]


def test_tensorboard_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    board = TensorBoard(tmp_path, 0)
    board.write({"images": 1, "loss": 2.0})
    board.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_progress_prints_plain_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress("gan tiny", 100, 0, interval=0) as progress:
        progress.note = "D 1.2"
        progress.update(50)
        progress.say("[x] warning")
    text = capsys.readouterr().err
    assert "gan tiny: 50 of 100 images (50.0%)" in text
    assert "left  D 1.2\n[x] warning\n" in text
    with Progress("gan tiny", 100, 0, silent=True, interval=0) as progress:
        progress.update(50)
        progress.say("nothing")
    assert capsys.readouterr().err == ""


def test_progress_draws_a_bar_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("time.monotonic", iter(range(0, 10**6, 10)).__next__)
    with Progress("gan [tiny]", 100, 20) as progress:
        progress.update(60)
        progress.say("a [warning]")
    text = capsys.readouterr().err
    assert "gan [tiny]" in text
    assert "60%" in text
    assert "a [warning]" in text


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_shows_every_pixel(tmp_path: Path, channels: int) -> None:
    images = torch.rand(5, channels, 3, 4)
    images[0, 0, 0, 0] = 2.0
    save_grid(images, tmp_path / "samples" / "a.png", columns=2)
    pixels = np.atleast_3d(np.asarray(Image.open(tmp_path / "samples" / "a.png")))
    assert pixels.shape == (3 * 4 - 1, 2 * 5 - 1, channels)
    for i in range(5):
        row, column = divmod(i, 2)
        cut = pixels[4 * row : 4 * row + 3, 5 * column : 5 * column + 4]
        expected = (images[i].clamp(0, 1) * 255).round().permute(1, 2, 0)
        np.testing.assert_array_equal(cut, expected.numpy())
    assert [p.name for p in (tmp_path / "samples").iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("shape", "columns"), [((2, 2, 4, 4), 1), ((4, 4), 1), ((0, 3, 4, 4), 1), ((2, 3, 4, 4), 0)]
)
def test_grid_refuses(tmp_path: Path, shape: tuple[int, ...], columns: int) -> None:
    with pytest.raises(ValueError, match=r"expected|at least"):
        save_grid(torch.zeros(shape), tmp_path / "a.png", columns)


def test_phase_runs_from_its_start_once_in_so_many_iterations() -> None:
    system = Toy.Config().build()
    late = Player(system, system.phases[2])
    assert [i for i in range(12) if late.due(i)] == [4, 7, 10]


@pytest.mark.parametrize(
    ("group", "message"), [("generater", "it has generator, shift"), ("fixed", "trains nothing")]
)
def test_phase_without_parameters_is_refused(group: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Player(Toy.Config().build(), Phase("G", (Group(group),), 1e-3, (0.0, 0.9)))


def test_cadence_that_no_iteration_meets_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training\.log_every=12.*set it to 16"):
        TrainingConfig(images=64, batch=8, log_every=12, sample_every=8, checkpoint_every=8)


class Regression(System):
    """A linear map of 4 to 5 numbers on the images' pixels: its cost is known by hand."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        def build(self) -> Regression:
            return Regression()

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 5, bias=False)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("fit", (Group("linear"),), 1e-3, (0.9, 0.99), every=2),)

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"prior": self.linear}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 1, 2, 2

    @property
    def ema_decay(self) -> float:
        return 0.9

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        return {"square": self.linear(batch.flatten(1)).square().mean()}


def test_cost_of_a_linear_map_is_that_by_hand() -> None:
    cost = estimate(Regression(), toy_config(batch=8), (1, 2, 2))
    # Forward B x 4 x 5 and the gradient of the weight, two operations each, every second iteration.
    assert cost.flops == {"fit": 2 * (2 * 8 * 4 * 5) / 2}
    assert cost.parameters == {"linear": 20}
    assert cost.state_bytes == 4 * 20 * (1 + 1 + 2 + 1)
    # Kept: the input (B, 4) and what is squared (B, 5).
    assert cost.activation_bytes == 4 * 8 * (4 + 5)
    assert "20 parameters" in str(cost)


def test_cost_counts_double_backward_and_leaves_the_system_alone() -> None:
    system = Toy.Config().build()
    before = copy.deepcopy(system.state_dict())
    one = estimate(system, toy_config(batch=8), (1, SIZE, SIZE))
    two = estimate(system, toy_config(batch=16, checkpoint_every=80), (1, SIZE, SIZE))
    assert all(torch.equal(tensor, before[name]) for name, tensor in system.state_dict().items())
    assert two.flops_per_iteration == 2 * one.flops_per_iteration
    assert one.bytes_per_iteration > one.state_bytes
    forward = 2 * 8 * (4 * 9 * 16 + 64)  # one pass of the discriminator
    # Real and fake, forward and both backward passes; and the gradient penalty's own two sweeps.
    assert one.flops["D"] > 6 * forward
    assert vars(system).keys() == vars(Toy.Config().build()).keys()


def test_cost_of_lazy_terms_is_their_mean() -> None:
    config = configure("gan", "tiny")
    flops = {}
    for every in (1, 2, 4):
        system = replace(config.system, r1_every=every).build()
        flops[every] = estimate(system, config, (3, 16, 16)).flops["D"]
    penalised, plain = flops[1], 2 * flops[2] - flops[1]
    assert plain < penalised
    assert flops[4] == (penalised + 3 * plain) / 4


def test_processes_share_rows_and_average_what_they_hold() -> None:
    # The other process holds zeros, so that the mean is a half.
    team = Team(torch.device("cpu"), 1, 2, contextlib.nullcontext, lambda tensor: tensor / 2)
    assert team.rows(6) == range(3, 6)
    weight = torch.ones(2, 3, requires_grad=True)
    held = [weight, torch.full((4, 2), 8.0).T, torch.tensor([6.0])]
    team.average(held)
    assert [tensor.unique().tolist() for tensor in held] == [[0.5], [4.0], [3.0]]
    assert team.any(True)
    assert not team.any(False)
    assert not team.main
    share = team.share(torch.Generator().manual_seed(1))
    whole = torch.rand(6, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(rand((3, 2), share), whole[3:])


@pytest.mark.parametrize("clip", [0.5, math.inf])
def test_a_long_gradient_is_shortened(clip: float) -> None:
    class One(System):
        ema_decay, image_shape, parts = 0.0, (1, None, None), {}
        phases = (Phase("P", (Group("layer"),), 1.0, (0.0, 0.0), clip=clip),)

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1, bias=False)

        def losses(self, phase, batch, generator, iteration):  # type: ignore[no-untyped-def]
            return {"sum": (self.layer.weight * torch.tensor([[3.0, 4.0]])).sum()}

    system = One()
    player, seen = Player(system, system.phases[0]), []
    player.optimizer.register_step_pre_hook(
        lambda *_: seen.append(system.layer.weight.grad.clone())
    )
    player.step(lambda name: system.losses(name, None, None, 0), assemble("cpu", "32"))
    # Of length 5.
    expected = [3 * min(1.0, clip / 5), 4 * min(1.0, clip / 5)]
    assert seen[0][0].tolist() == pytest.approx(expected, rel=1e-4)
