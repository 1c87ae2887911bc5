r"""What estimates of the damage of a folder add up to.

Each estimator measures something in every image, also where there is no damage: texture is a little noise to it, a
soft lens a little blur. A damage is called *present* in an image above one bound and *absent* below another, both
measured on undamaged photographs (512x768) and on CIFAR-10; between them nothing is said.

==========  ===========================  ==============  ==============  ==============
damage      measured by                  absent          present         usual
==========  ===========================  ==============  ==============  ==============
noise       standard deviation           at most 0.006   at least 0.012  at least 0.012
JPEG        chance by the evidence       at most 0.1     at least 0.9    at least 0.9
blur        width of edges, in pixels    at most 0.65    at least 0.8    at least 0.7
==========  ===========================  ==============  ==============  ==============

A damage is *usual* in a folder by the median over its images, which scatters less than one of them. A folder is *mixed*
if a fair share of its images has it and another fair share has not. The bounds of the blur ask for more of the latter, as
the widths in small images scatter by a third: of blurred ones some pass for sharp.

JPEG smooths the chroma and with it the quietest direction, by which noise in colour is measured. In compressed images the
noise of the luma counts instead where it is at least 0.016, as that of three channels (divided by 0.67). Of undamaged
CIFAR-10 images and photographs under JPEG at most 8 % reach that, of those with the noise of setting N a quarter does: JPEG
hides the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = [
    "BOUNDS",
    "Bounds",
    "Share",
    "Suggestion",
    "Verdict",
    "judge",
    "share",
    "suggest",
    "visible_noise",
]


@dataclass(frozen=True)
class Bounds:
    """Where a damage is absent and where it is present.

    Attributes:
        value: The name of the values that are compared.
        absent: The largest value of an image without the damage.
        present: The least value of an image that has it.
        usual: The least median over the images of a folder that has it.
        some: The share of images that must have it for a folder to be called mixed.
        spared: The share that must have it not.
    """

    value: str
    absent: float
    present: float
    usual: float
    some: float
    spared: float


BOUNDS: dict[str, Bounds] = {
    "noise": Bounds("noise", 0.006, 0.012, 0.012, 0.15, 0.1),
    "jpeg": Bounds("jpeg_probability", 0.1, 0.9, 0.9, 0.05, 0.05),
    "blur": Bounds("blur_sigma", 0.65, 0.8, 0.7, 0.12, 0.35),
}
"""The bounds of each damage."""

FEW = 500
"""The number of images below which a generator learns little."""

SMALL = 96
"""The side in pixels below which the blur of a single image is not told reliably."""


_LUMA = 0.016  # The least noise of the luma that counts in compressed images.
_WHITE = 0.668  # The luma's share of the level of noise that is independent in all channels.


@dataclass(frozen=True)
class Share:
    """How a damage is spread over images.

    Attributes:
        present: The share of the decided images that has it.
        absent: The share that has it not.
        median: The middle of the values.
        count: The number of images with a value.
        usual: Whether the median image has the damage.
        mixed: Whether fair shares of the images have it and have it not.
    """

    present: float
    absent: float
    median: float
    count: int
    usual: bool
    mixed: bool


@dataclass(frozen=True)
class Verdict:
    """One conclusion.

    Attributes:
        topic: ``noise``, ``jpeg``, ``blur``, ``clean``, ``sizes`` or ``count``.
        warning: Whether it is something to look after before training.
        text: One or two sentences.
        numbers: The numbers on which it rests.
        examples: Names of images that show it.
    """

    topic: str
    warning: bool
    text: str
    numbers: dict[str, float] = field(default_factory=dict)
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suggestion:
    """The recipe that fits.

    Attributes:
        recipe: Its name; None if the images look clean.
        reason: One line.
    """

    recipe: str | None
    reason: str


def share(values: Tensor, bounds: Bounds) -> Share:
    """Counts in which images a damage is present and absent.

    Arguments:
        values: One value for each image, NaN where it is unknown, with shape (N,).
        bounds: The bounds of the damage.
    """
    known = values[~values.isnan()]
    if not len(known):
        return Share(0.0, 0.0, float("nan"), 0, False, False)
    present = float((known >= bounds.present).float().mean())
    absent = float((known <= bounds.absent).float().mean())
    mixed = present >= bounds.some and absent >= bounds.spared
    median = float(known.median())
    return Share(present, absent, median, len(known), median >= bounds.usual, mixed)


def suggest(shares: Mapping[str, Share]) -> Suggestion:
    """Chooses the recipe from the shares of ``noise``, ``jpeg`` and ``blur``."""
    found = [name for name in ("blur", "noise", "jpeg") if shares[name].usual or shares[name].mixed]
    # What was not measured may be there all the same.
    if not found and not all(s.count for s in shares.values()):
        unknown = ", ".join(name for name, s in shares.items() if not s.count)
        return Suggestion("bncr-gan", f"nothing stands out, but not all was measured: {unknown}")
    numbers = ", ".join(f"{name} in {shares[name].present:.0%}" for name in found)
    single = {"blur": "br-gan", "noise": "nr-gan", "jpeg": "cr-gan"}
    if not found:
        return Suggestion(
            None, "no damage stands out; an ordinary GAN would learn from these images"
        )
    if len(found) == 1:
        return Suggestion(
            single[found[0]], f"{numbers} of the images, and no other damage stands out"
        )
    return Suggestion("bncr-gan", f"several kinds of damage: {numbers} of the images")


def judge(
    values: Mapping[str, Tensor],
    names: Sequence[str],
    sizes: Mapping[tuple[int, int], int],
    total: int,
    qualities: Mapping[int, int],
) -> tuple[list[Verdict], dict[str, Share]]:
    """Draws conclusions.

    Arguments:
        values: One value for each image by quantity, NaN where it is unknown, with shape (N,).
        names: The images' names.
        sizes: How many images have each (height, width).
        total: The number of images in the whole source.
        qualities: How many files have each quality in their headers.

    Returns:
        The conclusions, warnings last, and the shares of each damage.
    """
    values = {**values, "noise": visible_noise(values)}
    shares = {damage: share(values[b.value], b) for damage, b in BOUNDS.items()}
    small = min(min(size) for size in sizes) < SMALL
    verdicts = [
        _noise(values, shares, names),
        _jpeg(values, shares["jpeg"], names, qualities),
        _blur(shares["blur"], values, names, small=small),
    ]
    if all(s.count and not s.usual and not s.mixed for s in shares.values()):
        verdicts.append(_clean(shares))
    verdicts += [v for v in (_sizes(sizes), _count(total)) if v is not None]
    verdicts += [
        _mixed(damage, s, values[BOUNDS[damage].value], names, hidden=shares["jpeg"].usual)
        for damage, s in shares.items()
        if s.mixed
    ]
    return verdicts, shares


def visible_noise(values: Mapping[str, Tensor]) -> Tensor:
    """Returns the noise of each image, that of the luma where JPEG has taken it from the chroma.

    Arguments:
        values: One value for each image by quantity, NaN where it is unknown, with shape (N,).
    """
    compressed = values["jpeg_probability"] >= BOUNDS["jpeg"].present
    luma = values["noise_luma"]
    return torch.where(compressed & (luma >= _LUMA), luma / _WHITE, values["noise"])


def _noise(
    values: Mapping[str, Tensor], shares: Mapping[str, Share], names: Sequence[str]
) -> Verdict:
    s = shares["noise"]
    luma = values["noise_luma"].nanmedian()
    numbers = {"median": s.median, "luma": float(luma), "present": s.present, "absent": s.absent}
    if s.count == 0:
        return Verdict("noise", False, "Noise: not measured in images this small.", numbers)
    word = "stands out" if s.usual else "in some images" if s.mixed else "hardly any"
    text = f"Noise: {word}; standard deviation {s.median:.4f} in the middle, {s.present:.0%} at least {BOUNDS['noise'].present}."
    if shares["jpeg"].usual and not s.usual:
        text += " JPEG removes noise from the pixels: there may have been more."
    return Verdict("noise", False, text, numbers, _highest(values["noise"], names))


def _jpeg(
    values: Mapping[str, Tensor], s: Share, names: Sequence[str], files: Mapping[int, int]
) -> Verdict:
    chance = values["jpeg_probability"]
    compressed = chance >= BOUNDS["jpeg"].present
    quality = values["jpeg_quality"][compressed]
    numbers = {"present": s.present, "absent": s.absent}
    text = f"JPEG: traces in the pixels of {s.present:.0%} of the images"
    if len(quality):
        low, middle, high = quality.quantile(quality.new_tensor([0.05, 0.5, 0.95])).tolist()
        numbers |= {"q5": low, "q50": middle, "q95": high}
        text += f", quality {middle:.0f} in the middle and {low:.0f} to {high:.0f} in 90 % of them"
    if files:
        # What the header says is certain; what the pixels say holds for pictures that were saved again.
        least, most = min(files), max(files)
        numbers |= {"files": float(sum(files.values())), "files_low": least, "files_high": most}
        count = sum(files.values())
        some = (
            f"{count} JPEG files, whose headers say"
            if count > 1
            else "1 JPEG file, whose header says"
        )
        text += f"; {some} quality {least}"
        text += f" to {most}" if most > least else ""
    examples = tuple(n for n, found in zip(names, compressed.tolist(), strict=True) if found)[:5]
    return Verdict("jpeg", False, text + ".", numbers, examples)


def _blur(s: Share, values: Mapping[str, Tensor], names: Sequence[str], *, small: bool) -> Verdict:
    radius = values["blur_radius"].nanmedian()
    numbers = {
        **{"median": s.median, "radius": float(radius)},
        **{"present": s.present, "absent": s.absent},
    }
    if s.count == 0:
        return Verdict("blur", False, "Blur: not measured, there are no edges.", numbers)
    word = f"edges are {'wide' if s.usual else 'wide in some images' if s.mixed else 'sharp'}"
    text = f"Blur: {word}; {s.median:.2f} pixels in the middle, as of a disk of radius {float(radius):.1f}."
    if small:
        text += " Single images as small as these may be off by a third."
    return Verdict("blur", False, text, numbers, _highest(values["blur_sigma"], names))


def _clean(shares: Mapping[str, Share]) -> Verdict:
    numbers = {damage: s.present for damage, s in shares.items()}
    listed = ", ".join(f"{damage} in {s.present:.0%}" for damage, s in shares.items())
    return Verdict("clean", False, f"The images look clean: {listed} of them.", numbers)


def _mixed(damage: str, s: Share, values: Tensor, names: Sequence[str], *, hidden: bool) -> Verdict:
    label = {"noise": "noise", "jpeg": "JPEG", "blur": "blur"}[damage]
    text = f"Mixed: {s.present:.0%} of the images have {label} and {s.absent:.0%} have not; "
    if damage == "noise" and hidden:
        text += "or JPEG hides it in the latter."
    else:
        text += "are there two sources in one folder?"
    examples = (*_highest(values, names)[:3], *_highest(-values, names)[:3])
    return Verdict(damage, True, text, {"present": s.present, "absent": s.absent}, examples)


def _sizes(sizes: Mapping[tuple[int, int], int]) -> Verdict | None:
    if len(sizes) < 2:
        return None
    (height, width), times = max(sizes.items(), key=lambda item: item[1])
    text = (
        f"Sizes differ: {len(sizes)} of them, the commonest {height}x{width} (height x width); choose one with "
        "--size and --fit crop, which keeps the damage as it is."
    )
    count = sum(sizes.values())
    return Verdict("sizes", True, text, {"sizes": len(sizes), "commonest": times / count})


def _count(total: int) -> Verdict | None:
    if total >= FEW:
        return None
    text = f"Only {total} images: a generator wants thousands; cut random crops, or add images."
    return Verdict("count", True, text, {"count": total})


def _highest(values: Tensor, names: Sequence[str], count: int = 5) -> tuple[str, ...]:
    known = values.nan_to_num(nan=float("-inf"), posinf=float("inf"), neginf=float("-inf"))
    usable = int((~values.isnan()).sum())
    order = known.sort(descending=True, stable=True).indices[: min(count, usable)]
    return tuple(names[i] for i in order.tolist())
