"""``blemish convert``: a published checkpoint as a prior.

The file is read as data (:mod:`blemish.foreign`): nothing that stands in it is run. What is written is an artefact like any other,
of safetensors and JSON, which says where it comes from.
"""

from __future__ import annotations

from pathlib import Path

from .. import artefacts
from ..foreign.published import convert, read_files
from ..foreign.records import readable
from ..networks import StyleNetwork
from ..priors import StylePrior
from ..training.progress import waiting

__all__ = ["run"]

UNKNOWN = "unknown"


def run(
    source: Path,
    target: Path,
    *,
    mapping: Path | None = None,
    licence: str = UNKNOWN,
    overwrite: bool = False,
) -> int:
    """Converts a checkpoint.

    Arguments:
        source: The checkpoint.
        target: The folder written.
        mapping: The file of the mapping network, where it was published apart.
        licence: The licence of the weights, as the artefact shall name it.
        overwrite: Whether a prior that is there is replaced.

    Returns:
        0.

    Raises:
        FileExistsError: If the folder exists and may not be replaced, is no prior, or holds anything else.
        FileNotFoundError: If a file is not there.
        ValueError: If a file is broken, would run something, or holds no network that is known.
    """
    _check_target(target, (source,) if mapping is None else (source, mapping), overwrite=overwrite)
    with waiting("reading the checkpoint"):
        checkpoint = read_files(source, mapping)
        converted = convert(checkpoint)
    network = converted.network
    config = StylePrior.Config(network=network.config)
    prior = config.build()
    prior.network = network
    origin = {
        "source": checkpoint.source,
        "sha256": checkpoint.sha256,
        "layout": converted.layout,
        "licence": _in_one_line(licence),
    }
    artefacts.save(prior, target, card=_card(origin, converted.notes), origin=origin)
    print(f"wrote {target}: {converted.layout}, {_size(network.config)}")
    print(f"{converted.used} tensors are in it; left out: {_counted(converted.left_out)}")
    for note in converted.notes:
        print(note)
    if origin["licence"] == UNKNOWN:
        print(
            "published weights have terms of their own: look them up, and note them with --licence"
        )
    return 0


def _check_target(target: Path, sources: tuple[Path, ...], *, overwrite: bool) -> None:
    """Refuses a target that may not be replaced, before anything is read."""
    for source in sources:
        if target.resolve() in (*source.resolve().parents, *_in_place(source).parents):
            raise FileExistsError(
                f"{target} holds {source.name}, which is read; choose another folder"
            )
    if not target.exists() or _is_empty(target):
        return
    if not overwrite:
        raise FileExistsError(f"{target} exists; give --overwrite to replace it, or another folder")
    artefacts.check_replaceable(target, part="prior")


def _in_place(path: Path) -> Path:
    """Returns where a file's name stands, which may be a link."""
    return path.parent.resolve() / path.name


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _in_one_line(licence: str) -> str:
    return " ".join(licence.split()) or UNKNOWN


def _size(config: StyleNetwork.Config) -> str:
    side, styles = config.size, len(config.features)
    return f"{side}x{side} pixels, {styles} styles of {config.latent} numbers"


def _counted(left_out: dict[str, str]) -> str:
    """Returns what is left out, by reason: one name each, or a number of them."""
    reasons: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        reasons.setdefault(reason, []).append(readable(name))
    parts = (
        f"{names[0]} ({reason})" if len(names) == 1 else f"{len(names)} like {names[0]} ({reason})"
        for reason, names in reasons.items()
    )
    return "; ".join(parts) or "nothing"


def _card(origin: dict[str, str], notes: tuple[str, ...]) -> str:
    """Returns prose for the artefact's page."""
    notes_text = "".join(f" {note[0].upper()}{note[1:]}." for note in notes)
    return (
        f"Its weights were converted from {origin['source']} (SHA-256 {origin['sha256']}), whose layout is "
        f"{origin['layout']}.{notes_text} Licence of the weights: {origin['licence']}. Published weights have terms of "
        "their own, which hold for this copy of them too."
    )
