"""The training loop: one page, the same for every system.

Progress is counted in observed images. Everything random in an iteration comes from a generator that is a function of the seed and
of that progress, and the observed images are a function of the progress too. So a checkpoint needs no state of generators or
loaders, and a resumed run computes the same bits as an unbroken one.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.utils.deterministic
from torch import Tensor

from ..functional.random import generator_for, stable_hash
from ..systems.base import System
from .checkpoint import latest_checkpoint
from .config import RunConfig
from .ema import Averages
from .interruption import interruption
from .journal import Journal
from .players import Player
from .processes import Team, assemble, check_device, check_split
from .resume import begin, check_folder, fingerprint, save
from .run import Hook, Run, State, TrainingDiverged, check_losses

__all__ = [
    "Batches",
    "Hook",
    "State",
    "TrainResult",
    "TrainingDiverged",
    "build",
    "check",
    "train",
]


class Batches(Protocol):
    """A source of observed images, as a function of progress."""

    def __call__(self, images_seen: int, batch: int) -> Tensor:
        """Returns the images that follow the first ``images_seen`` ones: in [0, 1], with shape (batch, C, H, W).

        Each of several processes asks for its own rows of the global batch; so an image is a function of its position alone.
        """


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        state: The final state.
        checkpoint: The newest checkpoint; None in processes other than the main one.
        finished: Whether all images were seen, or enough of them; False after Ctrl-C, or where it was asked to stop.
        main: Whether this is the process that writes files.
    """

    state: State
    checkpoint: Path | None
    finished: bool
    main: bool


def build(config: RunConfig) -> System:
    """Builds a run's system; its initial weights are a function of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_hash(config.seed, "weights"))
        system = config.system.build()
    if not isinstance(system, System):
        raise TypeError(f"config.system.build() returned a {type(system).__name__}, not a System")
    return system


def check(
    config: RunConfig, out: Path, *, resume: Path | bool | None = None, device: str = "auto"
) -> None:
    """Finds out, before images are opened, what would stop :func:`train`; see there for arguments and errors."""
    check_device(device)
    check_split(config.training.batch)
    check_folder(config, out, resume)


def train(
    system: System,
    batches: Batches,
    config: RunConfig,
    out: Path,
    *,
    resume: Path | bool | None = None,
    device: str = "auto",
    hooks: Sequence[Hook] = (),
    count: int | None = None,
    command: str | None = None,
    silent: bool = False,
    stop: Callable[[], bool] | None = None,
    enough: Callable[[State], bool] | None = None,
) -> TrainResult:
    """Trains a system.

    Arguments:
        system: A freshly built system, see :func:`build`; it is moved to the device and trained in place.
        batches: The observed images.
        config: The run's configuration.
        out: The run's folder; it gets ``config.json``, ``metrics.jsonl``, ``checkpoints/`` and ``tensorboard/``.
        resume: A run's folder or a checkpoint to go on from; True means ``out`` itself, from the start where it has no checkpoint.
            Only into another folder may the configuration differ (a lower learning rate, say).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        hooks: Called in the main process, see :data:`Hook`.
        count: The number of images of the data set; like the first of them, it must be the same when a run goes on in its folder.
        command: The command that resumes this run, printed when it is interrupted.
        silent: Whether nothing is printed.
        stop: Is asked between iterations whether to save the run and end, as Ctrl-C does.
        enough: Is asked in the main process, at the start and after the hooks, whether the run is finished before all
            images were seen.

    Raises:
        TrainingDiverged: If a loss becomes NaN or exceeds ``config.training.explode``.
        FileExistsError: If ``out`` holds a run and ``resume`` does not say to go on with it.
        FileNotFoundError: If there is no whole checkpoint to resume from.
        ValueError: If the checkpoint belongs to another configuration or other images, or the batch cannot be split evenly.
    """
    training = config.training
    check_split(training.batch)
    team = assemble(device, training.precision)
    run = _prepare(system, config, out, team)
    state = run.state
    run.observed = fingerprint(batches(0, training.batch), count)
    source = begin(run, resume)
    with (
        _closing(team, system),
        _deterministic(training.deterministic),
        interruption() as asked,
        Journal(run, source, silent) as journal,
    ):
        if source != out:
            journal.call(hooks)
        if source not in (None, out):
            save(run, journal.seconds())  # from now on this folder stands alone
        wanted = asked if stop is None else lambda: asked() or stop()
        finished = _run_phases(run, batches, hooks, journal, wanted, enough)
        if not finished:
            how = command or f"train with resume=True, out={str(out)!r}"
            journal.progress.say(f"Stopped and saved. To go on: {how}")
            journal.call(hooks)
        state.seconds = journal.seconds()
    return TrainResult(state, latest_checkpoint(out) if team.main else None, finished, team.main)


def _run_phases(
    run: Run,
    batches: Batches,
    hooks: Sequence[Hook],
    journal: Journal,
    asked_to_stop: Callable[[], bool],
    enough: Callable[[State], bool] | None,
) -> bool:
    """Iterates, reports and saves at the cadences; returns whether all images were seen, or enough."""
    state, team, training = run.state, run.team, run.state.config.training
    done, stop = state.images >= training.images or _has_enough(run, enough, journal), False
    while not (done or stop):
        _iterate(run, batches)
        done = state.images >= training.images
        # Reading a number makes a GPU wait, so there it is done now and then.
        look = done or team.device.type == "cpu" or state.iteration % 10 == 0
        if look or _any_cadence(state):
            check_losses(run)
            stop = team.any(asked_to_stop())
        if done or state.images % training.log_every == 0:
            journal.log()
        if done or state.images % training.sample_every == 0:
            journal.call(hooks)
            if not done and _has_enough(run, enough, journal):
                done = True
                # An early end falls between two lines, and what was trained since the last one has none yet.
                if state.images % training.log_every:
                    journal.log()
        if done or stop or state.images % training.checkpoint_every == 0:
            save(run, journal.seconds())
        journal.progress.update(state.images)
    return done


def _has_enough(run: Run, enough: Callable[[State], bool] | None, journal: Journal) -> bool:
    """Asks the main process whether the run is finished; all processes call it."""
    if enough is None:
        return False
    found = run.team.any(run.team.main and enough(run.state))
    if found:
        journal.progress.say(f"Finished after {run.state.images:,} images: it gets no better.")
    return found


def _iterate(run: Run, batches: Batches) -> None:
    """One iteration: draw, prepare, one turn for each phase."""
    state, team, training = run.state, run.team, run.state.config.training
    rows = team.rows(training.batch)
    observed = batches(state.images + rows.start, len(rows))
    batch = observed.to(team.device, non_blocking=True)
    stream = generator_for(state.config.seed, "train", state.images, device=team.device)
    generator = team.share(stream)
    after = state.images + training.batch
    norms = training.gradient_norms and after % training.log_every == 0
    state.system.prepare(batch, generator, state.iteration)
    for player in run.players:
        if not player.due(state.iteration):
            continue
        name = player.phase.name
        terms = functools.partial(
            state.system.losses, batch=batch, generator=generator, iteration=state.iteration
        )
        turn = player.step(terms, team, norms=norms)
        run.meter.add([f"loss/{name}/{term}" for term in turn.names], turn.losses)
        run.norms |= {f"grad/{name}/{term}": norm for term, norm in turn.norms.items()}
        if player.phase.average:
            run.averages.update()
    state.images = after
    state.iteration += 1


def _prepare(system: System, config: RunConfig, out: Path, team: Team) -> Run:
    system.to(team.device)
    team.copy_from_main(system)
    averages = Averages(system.parts, system.ema_decay)
    players = [Player(system, phase) for phase in system.phases]
    if len({player.phase.name for player in players}) < len(players):
        raise ValueError(f"phases share a name: {', '.join(p.phase.name for p in players)}")
    state = State(system, averages.modules, config, out, team.device)
    return Run(state, players, averages, team)


def _any_cadence(state: State) -> bool:
    training = state.config.training
    cadences = (training.log_every, training.sample_every, training.checkpoint_every)
    return any(state.images % every == 0 for every in cadences)


@contextlib.contextmanager
def _closing(team: Team, system: System) -> Iterator[None]:
    system.autocast = team.autocast
    try:
        yield
    finally:
        vars(system).pop("autocast", None)
        team.close()


@contextlib.contextmanager
def _deterministic(wanted: bool) -> Iterator[None]:
    """Asks torch for kernels that give the same bits in every run, where there are any."""
    if not (wanted and _has_cuda()):
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filler: Any = torch.utils.deterministic
    fill = filler.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    filler.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        filler.fill_uninitialized_memory = fill


def _has_cuda() -> bool:
    return torch.cuda.is_available()
