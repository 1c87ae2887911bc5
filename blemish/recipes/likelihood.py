"""The recipes of a learned likelihood of damage, and their presets.

``paper`` is what the paper says of its network: six blocks of 100 channels, images of 256 x 256 pixels; and PixelCNN++'s
settings where it says nothing: the learning rate, 10 mixtures, half of the features left out. It has none of what was
added here. The smaller ones are for CPUs and for damage that leaves an image much as it was: means relative to the clean
image's pixels, the place in JPEG's blocks as an input, guesses among the conditions, and an end in time.

Crops are damaged themselves, so that their blocks start in their corners; those of pairs start at multiples of 8 pixels.

References:
    | Perceptual Image Restoration with High-Quality Priori and Degradation Learning (Han et al., 2021), Section 4.1
    | https://arxiv.org/abs/2103.03010
    | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications
    | (Salimans et al., 2017), https://arxiv.org/abs/1701.05517
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..degradations import LearnedLikelihood, setting
from ..networks import ConditionalPixelCNN
from ..systems import LikelihoodLearning, LikelihoodPairs
from ..training.config import RunConfig, SelectionConfig
from .crops import crops_run, one_of
from .robust_gans import Recipe

__all__ = ["LIKELIHOOD", "LIKELIHOOD_SIZES", "LikelihoodSize"]


@dataclass(frozen=True, kw_only=True)
class LikelihoodSize:
    """The size of a run.

    Attributes:
        network: The network.
        guessed: The share of conditions that are guesses.
        crop: The side of the images in pixels.
        batch: Images in an iteration.
        iterations: The number of iterations.
        lr: Adam's learning rate.
        ema: The decay of the moving average.
        kept: The number of images that are not trained on, and of crops of each, by which the run is judged.
        patience: The number of judgements without a better one after which it ends.
        reports: The number of log lines, judgements and checkpoints of a run.
    """

    network: ConditionalPixelCNN.Config
    guessed: float = 0.25
    crop: int
    batch: int
    iterations: int
    lr: float
    ema: float
    kept: tuple[int, int] = (32, 4)
    patience: int
    reports: tuple[int, int, int]


LIKELIHOOD_SIZES: dict[str, LikelihoodSize] = {
    # Four minutes on one core of a CPU.
    "tiny": LikelihoodSize(
        network=ConditionalPixelCNN.Config(
            width=24,
            blocks=2,
            components=5,
            residual=True,
            encoder=3,
            dilations=(1, 2, 4),
            phases=8,
            dropout=0.0,
        ),
        crop=32,
        batch=16,
        iterations=800,
        lr=2e-3,
        ema=0.99,
        patience=5,
        reports=(40, 10, 5),
    ),
    # Three quarters of an hour on one core of a CPU.
    "small": LikelihoodSize(
        network=ConditionalPixelCNN.Config(
            width=32,
            blocks=3,
            components=5,
            residual=True,
            encoder=3,
            dilations=(1, 2, 4),
            phases=8,
            dropout=0.1,
        ),
        crop=32,
        batch=16,
        iterations=4800,
        lr=1e-3,
        ema=0.999,
        patience=6,
        reports=(100, 16, 8),
    ),
    "paper": LikelihoodSize(
        network=ConditionalPixelCNN.Config(),
        guessed=0.0,
        crop=256,
        batch=16,
        iterations=500_000,
        lr=1e-3,
        ema=0.9995,
        kept=(0, 1),
        patience=0,
        reports=(1000, 50, 50),
    ),
}
"""The presets of these recipes by name."""


def likelihood(preset: str, setting_name: str | None = None) -> RunConfig:
    """A likelihood of damaged images given clean ones, a pixel after the other.

    It is trained on clean images, which it damages itself: by JPEG of drawn quality, or as --setting or --degradation
    say.
    """
    s = one_of(LIKELIHOOD_SIZES, preset)
    system = LikelihoodLearning.Config(**_shared(s))
    if setting_name is not None:
        system = replace(system, damage=setting(setting_name).config)
    return _run("likelihood", preset, s, system)


def likelihood_pairs(preset: str, setting_name: str | None = None) -> RunConfig:
    """A likelihood of damaged images, from real pairs: damaged photographs and their clean partners (--clean)."""
    s = one_of(LIKELIHOOD_SIZES, preset)
    run = _run("likelihood-pairs", preset, s, LikelihoodPairs.Config(**_shared(s)))
    # The blocks of a file stay where they are.
    return replace(run, data=replace(run.data, setting=setting_name, keep_jpeg_grid=True))


LIKELIHOOD: dict[str, Recipe] = {"likelihood": likelihood, "likelihood-pairs": likelihood_pairs}
"""These recipes by name."""


def _run(recipe: str, preset: str, s: LikelihoodSize, system: Any) -> RunConfig:
    run = crops_run(recipe, preset, s, system)
    images, crops = s.kept
    return replace(
        run,
        data=replace(run.data, held_out=images, held_out_crops=crops),
        selection=SelectionConfig(patience=s.patience),
    )


def _shared(s: LikelihoodSize) -> dict[str, Any]:
    """Returns what both recipes take of a preset."""
    return {
        "degradation": LearnedLikelihood.Config(network=s.network),
        **{name: getattr(s, name) for name in ("guessed", "lr", "ema")},
    }
