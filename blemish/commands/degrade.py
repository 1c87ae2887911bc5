"""``blemish degrade``: damage clean images, and write down how.

Image i of the input is damaged by randomness that depends on (seed, i) alone, and is written as PNG,
which keeps the damage as it is. Beside the images stands one JSON line for each: the file, the seed and
index from which everything follows, and the parameters that were drawn: those of one number, kernels,
and summaries of the others. What is drawn for each pixel (noise, learned maps of its level) is not
written; it follows from the seed and the index.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..data import Glyphs, Source, open_source
from ..degradations import (
    PIPELINES,
    PLAIN,
    Coded,
    Degradation,
    UniversalDegradation,
    batch_for,
    degrade_batch,
    pipeline,
    plain,
    setting,
    task,
    unpack_code,
)
from ..functional.random import generator_for, generators_for
from ..photos import lies_in, write_whole
from ..runs import Run, Which, load
from ..training.progress import waiting
from ..types import Params

__all__ = ["find_degradation", "run"]

_LISTING = "params.jsonl"
_KEYS = {"file": str, "source": str, "degradation": str, "seed": int, "index": int, "drawn": dict}
_NOISE = ("eps", "eps_read", "eps_shot", "u", "z")
_LARGEST_KERNEL = 31
_TOLERANCE = 1e-5
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
    checkpoint: Which | None = None,
    code: Path | None = None,
) -> int:
    """Damages a picture, a folder or any other source.

    Arguments:
        what: A name that :func:`find_degradation` knows, a run's folder or a degradation's.
        source: The clean images.
        output: The folder written; a file ending in ``.png`` where the input is one picture.
        seed: The seed.
        params: Where the drawn parameters are written; None means ``params.jsonl`` in the folder.
        replay: An earlier file of parameters, whose seed and indices are used again. The parameters
            that follow from them must be those of the file.
        overwrite: Whether an output that exists is replaced: first, the pictures that the folder's
            ``params.jsonl`` or ``params`` lists are deleted; others are never written over. Nor is the
            input.
        skip_bad: Whether broken files are stepped over.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.
        code: Of a universal degradation model, the damage that ``encode`` wrote to this file; None draws some.

    Returns:
        0.

    Raises:
        ValueError: If an argument does not fit; in one line.
        FileExistsError: If the output exists and may not be replaced.
    """
    degradation = find_degradation(what, checkpoint, tell=print)
    if code is not None:
        degradation, what = _coded(degradation, what, code)
    with waiting("reading images") as tell:
        images = open_source(source, mixed=True, skip_bad=skip_bad, progress=tell)
    single = output.suffix.lower() in _PICTURES
    if params is None:
        params = output.with_suffix(".jsonl") if single else output / _LISTING
    if not isinstance(images, Glyphs):
        _check_apart(source, output, params)
    _check_output(output, params, single=single, count=len(images), overwrite=overwrite)
    plan = _Plan(seed, range(len(images)))
    if replay:
        plan, recorded = _replayed(replay, images, what)
        _verify(degradation, images, plan, recorded, path=replay)
    files = [output] if single else _files(images, output)
    if not single:
        _clear(output, (output / _LISTING, params), files, keep=replay)
    params.parent.mkdir(parents=True, exist_ok=True)
    temporary = params.with_name(params.name + ".part")
    with temporary.open("w") as lines, ThreadPoolExecutor(2) as pool:
        for rows in _progress(_batches(images), total=len(images)):
            indices = [plan.indices[i] for i in rows]
            clean = _stack([images.read(i) for i in rows])
            damaged, drawn = _damaged(degradation, clean, indices, plan.seed, images.name(rows[0]))
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
            # Listed before they are written: a run that stops here leaves no picture unlisted.
            lines.flush()
            list(pool.map(_write, damaged, [files[i] for i in rows]))
    temporary.replace(params)
    for name, reason in images.skipped:
        print(f"skipped {name}: {reason}")
    print(f"wrote {len(images)} images to {output} and their parameters to {params}")
    return 0


def find_degradation(
    what: str, checkpoint: Which | None = None, *, tell: Callable[[str], object] | None = None
) -> Degradation[Any]:
    """Returns a degradation by name.

    Arguments:
        what: ``setting:N``, ``setting:ffhq/N``, a task as ``task:U-XS``, a pipeline as ``imaging`` or ``bsrgan:2``,
            known damage as ``disk:2+noise:0.05``, a run's folder or a degradation's.
        checkpoint: Of a run, ``best`` or ``last``; None means the best where one was chosen.
        tell: Is told which checkpoint of a run it is.

    Raises:
        ValueError: If it is none of them.
    """
    if what.startswith("setting:"):
        return setting(what.removeprefix("setting:"))
    if what.startswith("task:"):
        return task(what.removeprefix("task:"))
    if what.partition(":")[0] in PIPELINES:
        return pipeline(what)
    # Without a number it is a folder's name.
    name, colon, _ = what.partition(":")
    if colon and name in PLAIN:
        return plain(what)
    if not Path(what).is_dir():
        raise ValueError(
            f"{what!r} is no degradation; give setting:A to setting:T, setting:ffhq/A to setting:ffhq/T, "
            f"task:U-XS to task:UNAP, one of {', '.join(PIPELINES)} (and a scale, as bsrgan:2), known damage as "
            "disk:2+noise:0.05, or the folder of a run or a degradation"
        )
    found = load(what, checkpoint)
    if isinstance(found, Run) and tell is not None:
        tell(f"using {found.describe()}")
    degradation = found.degradation if isinstance(found, Run) else found
    if not isinstance(degradation, Degradation):
        raise ValueError(f"{what} holds a {type(degradation).__name__}, which damages nothing")
    return degradation


def _coded(degradation: Degradation[Any], what: str, code: Path) -> tuple[Coded, str]:
    """Returns a model with the code in a file, and how the two are called in the list of parameters."""
    if not isinstance(degradation, UniversalDegradation):
        raise ValueError(
            f"{what} has no codes; leave --code out, or give a run of the recipe universal"
        )
    data = code.read_bytes()
    try:
        found = unpack_code(degradation, data, generator=generator_for("unused"))
    except ValueError as error:
        raise ValueError(f"{code}: {error}") from None
    return Coded(degradation, found.params), f"{what}#{hashlib.sha256(data).hexdigest()[:8]}"


@dataclass(frozen=True)
class _Plan:
    """The seed, and the index from which each image of the source is damaged."""

    seed: int
    indices: Sequence[int]


def _replayed(path: Path, images: Source, what: str) -> tuple[_Plan, list[dict[str, Any]]]:
    """Reads the plan and, for each image of the source, what was drawn then."""
    lines = list(_json_lines(path))
    if not lines or not all(map(_is_line, lines)):
        raise ValueError(f"{path} was not written by blemish degrade; give its file of parameters")
    seeds = {line["seed"] for line in lines}
    others = {line["degradation"] for line in lines} - {what}
    if others:
        raise ValueError(f"{path} was written by {sorted(others)[0]!r}, not by {what!r}")
    if len(seeds) != 1:
        raise ValueError(f"{path} holds {len(seeds)} seeds; a replay needs the lines of one")
    known = {line["source"]: line for line in lines}
    names = [images.name(i) for i in range(len(images))]
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(f"{path} has no line for {missing[0]} ({len(missing)} images in all)")
    mine = [known[name] for name in names]
    return _Plan(seeds.pop(), [line["index"] for line in mine]), [line["drawn"] for line in mine]


def _damaged(
    degradation: Degradation[Any], clean: Tensor, indices: Sequence[int], seed: int, name: str
) -> tuple[Tensor, Params]:
    """Damages a batch; what cannot be damaged is named, with the first image of its batch."""
    try:
        return degrade_batch(degradation, clean, indices, seed=seed)
    except ValueError as error:
        height, width = clean.shape[-2:]
        raise ValueError(f"{name} ({height}x{width}): {error}; or leave this image out") from error


@torch.no_grad()
def _verify(
    degradation: Degradation[Any],
    images: Source,
    plan: _Plan,
    recorded: Sequence[Mapping[str, Any]],
    *,
    path: Path,
) -> None:
    """Draws all parameters once, before anything is written, and compares them with the file's."""
    for rows in _batches(images):
        height, width = images.size or images.read(rows[0]).shape[1:]
        generators = generators_for(plan.seed, [plan.indices[i] for i in rows])
        shape = (len(rows), images.channels, height, width)
        drawn = degradation.sample(shape, generator=generators)
        for i, row in zip(rows, _lines(drawn), strict=True):
            for name, value in recorded[i].items():
                # Radii are square roots of differences, which magnify the errors of small ones.
                if not _close(value, row.get(name), power=2 if name == "summary.radius" else 1):
                    raise ValueError(
                        f"{path}: {name} of {images.name(i)} is not what its seed and index give; a "
                        "replay takes the seed and the index, not edited parameters or another model"
                    )


def _close(a: Any, b: Any, *, power: int = 1) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_close, a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a**power, b**power, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(a == b)


def _check_apart(source: str, output: Path, params: Path) -> None:
    """Refuses to write over, into or around the input: clean originals have no second copy."""
    given = Path(source).expanduser()
    if not given.exists():
        given = Path(re.sub(":(train|test|observed|clean)$", "", source)).expanduser()
    if not given.exists():
        return
    advice = "the clean originals could be lost; choose a place outside of the input"
    for path in (output, params):
        if lies_in(path, given):
            raise ValueError(f"{path} is the input {source} or lies inside it: {advice}")
        if lies_in(given, path):
            raise ValueError(f"{path} contains the input {source}: {advice}")


def _check_output(output: Path, params: Path, *, single: bool, count: int, overwrite: bool) -> None:
    if single and output.suffix.lower() != ".png":
        raise ValueError(f"{output}: damaged pictures are written as PNG; end the name in .png")
    if single and count != 1:
        raise ValueError(f"{output} is one picture, but the input has {count}; give a folder")
    exists = output.exists() and (single or any(output.iterdir()))
    if (exists or params.exists()) and not overwrite:
        there = output if exists else params
        raise FileExistsError(f"{there} exists; give --overwrite to replace it")


def _clear(
    output: Path, listings: Sequence[Path], files: Sequence[Path], *, keep: Path | None
) -> None:
    """Deletes the pictures that an earlier run listed, and nothing else.

    Raises:
        FileExistsError: If one of the files to be written is there and is not listed.
    """
    known = [
        p for listing in listings for p in (listing, listing.with_name(f"{listing.name}.part"))
    ]
    found = [listing for listing in dict.fromkeys(known) if listing.is_file()]
    old = {output / name for listing in found for name in _listed(listing)}
    if foreign := [file for file in files if file not in old and os.path.lexists(file)]:
        raise FileExistsError(
            f"{foreign[0]} is there and no list of parameters says that it was made here; move it, or "
            "choose another folder"
        )
    for file in old:
        # A list may have been edited: nothing outside of the folder is touched.
        inside = file.parent.resolve().is_relative_to(output.resolve())
        if inside and file.suffix == ".png" and (file.is_file() or file.is_symlink()):
            file.unlink()
    for listing in found:
        if keep is None or not keep.samefile(listing):
            listing.unlink()


def _listed(listing: Path) -> Iterator[str]:
    return (line["file"] for line in _json_lines(listing) if _is_line(line))


def _json_lines(path: Path) -> Iterator[Any]:
    """Yields the lines of a file as JSON values; one that is none, as a stopped run's last, is None."""
    for text in path.read_text(errors="replace").splitlines():
        try:
            yield json.loads(text)
        except ValueError:
            yield None


def _is_line(line: Any) -> bool:
    return (
        isinstance(line, dict)
        and line.keys() >= _KEYS.keys()
        and all(type(line[name]) is kind for name, kind in _KEYS.items())
    )


def _files(images: Source, output: Path) -> list[Path]:
    """Returns one PNG file for each image, in the input's folders, no two alike.

    ``a.jpg`` becomes ``a.png``, or ``a.jpg.png`` where another image is called ``a`` too, or
    ``a.jpg-2.png`` where even that is taken, be it by a folder. Names that differ in the case of
    their letters count as alike, as they are on some file systems.
    """
    names = [PurePosixPath(images.name(i)) for i in range(len(images))]
    counts = Counter(_folded(name.with_suffix("")) for name in names)
    taken = {_folded(folder) for name in names for folder in name.parents}
    files = []
    for name in names:
        alone = counts[_folded(name.with_suffix(""))] == 1
        file = name.with_suffix(".png") if alone else name.with_name(f"{name.name}.png")
        number = 1
        while _folded(file) in taken:
            file = name.with_name(f"{name.name}{f'-{number}' if number > 1 else ''}.png")
            number += 1
        taken.add(_folded(file))
        files.append(output / file)
    return files


def _folded(path: PurePosixPath) -> str:
    return str(path).casefold()


def _batches(images: Source) -> Iterator[list[int]]:
    """Yields runs of neighbours that fit in memory; images of different sizes go one by one."""
    step = 1 if images.size is None else batch_for(images.size)
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
        if _is_written(name.rpartition(".")[2], tensor)
    }
    summary = {f"summary.{name}": value.tolist() for name, value in drawn.summary().items()}
    columns = {**tensors, **summary}
    return [
        {name: _plain(values[i]) for name, values in columns.items()} for i in range(len(drawn))
    ]


def _is_written(name: str, tensor: Tensor) -> bool:
    """Whether a field is small: one number for each sample, or a kernel.

    Kernels are told from maps of the image's size by their name, for small images have that size too.
    """
    if name == "kernel":
        return max(tensor.shape[-2:]) <= _LARGEST_KERNEL
    return name not in _NOISE and tensor[:1].numel() == 1


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return _plain(value[0]) if len(value) == 1 else [_plain(item) for item in value]
    # JSON knows no NaN: a summary of a damage that did not befall this image is null.
    return None if value != value else value


def _write(image: Tensor, file: Path) -> None:
    pixels = image.permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
    # The fastest compression: noise does not shrink anyway.
    content = io.BytesIO()
    picture.save(content, format="PNG", compress_level=1)
    write_whole(file, content.getvalue())


def _progress(batches: Iterator[list[int]], *, total: int) -> Iterator[list[int]]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("degrading", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=total)
        for rows in batches:
            yield rows
            bar.advance(task, len(rows))
