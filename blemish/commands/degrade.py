"""``blemish degrade``: damage clean images, and write down how.

Image i of the input is damaged by randomness that depends on (seed, i) alone, and is written as PNG,
which keeps the damage as it is. Beside the images stands one JSON line for each: the file, the seed and
index from which everything follows, and the parameters that were drawn (but not the noise itself,
which follows from the seed and the index).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from torch import Tensor

from ..data import Source, open_source
from ..degradations import Degradation, degrade_batch, setting
from ..runs import Run, load
from ..types import Params

__all__ = ["find_degradation", "run"]

_BATCH = 500
_NOISE = ("eps", "eps_read", "eps_shot", "u", "z")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


def run(
    what: str,
    source: str,
    output: Path,
    *,
    seed: int,
    params: Path | None,
    replay: Path | None,
    overwrite: bool,
    skip_bad: bool,
) -> int:
    """Damages a picture, a folder or any other source.

    Arguments:
        what: ``setting:N``, ``setting:ffhq/N``, a run's folder or a degradation's.
        source: The clean images.
        output: The folder written; a file ending in ``.png`` where the input is one picture.
        seed: The seed.
        params: Where the drawn parameters are written; None means ``params.jsonl`` in the folder.
        replay: An earlier file of parameters, whose seed and indices are used again.
        overwrite: Whether an output that exists is replaced.
        skip_bad: Whether broken files are stepped over.

    Returns:
        0.

    Raises:
        ValueError: If an argument does not fit; in one line.
        FileExistsError: If the output exists and may not be replaced.
    """
    degradation = find_degradation(what)
    images = open_source(source, mixed=True, skip_bad=skip_bad)
    single = output.suffix.lower() in _PICTURES
    _check_output(output, single=single, count=len(images), overwrite=overwrite)
    plan = _replayed(replay, images, what) if replay else _Plan(seed, range(len(images)))
    if params is None:
        params = output.with_suffix(".jsonl") if single else output / "params.jsonl"
    params.parent.mkdir(parents=True, exist_ok=True)
    files = [output] if single else _files(images, output)
    temporary = params.with_name(params.name + ".part")
    with temporary.open("w") as lines, ThreadPoolExecutor(2) as pool:
        for rows in _progress(_batches(images), total=len(images)):
            indices = [plan.indices[i] for i in rows]
            clean = _stack([images.read(i) for i in rows])
            damaged, drawn = degrade_batch(degradation, clean, indices, seed=plan.seed)
            list(pool.map(_write, damaged, [files[i] for i in rows]))
            for i, row in zip(rows, _lines(drawn), strict=True):
                line = {
                    "file": files[i].name if single else files[i].relative_to(output).as_posix(),
                    "source": images.name(i),
                    "degradation": what,
                    "seed": plan.seed,
                    "index": plan.indices[i],
                    "drawn": row,
                }
                lines.write(json.dumps(line) + "\n")
    temporary.replace(params)
    for name, reason in images.skipped:
        print(f"skipped {name}: {reason}")
    print(f"wrote {len(images)} images to {output} and their parameters to {params}")
    return 0


def find_degradation(what: str) -> Degradation[Any]:
    """Returns a degradation by name.

    Arguments:
        what: ``setting:N``, ``setting:ffhq/N``, a run's folder or a degradation's.

    Raises:
        ValueError: If it is none of them.
    """
    if what.startswith("setting:"):
        return setting(what.removeprefix("setting:"))
    if not Path(what).is_dir():
        raise ValueError(
            f"{what!r} is no degradation; give setting:A to setting:T, setting:ffhq/A to "
            "setting:ffhq/T, or the folder of a run or a degradation"
        )
    found = load(what)
    degradation = found.degradation if isinstance(found, Run) else found
    if not isinstance(degradation, Degradation):
        raise ValueError(f"{what} holds a {type(degradation).__name__}, which damages nothing")
    return degradation


@dataclass(frozen=True)
class _Plan:
    """The seed, and the index from which each image of the source is damaged."""

    seed: int
    indices: Sequence[int]


def _replayed(path: Path, images: Source, what: str) -> _Plan:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    seeds = {line["seed"] for line in lines}
    others = {line["degradation"] for line in lines} - {what}
    if others:
        raise ValueError(f"{path} was written by {sorted(others)[0]!r}, not by {what!r}")
    if len(seeds) != 1:
        raise ValueError(f"{path} holds {len(seeds)} seeds; a replay needs the lines of one")
    known = {line["source"]: line["index"] for line in lines}
    names = [images.name(i) for i in range(len(images))]
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"{path} has no line for {missing[0]} ({len(missing)} images in all)")
    return _Plan(seeds.pop(), [known[name] for name in names])


def _check_output(output: Path, *, single: bool, count: int, overwrite: bool) -> None:
    if single and output.suffix.lower() != ".png":
        raise ValueError(f"{output}: damaged pictures are written as PNG; end the name in .png")
    if single and count != 1:
        raise ValueError(f"{output} is one picture, but the input has {count}; give a folder")
    exists = output.exists() and (single or any(output.iterdir()))
    if exists and not overwrite:
        raise FileExistsError(f"{output} exists; give --overwrite to replace it")


def _files(images: Source, output: Path) -> list[Path]:
    """Returns one PNG file for each image, in the input's folders, telling a.jpg from a.png."""
    names = [PurePosixPath(images.name(i)) for i in range(len(images))]
    stems = [name.with_suffix("") for name in names]
    counts = Counter(stems)
    return [
        output / (f"{name}.png" if counts[stem] > 1 else f"{stem}.png")
        for name, stem in zip(names, stems, strict=True)
    ]


def _batches(images: Source) -> Iterator[list[int]]:
    """Yields runs of neighbours; images of different sizes go one by one."""
    step = 1 if images.size is None else _BATCH
    for start in range(0, len(images), step):
        yield list(range(start, min(start + step, len(images))))


def _stack(images: list[Tensor]) -> Tensor:
    return images[0][None] if len(images) == 1 else _joined(images)


def _joined(images: list[Tensor]) -> Tensor:
    joined = images[0].new_empty((len(images), *images[0].shape))
    for row, image in zip(joined, images, strict=True):
        row.copy_(image)
    return joined


def _lines(drawn: Params) -> list[dict[str, Any]]:
    """Returns what was drawn for each sample, as JSON values."""
    tensors = {
        name: tensor.flatten(1).tolist() if tensor.ndim > 1 else tensor.tolist()
        for name, tensor in drawn.tensors().items()
        if name.rpartition(".")[2] not in _NOISE
    }
    summary = {f"summary.{name}": value.tolist() for name, value in drawn.summary().items()}
    columns = {**tensors, **summary}
    return [
        {name: _plain(values[i]) for name, values in columns.items()} for i in range(len(drawn))
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return _plain(value[0]) if len(value) == 1 else [_plain(item) for item in value]
    # JSON knows no NaN: a summary of a damage that did not befall this image is null.
    return None if value != value else value


def _write(image: Tensor, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    # The fastest compression: noise does not shrink anyway.
    picture.save(file, format="PNG", compress_level=1)


def _progress(batches: Iterator[list[int]], *, total: int) -> Iterator[list[int]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("degrading", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=total)
        for rows in batches:
            yield rows
            bar.advance(task, len(rows))
