"""The system of the universal degradation model: which loss reaches what, its prices, its options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.degradations import Chain, Contrast, GaussianNoise, Imaging, UniversalDegradation
from blemish.functional.random import generator_for, rand
from blemish.losses import colour_loss, texture_distance
from blemish.networks import Critic, Redegrader
from blemish.systems import Universal, UniversalPairs
from blemish.training.players import Player
from blemish.training.processes import assemble

TINY = UniversalDegradation.Config(
    redegrader=Redegrader.Config(
        widths=(6, 8), blocks=(1, 1), condition=4, embedding=6, local=2, ratio=4
    ),
    width=4,
    kernel=5,
    norm=False,
)
CONFIG = Universal.Config(degradation=TINY, damage=Imaging.Config(strength=0.25), lr=1e-3)


def _made(config: Universal.Config = CONFIG) -> Universal:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system = config.build()
        torch.nn.init.normal_(system.degradation.redegrader.last.weight, std=0.05)
    return system


def _batch(n: int = 4) -> Tensor:
    small = rand((n, 3, 8, 8), generator_for("batch", n))
    return torch.nn.functional.interpolate(small, scale_factor=4, mode="bilinear")


def _losses(system: Universal, phase: str = "R") -> dict[str, Tensor]:
    x = _batch()
    system.prepare(x, generator_for("prepare"), 0)
    return system.losses(phase, x, generator_for("losses"), 0)


def _gradients(terms: Tensor, module: torch.nn.Module) -> set[str]:
    system_parts = dict(module.named_parameters())
    found = torch.autograd.grad(
        terms, list(system_parts.values()), allow_unused=True, retain_graph=True
    )
    return {
        name.split(".")[0]
        for name, g in zip(system_parts, found, strict=True)
        if g is not None and g.abs().sum() > 0
    }


def test_losses_are_what_they_are_called() -> None:
    system = _made(replace(CONFIG, similarity=2.0, colour=3.0))
    x = _batch()
    system.prepare(x, generator_for("prepare"), 0)
    found = system.losses("R", x, generator_for("losses"), 0)
    clean, y, _ = system.pairs(x, generator_for("prepare"))
    assert torch.equal(clean, x)
    d, g = system.degradation, generator_for("losses")
    e_g, e_l = d.latents(y)
    e_g = e_g + rand(e_g.shape, g) - 0.5
    e_l = e_l + rand(e_l.shape, g) - 0.5
    made = d.redegrade(x, d.tail(e_g), e_l, d.noise((4, 3, 32, 32), g))
    estimate = made.clamp(0, 1)
    bits_g = d.global_density.bits(e_g).sum(dim=1).mean()
    assert d.local_density is not None
    bits_l = d.local_density.bits(e_l).flatten(1).sum(dim=1).mean()
    # 8 x 8 cells and 32 x 32 pixels: k is 8.
    expected = {
        "similarity": 2 * texture_distance(estimate, y).mean(),
        "colour": 3 * colour_loss(estimate, y).mean(),
        "beyond": 2 * (made - estimate).abs().mean(),
        "rate_g": 8 * 0.2 / 1024 * bits_g,
        "rate_l": 0.2 / 1024 * bits_l,
    }
    assert_close(found, expected)
    strengths = system.strengths()
    assert_close(strengths["bits_g"].value, bits_g.item())
    assert_close(strengths["bits_l"].value, bits_l.item())
    assert system.strengths() == {}


def test_who_learns_from_what() -> None:
    system = _made()
    terms = _losses(system)
    everything = {"redegrader", "global_encoder", "head", "tail", "local_encoder"}
    assert _gradients(terms["similarity"], system.degradation) == everything
    assert _gradients(terms["colour"], system.degradation) == everything
    told = {"global_encoder", "head", "global_density"}
    assert _gradients(terms["rate_g"], system.degradation) == told
    assert _gradients(terms["rate_l"], system.degradation) == {"local_encoder", "local_density"}


@pytest.mark.parametrize("compression", ["noise", "none"])
def test_without_compression_only_densities_learn_prices(compression: Any) -> None:
    system = _made(replace(CONFIG, compression=compression))
    terms = _losses(system)
    assert _gradients(terms["rate_g"], system.degradation) == {"global_density"}
    assert _gradients(terms["rate_l"], system.degradation) == {"local_density"}


def test_codes_that_are_not_rounded_are_read_as_they_are() -> None:
    system = _made(replace(CONFIG, compression="none"))
    x = _batch()
    system.prepare(x, generator_for("prepare"), 0)
    found = system.losses("R", x, generator_for("losses"), 0)["similarity"]
    _, y, _ = system.pairs(x, generator_for("prepare"))
    d = system.degradation
    e_g, e_l = d.latents(y)
    noise = d.noise((4, 3, 32, 32), generator_for("losses"))
    estimate = d.redegrade(x, d.tail(e_g), e_l, noise).clamp(0, 1)
    assert_close(found, 10 * texture_distance(estimate, y).mean())


def test_the_first_estimate_is_about_the_clean_image() -> None:
    system = CONFIG.build()
    x = _batch()
    d = system.degradation
    first = d(x, d.encode(x, generator=generator_for("n")))
    assert 1e-5 < (first - x).std() < 0.02


@pytest.mark.parametrize(
    ("option", "term"),
    [
        ({"contrast": 0.5, "queue": 8}, "contrast"),
        ({"resemblance": 0.5}, "resemblance"),
        (
            {"adversarial": 0.5, "critic": Critic.Config(side=16, features=2, image_channels=6)},
            "adversarial",
        ),
    ],
)
def test_options_add_a_term_each(option: dict[str, Any], term: str) -> None:
    plain, system = _made(), _made(replace(CONFIG, **option))
    found, without = _losses(system), _losses(plain)
    assert found.keys() - without.keys() == {term}
    double = {k: 2 * v if k == term else v for k, v in option.items()}
    again = _losses(_made(replace(CONFIG, **double)))
    assert_close(again[term], 2 * found[term])
    assert "redegrader" in _gradients(found[term], system.degradation) or term == "contrast"
    assert _gradients(found[term], system.degradation)


def test_keys_follow_the_encoder_and_fill_the_queue() -> None:
    system = _made(replace(CONFIG, contrast=1.0, queue=8))
    before = system.queue.keys.clone()
    with torch.no_grad():
        system.degradation.global_encoder.tail[2].bias.add_(1)
    _losses(system)
    moved = system.key_encoder.tail[2].bias - _made().degradation.global_encoder.tail[2].bias
    assert_close(moved, torch.full_like(moved, 0.001), rtol=1e-3, atol=1e-6)
    changed = (system.queue.keys != before).any(dim=1)
    assert changed.tolist() == [True] * 4 + [False] * 4
    assert not any(p.requires_grad for p in system.key_encoder.parameters())


def test_the_critic_learns_in_its_own_turn() -> None:
    critic = Critic.Config(side=16, features=2, image_channels=6)
    system = _made(replace(CONFIG, adversarial=1.0, critic=critic))
    assert [phase.name for phase in system.phases] == ["R", "C"]
    terms = _losses(system, "C")
    assert terms.keys() == {"critic", "penalty"}
    assert _gradients(torch.stack(list(terms.values())).sum(), system.critic)
    assert not _gradients(torch.stack(list(terms.values())).sum(), system.degradation)


def test_pairs_are_partners() -> None:
    config = UniversalPairs.Config(degradation=TINY)
    system = config.build()
    observed, clean = _batch(), _batch(8)[4:]
    x, y, read = system.pairs(torch.cat([observed, clean], dim=1), generator_for("unused"))
    assert torch.equal(x, clean)
    assert torch.equal(y, observed)
    assert torch.equal(read, observed)
    with pytest.raises(ValueError, match="real pairs do not show one damage on two contents"):
        replace(config, crossed=0.5)


def test_a_crossed_code_is_read_off_another_content_with_the_same_damage() -> None:
    damage = Chain.Config((Contrast.Config((0.5, 1.6)), GaussianNoise.Config((0.1, 0.1))))
    system = _made(replace(CONFIG, damage=damage, crossed=1.0))
    batch = _batch()
    x, y, read = system.pairs(batch, generator_for("pairs"))
    plain = _made(replace(CONFIG, damage=damage)).pairs(batch, generator_for("pairs"))
    assert torch.equal(x, plain[0])
    assert torch.equal(y, plain[1])
    assert torch.equal(plain[2], plain[1])
    # The contrast is that of y, the content that of the image before, the noise neither's.
    again = system.damage.sample((4, 3, 32, 32), generator=generator_for("pairs"))
    a = again.tensors()["stages.0.gain"].view(-1, 1, 1, 1)
    noise = read - (0.5 + a * (batch.roll(1, 0) - 0.5))
    inside = (read > 0) & (read < 1)
    assert 0.09 < noise[inside].std() < 0.11
    of_y = y - (0.5 + a * (batch - 0.5))
    both = inside & (y > 0) & (y < 1)
    pair = torch.stack([noise[both], of_y[both]])
    assert abs(torch.corrcoef(pair)[0, 1]) < 0.05


def test_a_share_of_codes_is_crossed() -> None:
    system = _made(replace(CONFIG, crossed=0.25))
    batch = _batch(64)
    _, y, read = system.pairs(batch, generator_for("pairs"))
    share = (y != read).flatten(1).any(dim=1).float().mean()
    assert 0.1 < share < 0.4


def test_what_is_shown_is_damaged_and_redegraded() -> None:
    system = _made()
    damaged, found = system.compared(_batch(), system.parts, generator_for("shown"))
    assert damaged.shape == found.shape == (4, 3, 32, 32)
    assert not torch.equal(damaged, found)
    assert not torch.equal(damaged, _batch())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": -1.0}, "rate=-1.0"),
        ({"crossed": 1.5}, "crossed=1.5 is no share"),
        ({"colour": float("nan")}, "colour=nan"),
        ({"distance": "lpips"}, "distance='lpips' is not known"),
        ({"distance": "dists:one"}, "give texture, or dists:VGG,WEIGHTS"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes).build()


def test_damage_keeps_the_size() -> None:
    from blemish.degradations import Downsample

    with pytest.raises(ValueError, match="2 times smaller"):
        replace(CONFIG, damage=Downsample(2).config).build()


@pytest.mark.slow
def test_eight_pairs_are_learned_by_heart() -> None:
    # Noise alone: nothing but a draw of its own can come near.
    damage = GaussianNoise((0.05, 0.2)).config
    with torch.random.fork_rng():
        torch.manual_seed(0)
        system = replace(CONFIG, damage=damage, rate=0.0).build()
    player, team = Player(system, system.phases[0]), assemble("cpu", "32")
    x, losses = _batch(8), []
    system.prepare(x, generator_for("prepare"), 0)
    for i in range(200):
        g = generator_for("losses", i)
        turn = player.step(lambda name, g=g, i=i: system.losses(name, x, g, i), team)
        losses.append(dict(zip(turn.names, turn.losses.tolist(), strict=True))["similarity"])
    # The first estimate is about the clean image.
    assert sum(losses[-10:]) / 10 < 0.55 * losses[0]
