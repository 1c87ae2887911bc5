"""``blemish evaluate``: scores of a run's samples, or of images, beside their protocol."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from ..data import Source, open_source
from ..evaluation import (
    PAIR_METRICS,
    SET_METRICS,
    Evaluation,
    FeatureCache,
    ImageSet,
    Judges,
    default_folder,
    pair_scores,
    prior_set,
    set_scores,
    source_set,
)
from ..metrics import (
    Extractor,
    NIQEModel,
    dists_network,
    lpips_network,
    named_features,
)
from ..networks.weights import read_weights
from ..priors import Prior
from ..runs import Run, Which, load
from ..training.checkpoint import write_atomically
from ..training.processes import check_device
from ..training.progress import waiting

__all__ = ["run"]

_WEIGHTS = ("lpips-backbone", "lpips-heads", "dists-backbone", "dists-weights", "niqe")


def run(
    what: str,
    *,
    reference: str | None,
    pairs: bool = False,
    metrics: str | None = None,
    features: str = "effnet-lite0",
    count: int = 10_000,
    size: int | None = None,
    fit: str = "none",
    crop: int = 0,
    seed: int = 0,
    checkpoint: Which | None = None,
    weights: Sequence[str] = (),
    device: str = "auto",
    json: Path | None = None,
    cache: bool = True,
    skip_bad: bool = False,
) -> int:
    """Judges images against clean ones.

    Arguments:
        what: A run, a prior, or a source of images, such as a folder of restored ones.
        reference: Clean images; None where the metrics need none.
        pairs: Whether images have partners of the same names in the reference.
        metrics: Names joined by commas; None means those that need no weights.
        features: What sets are compared on.
        count: How many images of each set are compared at most; sources are sampled at random.
        size: The side to which all images are brought, or None.
        fit: How: ``crop`` or ``resize``.
        crop: Pixels at each border that PSNR and SSIM of pairs leave out.
        seed: The seed of samples, and of what is taken of larger sources.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.
        weights: Files that metrics need, each ``name=path``.
        device: Where features are computed.
        json: The file written, or None.
        cache: Whether features are kept for the next time.
        skip_bad: Whether broken files are stepped over.

    Returns:
        0.

    Raises:
        ValueError: If an argument or an image does not fit; in one line.
        OSError: If weights cannot be read.
    """
    wanted = _metrics(metrics, pairs=pairs, alone=reference is None)
    judges = _judges(weights)
    read = functools.partial(open_source, skip_bad=skip_bad)
    if pairs or reference is None:
        result = _aligned(what, reference, wanted, judges, read, crop=crop)
    else:
        found, clean = _sets(what, reference, read, count, size, fit, seed, checkpoint)
        extractor = named_features(features, found.shape[0])
        result = _compared(found, clean, extractor, wanted, device, cache=cache)
    print("\n".join(result.lines()))
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(json, result.to_json().encode())
    return 0


def _metrics(text: str | None, *, pairs: bool, alone: bool) -> list[str]:
    """Returns the names of the metrics that are computed."""
    allowed = ("niqe",) if alone else (*PAIR_METRICS, "niqe") if pairs else SET_METRICS
    usual = ("niqe",) if alone else ("psnr", "ssim") if pairs else SET_METRICS
    wanted = list(dict.fromkeys(text.split(","))) if text else list(usual)
    if unknown := [name for name in wanted if name not in allowed]:
        known = {*SET_METRICS, *PAIR_METRICS, "niqe"}
        why = {
            unknown[0] in PAIR_METRICS and not pairs: "; it compares partners: give --pairs",
            unknown[0] in SET_METRICS and pairs: "; it compares sets: leave --pairs out",
            unknown[0] not in known: "",
        }.get(True, "")
        if alone and unknown[0] in known:
            why = "; give --reference"
        raise ValueError(
            f"metric {unknown[0]!r} is not computed here{why}; choose {', '.join(allowed)}"
        )
    return wanted


def _judges(weights: Sequence[str]) -> Judges:
    """Loads what the metrics need."""
    files = dict(text.split("=", 1) for text in weights)
    if unknown := sorted(files.keys() - set(_WEIGHTS)):
        raise ValueError(f"--weights {unknown[0]}: unknown; choose {', '.join(_WEIGHTS)}")
    both = _both(files, "lpips-backbone", "lpips-heads")
    texture = _both(files, "dists-backbone", "dists-weights")
    return Judges(
        None if both is None else lpips_network(_backbone(both[0]), *both),
        None if texture is None else dists_network(*texture),
        _natural(files["niqe"]) if "niqe" in files else None,
    )


def _both(files: dict[str, str], first: str, second: str) -> tuple[str, str] | None:
    if first not in files and second not in files:
        return None
    for name in (first, second):
        if name not in files:
            raise ValueError(f"--weights {name}=FILE is missing; the other half was given")
    return files[first], files[second]


def _backbone(file: str) -> Any:
    """Returns whose weights a file holds: AlexNet's first filters have 11x11 taps, VGG's 3x3."""
    shape = tuple(read_weights(file).require("features.0.weight", (64, 3, None, None)).shape)
    return "alex" if shape[-1] == 11 else "vgg"


def _natural(place: str) -> NIQEModel:
    """Reads NIQE's Gaussian, or fits it to a source of clean images."""
    path = Path(place)
    if path.suffix in (".mat", ".npz", ".safetensors"):
        return NIQEModel.load(path)
    source = open_source(place, mixed=True)
    with waiting("fitting NIQE"):
        images = (source.read(i)[None] for i in range(len(source)))
        return NIQEModel.fit(images, path.name)


def _aligned(
    what: str, reference: str | None, metrics: list[str], judges: Judges, read: Any, *, crop: int
) -> Evaluation:
    """Judges images one by one, beside their partners."""
    images: Source = read(what, mixed=True)
    clean: Source | None = None if reference is None else read(reference, mixed=True)
    pairs = [(i, i) for i in range(len(images))] if clean is None else _partners(images, clean)
    for name in metrics:
        if name in ("lpips", "dists", "niqe"):
            judges.need(name)
    with waiting("comparing") as tell:
        scores = pair_scores(images, clean, pairs, metrics, judges, crop=crop, progress=tell)
    protocol = {"images": images.describe(), "count": len(pairs)}
    if clean is not None:
        protocol |= {"reference": clean.describe(), "partners": "by name"}
    return Evaluation(tuple(scores), protocol)


def _partners(images: Source, clean: Source) -> list[tuple[int, int]]:
    """Finds the partner of each image: the same path without its ending."""
    mine, theirs = _by_stem(images), _by_stem(clean)
    lonely = [stem for stem in mine if stem not in theirs]
    lonely += [stem for stem in theirs if stem not in mine]
    if lonely:
        raise ValueError(
            f"{len(lonely)} images have no partner of the same name: {', '.join(lonely[:5])}; "
            "pair what has the same path in both"
        )
    return [(i, theirs[stem]) for stem, i in mine.items()]


def _by_stem(source: Source) -> dict[str, int]:
    found: dict[str, int] = {}
    for i in range(len(source)):
        stem = str(PurePosixPath(source.name(i)).with_suffix(""))
        if stem in found:
            raise ValueError(
                f"{source.title} has {source.name(found[stem])} and {source.name(i)}; "
                "which one is the partner? Keep one of them"
            )
        found[stem] = i
    return found


def _sets(
    what: str,
    reference: str,
    read: Any,
    count: int,
    size: int | None,
    fit: str,
    seed: int,
    checkpoint: Which | None,
) -> tuple[ImageSet, ImageSet]:
    """Opens both sets, of one shape."""
    fitted = functools.partial(read, size=size, fit=fit)
    if (Path(what) / "config.json").is_file():
        found = _samples(what, count, seed, checkpoint)
        clean = fitted(reference, channels=found.shape[0])
    else:
        images, clean = fitted(what), fitted(reference)
        channels = max(images.channels, clean.channels)
        if images.channels != clean.channels:
            images, clean = (fitted(place, channels=channels) for place in (what, reference))
        found = source_set(images, count, seed=seed)
    other = source_set(clean, count, seed=seed)
    if found.shape != other.shape:
        raise ValueError(
            f"{found.title} are {_by(found)} and {other.title} are {_by(other)} (height x width); "
            f"bring them to one size with --size {min(found.shape[1:])} and --fit crop or --fit resize"
        )
    how = "" if size is None else f", brought to {size}x{size} by --fit {fit}"
    return found, ImageSet(other.title + how, other.count, other.shape, other.batches)


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
    found: ImageSet,
    clean: ImageSet,
    extractor: Extractor,
    metrics: list[str],
    device: str,
    *,
    cache: bool,
) -> Evaluation:
    """Compares two sets on features."""
    place = _place(device)
    store = FeatureCache(default_folder() if cache else None)
    extractor = extractor.to(place)
    sets: list[Tensor] = []
    for images, name in ((clean, "reference"), (found, "images")):
        with waiting(f"features of the {name}") as tell:
            sets.append(store.features(images, extractor, device=place, progress=tell))
    with waiting("comparing"):
        scores, notes = set_scores(sets[1], sets[0], extractor.name, metrics)
    protocol = {
        "images": found.title,
        "reference": clean.title,
        "counts": f"{found.count:,} and {clean.count:,}",
        "size": f"{_by(found)}, {'grey' if found.shape[0] == 1 else 'RGB'}",
        "features": f"{extractor.name}, {extractor.dimension:,} of float32; statistics in float64",
        "torch": torch.__version__,
    }
    return Evaluation(tuple(scores), protocol, tuple(notes))


def _place(device: str) -> torch.device:
    kind, index = check_device(device)
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(kind) if index is None else torch.device(kind, index)


def _by(images: ImageSet) -> str:
    return f"{images.shape[1]}x{images.shape[2]}"
