"""The system that learns likelihoods: what its loss is, guesses, pairs, and that it learns to tell pairs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.degradations import (
    JPEG,
    Chain,
    Downsample,
    GaussianBlur,
    GaussianNoise,
    Identity,
    LearnedLikelihood,
    QualityLaw,
    bits_per_dim,
)
from blemish.evaluation import Likelihoods, judge_likelihood
from blemish.functional.random import generator_for, rand
from blemish.functional.stages import to_8_bits
from blemish.networks import ConditionalPixelCNN
from blemish.systems import LikelihoodLearning, LikelihoodPairs

NETWORK = ConditionalPixelCNN.Config(
    channels=1, width=8, blocks=1, components=2, encoder=1, dropout=0.0
)
CONFIG = LikelihoodLearning.Config(
    degradation=LearnedLikelihood.Config(network=NETWORK),
    damage=GaussianNoise.Config((0.05, 0.05)),
    guessed=0.0,
    lr=1e-2,
)


def _made(config: LikelihoodLearning.Config = CONFIG) -> LikelihoodLearning:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return config.build()


def _batch(n: int = 4, name: str = "batch", side: int = 8) -> Tensor:
    return rand((n, 1, side, side), generator_for(name))


def test_the_loss_is_what_the_pairs_cost() -> None:
    system, x = _made(), _batch()
    system.prepare(x, generator_for("prepare"), 0)
    found = system.losses("L", x, generator_for("losses"), 0)
    clean, y = system.pairs(x, generator_for("prepare"))
    assert torch.equal(clean, x)
    assert torch.equal(y, to_8_bits(y))
    expected = bits_per_dim(system.degradation.log_prob(y, x), (1, 8, 8)).mean()
    assert_close(found, {"bits": expected})
    assert_close(system.judged(x, system.parts, generator_for("prepare")).mean(), expected)


def test_dropout_is_drawn_from_the_generator() -> None:
    network = replace(NETWORK, dropout=0.5)
    system, x = (
        _made(replace(CONFIG, degradation=LearnedLikelihood.Config(network=network))),
        _batch(),
    )
    system.prepare(x, generator_for("prepare"), 0)
    before = torch.random.get_rng_state()
    one, two, other = (
        system.losses("L", x, generator_for(name), 0)["bits"] for name in ("a", "a", "b")
    )
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_some_conditions_are_guesses_and_what_is_observed_stays() -> None:
    x = _batch(400)
    blur = GaussianBlur.Config((2.0, 2.0))
    system = _made(replace(CONFIG, guessed=0.25, guess=blur))
    found = system.conditions(x, generator_for("guess"))
    blurred = blur.build()(x, blur.build().sample((400, 1, 8, 8), generator=generator_for("any")))
    changed = (found != x).flatten(1).any(dim=1)
    assert torch.equal(found[changed], blurred[changed])
    # A fourth of 400, within four deviations.
    assert 65 < int(changed.sum()) < 135
    system.prepare(x, generator_for("prepare"), 0)
    plain = _made()
    plain.prepare(x, generator_for("prepare"), 0)
    assert system._pairs is not None
    assert plain._pairs is not None
    assert torch.equal(system._pairs[1], plain._pairs[1])


def test_the_default_guesses_are_of_all_strengths() -> None:
    system = _made(replace(CONFIG, guessed=1.0))
    assert isinstance(system.guess, Chain)
    x = _batch(200, side=16)
    off = (system.conditions(x, generator_for("guess")) - x).square().mean(dim=(1, 2, 3)).sqrt()
    # One in eight is none of the three.
    assert 0.04 < (off < 1e-3).float().mean() < 0.25
    assert off.max() > 0.1


def test_pairs_are_observed_images_and_their_partners() -> None:
    config = LikelihoodPairs.Config(degradation=CONFIG.degradation, guessed=0.0)
    system = config.build()
    observed, clean = to_8_bits(_batch(name="observed")), _batch(name="clean")
    x, y = system.pairs(torch.cat([observed, clean], dim=1), generator_for("unused"))
    assert torch.equal(x, clean)
    assert torch.equal(y, observed)
    shown, drawn = system.compared(observed, system.parts, generator_for("drawn"))
    assert torch.equal(shown, observed)
    assert_close(to_8_bits(drawn), drawn)


def test_what_is_shown_is_drawn_given_the_clean_image_and_the_pixels_before() -> None:
    system, x = _made(), _batch()
    damaged, drawn = system.compared(x, system.parts, generator_for("shown"))
    g = generator_for("shown")
    clean, y = system.pairs(x, g)
    params = system.degradation.sample((4, 1, 8, 8), generator=g)
    assert torch.equal(damaged, y)
    assert torch.equal(drawn, system.degradation.redrawn(y, clean, params))


def test_damage_that_cannot_be_learned_is_refused() -> None:
    with pytest.raises(ValueError, match="the damage makes images 2 times smaller"):
        replace(CONFIG, damage=Downsample.Config(2)).build()
    with pytest.raises(ValueError, match=r"guessed=1\.5 is no share"):
        replace(CONFIG, guessed=1.5)
    with pytest.raises(RuntimeError, match="call prepare first"):
        _made().losses("L", _batch(), generator_for("x"), 0)
    assert not _made(replace(CONFIG, damage=Identity.Config())).lacks("damage")
    assert _made(replace(CONFIG, damage=CONFIG.degradation)).lacks("damage")


def test_jpeg_is_as_files_are() -> None:
    config = LikelihoodLearning.Config()
    assert config.damage == JPEG.Config(QualityLaw(10, 50))


# That it learns


def _trained(config: LikelihoodLearning.Config) -> LikelihoodLearning:
    """Trains on white noise, of which a pixel tells nothing about the next."""
    system = _made(config)
    adam = torch.optim.Adam(system.degradation.parameters(), config.lr)
    for i in range(120):
        g = generator_for("toy", i)
        x = rand((24, 1, 8, 8), g)
        system.prepare(x, g, i)
        adam.zero_grad()
        system.losses("L", x, g, i)["bits"].backward()  # type: ignore[no-untyped-call]
        adam.step()
    system.degradation.eval()
    return system


@pytest.fixture(scope="module")
def learned() -> LikelihoodLearning:
    return _trained(CONFIG)


def _judged(system: LikelihoodLearning) -> Likelihoods:
    x, y = system.pairs(_batch(64, "test"), generator_for("test"))
    return judge_likelihood(system.degradation, y, x, seed=0)


def test_a_likelihood_learns_to_tell_pairs_and_the_control_does_not(
    learned: LikelihoodLearning,
) -> None:
    found, control = _judged(learned), _judged(_trained(replace(CONFIG, shuffled=True)))
    assert found.told == found.told_by(1.5) == 1
    assert found.margin > 5
    # The law of the noise itself is what the rival has: nothing is left to be better by.
    assert abs(found.gain) < 0.15
    assert abs(control.margin) < 0.05
    # White noise costs 8 bits for who knows nothing.
    assert 7.9 < control.mean("paired") < 8.1


def test_guesses_keep_a_likelihood_sensible_away_from_the_clean_images(
    learned: LikelihoodLearning,
) -> None:
    told = _trained(replace(CONFIG, guessed=0.5, guess=GaussianNoise.Config((0.0, 0.3))))
    x, y = learned.pairs(_batch(64, "test"), generator_for("test"))
    far = GaussianNoise((0.2, 0.2))
    guesses = far(x, far.sample((64, 1, 8, 8), generator=generator_for("far")))
    with torch.no_grad():
        bits = [
            float(bits_per_dim(system.degradation.log_prob(y, guesses), y.shape).mean())
            for system in (learned, told)
        ]
    assert bits[1] < bits[0] - 1
