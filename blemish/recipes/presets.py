"""Presets: how large the networks are and how long they are trained.

``cifar10`` and ``ffhq128`` are exactly the paper's. The smaller ones depart from it, each departure
being a field here: smaller batches and JPEG that is nearer to libjpeg's in all of them; in all but
``tiny`` larger residuals, a lazy gradient penalty, and degradation generators that start near the
identity, learn more slowly and keep the brightness, without which short runs explain everything by
damage. The presets that are named ``small`` have a lighter gradient penalty, too; the two at 16 x 16
pixels generate no more images than they observe, and in the two for RGB the discriminator learns
faster than the generators.

Learning rates go with the length of a run. Adam without momentum takes steps of about the rate even
where gradients are noise, so that weights walk by about lr times the square root of the iterations:
0.11 in the paper (2e-4, 300,000 iterations). At 0.27 the discriminator's activations grew until its last
layer was dead; in the presets named ``small`` its rate is near the paper's product, and the RGB
generators' half to two thirds of it: at the paper's 2e-4 the learned degradations were too slow for
20,000 iterations. For RGB a penalty of 0.3 still flattened the discriminator, 0.03 did not; before the
steeper one, the noise needs a larger weight of its diversity, or the images take it over.

In ``cifar10-quick`` the discriminator is shown the images' detail beside them, amplified: damage is in the
detail, which has little of an image's energy, and a fresh network sees the rest. What it takes more than
400 iterations to notice otherwise, that images went through setting N twice and not once, it notices in
100. Then other things stand in the way, each a field: free kernels and the images moved half a pixel
against one another, which restorers undo; and the quality, a single number, ran to 100, where its gradient
ends, before the noise was found, so that blur had to stand for JPEG.

References:
    | Blur, Noise, and Compression Robust GANs (Kaneko & Harada, 2021), C.1 and C.2
    | https://arxiv.org/abs/2003.07849
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..functional.jpeg import Chroma, Table

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The size of a run.

    Attributes:
        size: The side of the images in pixels; the generator has log2(size / 4) blocks.
        image_channels: 1 for grey, 3 for RGB.
        latent: The dimension of all latents.
        generator: The channels of the generators' blocks.
        down: The channels of the discriminator's down-sampling blocks.
        flat: The channels of its other blocks.
        kernel: The side of the learned blur kernels.
        hidden: The width of G_k and G_q.
        residual_scale: The factor of the residuals.
        batch: Observed images in an iteration.
        batch_multiple: Generated images per observed image in the generators' turn.
        iterations: The number of iterations.
        lr: Adam's learning rate of the generators.
        ema: The decay of the moving averages.
        r1: The weight of the gradient penalty.
        r1_every: How often the gradient penalty is computed.
        diversity_noise: The weight of the noise's diversity.
        degradation_rate: The learning rate of the degradation relative to ``lr``.
        quality_rate: The learning rate of learned qualities relative to the degradation's.
        constant_rate: The same for P-AmbientGAN's. Its parameters are logits, not a network's weights,
            and each moves by at most the rate in an iteration: short runs need a higher one.
        discriminator_rate: The learning rate of the discriminator relative to ``lr``.
        mask_bias: The initial bias of the masks' logits.
        compact: Whether learned kernels start compact rather than flat.
        quality_bias: The initial bias of the quality's logit.
        image_gain: The gain of the initial weights of the last layer of G_x. Details that the damage
            hides (fine colours under 4:2:0) have no gradient and stay as they start: better faint.
        noise_gain: The same of G_n.
        normalise: Whether learned kernels are scaled to sum 1.
        table: The tables of differentiable JPEG. ``continuous`` ones with ``nearest`` chroma are the
            codec of Shin & Song (2017), which the paper cites; ``integer`` ones with ``bilinear``
            chroma are nearer to libjpeg.
        chroma: How it enlarges subsampled colour.
        translator: The channels and the residual blocks of a restorer.
        packed: Whether the restorer works on packed pixels; see :mod:`blemish.networks.translator`.
        symmetric: Whether learned kernels are symmetric, so that they cannot move images.
        detail: How much the detail that a discriminator is shown beside the image is amplified; 0 shows
            none, as in the paper.
        judge_factor: The side of the blocks of pixels that a discriminator packs into channels.
        cycle: CycleGAN's :math:`\\lambda_{cyc}`, whose identity has half of it. Both cost nothing where
            nothing is changed: at its authors' 10, short runs of packed restorers end there.
        random_crop: Whether images are larger than networks see, and cropped anew in every epoch.
        crop: The side of the images that restorers see, if it is another one.
        restorer_lr: Adam's learning rate of a restorer; supervised, twice that; CycleGAN's is at most ``lr``.
        family: The settings that fit this size: ``""`` for CIFAR-10's, ``"ffhq/"`` for FFHQ's.
        reports: The number of log lines, sample grids and checkpoints of a run.
        held_out: The number of observed images kept for the choice of the best checkpoint.
    """

    size: int
    image_channels: int = 3
    latent: int = 128
    generator: tuple[int, ...]
    down: tuple[int, ...]
    flat: tuple[int, ...]
    kernel: int = 9
    hidden: int = 128
    residual_scale: float = 0.1
    batch: int = 64
    batch_multiple: int = 2
    iterations: int
    lr: float = 2e-4
    ema: float = 0.999
    r1: float = 10.0
    r1_every: int = 1
    diversity_noise: float = 0.02
    degradation_rate: float = 1.0
    quality_rate: float = 1.0
    constant_rate: float = 1.0
    discriminator_rate: float = 1.0
    mask_bias: float = 0.0
    compact: bool = False
    quality_bias: float = 0.0
    image_gain: float = 1.0
    noise_gain: float = 1.0
    normalise: bool = False
    table: Table = "continuous"
    chroma: Chroma = "nearest"
    translator: tuple[int, int] = (128, 3)
    packed: bool = False
    symmetric: bool = False
    detail: float = 0.0
    judge_factor: int = 1
    cycle: float = 10.0
    random_crop: bool = False
    crop: int | None = None
    restorer_lr: float = 1e-4
    family: str = ""
    reports: tuple[int, int, int] = (1000, 50, 60)
    held_out: int = 1000


# What all small presets start from, with everything that keeps short runs stable.
_SMALL16 = Preset(
    size=16,
    latent=64,
    generator=(24, 24),
    down=(24, 24),
    flat=(24, 24),
    hidden=64,
    residual_scale=0.7,
    batch=16,
    iterations=20_000,
    ema=0.998,
    r1=0.3,
    r1_every=8,
    degradation_rate=0.1,
    mask_bias=-2.0,
    compact=True,
    quality_bias=1.4,
    noise_gain=0.1,
    normalise=True,
    translator=(24, 3),
    restorer_lr=4e-4,
    table="integer",
    chroma="bilinear",
    reports=(100, 10, 5),
)

_SMALL32 = replace(
    _SMALL16,
    size=32,
    latent=128,
    generator=(32, 32, 32),
    down=(32, 32),
    flat=(32, 32),
    hidden=128,
    iterations=32_000,
    lr=4e-4,
    r1=0.03,
    diversity_noise=0.2,
    constant_rate=1.6,
    discriminator_rate=1.5,
    image_gain=0.1,
    reports=(320, 32, 32),
)

PRESETS: dict[str, Preset] = {
    # Seconds; for tests.
    "tiny": Preset(
        size=16,
        latent=8,
        generator=(8, 8),
        down=(8, 8),
        flat=(8,),
        hidden=16,
        batch=4,
        iterations=16,
        ema=0.9,
        table="integer",
        chroma="bilinear",
        translator=(8, 1),
        reports=(8, 2, 4),
        held_out=0,
    ),
    # Two minutes of one core; grey glyphs.
    "demo": replace(
        _SMALL16,
        image_channels=1,
        kernel=7,
        iterations=2800,
        lr=1e-3,
        ema=0.995,
        r1=10.0,
        degradation_rate=0.5,
        constant_rate=7.0,
        compact=False,
        reports=(100, 10, 4),
        held_out=0,
    ),
    # Minutes of one core; 16 x 16 pixels.
    "small16": replace(
        _SMALL16,
        batch_multiple=1,
        lr=4e-4,
        r1=0.03,
        diversity_noise=0.2,
        constant_rate=2.5,
        discriminator_rate=2.0,
        image_gain=0.1,
    ),
    "small16-grey": replace(
        _SMALL16,
        image_channels=1,
        batch=32,
        batch_multiple=1,
        iterations=10_000,
        lr=1e-3,
        degradation_rate=0.2,
        constant_rate=2.0,
    ),
    # Hours on a CPU: the shape of the paper's networks, a quarter of their width.
    "cifar10-small": _SMALL32,
    # Ten minutes on a CPU. The kernels are as wide as CIFAR-10's settings need them.
    "cifar10-quick": replace(
        _SMALL32,
        kernel=5,
        batch_multiple=1,
        quality_rate=0.1,
        constant_rate=12.5,
        mask_bias=0.0,
        symmetric=True,
        detail=10.0,
        judge_factor=2,
        translator=(48, 4),
        packed=True,
        cycle=1.0,
        restorer_lr=1e-3,
        iterations=4000,
        reports=(80, 10, 10),
    ),
    # An hour on a CPU; photographs of any size, of which a GAN sees crops of 32 pixels, a restorer of 64.
    "photos": replace(
        _SMALL32,
        kernel=15,
        random_crop=True,
        crop=64,
        translator=(48, 8),
        packed=True,
        restorer_lr=5e-4,
        ema=0.999,
        constant_rate=8.0,
        iterations=6000,
        family="ffhq/",
        reports=(120, 10, 12),
    ),
    # Table 11
    "cifar10": Preset(
        size=32,
        generator=(128, 128, 128),
        down=(128, 128),
        flat=(128, 128),
        iterations=300_000,
    ),
    # Table 12; the paper trains 300,000 iterations in setting N.
    "ffhq128": Preset(
        size=128,
        latent=256,
        generator=(1024, 512, 256, 128, 64),
        down=(64, 128, 256, 512, 1024),
        flat=(1024,),
        kernel=15,
        iterations=200_000,
        lr=1e-4,
        diversity_noise=0.2,
        family="ffhq/",
    ),
}
"""The presets by name."""
