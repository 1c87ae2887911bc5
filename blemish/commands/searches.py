"""Tables of ``blemish bench`` that are of searches through a prior's images: nothing is trained, parts are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bench import (
    ABLATION,
    ABLATION_ROWS,
    INVERSION,
    INVERSION_METHODS,
    INVERSION_TASKS,
    AblationBench,
    AblationCell,
    AblationProtocol,
    InversionBench,
    InversionCell,
    MeasuredTask,
    Outcome,
    check_ablation_protocol,
    check_inversion_protocol,
    fits,
    lock,
    plan_ablation,
    plan_inversion,
    read_documents,
    summarise_ablation,
    summarise_inversion,
)
from .degrade import find_degradation
from .encode import find_model
from .invert import find_prior
from .tables import chosen, deadline_of, seeds_of, tell_end, worked, write_texts

__all__ = ["OPTIONS", "SEARCHES", "Wishes", "run_search"]

_SEEDS, _RESTORED = 3, 8
"""The seeds and the images restored, where nothing else is said."""

_JPEG = "setting:S"
"""The damage of the ablation where nothing else is said: JPEG with qualities from 20 to 40."""

_BOTH = ("--prior", "--degradation", "--steps")
_OWN = ("--prior-v1", "--likelihood", "--likelihood-late", "--weights")

OPTIONS: dict[str, tuple[str, ...]] = {
    INVERSION: (*_BOTH, "--settings"),
    ABLATION: (*_BOTH, *_OWN),
}
"""The options of each of these tables, beside those of all tables, that other tables need not have."""

_WEIGHTS = ("rankiqa", "niqe")


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is computed, as ``blemish bench`` has it."""

    out: Path
    jobs: int
    budget: float | None
    data: str | None
    prior: str | None
    degradation: str | None
    seeds: str | None
    settings: str | None
    models: str | None
    count: int | None
    steps: int | None
    prior_v1: str | None
    likelihood: str | None
    likelihood_late: str | None
    weights: Sequence[str]


def run_search(name: str, wishes: Wishes) -> int:
    """Computes a table's cells that are not there yet, where parts are given, and writes the table of all that are.

    Arguments:
        name: The name of the table.
        wishes: What is computed.

    Returns:
        The exit code.

    Raises:
        ValueError: If an argument does not fit, or the folder holds cells of another protocol.
    """
    outcome = Outcome()
    parts = _parts(name, wishes)
    if any(parts.values()):
        if missing := [flag for flag in _NEEDED[name] if not parts[flag]]:
            raise ValueError(
                f"{name} needs {', '.join(_NEEDED[name])}, and {missing[0]} is missing; give all of them, or none for the "
                "table of finished cells"
            )
        outcome = worked(SEARCHES[name](wishes), wishes.jobs)
    with lock(wishes.out, f"{name}.tables"):
        documents = read_documents(wishes.out, name)
        summary = (
            summarise_ablation(documents) if name == ABLATION else summarise_inversion(documents)
        )
        write_texts(
            wishes.out / name,
            markdown=summary.to_markdown(),
            commas=summary.to_csv(),
            document=[summary.to_json()],
        )
    return tell_end(outcome, wishes.jobs, budgeted=wishes.budget is not None)


_NEEDED = {
    INVERSION: ("--data", "--prior", "--degradation"),
    ABLATION: ("--data", "--prior"),
}
"""The parts without which no cell is computed."""


def _parts(name: str, wishes: Wishes) -> dict[str, Any]:
    """Returns the parts that are given, by their options."""
    flags = ("--data", *OPTIONS[name])
    return {
        flag: getattr(wishes, flag.removeprefix("--").replace("-", "_"))
        for flag in flags
        if flag not in ("--steps", "--settings")
    }


def _inversion(wishes: Wishes) -> MeasuredTask[InversionCell]:
    """Returns the cells that are wanted, after everything that can be wrong with them has been tried."""
    every = plan_inversion(seeds_of(wishes.seeds, _SEEDS))
    tasks = chosen(wishes.settings, INVERSION_TASKS, "task")
    methods = chosen(wishes.models, INVERSION_METHODS, "model")
    known = read_documents(wishes.out, INVERSION)
    bench = InversionBench.of(
        find_prior(str(wishes.prior)),
        find_model(str(wishes.degradation), None, "cpu"),
        str(wishes.data),
        count=wishes.count or _RESTORED,
        steps=wishes.steps,
    )
    check_inversion_protocol(known, bench.protocol)
    wanted = [cell for cell in every if cell.task in tasks and cell.method in methods]
    cells = _fitting(wanted, bench.protocol.size)
    return MeasuredTask(cells, bench, out=wishes.out, deadline=deadline_of(wishes.budget))


def _fitting(cells: Sequence[InversionCell], side: int) -> tuple[InversionCell, ...]:
    """Returns the cells whose images can be reduced as they want it, and tells the others."""
    tasks = dict.fromkeys(cell.task for cell in cells)
    small = [name for name in tasks if not fits(name, side)]
    if small:
        print(
            f"not computed, since {side} pixels are no multiple of its factor: {', '.join(small)}"
        )
    return tuple(cell for cell in cells if cell.task not in small)


def _ablation(wishes: Wishes) -> MeasuredTask[AblationCell]:
    """Returns the cells that are wanted and have their parts, after everything that can be wrong has been tried."""
    every = plan_ablation(seeds_of(wishes.seeds, _SEEDS))
    rows = chosen(wishes.models, tuple(ABLATION_ROWS), "row")
    known = read_documents(wishes.out, ABLATION)
    weights = _files(wishes.weights)
    bench = AblationBench.of(
        find_prior(str(wishes.prior)),
        find_degradation(wishes.degradation or _JPEG, tell=print),
        str(wishes.data),
        count=wishes.count or _RESTORED,
        steps=wishes.steps,
        prior_v1=None if wishes.prior_v1 is None else find_prior(wishes.prior_v1),
        law=_law(wishes.likelihood),
        late=_law(wishes.likelihood_late),
        rankiqa=weights.get("rankiqa"),
        niqe=weights.get("niqe"),
    )
    check_ablation_protocol(known, bench.protocol)
    _tell_older(known, bench.protocol, wishes)
    lacking = {name: need for name in ABLATION_ROWS if name in rows and (need := bench.lacks(name))}
    for need in dict.fromkeys(lacking.values()):
        names = [name for name, lacked in lacking.items() if lacked == need]
        print(f"not computed, for want of {need}: {', '.join(names)}")
    cells = tuple(cell for cell in every if cell.row in rows and cell.row not in lacking)
    return MeasuredTask(cells, bench, out=wishes.out, deadline=deadline_of(wishes.budget))


_LATER = {
    "likelihood": "--likelihood",
    "rankiqa_weights": "--weights rankiqa=...",
    "niqe_weights": "--weights niqe=...",
}
"""Parts that add scores to every row, by their fields of the protocol."""


def _tell_older(
    known: Sequence[Mapping[str, Any]], protocol: AblationProtocol, wishes: Wishes
) -> None:
    """Tells which finished cells were computed without a part that is given now: they stay as they are."""
    for name, option in _LATER.items():
        if getattr(protocol, name) is None:
            continue
        cells = [AblationCell(one["row"], one["seed"]) for one in known if one.get(name) is None]
        if cells:
            files = " ".join(f"{wishes.out}/cells/{cell.name}.json" for cell in cells)
            print(
                f"finished without {option}, whose scores they lack: remove these to compute them again: {files}"
            )


def _law(what: str | None) -> Any:
    return None if what is None else find_degradation(what, tell=print)


def _files(texts: Sequence[str]) -> dict[str, str]:
    """Returns files of weights by name."""
    found: dict[str, str] = {}
    for text in texts:
        name, _, path = text.partition("=")
        if name not in _WEIGHTS:
            raise ValueError(f"--weights {name}: unknown; choose {', '.join(_WEIGHTS)}")
        if name in found:
            raise ValueError(f"--weights {name}=... is given twice; give it once")
        found[name] = path
    return found


SEARCHES: Mapping[str, Callable[[Wishes], MeasuredTask[Any]]] = {
    INVERSION: _inversion,
    ABLATION: _ablation,
}
"""What these tables compute, by name."""
