"""``blemish compare``: which of two folders of restorations people prefer, without their knowing which is which.

First a page is written, which is handed to people; then what they chose is read back. The page does not know whose its
pictures are, so that both folders are needed again, as they were.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Sequence
from pathlib import Path

from ..data import Source, open_source
from ..evaluation import (
    BlindPair,
    Choices,
    Trial,
    blind_page,
    blind_pair,
    check_replaceable,
    page_digest,
    pair_digest,
    plan_trials,
    preference,
    read_choices,
)
from ..training.checkpoint import write_atomically
from ..training.progress import waiting
from .aligned import partners

__all__ = ["run"]


def run(
    a: str,
    b: str,
    *,
    output: Path | None = None,
    choices: Sequence[Path] = (),
    reference: str | None = None,
    count: int | None = None,
    seed: int | None = None,
    json: Path | None = None,
) -> int:
    """Writes a page on which people choose between two arms, or reads what they chose.

    Arguments:
        a: The pictures of the first arm.
        b: Those of the second, of the same names and sizes.
        output: The page that is written.
        choices: What the page handed out, one file for each person, in place of ``output``.
        reference: Of a page, what both were made from, of the same names; shown above.
        count: Of a page, the pairs that are shown at most; None means 100.
        seed: Of a page, the seed of what is shown, the order and the sides; None draws one.
        json: Of choices, the file that the result is written to, or None.

    Returns:
        0.

    Raises:
        ValueError: If an argument or a picture does not fit, or the choices were made on another page.
        OSError: If a file cannot be read or written.
    """
    if (output is None) == (not choices):
        raise ValueError(
            "give --output PAGE.html to write a page, or --choices choices.json to read what was chosen on it"
        )
    if output is not None:
        if json is not None:
            raise ValueError(f"--json {json} is for what was chosen; give it with --choices")
        # People who knew the seed could tell the sides before they see the page.
        drawn = secrets.randbits(32) if seed is None else seed
        return _write(a, b, output, reference, 100 if count is None else count, drawn)
    if reference is not None or count is not None or seed is not None:
        raise ValueError(
            "--reference, --count and --seed are of the page, whose choices say them; leave them out"
        )
    return _read(a, b, choices, json)


class _Arms:
    """The pictures of both arms, and what they were made from, by the numbers of pairs."""

    def __init__(self, a: str, b: str, reference: str | None = None) -> None:
        read = functools.partial(open_source, mixed=True)
        self.a, self.b = read(a), read(b)
        if self.a.title == self.b.title:
            raise ValueError(f"{a} and {b} are one; give two folders")
        self.pairs = sorted(partners(self.a, self.b), key=lambda pair: self.a.name(pair[0]))
        self.reference: Source | None = None
        self.origins: dict[int, int] = {}
        if reference is not None:
            self.reference = read(reference)
            self.origins = dict(partners(self.a, self.reference))

    @property
    def names(self) -> list[str]:
        """The names of the pairs, those of the first arm's pictures."""
        return [self.a.name(i) for i, _ in self.pairs]

    def show(self, trial: Trial) -> BlindPair:
        """Returns what a page shows for a choice."""
        i, j = self.pairs[trial.index]
        before = None if self.reference is None else self.reference.read(self.origins[i])
        try:
            return blind_pair(trial, self.a.read(i), self.b.read(j), before)
        except ValueError as error:
            raise ValueError(f"{self.a.name(i)}: {error}") from error

    def digest(self, trial: Trial) -> str:
        """Returns what the pair of a choice is known by."""
        i, j = self.pairs[trial.index]
        return pair_digest(trial, self.a.read(i), self.b.read(j))


def _write(a: str, b: str, output: Path, reference: str | None, count: int, seed: int) -> int:
    check_replaceable(output, page=output)
    arms = _Arms(a, b, reference)
    shown: list[BlindPair] = []
    trials = plan_trials(len(arms.pairs), count=count, seed=seed)
    with waiting("drawing") as tell:
        for number, trial in enumerate(trials):
            shown.append(arms.show(trial))
            tell(number + 1, len(trials))
    output.parent.mkdir(parents=True, exist_ok=True)
    page = blind_page(shown, seed=seed).encode()
    write_atomically(output, page)
    print(
        f"wrote {output}: {len(trials)} of {len(arms.pairs)} pairs, {len(page) / 2**20:.1f} MiB; hand it to people, then: "
        f"blemish compare {a} {b} --choices choices.json"
    )
    return 0


def _read(a: str, b: str, files: Sequence[Path], json: Path | None) -> int:
    every = [read_choices(file) for file in files]
    _check_different(every)
    if json is not None:
        _check_no_choices(json, files)
    arms = _Arms(a, b)
    first = every[0]
    trials = plan_trials(len(arms.pairs), count=first.count, seed=first.seed)
    with waiting("comparing"):
        same = len(trials) == first.count and first.page == page_digest(
            first.seed, [arms.digest(trial) for trial in trials]
        )
    if not same:
        raise ValueError(
            f"{first.source} was not chosen on a page of {a} and {b} as they are now; give the same folders in the "
            "same order, with the same pictures"
        )
    found = preference(every, trials)
    names = a, b
    print("\n".join(found.lines(*names)))
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(json, found.to_json(*names, arms.names).encode())
    return 0


def _check_no_choices(json: Path, files: Sequence[Path]) -> None:
    """Refuses to write over what somebody chose: there is no second copy."""
    found = json.resolve() in [file.resolve() for file in files]
    if json.is_file() and not found:
        try:
            read_choices(json)
        except ValueError:
            return
        found = True
    if found:
        raise ValueError(
            f"--json {json} is somebody's choices, which would be lost; give the result another name"
        )


def _check_different(every: Sequence[Choices]) -> None:
    """Refuses choices of several pages, and those of one person twice."""
    first = every[0]
    for number, one in enumerate(every):
        if (one.page, one.seed, one.count) != (first.page, first.seed, first.count):
            raise ValueError(f"{one.source} was chosen on another page than {first.source}")
        for other in every[:number]:
            if (one.sides, one.seconds) == (other.sides, other.seconds):
                raise ValueError(
                    f"{one.source} and {other.source} hold the same choices; give each once"
                )
