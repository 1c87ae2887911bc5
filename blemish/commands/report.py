"""``blemish report``: one self-contained page about a run."""

from __future__ import annotations

from pathlib import Path

from ..configuration import encode
from ..degradations import Identity
from ..evaluation import Record, check_replaceable, report_page
from ..recipes import DAMAGING
from ..runs import Run, Which, load
from ..training.progress import waiting

__all__ = ["run"]


def run(run: Path, *, out: Path | None, checkpoint: Which | None = None) -> int:
    """Writes the report of a run.

    Arguments:
        run: The folder of a run; it may still be going on.
        out: The page; None means ``report.html`` in the run's folder.
        checkpoint: ``best`` or ``last``; None means the best where one was chosen.

    Returns:
        0.

    Raises:
        ValueError: If the folder holds no run, or one that has not written its first samples.
        FileExistsError: If ``out`` is there and is no page of blemish.
    """
    loaded = load(run, checkpoint)
    if not isinstance(loaded, Run):
        raise ValueError(f"{run} holds a {type(loaded).__name__}, no run; try 'blemish inspect'")
    there = {part for part in ("prior", "degradation", "restorer") if (run / part).is_dir()}
    whole = "restorer" in there or {"prior", "degradation"} <= there
    if loaded.config.recipe in DAMAGING:
        whole = "degradation" in there
    if not whole:
        raise ValueError(f"{run} has no trained parts yet; wait until its first samples are there")
    out = out or run / "report.html"
    check_replaceable(out, page=out)
    with waiting("drawing"):
        page = report_page(_record(loaded))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    print(f"wrote {out}")
    return 0


def _record(run: Run) -> Record:
    observed = run.folder / "observed.png"
    there = {name: (run.parts / name).is_dir() for name in ("prior", "degradation", "restorer")}
    return Record(
        config=encode(run.config),
        prior=run.prior if there["prior"] else None,
        degradation=run.degradation if there["degradation"] else Identity(),
        restorer=run.restorer if there["restorer"] else None,
        metrics=run.metrics(),
        images=run.images,
        checkpoint=run.describe() if run.chosen() else "",
        proximal={} if run.selection is None else run.selection.distances(),
        observed=observed.read_bytes() if observed.exists() else None,
        samples={
            int(path.stem): path.read_bytes()
            for path in sorted((run.folder / "samples").glob("*.png"))
            if path.stem.isdigit()
        },
        truth=run.truth(),
    )
