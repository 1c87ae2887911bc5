"""The recipes of restorers that are taught with the worst small damage, and their presets.

Where the paper says how large something is, ``div2k`` is the paper's. Its ball is not, with which training diverges:
each kind of perturbation has a ball of its own, and filters leave flat images as they are. The smaller presets have
smaller networks, of restorers as of perturbations, and a larger learning rate.

Each kind of perturbation alone takes images as far as the others at the median: 33 dB in ``tiny``, where every other
image is perturbed, and about 40 dB in the others, as a good JPEG does; all together 26 and about 33 dB. The radii are
read off ``python benchmarks/neural.py radii``, which trains no restorer.

References:
    | AND: Adversarial Neural Degradation for Learning Blind Image Super-Resolution (Luo et al., NeurIPS 2023),
      Sections 4.3 and 4.5
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from ..degradations import NeuralDegradation, Radii
from ..functional.pool import Pool
from ..networks import RRDBNet, UNetDiscriminator, Upscaler
from ..restorers import FeedForward
from ..systems import ANDGAN, ANDNet, Synthetic
from ..training.config import RunConfig
from .crops import crops_run, damage_of, one_of
from .robust_gans import Recipe, schedule

__all__ = ["HARDENING", "SIZES", "Size", "with_restorer", "with_scale"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a run.

    Attributes:
        network: The restorer's network; its scale is set by ``--scale``.
        discriminator: ANDGAN's.
        crop: The side of the clean images in pixels.
        channels: The channels of the perturbations' networks.
        blocks: Their blocks before and after the reduction.
        pool: The filter of the reduction. Most small images were reduced bicubically; the paper's filter is softer,
            and a restorer that knows only that one sharpens them too much.
        clean: The share of images that are left unperturbed, which the smaller restorers need to stay good at those.
        radii: How far perturbations may be from the identity.
        reach: How many times as far random ones are, which takes images as far on average.
        only_noise: The root mean square of the worst noise that takes reduced images as far.
        batch: Images in an iteration.
        iterations: The number of iterations.
        gan_iterations: ANDGAN's.
        lr: Adam's learning rate.
        ema: The decay of the moving average.
        reports: The number of log lines, sample grids and checkpoints of a run.
    """

    network: Any
    discriminator: UNetDiscriminator.Config
    crop: int
    channels: int
    blocks: tuple[int, int]
    pool: Pool = "bicubic"
    clean: float = 0.25
    radii: Radii
    reach: float
    only_noise: float
    batch: int
    iterations: int
    gan_iterations: int
    lr: float
    ema: float
    reports: tuple[int, int, int]


SIZES: dict[str, Size] = {
    # Seventeen minutes on one core of a CPU.
    "tiny": Size(
        network=Upscaler.Config(channels=32, blocks=3),
        discriminator=UNetDiscriminator.Config(features=16),
        crop=64,
        channels=8,
        blocks=(2, 2),
        clean=0.5,
        radii=Radii(kernel=0.051, slope=0.037, noise=0.0146),
        reach=3.91,
        only_noise=0.0512,
        batch=8,
        iterations=6000,
        gan_iterations=1500,
        lr=1e-3,
        ema=0.995,
        reports=(100, 10, 5),
    ),
    # Some hours on a CPU.
    "photos": Size(
        network=Upscaler.Config(channels=64, blocks=6),
        discriminator=UNetDiscriminator.Config(features=32),
        crop=96,
        channels=16,
        blocks=(2, 2),
        radii=Radii(kernel=0.036, slope=0.021, noise=0.0065),
        reach=3.7,
        only_noise=0.022,
        batch=8,
        iterations=16_000,
        gan_iterations=8000,
        lr=5e-4,
        ema=0.999,
        reports=(160, 16, 16),
    ),
    # The paper's; it names DIV2K, Flickr2K and WED as its data.
    "div2k": Size(
        network=RRDBNet.Config(),
        discriminator=UNetDiscriminator.Config(),
        crop=256,
        channels=64,
        blocks=(5, 5),
        pool="binomial",
        clean=0.0,
        radii=Radii(kernel=0.0265, slope=0.016, noise=0.0044),
        reach=7.3,
        only_noise=0.022,
        batch=48,
        iterations=1_000_000,
        gan_iterations=500_000,
        lr=1e-4,
        ema=0.999,
        reports=(2000, 50, 50),
    ),
}
"""The presets of these recipes by name."""


def andnet(preset: str, setting: str | None = None) -> RunConfig:
    """ANDNet: learns to restore clean images that the worst small damage befell (--scale makes it enlarge).

    With a setting, or --degradation, that damage befalls the images first; they themselves are clean.
    """
    return _run("andnet", preset, setting)


def andgan(preset: str, setting: str | None = None) -> RunConfig:
    """ANDGAN: goes on training an ANDNet (--restorer) with a perceptual and an adversarial loss, for texture."""
    run = _run("andgan", preset, setting)
    shared = {field.name: getattr(run.system, field.name) for field in fields(run.system)}
    s = find_size(preset)
    system = ANDGAN.Config(**shared, discriminator=s.discriminator)
    return replace(run, system=system, training=schedule(s, s.gan_iterations))


def no_perturbation(preset: str, setting: str | None = None) -> RunConfig:
    """Classical super-resolution: learns to undo the reduction alone, from bicubically reduced images."""
    run = _run("andnet-bicubic", preset, setting)
    plain = replace(run.system.perturbation, pool="bicubic")
    return replace(run, system=replace(run.system, perturb="none", perturbation=plain))


def noise(preset: str, setting: str | None = None) -> RunConfig:
    """ANDNet's rival: learns to undo the worst noise on the reduced image, instead of the worst network."""
    run = _run("andnet-noise", preset, setting)
    radii = replace(
        run.system.perturbation.radii, kernel=0.0, slope=0.0, noise=find_size(preset).only_noise
    )
    alone = replace(run.system.perturbation, blocks=(0, 1), radii=radii)
    return replace(run, system=replace(run.system, perturbation=alone))


def random(preset: str, setting: str | None = None) -> RunConfig:
    """ANDNet's rival: learns to undo perturbations drawn at random, that take images as far as the worst."""
    run = _run("andnet-random", preset, setting)
    return replace(run, system=replace(run.system, perturb="random"))


def no_identity(preset: str, setting: str | None = None) -> RunConfig:
    """ANDNet's ablation: the unperturbed network is no identity, but any network."""
    run = _run("andnet-no-identity", preset, setting)
    anything = replace(run.system.perturbation, identity=False)
    return replace(run, system=replace(run.system, perturbation=anything))


def harden(preset: str, setting: str | None = None) -> RunConfig:
    """Goes on training any restorer (--restorer) against the worst small damage.

    What it undoes befalls images first: the damage that it was trained against, or --degradation.
    """
    return _run("harden", preset, setting)


HARDENING: dict[str, Recipe] = {
    "andnet": andnet,
    "andgan": andgan,
    "andnet-bicubic": no_perturbation,
    "andnet-noise": noise,
    "andnet-random": random,
    "andnet-no-identity": no_identity,
    "harden": harden,
}
"""These recipes by name."""


def find_size(preset: str) -> Size:
    """Returns a preset by name.

    Raises:
        ValueError: If these recipes have none of this name.
    """
    return one_of(SIZES, preset)


def with_scale(run: RunConfig, scale: int) -> RunConfig:
    """Returns the run with a restorer that makes images so many times larger.

    Arguments:
        run: A run that trains a restorer.
        scale: The factor.

    Raises:
        ValueError: If its restorer keeps the size.
    """
    if not isinstance(run.system, ANDNet.Config | Synthetic.Config) or run.recipe == "restorer":
        raise ValueError(f"{run.recipe} keeps the size of images; leave --scale out")
    network = run.system.restorer.network
    if network.scale == scale:
        return run
    if not isinstance(network, Upscaler.Config | RRDBNet.Config):
        # As wide and as deep as the one that keeps the size.
        network = Upscaler.Config(
            channels=network.channels, blocks=network.blocks, image_channels=network.image_channels
        )
    changes: dict[str, Any] = {
        "restorer": FeedForward.Config(network=replace(network, scale=scale))
    }
    if isinstance(run.system, ANDNet.Config):
        changes["perturbation"] = replace(run.system.perturbation, scale=scale)
    return replace(run, system=replace(run.system, **changes))


def with_restorer(run: RunConfig, restorer: FeedForward.Config) -> RunConfig:
    """Returns the run with another restorer, to go on training from.

    Arguments:
        run: A run of a system that may go on training a restorer.
        restorer: Its configuration.

    Raises:
        ValueError: If the system starts from a fresh one.
    """
    if not isinstance(run.system, ANDNet.Config):
        raise ValueError(f"{run.recipe} starts from a fresh restorer; leave --restorer out")
    network = restorer.network
    changes: dict[str, Any] = {"restorer": restorer}
    changes["perturbation"] = replace(run.system.perturbation, scale=network.scale)
    if isinstance(run.system, ANDGAN.Config):
        judge = replace(run.system.discriminator, image_channels=network.image_channels)
        changes["discriminator"] = judge
    return replace(
        run,
        system=replace(run.system, **changes),
        data=replace(run.data, channels=network.image_channels),
    )


def _run(recipe: str, preset: str, setting: str | None) -> RunConfig:
    s = find_size(preset)
    perturbation = NeuralDegradation.Config(
        scale=s.network.scale,
        channels=s.channels,
        blocks=s.blocks,
        pool=s.pool,
        radii=s.radii,
        reach=s.reach,
    )
    system = ANDNet.Config(
        restorer=FeedForward.Config(network=s.network),
        perturbation=perturbation,
        clean=s.clean,
        lr=s.lr,
        ema=s.ema,
    )
    if setting is not None:
        system = replace(system, degradation=damage_of(setting), simulator=f"setting:{setting}")
    return crops_run(recipe, preset, s, system)
