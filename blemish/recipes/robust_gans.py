"""The recipes of the robust GAN family: functions that return a full run configuration.

A variant calls the recipe that it varies and changes fields.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from ..degradations import (
    Chain,
    ConstantBlur,
    ConstantJPEG,
    Identity,
    LearnedBlur,
    LearnedJPEG,
    LearnedNoise,
    simulator,
)
from ..networks import ResNetDiscriminator, ResNetGenerator
from ..priors import GANPrior
from ..systems import RobustGAN
from ..training.config import DataConfig, RunConfig, TrainingConfig
from .presets import PRESETS, Preset

__all__ = ["ROBUST_GANS", "Recipe", "find_preset", "schedule"]

Recipe = Callable[[str, str | None], RunConfig]
"""A recipe takes the names of a preset and of a setting, which may be None."""


def gan(preset: str, setting: str | None = None) -> RunConfig:
    """A plain GAN: it learns the images as they are, damage included."""
    return _run("gan", preset, setting, Identity.Config())


def ambient_gan(preset: str, setting: str | None = None) -> RunConfig:
    """AmbientGAN, which is told the true distribution of the damage.

    Raises:
        ValueError: If there is no setting to be told.
    """
    if setting is None:
        raise ValueError(
            "ambient-gan must be told the damage: give --setting, for example --setting N"
        )
    return _run("ambient-gan", preset, setting, _told(find_preset(preset), setting))


def p_ambient_gan(preset: str, setting: str | None = None) -> RunConfig:
    """P-AmbientGAN: one kernel and one quality for all images, learned directly.

    In a setting with blur alone it has the kernel only, in one with JPEG alone the quality only.
    It has no model of noise and no masks: in A (clean) and R (noise alone), as without a setting, it
    blurs and compresses every generated image, though none of the observed ones is.
    """
    shape = find_preset(preset)
    letter = (setting or "N").rpartition("/")[2]
    stages: list[Any] = []
    if letter not in "HIJKLMST":
        stages.append(ConstantBlur.Config(size=shape.kernel))
    if letter not in "BCDEFG":
        stages.append(ConstantJPEG.Config(table=shape.table, chroma=shape.chroma))
    run = _run("p-ambient-gan", preset, setting, *stages)
    return _change(run, "p-ambient-gan", degradation_rate=shape.constant_rate)


def br_gan(preset: str, setting: str | None = None) -> RunConfig:
    """BR-GAN: learns a generator of blur kernels."""
    return _run("br-gan", preset, setting, _blur(find_preset(preset)))


def nr_gan(preset: str, setting: str | None = None) -> RunConfig:
    """NR-GAN: learns a generator of noise levels."""
    return _run("nr-gan", preset, setting, _noise(find_preset(preset)))


def cr_gan(preset: str, setting: str | None = None) -> RunConfig:
    """CR-GAN: learns a generator of JPEG qualities."""
    return _run("cr-gan", preset, setting, _jpeg(find_preset(preset)))


def bncr_gan(preset: str, setting: str | None = None) -> RunConfig:
    """BNCR-GAN: learns kernels, noise levels and qualities, with adaptive consistency."""
    shape = find_preset(preset)
    run = _run("bncr-gan", preset, setting, _blur(shape), _noise(shape), _jpeg(shape))
    return _change(run, "bncr-gan", consistency_blur=0.1, consistency_compression=0.1)


def br_gan_no_mask(preset: str, setting: str | None = None) -> RunConfig:
    """BR-GAN without the kernel's mask."""
    blur = replace(_blur(find_preset(preset)), masked=False)
    return _run("br-gan-no-mask", preset, setting, blur)


def cr_gan_no_mask(preset: str, setting: str | None = None) -> RunConfig:
    """CR-GAN without the quality's mask."""
    return _run(
        "cr-gan-no-mask", preset, setting, replace(_jpeg(find_preset(preset)), masked=False)
    )


def cr_gan_ac(preset: str, setting: str | None = None) -> RunConfig:
    """CR-GAN with the adaptive consistency of compression."""
    return _change(cr_gan(preset, setting), "cr-gan-ac", consistency_compression=0.1)


def bncr_gan_no_ac(preset: str, setting: str | None = None) -> RunConfig:
    """BNCR-GAN without adaptive consistency."""
    run = bncr_gan(preset, setting)
    return _change(run, "bncr-gan-no-ac", consistency_blur=0.0, consistency_compression=0.0)


def bncr_gan_ac_blur(preset: str, setting: str | None = None) -> RunConfig:
    """BNCR-GAN with the adaptive consistency of blur alone."""
    return _change(bncr_gan(preset, setting), "bncr-gan-ac-blur", consistency_compression=0.0)


def bncr_gan_ac_comp(preset: str, setting: str | None = None) -> RunConfig:
    """BNCR-GAN with the adaptive consistency of compression alone."""
    return _change(bncr_gan(preset, setting), "bncr-gan-ac-comp", consistency_blur=0.0)


def bncr_gan_constant_c(preset: str, setting: str | None = None) -> RunConfig:
    """BNCR-GAN with consistency that is not adaptive: both weights are 1."""
    run = bncr_gan(preset, setting)
    return _change(run, "bncr-gan-constant-c", mu_blur=0.0, mu_compression=0.0)


ROBUST_GANS: dict[str, Recipe] = {
    "gan": gan,
    "ambient-gan": ambient_gan,
    "p-ambient-gan": p_ambient_gan,
    "nr-gan": nr_gan,
    "br-gan": br_gan,
    "cr-gan": cr_gan,
    "bncr-gan": bncr_gan,
    "br-gan-no-mask": br_gan_no_mask,
    "cr-gan-no-mask": cr_gan_no_mask,
    "cr-gan-ac": cr_gan_ac,
    "bncr-gan-no-ac": bncr_gan_no_ac,
    "bncr-gan-ac-blur": bncr_gan_ac_blur,
    "bncr-gan-ac-comp": bncr_gan_ac_comp,
    "bncr-gan-constant-c": bncr_gan_constant_c,
}
"""The recipes of the family by name."""


def find_preset(name: str) -> Preset:
    """Returns a preset by name.

    Raises:
        ValueError: If there is none.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def _blur(preset: Preset) -> LearnedBlur.Config:
    return LearnedBlur.Config(
        size=preset.kernel,
        latent=preset.latent,
        hidden=preset.hidden,
        mask_bias=preset.mask_bias,
        compact=preset.compact,
        normalise=preset.normalise,
        symmetric=preset.symmetric,
    )


def _noise(preset: Preset) -> LearnedNoise.Config:
    return LearnedNoise.Config(
        network=_generator(preset, 2 * preset.image_channels, preset.noise_gain)
    )


def _told(preset: Preset, setting: str) -> Any:
    return simulator(setting, table=preset.table, chroma=preset.chroma).config


def _jpeg(preset: Preset) -> LearnedJPEG.Config:
    return LearnedJPEG.Config(
        latent=preset.latent,
        hidden=preset.hidden,
        quality_bias=preset.quality_bias,
        mask_bias=preset.mask_bias,
        table=preset.table,
        chroma=preset.chroma,
    )


def _generator(preset: Preset, channels: int, gain: float) -> ResNetGenerator.Config:
    return ResNetGenerator.Config(
        latent=preset.latent,
        channels=preset.generator,
        image_channels=channels,
        residual_scale=preset.residual_scale,
        output_gain=gain,
    )


def _change(run: RunConfig, recipe: str, **changes: float) -> RunConfig:
    return replace(run, recipe=recipe, system=replace(run.system, **changes))


def _run(recipe: str, preset: str, setting: str | None, *stages: Any) -> RunConfig:
    p = find_preset(preset)
    system = RobustGAN.Config(
        prior=GANPrior.Config(network=_generator(p, p.image_channels, p.image_gain)),
        degradation=_chain(stages),
        discriminator=judge(p),
        lr=p.lr,
        ema=p.ema,
        batch_multiple=p.batch_multiple,
        r1=p.r1,
        r1_every=p.r1_every,
        diversity_noise=p.diversity_noise,
        degradation_rate=p.degradation_rate,
        quality_rate=p.quality_rate,
        discriminator_rate=p.discriminator_rate,
        # A freshly initialised kernel of the paper has a radius of 0.4 times its side.
        sane_radius=0.45 * p.kernel,
    )
    # Table 12: FFHQ is trained longer in setting N.
    iterations = 300_000 if (preset, setting) == ("ffhq128", "ffhq/N") else p.iterations
    training = schedule(p, iterations)
    data = DataConfig(
        size=p.size,
        channels=p.image_channels,
        setting=setting,
        random_crop=p.random_crop,
        held_out=p.held_out,
    )
    return RunConfig(
        recipe=recipe, preset=preset, seed=0, data=data, system=system, training=training
    )


def judge(preset: Preset) -> ResNetDiscriminator.Config:
    """Returns the discriminator of a preset."""
    return ResNetDiscriminator.Config(
        down=preset.down,
        flat=preset.flat,
        image_channels=preset.image_channels,
        residual_scale=preset.residual_scale,
        detail=preset.detail,
        factor=preset.judge_factor,
    )


class Sized(Protocol):
    """What a schedule needs to know of a preset."""

    @property
    def batch(self) -> int:
        """Images in an iteration."""
        ...

    @property
    def reports(self) -> tuple[int, int, int]:
        """The number of log lines, sample grids and checkpoints of a run."""
        ...


def schedule(preset: Sized, iterations: int) -> TrainingConfig:
    """Returns how long a run of a preset is, and how often it reports."""
    images = iterations * preset.batch
    log, sample, checkpoint = (_cadence(images, preset.batch, count) for count in preset.reports)
    return TrainingConfig(
        images=images,
        batch=preset.batch,
        log_every=log,
        sample_every=sample,
        checkpoint_every=checkpoint,
    )


def _chain(stages: tuple[Any, ...]) -> Chain.Config:
    if len(stages) == 1 and isinstance(stages[0], Chain.Config):
        return stages[0]
    return Chain.Config(stages)


def _cadence(images: int, batch: int, count: int) -> int:
    """Returns about images / count, rounded to whole batches."""
    return max(1, images // (count * batch)) * batch
