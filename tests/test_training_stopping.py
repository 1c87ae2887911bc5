"""The end of a run in time: what is kept, when it stops, and that a broken run does the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from training_toy import toy_batches, toy_config

from blemish.degradations import ConstantBlur
from blemish.functional.random import Randomness
from blemish.recipes import configure
from blemish.runs import change, load, start
from blemish.systems.base import Group, Phase, System
from blemish.training.config import RunConfig, SelectionConfig
from blemish.training.loop import TrainResult, build, train
from blemish.training.selection import Measured, Selected, read_selection
from blemish.training.stopping import Watch

EVERY = 16
"""Images between judgements, two iterations."""


class Scripted(System):
    """Learns something, and is judged by a table: one entry for each judgement."""

    watched = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        curve: tuple[float, ...] = (5.0, 3.0, 4.0, 2.0, 2.5, 2.0, 2.1, 2.2, 1.0, 1.1)

        def build(self) -> Scripted:
            return Scripted(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.blur = ConstantBlur.Config(size=3).build()
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("B", (Group("blur"),), 0.1, (0.9, 0.99), average=True),)

    @property
    def parts(self) -> Mapping[str, nn.Module]:
        return {"degradation": self.blur}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 1, 6, 6

    @property
    def ema_decay(self) -> float:
        return 0.5

    def losses(
        self, phase: str, batch: Tensor, generator: Randomness, iteration: int
    ) -> dict[str, Tensor]:
        self.seen += len(batch)
        params = self.blur.sample((len(batch), 1, 6, 6), generator=generator)
        return {"dark": self.blur(batch, params).square().mean()}

    def judged(
        self, batch: Tensor, parts: Mapping[str, nn.Module], generator: Randomness
    ) -> Tensor:
        assert not torch.is_grad_enabled()
        value = self.config.curve[int(self.seen) // EVERY - 1]
        return torch.full((len(batch),), value)


def _config(images: int = 160, **training: object) -> RunConfig:
    settings = {"sample_every": EVERY, "checkpoint_every": 24, **training}
    return replace(toy_config(images, **settings), system=Scripted.Config())


def _run(
    out: Path,
    patience: int,
    config: RunConfig | None = None,
    resume: bool | None = None,
    **options: object,
) -> TrainResult:
    config = config or _config()
    watch = Watch([toy_batches(0, 3), toy_batches(3, 2)], patience=patience)
    return train(
        build(config),
        toy_batches,
        config,
        out,
        resume=resume,
        device="cpu",
        silent=True,
        hooks=(watch,),
        enough=watch.enough,
        **options,  # type: ignore[arg-type]
    )


def _kept(out: Path) -> tuple[Selected, dict[str, Tensor]]:
    selection = read_selection(out)
    assert selection is not None
    return selection, load_file(out / "best" / "degradation" / "model.safetensors")


def _weights(out: Path) -> dict[str, Tensor]:
    newest = max((out / "checkpoints").iterdir())
    return {
        f"{f.name}/{n}": t for f in newest.glob("*.safetensors") for n, t in load_file(f).items()
    }


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())


@pytest.mark.parametrize(
    ("patience", "seen", "best"),
    [(0, 160, 144), (1, 48, 32), (2, 96, 64), (4, 128, 64), (5, 160, 144)],
)
def test_a_run_ends_after_its_patience_and_keeps_the_best(
    patience: int, seen: int, best: int, tmp_path: Path
) -> None:
    result = _run(tmp_path / "r", patience)
    assert result.finished
    assert (result.state.images, result.checkpoint) == (
        seen,
        tmp_path / "r" / "checkpoints" / f"{seen:012d}",
    )
    selection, kept = _kept(tmp_path / "r")
    curve = Scripted.Config().curve[: seen // EVERY]
    assert [one.distance for one in selection.history] == pytest.approx(list(curve))
    assert (selection.held_out, selection.features) == (5, "bits/dim")
    assert selection.best is not None
    assert selection.best.images == best
    assert selection.said(selection.best) == f"{min(curve):.4g} bits/dim on held-out images"
    # What is kept is what a run has that ends there.
    ended = _run(tmp_path / "ended", 0, _config(best))
    assert _same(kept, ended.state.averages["degradation"].state_dict())


def test_an_early_end_has_a_line_of_metrics(tmp_path: Path) -> None:
    # Neither twice where a line is due, nor none where it is not.
    for every, expected in ((16, [16, 32, 48]), (40, [40, 48])):
        out = tmp_path / str(every)
        _run(out, 1, _config(log_every=every))
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        assert [line["images"] for line in lines] == expected


@pytest.mark.parametrize("broken", [16, 40, 72])
def test_a_broken_run_keeps_and_stops_as_an_unbroken_one(broken: int, tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole", 2)
    begun = _run(tmp_path / "broken", 2, stop=_after(broken // 8))
    assert (begun.finished, begun.state.images) == (False, broken)
    result = _run(tmp_path / "broken", 2, resume=True)
    assert (result.finished, result.state.images) == (True, whole.state.images)
    one, two = _kept(tmp_path / "whole"), _kept(tmp_path / "broken")
    assert one[0] == two[0]
    assert _same(one[1], two[1])
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "broken"))


def _after(iterations: int):
    left = iter(range(iterations, -1, -1))
    return lambda: next(left) <= 1


def test_what_was_found_after_the_checkpoint_does_not_count(tmp_path: Path) -> None:
    out = tmp_path / "r"
    whole = _run(tmp_path / "whole", 2)
    _run(out, 2, stop=_after(5))
    # As if a process had been killed just after judgements whose checkpoints were never written.
    selection = read_selection(out)
    assert selection is not None
    late = tuple(Measured(images, 0.1 * images) for images in (48, 64, 80))
    document = {**vars(selection), "history": [vars(m) for m in (*selection.history, *late)]}
    (out / "selection.json").write_text(json.dumps(document))
    result = _run(out, 2, resume=True)
    assert result.state.images == whole.state.images
    assert _kept(out)[0] == _kept(tmp_path / "whole")[0]


def test_a_run_that_has_ended_does_not_go_on(tmp_path: Path) -> None:
    _run(tmp_path / "r", 1)
    before = _weights(tmp_path / "r")
    result = _run(tmp_path / "r", 1, resume=True)
    assert (result.finished, result.state.images) == (True, 48)
    assert _same(before, _weights(tmp_path / "r"))
    # With more patience it goes on from there.
    assert _run(tmp_path / "r", 2, resume=True).state.images == 96


def test_a_run_that_starts_again_forgets_its_judgements(tmp_path: Path) -> None:
    out = tmp_path / "r"
    _run(out, 1)
    for checkpoint in (out / "checkpoints").iterdir():
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    assert _run(out, 1, resume=True).state.images == 48
    assert len(_kept(out)[0].history) == 3


def test_judgements_that_are_not_finite_are_no_best_ones(tmp_path: Path) -> None:
    curve = (float("nan"), 3.0, float("inf"), float("nan"), 4.0)
    config = replace(_config(80), system=Scripted.Config(curve=curve))
    result = _run(tmp_path / "r", 2, config)
    assert result.state.images == 64
    selection, _ = _kept(tmp_path / "r")
    assert [one.distance for one in selection.history] == [None, 3.0, None, None]
    never = replace(_config(80), system=Scripted.Config(curve=(float("nan"),) * 5))
    assert _run(tmp_path / "n", 3, never).state.images == 48
    assert not (tmp_path / "n" / "best").exists()


def test_impossible_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="patience=-1"):
        Watch([], patience=-1)
    with pytest.raises(ValueError, match=r"selection\.patience=-1"):
        SelectionConfig(patience=-1)


# Of a recipe


def _likelihood(**changes: str) -> RunConfig:
    base = {
        "data.source": "glyphs:100",
        "data.size": "16",
        "training.images": "96",
        "training.batch": "8",
        "training.sample_every": "16",
        "training.checkpoint_every": "16",
        "system.lr": "0.05",
        "selection.patience": "1",
        "data.held_out_crops": "2",
    }
    return change(configure("likelihood", "tiny"), {**base, **changes})


def test_a_likelihood_is_watched_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    start(_likelihood(), tmp_path / "whole", device="cpu", silent=True)
    start(_likelihood(), tmp_path / "broken", device="cpu", silent=True, stop=_after(3))
    start(_likelihood(), tmp_path / "broken", device="cpu", silent=True, resume=True)
    one, two = _kept(tmp_path / "whole"), _kept(tmp_path / "broken")
    # Two crops of each of ten images; glyphs are larger than the crops.
    assert one[0].held_out == 20
    assert one[0] == two[0]
    assert _same(one[1], two[1])
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "broken"))
    run = load(tmp_path / "whole")
    assert "bits/dim on held-out images" in run.describe()
    assert _same(one[1], run.degradation.state_dict())


def test_partners_are_kept_together(tmp_path: Path) -> None:
    changes = {"data.source": "glyphs:100", "training.images": "16", "training.batch": "8"}
    for name in ("likelihood-pairs", "likelihood"):
        config = change(configure(name, "tiny", "A"), {**changes, "data.size": "16"})
        start(config, tmp_path / name, device="cpu", silent=True)
    pairs, own = (read_selection(tmp_path / n) for n in ("likelihood-pairs", "likelihood"))
    assert pairs is not None
    assert own is not None
    # Setting A leaves images as they are: both learn the same of the same images, unless partners are mixed up.
    assert pairs.held_out == own.held_out
    assert pairs.history == own.history
