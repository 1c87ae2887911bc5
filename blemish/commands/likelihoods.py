"""``blemish evaluate LIKELIHOOD``: whether a likelihood tells which clean image an observed one is of.

Crops of clean photographs are damaged as the run's were, or as a likelihood in closed form says itself; or their observed
partners are given. Where the run's own photographs are there, the rival is fitted to crops of these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import ImageBatches, ImageReader, Images, batch_indices
from ..degradations import (
    PLAIN,
    Degradation,
    LearnedLikelihood,
    Likelihood,
    is_likelihood,
    plain,
    setting,
)
from ..evaluation import Evaluation, Likelihoods, Score, judge_likelihood
from ..functional.random import generators_for
from ..functional.stages import to_8_bits
from ..recipes import LIKELIHOOD
from ..runs import Run, Which, load
from ..training.checkpoint import write_atomically
from ..training.config import DataConfig
from ..training.images import observed_images, taught_images
from ..training.processes import find_device
from ..training.progress import waiting

__all__ = ["Found", "evaluate", "find_likelihood", "scored"]

CROP = 64
"""The side of crops where no run tells one."""

PER_IMAGE = 16
"""The number of crops of a photograph, at most."""

COUNT = 1_000
"""The number of crops that are judged where nothing else is said; all of them are held in memory, clean and observed."""

RIVAL = 256
"""The number of crops that the rival is fitted to."""

CLEAR = 1.5
"""The margin in bits by which a pair is called clearly told."""

_TITLES = {
    "paired": "paired",
    "unpaired": "unpaired",
    "zero": "no condition (middle grey)",
    "blurred": "clean image blurred by 1 pixel",
    "observed": "observed image itself",
    "logistic": "logistic law of the residual",
}


@dataclass(frozen=True)
class Found:
    """A likelihood, and where it comes from.

    Attributes:
        likelihood: The likelihood, on the CPU.
        run: The run that learned it; None of others.
        words: What it is, for the protocol.
    """

    likelihood: Likelihood[Any]
    run: Run | None
    words: str


def find_likelihood(what: str, checkpoint: Which | None = None) -> Found | None:
    """Returns a likelihood by name; None where the name is something else's.

    Arguments:
        what: A run's folder, an artefact's, or known damage as ``disk:2+noise:0.05``.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.

    Raises:
        ValueError: If it is damage whose likelihood is not known.
    """
    name, colon, _ = what.partition(":")
    if colon and name in PLAIN:
        known = plain(what)
        if not is_likelihood(known):
            raise ValueError(
                f"{what} has no likelihood in closed form: it must end with noise of one deviation, after blur of one size"
            )
        return Found(known, None, what)
    if not (Path(what) / "config.json").is_file():
        return None
    loaded = load(what, checkpoint)
    if not isinstance(loaded, Run):
        return Found(loaded, None, what) if is_likelihood(loaded) else None
    if loaded.config.recipe not in LIKELIHOOD:
        return None
    likelihood: Any = loaded.degradation
    return Found(likelihood, loaded, f"{what}, {loaded.describe()}")


def evaluate(
    found: Found,
    reference: str | None,
    *,
    observed: str | None,
    count: int | None,
    size: int | None,
    seed: int,
    device: str,
    out: Path | None,
    skip_bad: bool,
) -> int:
    """Prints how well a likelihood tells pairs.

    Arguments:
        found: The likelihood.
        reference: Clean photographs; None where other options than those of likelihoods were given.
        observed: Observed ones of the same names; None damages the clean ones.
        count: The number of crops, at most; None means :data:`COUNT`.
        size: The side of crops; None means that of the run.
        seed: Decides which crops, their damage, and which is whose other.
        device: Where it is computed.
        out: The JSON file written, or None.
        skip_bad: Whether broken files are stepped over.

    Returns:
        0.

    Raises:
        ValueError: If nothing says how images are damaged, or there are too few.
    """
    if reference is None:
        raise ValueError(
            f"{found.words} is a likelihood, which is judged by clean photographs: give --reference SOURCE, perhaps "
            "--observed, and leave --pairs, --metrics, --weights, --crop, --restorer and --scale out"
        )
    place = find_device(device, mps=False)
    side = size or (found.run.config.data.size if found.run else None) or CROP
    damage = None if observed is not None else _damage(found)
    source = reference if observed is None else observed
    data = DataConfig(source=source, size=side, random_crop=True, skip_bad=skip_bad)
    if found.run is not None:
        data = replace(data, channels=found.run.config.data.channels)
    if observed is not None:
        data = replace(data, clean=reference)
    x, y, groups = _pairs(data, damage, COUNT if count is None else count, seed)
    own = _own_pairs(found, seed)
    likelihood = found.likelihood.to(place)
    moved = None if own is None else (own[0].to(place), own[1].to(place))
    with waiting("likelihoods") as tell:
        result = judge_likelihood(
            likelihood,
            y.to(place),
            x.to(place),
            seed=seed,
            fitted_to=moved,
            groups=groups if len(set(groups)) > 1 else None,
            progress=tell,
        )
    protocol = {
        "likelihood": found.words,
        "reference": reference,
        "observed": observed or "the reference, damaged as the likelihood was taught",
        "crops": f"{len(y)} of {side}x{side}, of {len(set(groups))} photographs",
        "seed": seed,
        "logistic law": "fitted to these pairs themselves"
        if own is None
        else f"fitted to {len(own[0])} crops of the training",
        "device": str(place),
        "torch": torch.__version__,
    }
    evaluation = scored(result, protocol)
    print("\n".join(evaluation.lines()))
    if out is not None:
        write_atomically(out, evaluation.to_json().encode())
    return 0


def scored(result: Likelihoods, protocol: dict[str, Any]) -> Evaluation:
    """Returns scores with their protocol.

    Arguments:
        result: What was found.
        protocol: What was compared, and how.
    """
    scores = [
        Score(f"{title} (bits/dim)", result.mean(name), higher=False, std=_std(result.bits[name]))
        for name, title in _TITLES.items()
    ]
    scores += [
        Score("unpaired - paired (bits/dim)", result.margin, higher=True),
        Score("logistic law - paired (bits/dim)", result.gain, higher=True),
        Score("paired below unpaired (share)", result.told, higher=True),
        Score(f"by {CLEAR:g} bits/dim or more (share)", result.told_by(CLEAR), higher=True),
    ]
    notes: tuple[str, ...] = ()
    if result.mean("observed") < result.mean("paired"):
        notes = (
            "the observed image itself is a likelier condition than the clean one: a restoration needs a prior beside "
            "this likelihood",
        )
    return Evaluation(tuple(scores), protocol, notes)


def _std(values: Tensor) -> float:
    return float(values.std())


def _damage(found: Found) -> Degradation[Any]:
    """Returns what clean images are damaged by."""
    if found.run is None:
        if isinstance(found.likelihood, LearnedLikelihood):
            raise ValueError(
                f"{found.words} does not say what damage it learned: give the observed partners of the reference as "
                "--observed SOURCE, or its run"
            )
        return found.likelihood
    config = found.run.config
    if config.data.setting is not None:
        return setting(config.data.setting)
    if config.recipe == "likelihood-pairs":
        raise ValueError(
            f"{found.words} was learned from real pairs: give the observed partners of the reference as --observed SOURCE"
        )
    damage: Degradation[Any] = config.system.damage.build()
    if damage.state_dict():
        raise ValueError(
            f"the damage of {found.words} was a trained model: damage the reference with it, and give that as "
            "--observed SOURCE"
        )
    return damage


def _pairs(
    data: DataConfig, damage: Degradation[Any] | None, count: int, seed: int
) -> tuple[Tensor, Tensor, list[int]]:
    """Returns clean crops, observed ones, and the number of the photograph of each."""
    if damage is None:
        observed, clean = taught_images(data, "partners", seed=seed)
        n = min(count, PER_IMAGE * len(clean))
        return _crops(clean, n, seed), _crops(observed, n, seed), _groups(len(clean), n, seed)
    images = observed_images(data, seed=seed)
    n = min(count, PER_IMAGE * len(images))
    x = _crops(images, n, seed)
    y = [_damaged(damage, rows, seed, i) for i, rows in _numbered(x)]
    return x, torch.cat(y), _groups(len(images), n, seed)


def _numbered(x: Tensor) -> list[tuple[int, Tensor]]:
    return [(start, x[start : start + 16]) for start in range(0, len(x), 16)]


def _damaged(damage: Degradation[Any], x: Tensor, seed: int, first: int) -> Tensor:
    """Damages crops, each by the randomness of its number."""
    B, C, H, W = x.shape
    if damage.scale != 1:
        raise ValueError(
            f"the damage makes images {damage.scale} times smaller, and crops keep their size"
        )
    generators = generators_for(seed, range(first, first + B))
    with torch.no_grad():
        return to_8_bits(damage(x, damage.sample((B, C, H, W), generator=generators)))


def _crops(images: ImageReader, count: int, seed: int) -> Tensor:
    """Returns crops of photographs, the same ones for the same seed."""
    walk = ImageBatches(images, seed, random_crop=not isinstance(images, Images), ahead=0)
    return walk(0, count)


def _groups(images: int, count: int, seed: int) -> list[int]:
    return list(map(int, batch_indices(images, count, 0, seed)))


def _own_pairs(found: Found, seed: int) -> tuple[Tensor, Tensor] | None:
    """Returns observed and clean crops of a run's own photographs; None where these are not there."""
    if found.run is None:
        return None
    config = found.run.config
    try:
        if config.recipe == "likelihood-pairs":
            x, y, _ = _pairs(config.data, None, RIVAL, seed)
        else:
            x, y, _ = _pairs(config.data, _damage(found), RIVAL, seed)
    except (OSError, ValueError):
        return None
    return y, x
