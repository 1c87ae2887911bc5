"""The scores of likelihoods: by hand, the rival's fit, who is compared with whom, and the verb."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from blemish import artefacts
from blemish.cli import run as cli
from blemish.commands import likelihoods
from blemish.commands.degrade import find_degradation
from blemish.commands.likelihoods import find_likelihood
from blemish.degradations import GaussianNoise, LearnedLikelihood, plain
from blemish.evaluation.likelihoods import (
    CONDITIONS,
    LogisticLaw,
    _apart,
    _counted,
    _logistic,
    derangement,
    judge_likelihood,
)
from blemish.functional.blur import blur
from blemish.functional.kernels import gaussian
from blemish.functional.random import generator_for, rand
from blemish.functional.stages import to_8_bits
from blemish.networks import ConditionalPixelCNN
from blemish.recipes import configure
from blemish.runs import change, start


def _logistic_images(n: int, location: float, scale: float) -> tuple[Tensor, Tensor]:
    """Returns observed images that are clean ones and logistic numbers, clipped and rounded, and these."""
    x = 0.3 + 0.4 * rand((n, 2, 16, 16), generator_for("x"))
    u = rand((n, 2, 16, 16), generator_for("u")).clamp(1e-6, 1 - 1e-6)
    return to_8_bits(x + location + scale * torch.logit(u)), x


# The rival


def test_the_rival_finds_the_law_and_its_probabilities_are_differences() -> None:
    y, x = _logistic_images(40, 0.03, 0.02)
    law = LogisticLaw.fitted(y, x)
    assert_close(torch.tensor(law.locations), torch.full((2,), 0.03), rtol=0, atol=1e-3)
    assert_close(torch.tensor(law.scales), torch.full((2,), 0.02), rtol=0.02, atol=0)
    gap = (y - x).double()
    expected = 0.0
    for c in range(2):
        m, s = law.locations[c], law.scales[c]
        upper, lower = ((gap[:, c] - m + e) / s for e in (0.5 / 255, -0.5 / 255))
        inner = upper.sigmoid() - lower.sigmoid()
        p = torch.where(y[:, c] == 0, upper.sigmoid(), inner)
        p = torch.where(y[:, c] == 1, (-lower).sigmoid(), p)
        expected = expected + p.log().sum(dim=(1, 2))
    assert_close(law.log_prob(y, x).double(), expected, rtol=1e-4, atol=1e-2)


def test_no_other_law_is_likelier() -> None:
    y, x = _logistic_images(10, 0.01, 0.04)
    law = LogisticLaw.fitted(y, x)
    best = law.log_prob(y.double(), x.double()).sum()
    for shift, factor in ((1e-3, 1.0), (-1e-3, 1.0), (0.0, 1.03), (0.0, 0.97)):
        other = LogisticLaw(
            tuple(m + shift for m in law.locations), tuple(s * factor for s in law.scales)
        )
        assert other.log_prob(y.double(), x.double()).sum() < best


@pytest.mark.parametrize("on_grid", [True, False])
def test_counted_values_have_the_law_of_all_of_them(*, on_grid: bool) -> None:
    # Many values lie in the outer bins.
    x = rand((9, 2, 12, 12), generator_for("wide"))
    x = to_8_bits(x) if on_grid else x
    u = rand((9, 2, 12, 12), generator_for("noise")).clamp(1e-6, 1 - 1e-6)
    y = to_8_bits(x + 0.02 + 0.1 * torch.logit(u))
    free = torch.tensor([0.0, 0.0, -2.0, -2.0], dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([free], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        loss = -_logistic(free, y.double(), x.double()).mean()
        loss.backward()
        return loss

    search.step(closure)
    found = LogisticLaw.fitted(y, x)
    expected = free.detach() / 2
    assert_close(torch.tensor(found.locations).double(), expected[:2], rtol=0, atol=1e-5)
    scales = free.detach()[2:].exp() / 2
    assert_close(torch.tensor(found.scales).double(), scales, rtol=1e-3, atol=0)


def test_what_is_counted_does_not_grow_with_the_images() -> None:
    y, x = _logistic_images(4, 0.03, 0.02)
    x = to_8_bits(x)
    y = to_8_bits(y)
    once, often = _counted(y, x), _counted(y.repeat(5, 1, 1, 1), x.repeat(5, 1, 1, 1))
    assert len(once[1]) <= 511 + 2 * 256
    for a, b in zip(once, often, strict=True):
        assert_close(a, b)


def test_equal_images_have_a_finite_rival() -> None:
    x = to_8_bits(rand((3, 3, 8, 8), generator_for("x")))
    law = LogisticLaw.fitted(x, x)
    assert all(math.isfinite(v) for v in (*law.locations, *law.scales))
    # The scale has a floor, at which the right value has nearly all of the probability.
    assert float(law.log_prob(x, x).max()) / (3 * 64) > -0.1


# Who is whose other


def test_a_derangement_has_no_fixed_point() -> None:
    for n in (2, 3, 10, 57):
        found = derangement(n, seed=n)
        assert sorted(found.tolist()) == list(range(n))
        assert (found != torch.arange(n)).all()
    assert torch.equal(derangement(10, seed=1), derangement(10, seed=1))
    assert not torch.equal(derangement(10, seed=1), derangement(10, seed=2))
    with pytest.raises(ValueError, match="1 images have no other ones"):
        derangement(1, seed=0)


def test_the_other_crop_is_of_another_photograph() -> None:
    groups = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3]
    found = _apart(groups, seed=0)
    assert all(groups[int(j)] != groups[i] for i, j in enumerate(found))
    # All crops of a photograph are compared with crops of one and the same other.
    assert len({groups[int(found[i])] for i in range(3)}) == 1


# The scores


def test_scores_are_what_they_are_called() -> None:
    shape = (6, 3, 8, 8)
    x = rand(shape, generator_for("x"))
    y = to_8_bits(rand(shape, generator_for("y")))
    noise = GaussianNoise((0.2, 0.2))
    found = judge_likelihood(noise, y, x, seed=5, batch=4)
    other = derangement(6, seed=5)
    kernel = gaussian(torch.ones(6, dtype=torch.float64), 7).float()
    rival = LogisticLaw.fitted(y, x)
    conditions = {
        "paired": x,
        "unpaired": x[other],
        "zero": torch.full(shape, 0.5),
        "blurred": blur(x, kernel, padding="reflect"),
        "observed": y,
    }
    assert set(found.bits) == set(CONDITIONS)
    for name, condition in conditions.items():
        expected = -noise.log_prob(y, condition).double() / (192 * math.log(2))
        assert_close(found.bits[name], expected, rtol=1e-5, atol=1e-5)
    assert_close(
        found.bits["logistic"],
        -rival.log_prob(y, x).double() / (192 * math.log(2)),
        rtol=1e-5,
        atol=1e-5,
    )
    gaps = found.bits["unpaired"] - found.bits["paired"]
    assert found.told == (gaps > 0).double().mean()
    assert found.told_by(float(gaps.median())) == (gaps >= gaps.median()).double().mean()
    assert_close(found.margin, float(gaps.mean()))
    assert_close(found.gain, found.mean("logistic") - found.mean("paired"))


def test_the_rival_may_be_fitted_to_other_pairs() -> None:
    y, x = _logistic_images(6, 0.0, 0.02)
    other = _logistic_images(6, 0.1, 0.02)
    found = judge_likelihood(GaussianNoise((0.1, 0.1)), y, x, seed=0, fitted_to=other)
    assert found.rival == LogisticLaw.fitted(*other)
    with pytest.raises(ValueError, match="8 bits"):
        judge_likelihood(GaussianNoise((0.1, 0.1)), x, x, seed=0)


# The verb


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for i in range(3):
        small = rand((1, 3, 6, 7), generator_for("photograph", i))
        x = torch.nn.functional.interpolate(small, (40, 44), mode="bicubic").clamp(0, 1)
        pixels = (255 * x[0]).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def _evaluated(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = cli(["evaluate", *map(str, words)])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def test_a_folder_called_as_damage_is_a_folder(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    artefacts.save(GaussianNoise((0.1, 0.1)), Path("jpeg"))
    assert find_likelihood("jpeg") is not None
    assert isinstance(find_degradation("jpeg"), GaussianNoise)
    assert find_likelihood("noise") is None
    with pytest.raises(ValueError, match="is no degradation"):
        find_degradation("noise")
    with pytest.raises(ValueError, match="no likelihood in closed form"):
        find_likelihood("jpeg:10")


def test_without_a_number_a_thousand_crops_are_judged(
    photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(likelihoods, "COUNT", 7)
    code, text = _evaluated(capsys, "noise:0.05", photographs, "--size", 16)
    assert code == 0, text
    assert "crops: 7 of 16x16" in text


def test_known_damage_is_evaluated(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "scores.json"
    words = ("gaussian:1+noise:0.05", photographs, "--size", 32, "-n", 10, "--json", file)
    code, text = _evaluated(capsys, *words)
    assert code == 0, text
    assert "crops: 10 of 32x32, of 3 photographs" in text
    assert "fitted to these pairs themselves" in text
    scores = {s["title"]: s["value"] for s in json.loads(file.read_text())["scores"]}
    # White noise of 0.05 costs log2(0.05 * 255 * sqrt(2 pi e)) bits; some of it is clipped.
    entropy = math.log2(0.05 * 255 * math.sqrt(2 * math.pi * math.e))
    assert_close(scores["paired (bits/dim)"], entropy, rtol=0, atol=0.2)
    assert scores["paired below unpaired (share)"] == 1
    first = text
    assert _evaluated(capsys, *words)[1] == first


def test_observed_partners_are_evaluated(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["degrade", "noise:0.1", str(photographs), str(tmp_path / "noisy")]) == 0
    network = ConditionalPixelCNN.Config(width=4, blocks=1, components=2, encoder=1, residual=True)
    artefacts.save(LearnedLikelihood.Config(network=network).build(), tmp_path / "model")
    capsys.readouterr()
    code, text = _evaluated(capsys, tmp_path / "model", photographs, "--size", 32, "-n", 6)
    assert code == 1
    assert "does not say what damage it learned" in text
    words = ("--size", 32, "-n", 6, "--observed", tmp_path / "noisy")
    code, text = _evaluated(capsys, tmp_path / "model", photographs, *words)
    assert code == 0, text
    assert f"observed: {tmp_path / 'noisy'}" in text
    # The same pairs as of the closed form, whose rival is told of the same noise.
    code, known = _evaluated(capsys, "noise:0.1", photographs, *words)
    rival = [line for line in text.splitlines() if line.startswith("logistic law of")]
    assert rival == [line for line in known.splitlines() if line.startswith("logistic law of")]


def test_a_run_is_evaluated_with_its_own_damage(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure("likelihood", "tiny")
    changes = {
        "data.source": str(photographs),
        "data.held_out": "0",
        "training.images": "8",
        "training.batch": "4",
        "data.size": "16",
    }
    start(change(config, changes), tmp_path / "run", device="cpu", silent=True)
    code, text = _evaluated(capsys, tmp_path / "run", photographs, "-n", 6)
    assert code == 0, text
    assert "crops: 6 of 16x16" in text
    assert "fitted to 48 crops of the training" in text
    code, text = _evaluated(capsys, tmp_path / "run", photographs, "--pairs")
    assert code == 1
    assert "is a likelihood, which is judged by clean photographs" in text


def test_what_has_no_likelihood_is_named(
    photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = _evaluated(capsys, "jpeg:30", photographs)
    assert code == 1
    assert "jpeg:30 has no likelihood in closed form" in text
    code, text = _evaluated(capsys, photographs, photographs, "--observed", photographs)
    assert code == 1
    assert "--observed" in text
    assert plain("noise:0.1").tells
