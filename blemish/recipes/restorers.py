"""The recipes of restorers: functions that return a full run configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..data import SHRINK
from ..degradations import simulator
from ..networks import PackedTranslator, Translator
from ..restorers import FeedForward
from ..systems import UNIR, ANDNet, CycleGAN, Supervised, Synthetic
from ..training.config import DataConfig, RunConfig
from .presets import PRESETS, Preset
from .robust_gans import Recipe, find_preset, judge, schedule

__all__ = ["RESTORATION", "TAUGHT", "with_simulator"]


def unir(preset: str, setting: str | None = None) -> RunConfig:
    """UNIR: learns a restorer from damaged images and a simulator of the damage (--degradation).

    With a setting the simulator is the true damage, unless another is given.
    """
    p = find_preset(preset)
    system = UNIR.Config(
        restorer=_restorer(p),
        discriminator=judge(p),
        lr=p.restorer_lr,
        discriminator_rate=p.discriminator_rate,
        ema=p.ema,
        r1=p.r1,
        r1_every=p.r1_every,
    )
    run = _run("unir", preset, setting, system)
    if setting is None:
        return run
    told = simulator(setting, table=p.table, chroma=p.chroma)
    return with_simulator(run, told.config, f"setting:{setting}")


def cyclegan(preset: str, setting: str | None = None) -> RunConfig:
    """CycleGAN: learns a restorer from damaged images and a set of clean ones.

    The clean ones are those of --clean, or those that a partial setting (O, P, Q) spares.
    """
    p = find_preset(preset)
    system = CycleGAN.Config(
        restorer=_restorer(p),
        discriminator=judge(p),
        # What a discriminator drives learns no faster than a generator does, or it dies.
        lr=min(p.restorer_lr, p.lr),
        cycle=p.cycle,
        identity=p.cycle / 2,
        discriminator_rate=p.discriminator_rate,
        ema=p.ema,
        r1=p.r1,
        r1_every=p.r1_every,
    )
    return _run("cyclegan", preset, setting, system)


def supervised(preset: str, setting: str | None = None) -> RunConfig:
    """A restorer taught with pairs, as the upper bound: damaged images and their clean partners.

    The partners are those of --clean, or the images of --data before --setting damages them.
    """
    p = find_preset(preset)
    system = Supervised.Config(restorer=_restorer(p), lr=2 * p.restorer_lr, ema=p.ema)
    return _run("supervised", preset, setting, system)


def synthetic(preset: str, setting: str | None = None) -> RunConfig:
    """A restorer taught with pairs that it makes itself, by a simulator of the damage (--degradation).

    The images are taken for clean; with ``data.shrink`` small copies of them are. So --setting damages none of them, but
    is the simulator, unless another is given.
    """
    p = find_preset(preset)
    system = Synthetic.Config(restorer=_restorer(p), lr=2 * p.restorer_lr, ema=p.ema)
    run = _run("synthetic", preset, None, system)
    if setting is None:
        return run
    # Nothing is learned through it: it rounds as files are rounded.
    told = simulator(setting, rounding="straight-through", table=p.table, chroma=p.chroma)
    return with_simulator(run, told.config, f"setting:{setting}")


def restorer(preset: str, setting: str | None = None) -> RunConfig:
    """From a folder of damaged photographs alone: estimates their damage, and learns to undo it.

    The damage is estimated first, unless it is given (--degradation); then a restorer is taught with small copies of
    the photographs, which are nearly clean, and what that damage makes of them.
    """
    run = synthetic(preset)
    data = replace(run.data, setting=setting, random_crop=True, shrink=SHRINK)
    return replace(run, recipe="restorer", data=data)


RESTORATION: dict[str, Recipe] = {
    "unir": unir,
    "cyclegan": cyclegan,
    "supervised": supervised,
    "synthetic": synthetic,
    "restorer": restorer,
}
"""The recipes of restorers by name."""

TAUGHT = ("cyclegan", "supervised")
"""Those whose systems are taught with clean images."""


def with_simulator(run: RunConfig, degradation: Any, name: str) -> RunConfig:
    """Returns the run with another simulator of the damage.

    Arguments:
        run: A run of a system that is given its degradation.
        degradation: The configuration of the simulator.
        name: What it is, for the record.

    Raises:
        ValueError: If the system learns the damage itself, or needs none.
    """
    if not isinstance(run.system, UNIR.Config | Synthetic.Config | ANDNet.Config):
        raise ValueError(f"{run.recipe} takes no simulator of the damage; leave --degradation out")
    changes: dict[str, Any] = {"degradation": degradation, "simulator": name}
    if isinstance(run.system, ANDNet.Config):
        # Damage that makes images smaller leaves the perturbation less to do.
        grows, shrinks = run.system.restorer.network.scale, degradation.build().scale
        if grows % shrinks:
            raise ValueError(
                f"the damage makes images {shrinks} times smaller, and the restorer {grows} times larger; give another "
                "damage, or --scale"
            )
        changes["perturbation"] = replace(run.system.perturbation, scale=grows // shrinks)
    return replace(run, system=replace(run.system, **changes))


def _restorer(preset: Preset) -> FeedForward.Config:
    channels, blocks = preset.translator
    if preset.packed:
        network: Any = PackedTranslator.Config(
            channels=channels, blocks=blocks, image_channels=preset.image_channels
        )
    else:
        network = Translator.Config(
            channels=channels,
            blocks=blocks,
            image_channels=preset.image_channels,
            residual_scale=preset.residual_scale,
        )
    return FeedForward.Config(network=network)


def _run(recipe: str, preset: str, setting: str | None, system: Any) -> RunConfig:
    p = PRESETS[preset]
    # A checkpoint of a restorer is not chosen: nothing is kept for it.
    data = DataConfig(
        size=p.crop or p.size,
        channels=p.image_channels,
        setting=setting,
        random_crop=p.random_crop,
    )
    training = schedule(p, p.iterations)
    return RunConfig(
        recipe=recipe, preset=preset, seed=0, data=data, system=system, training=training
    )
