"""``blemish evaluate``: scores of a run's samples, or of images, beside their protocol."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..data import Source, open_source
from ..evaluation import (
    IMAGE_METRICS,
    PAIR_METRICS,
    SET_METRICS,
    Evaluation,
    FeatureCache,
    ImageSet,
    Judges,
    check_counts,
    default_folder,
    in_channels,
    prior_set,
    set_scores,
    source_set,
)
from ..metrics import (
    Extractor,
    NIQEModel,
    PerceptualNetwork,
    dists_network,
    lpips_network,
    named_features,
    perceptual_network,
    rankiqa_network,
)
from ..networks.weights import read_weights
from ..priors import Prior
from ..runs import Run, Which, load
from ..training.checkpoint import write_atomically
from ..training.processes import find_device
from ..training.progress import waiting
from .aligned import aligned, enlarging
from .likelihoods import evaluate as judge
from .likelihoods import find_likelihood
from .robustness import run as profile

__all__ = ["run"]

_WEIGHTS = {
    "lpips-backbone": "lpips",
    "lpips-heads": "lpips",
    "dists-backbone": "dists",
    "dists-weights": "dists",
    "niqe": "niqe",
    "rankiqa": "rankiqa",
}
"""The metric that needs each file of weights; forms of one begin with its name."""

COUNT = 10_000
"""The number of images of each set, or pairs, where nothing else is said."""

Open = Callable[..., Source]


def run(
    what: str,
    *,
    reference: str | None,
    pairs: bool = False,
    metrics: str | None = None,
    features: str = "effnet-lite0",
    count: int | None = None,
    size: int | None = None,
    fit: str = "none",
    crop: int | None = None,
    seed: int = 0,
    checkpoint: Which | None = None,
    weights: Sequence[str] = (),
    device: str = "auto",
    json: Path | None = None,
    cache: bool = True,
    skip_bad: bool = False,
    robustness: bool = False,
    restorer: str | None = None,
    scale: int | None = None,
    observed: str | None = None,
) -> int:
    """Judges images against clean ones.

    Arguments:
        what: A run, a prior, a likelihood, or a source of images, such as a folder of restored ones.
        reference: Clean images; None where the metrics need none.
        pairs: Whether images have partners of the same names in the reference.
        metrics: Names joined by commas; None means those that need no weights.
        features: What sets are compared on.
        count: How many images of each set, or pairs, are compared at most; of more, as many at random. None means 10,000,
            of a likelihood 1,000 crops.
        size: Of sets, the side to which all images are brought, or None.
        fit: How: ``crop`` or ``resize``.
        crop: Pixels at each border that PSNR and SSIM of pairs leave out; None means ``scale``.
        seed: The seed of samples, and of what is taken of larger sources.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.
        weights: Files that metrics need, each ``name=path``.
        device: Where features are computed.
        json: The file written, or None.
        cache: Whether features are kept for the next time.
        skip_bad: Whether broken files are stepped over.
        robustness: Whether ``what`` is a restorer, which is shown damage that it was not told of.
        restorer: Of pairs, what restores the images first: a run's folder or a restorer's.
        scale: Of pairs, how many times larger the reference is; without a restorer images are enlarged bicubically.
        observed: Of a likelihood, the observed partners of the reference; None damages the reference.

    Returns:
        0.

    Raises:
        ValueError: If an argument or an image does not fit; in one line.
        OSError: If a file cannot be read or written.
    """
    if json is not None:
        _check_writable(json)
    read = functools.partial(open_source, skip_bad=skip_bad)
    if robustness:
        unused = pairs or metrics or weights or crop or size or restorer or scale
        if reference is None or unused:
            raise ValueError(
                "--robustness damages clean pictures itself, and compares by PSNR: give --reference SOURCE, and "
                "leave --pairs, --metrics, --weights, --crop, --size, --restorer and --scale out"
            )
        pictures = read(reference, mixed=True, channels=3, limit=count or COUNT)
        return profile(what, pictures, device=device, checkpoint=checkpoint, out=json)
    likelihood = find_likelihood(what, checkpoint)
    if likelihood is not None:
        unused = pairs or metrics or weights or crop or restorer or scale
        return judge(
            likelihood,
            None if unused else reference,
            observed=observed,
            count=count,
            size=size,
            seed=seed,
            device=device,
            out=json,
            skip_bad=skip_bad,
        )
    if observed is not None:
        raise ValueError(
            f"--observed {observed} is for likelihoods, and {what} is none; leave it out"
        )
    count = count or COUNT
    is_run = (Path(what) / "config.json").is_file()
    as_sets = reference is not None and not pairs
    if (restorer or scale) and not pairs:
        raise ValueError(
            "--restorer and --scale are for pairs of a small and a large picture: give --pairs"
        )
    if metrics is None and scale not in (None, 1):
        metrics = "psnr-y,ssim-y"
    crop = (scale or 0) if crop is None else crop
    wanted = _metrics(metrics, weights, pairs=pairs, alone=reference is None)
    _check_used(what, is_run=is_run, as_sets=as_sets, size=size, crop=crop, checkpoint=checkpoint)
    place = find_device(device, mps=False)
    judges = _judges(weights, wanted, read)
    if reference is None or pairs:
        way = None if restorer is None and scale is None else enlarging(restorer, scale, place)
        result = aligned(
            what, reference, wanted, judges, read, count=count, seed=seed, crop=crop, way=way
        )
    else:
        # Not held in memory: of a large source only what is taken is decoded.
        fitted = functools.partial(read, size=size, fit=fit, memory=0)
        samples = _samples(what, count, seed, checkpoint) if is_run else None
        found = samples or source_set(fitted(what), count, seed=seed)
        clean = source_set(fitted(reference), count, seed=seed)
        sets = _alike(found, clean, is_run=is_run)
        extractor = _extractor(features, sets.found.shape[0])
        fits = _fit_in_words(size, fit, is_run=is_run)
        protocol = {"seed": seed, "fit": fits, "colour": sets.colour}
        result = _compared(sets, extractor, wanted, place, protocol, cache=cache)
    print("\n".join(result.lines()))
    if json is not None:
        write_atomically(json, result.to_json().encode())
    return 0


def _metrics(text: str | None, weights: Sequence[str], *, pairs: bool, alone: bool) -> list[str]:
    """Returns the names of the metrics that are computed."""
    if alone and pairs:
        raise ValueError("--pairs compares with partners: give --reference SOURCE")
    if alone and text is None and not any(one.startswith("niqe=") for one in weights):
        raise ValueError(
            "give --reference SOURCE with clean images; without it there is only --metrics niqe, or rankiqa"
        )
    singly = IMAGE_METRICS if alone else (*PAIR_METRICS, *IMAGE_METRICS)
    allowed = singly if alone or pairs else SET_METRICS
    if text is None:
        return ["niqe"] if alone else ["psnr", "ssim"] if pairs else list(SET_METRICS)
    wanted = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in wanted:
        if name not in allowed:
            why = _objection(name, alone=alone, pairs=pairs)
            raise ValueError(f"metric {name!r} {why}; choose {', '.join(allowed)}")
    return wanted


def _objection(name: str, *, alone: bool, pairs: bool) -> str:
    """Says why a metric cannot be computed."""
    if name not in (*SET_METRICS, *PAIR_METRICS, *IMAGE_METRICS):
        return "is unknown"
    if alone:
        return "needs clean images: give --reference"
    if pairs:
        return "compares sets: leave --pairs out"
    return "judges single images: give --pairs" + (
        ", or leave --reference out" if name in IMAGE_METRICS else ""
    )


def _check_used(
    what: str,
    *,
    is_run: bool,
    as_sets: bool,
    size: int | None,
    crop: int,
    checkpoint: Which | None,
) -> None:
    """Refuses options that would change nothing, and pictures that lie about in a run's folder."""
    if is_run and not as_sets:
        raise ValueError(
            f"{what} is a run or an artefact, whose samples have no partners: compare them as a set, with "
            f"--reference alone, or write images first: blemish sample {what} --out DIR"
        )
    if checkpoint is not None and not is_run:
        raise ValueError(f"--checkpoint {checkpoint}: {what} is no run; leave it out")
    if size is not None and not as_sets:
        raise ValueError(f"--size {size} is for sets; images and partners are judged as they are")
    if crop and as_sets:
        raise ValueError(f"--crop {crop} is for pairs; give --pairs, or leave it out")


def _check_writable(file: Path) -> None:
    """Makes the folder of a file that is written in the end."""
    if file.is_dir():
        raise IsADirectoryError(f"--json {file} is a folder; name a file")
    file.parent.mkdir(parents=True, exist_ok=True)


def _judges(weights: Sequence[str], metrics: Sequence[str], read: Open) -> Judges:
    """Loads what the metrics need."""
    files: dict[str, str] = {}
    judged = {"rankiqa" if name.startswith("rankiqa") else name for name in metrics}
    for text in weights:
        name, _, file = text.partition("=")
        if name not in _WEIGHTS:
            raise ValueError(f"--weights {name}: unknown; choose {', '.join(_WEIGHTS)}")
        if name in files:
            raise ValueError(f"--weights {name}=... is given twice; give it once")
        if _WEIGHTS[name] not in judged:
            raise ValueError(
                f"--weights {name}: {_WEIGHTS[name]} is not computed; name it in --metrics"
            )
        files[name] = file
    both = _both(files, "lpips-backbone", "lpips-heads")
    texture = _both(files, "dists-backbone", "dists-weights")
    judges = Judges(
        None if both is None else lpips_network(_backbone(both[0]), *both),
        None if texture is None else dists_network(*texture),
        _natural(files["niqe"], read) if "niqe" in files else None,
        _perceptual() if "perceptual" in metrics else None,
        rankiqa_network(files["rankiqa"]) if "rankiqa" in files else None,
    )
    for metric in judged & {*_WEIGHTS.values()}:
        judges.need(metric)
    return judges


def _both(files: dict[str, str], first: str, second: str) -> tuple[str, str] | None:
    if first not in files and second not in files:
        return None
    for name in (first, second):
        if name not in files:
            raise ValueError(f"--weights {name}=FILE is missing; the other half was given")
    return files[first], files[second]


def _backbone(file: str) -> Literal["alex", "vgg"]:
    """Returns whose weights a file holds: AlexNet's first filters have 11x11 taps, VGG's 3x3."""
    shape = tuple(read_weights(file).require("features.0.weight", (64, 3, None, None)).shape)
    return "alex" if shape[-1] == 11 else "vgg"


def _natural(place: str, read: Open) -> NIQEModel:
    """Reads NIQE's Gaussian, or fits it to a source of clean images."""
    path = Path(place)
    if path.suffix in (".mat", ".npz", ".safetensors"):
        try:
            return NIQEModel.load(path)
        except ModuleNotFoundError as error:
            raise ValueError(str(error)) from error
    source = read(place, mixed=True)
    with waiting("fitting NIQE"):
        images = (source.read(i)[None] for i in range(len(source)))
        return NIQEModel.fit(images, path.name)


def _perceptual() -> PerceptualNetwork:
    try:
        return perceptual_network()
    except ModuleNotFoundError as error:  # its message says what to install
        raise ValueError(str(error)) from error


def _extractor(name: str, channels: int) -> Extractor:
    try:
        return named_features(name, channels)
    except ModuleNotFoundError as error:  # its message says what to install
        raise ValueError(str(error)) from error


@dataclass(frozen=True)
class _Sets:
    """Two sets of one shape, and how their colours became alike."""

    found: ImageSet
    clean: ImageSet
    colour: str


def _alike(found: ImageSet, clean: ImageSet, *, is_run: bool) -> _Sets:
    """Brings two sets to the same colours: those of a run's samples, else RGB if one of them is."""
    if found.shape[1:] != clean.shape[1:]:
        raise ValueError(
            f"{found.title} are {_by(found)} and {clean.title} are {_by(clean)} (height x width); "
            f"bring them to one size with --size {min(found.shape[1:])} and --fit crop or --fit resize"
        )
    channels = found.shape[0] if is_run else max(found.shape[0], clean.shape[0])
    how = "grey as three equal channels" if channels == 3 else "RGB as grey (BT.601)"
    named = (("images", found), ("reference", clean))
    changed = [f"{name}: {how}" for name, one in named if one.shape[0] != channels]
    colour = changed[0] if changed else "as it is"
    return _Sets(in_channels(found, channels), in_channels(clean, channels), colour)


def _samples(what: str, count: int, seed: int, checkpoint: Which | None) -> ImageSet:
    loaded = load(what, checkpoint)
    title = what
    if isinstance(loaded, Run):
        title = f"{what}, {loaded.describe()}"
        loaded = loaded.prior
    if not isinstance(loaded, Prior):
        raise ValueError(f"{what} holds a {type(loaded).__name__}; give a run, a prior or images")
    return prior_set(loaded, count, seed=seed, title=title)


def _compared(
    sets: _Sets,
    extractor: Extractor,
    metrics: list[str],
    place: torch.device,
    made: dict[str, object],
    *,
    cache: bool,
) -> Evaluation:
    """Compares two sets on features."""
    found, clean = sets.found, sets.clean
    check_counts({found.title: found.count, clean.title: clean.count}, metrics)
    store = FeatureCache(default_folder() if cache else None)
    extractor = extractor.to(place)
    features: list[Tensor] = []
    for images, name in ((clean, "reference"), (found, "images")):
        with waiting(f"features of the {name}") as tell:
            features.append(store.features(images, extractor, device=place, progress=tell))
    with waiting("comparing"):
        scores, notes = set_scores(
            features[1], features[0], extractor.name, metrics, store.statistic
        )
    protocol = {
        "images": found.title,
        "reference": clean.title,
        "counts": f"{found.count:,} and {clean.count:,}",
        "size": f"{_by(found)}, {'grey' if found.shape[0] == 1 else 'RGB'}",
        **made,
        "features": f"{extractor.name}, {extractor.dimension:,} of float32; statistics in float64",
        "input": extractor.resize,
        "device": str(place),
        "torch": torch.__version__,
    }
    return Evaluation(tuple(scores), protocol, tuple(notes))


def _fit_in_words(size: int | None, fit: str, *, is_run: bool) -> str:
    """Says how images were brought to one size."""
    if size is None:
        return "none: images as they are"
    how = {
        "none": "all are of this size",
        "crop": "the centre, from multiples of 8 pixels on",
        "resize": "the central square, by averages over areas (bicubic where it is smaller)",
    }[fit]
    alone = "of the reference; samples as they are: " if is_run else ""
    return f"{alone}{fit} to {size}x{size}, {how}"


def _by(images: ImageSet) -> str:
    return f"{images.shape[1]}x{images.shape[2]}"
