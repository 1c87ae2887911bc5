"""The full configuration of a run: what is trained, on which data, for how long.

A recipe is a function that returns one of these; the command line changes single fields of it
(``--set training.batch=32``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["DataConfig", "RunConfig", "SelectionConfig", "TrainingConfig"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where images come from and how they are prepared.

    Attributes:
        source: A folder, a ZIP file, CIFAR-10 or IDX files, or ``glyphs``.
        size: The side of the square images in pixels; None takes them as they are.
        fit: How an image of another size is made to fit.
        channels: 1 for grey, 3 for RGB.
        clean: A source of clean images, for systems that are taught with some: partners of the same names,
            or any. None takes them from ``source``: the partners in a CSV file of pairs, or its images before its
            setting damages them.
        setting: The name of a setting that damages a clean source, one frozen copy of each image;
            None takes the source as it is.
        limit: The number of images used; None uses all.
        half: 0 or 1 trains on every second image, from the first or the second on: two runs on disjoint
            halves show how much of what they learn is chance. None takes all.
        flip: Whether images are mirrored at random.
        keep_jpeg_grid: Whether crops start at multiples of 8 pixels.
        random_crop: Whether larger images, which may have different sizes, are cropped to ``size``
            anew in every epoch; ``fit`` has no say then. With a setting whole images are damaged
            whenever they are read, and then cropped: this is slow for large photographs.
        shrink: How many times smaller images are made, by area averages, before they are cropped at random: small
            copies of damaged photographs stand for clean ones.
        skip_bad: Whether broken files are stepped over.
        held_out: The number of observed images that are not trained on, but kept for the choice of
            the best checkpoint; of fewer than ten times as many images, every tenth. 0 trains on all.
        held_out_crops: The number of crops of each of them, where they are cropped at random.
    """

    source: str = "glyphs"
    size: int | None = None
    fit: Literal["crop", "resize", "none"] = "none"
    channels: int = 3
    clean: str | None = None
    setting: str | None = None
    limit: int | None = None
    half: int | None = None
    flip: bool = False
    keep_jpeg_grid: bool = True
    random_crop: bool = False
    shrink: int = 1
    skip_bad: bool = False
    held_out: int = 0
    held_out_crops: int = 1

    def __post_init__(self) -> None:
        """Checks which images are taken, how small they are made, and the number kept."""
        if self.shrink < 1:
            raise ValueError(f"data.shrink={self.shrink}; give a whole number of at least 1")
        if self.shrink > 1 and not self.random_crop:
            raise ValueError(
                f"data.random_crop={self.random_crop} with data.shrink={self.shrink}; small copies are cropped at "
                "random: set data.random_crop=true, or data.shrink=1"
            )
        if self.half not in (None, 0, 1):
            raise ValueError(
                f"data.half={self.half}; give 0 or 1, or leave it out to train on all images"
            )
        if self.held_out < 0:
            raise ValueError(f"data.held_out={self.held_out}; it must be at least 0")
        if self.held_out_crops < 1:
            raise ValueError(f"data.held_out_crops={self.held_out_crops}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class SelectionConfig:
    """How the best checkpoint is chosen; see :mod:`blemish.training.selection`.

    It takes place at every ``sample_every``, if ``data.held_out`` images are kept for it.

    Attributes:
        features: The features that images are compared on, as :func:`~blemish.metrics.named_features`
            reads them.
        samples: The number of generated images of a measurement.
        patience: Of what is judged on held-out images, :mod:`blemish.training.stopping`: after how many measurements
            without a better one the run ends; 0 never.
    """

    features: str = "effnet-lite0@96"
    samples: int = 1000
    patience: int = 0

    def __post_init__(self) -> None:
        """Checks the numbers."""
        if self.patience < 0:
            raise ValueError(f"selection.patience={self.patience}; it must be at least 0")
        if self.samples < 2:
            raise ValueError(f"selection.samples={self.samples}; it must be at least 2")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The loop's settings; progress is counted in observed images.

    Attributes:
        images: The number of observed images to see.
        batch: The number of observed images in an iteration, over all processes.
        log_every: A line of metrics is written once in this many images.
        sample_every: A grid of samples is written once in this many images.
        checkpoint_every: A checkpoint is written once in this many images.
        keep: The number of newest checkpoints that are kept.
        precision: Number format of the networks' forward passes.
        gradient_norms: Whether each loss term's gradient norm is logged (slower).
        explode: A loss above this magnitude stops the run.
        deterministic: Whether a GPU uses deterministic kernels where there are any (slower). Those without one (the backward
            pass of reflection padding is such) only warn, so equal bits in every run are promised on a CPU alone, which needs
            no switch; a GPU comes close.
    """

    images: int
    batch: int
    log_every: int
    sample_every: int
    checkpoint_every: int
    keep: int = 3
    precision: Literal["32", "bf16"] = "32"
    gradient_norms: bool = False
    explode: float = 1e4
    deterministic: bool = True

    def __post_init__(self) -> None:
        """Checks that all cadences fall on whole iterations."""
        for name in ("images", "batch", "log_every", "sample_every", "checkpoint_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name}={getattr(self, name)}; it must be at least 1")
        for name in ("log_every", "sample_every", "checkpoint_every"):
            if getattr(self, name) % self.batch:
                raise ValueError(
                    f"training.{name}={getattr(self, name)} is no multiple of "
                    f"training.batch={self.batch}; "
                    f"set it to {-(-getattr(self, name) // self.batch) * self.batch}"
                )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that determines a run.

    Attributes:
        recipe: The name of the recipe.
        preset: The name of the preset.
        seed: The seed of every random number of the run.
        data: Where images come from.
        system: The configuration of a system, with a ``build()`` method.
        training: The loop's settings.
        selection: How the best checkpoint is chosen.
    """

    recipe: str
    preset: str
    seed: int
    data: DataConfig
    system: Any
    training: TrainingConfig
    selection: SelectionConfig = SelectionConfig()
