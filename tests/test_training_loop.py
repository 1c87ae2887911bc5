"""The loop: what is trained when, averaging, resuming to the same bits, stopping, several processes."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training_toy import Toy, run_toy, slow_batches, toy_batches, toy_config

from blemish.functional.random import generator_for
from blemish.training.checkpoint import latest_checkpoint, list_checkpoints, load_checkpoint
from blemish.training.loop import Batches, State, TrainingDiverged, TrainResult, build, train
from blemish.training.metrics import read_metrics

SCRIPT = Path(__file__).with_name("training_toy.py")


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[1])
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}


def everything(result: TrainResult) -> dict[str, Tensor]:
    checkpoint = load_checkpoint(result.checkpoint)
    named = {
        f"{kind}.{name}": tensor
        for kind in ("parameters", "averages", "first_moments", "second_moments")
        for name, tensor in getattr(checkpoint, kind).items()
    }
    steps = checkpoint.state["steps"]
    named |= {f"steps.{p}.{n}": torch.tensor(c) for p in steps for n, c in steps[p].items()}
    return named


def assert_same_bits(a: TrainResult, b: TrainResult) -> None:
    one, two = everything(a), everything(b)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    for name, tensor in a.state.system.state_dict().items():
        assert torch.equal(tensor, b.state.system.state_dict()[name])


def lines(out: Path) -> list[dict[str, object]]:
    timed = ("seconds", "images_per_second")
    return [
        {k: v for k, v in line.items() if k not in timed}
        for line in read_metrics(out / "metrics.jsonl")
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return run_toy(tmp_path_factory.mktemp("unbroken"))


def test_equals_a_slow_obvious_loop(unbroken: TrainResult) -> None:
    config = toy_config()
    system = build(config)
    assert isinstance(system, Toy)
    average = {n: p.clone() for n, p in system.generator.state_dict().items()}
    modules = {"D": ["discriminator"], "G": ["generator", "shift"], "late": ["shift"]}
    adams = {
        phase.name: torch.optim.Adam(
            [
                {"params": list(getattr(system, m).parameters()), "lr": phase.lr * group.rate}
                for m, group in zip(modules[phase.name], phase.groups, strict=True)
            ],
            betas=phase.betas,
        )
        for phase in system.phases
    }
    for iteration in range(20):
        generator = generator_for(config.seed, "train", iteration * 8)
        batch = toy_batches(iteration * 8, 8)
        system.prepare(batch, generator, iteration)
        for name, adam in adams.items():
            if name == "late" and iteration not in (4, 7, 10, 13, 16, 19):
                continue
            system.zero_grad()
            sum(system.losses(name, batch, generator, iteration).values()).backward()
            adam.step()
            if name == "G":
                for key, value in system.generator.state_dict().items():
                    average[key] = 0.9 * average[key] + 0.1 * value
    for name, tensor in system.state_dict().items():
        torch.testing.assert_close(unbroken.state.system.state_dict()[name], tensor)
    torch.testing.assert_close(dict(unbroken.state.averages["prior"].state_dict()), average)


def test_build_depends_on_the_seed_alone() -> None:
    config = toy_config()
    state = torch.random.get_rng_state()
    one, two = build(config).state_dict(), build(config).state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = build(replace(config, seed=4)).state_dict()
    assert not torch.equal(one["shift.weight"], other["shift.weight"])


def test_modules_that_no_phase_trains_stay_as_they_were(unbroken: TrainResult) -> None:
    fresh = build(toy_config()).state_dict()
    final = unbroken.state.system.state_dict()
    assert torch.equal(final["fixed.weight"], fresh["fixed.weight"])
    assert not torch.equal(final["generator.0.weight"], fresh["generator.0.weight"])
    trainable = {n for n, p in unbroken.state.system.named_parameters() if p.requires_grad}
    assert trainable == {n for n, p in build(toy_config()).named_parameters() if p.requires_grad}
    assert not any(
        p.requires_grad for m in unbroken.state.averages.values() for p in m.parameters()
    )


def test_metrics_are_means_since_the_last_line(unbroken: TrainResult, tmp_path: Path) -> None:
    every = run_toy(tmp_path, toy_config(log_every=8)).state.out
    fine, coarse = lines(every), lines(unbroken.state.out)
    assert [line["images"] for line in coarse] == list(range(16, 161, 16))
    for name in ("loss/D/r1", "loss/G/adversarial"):
        for i, line in enumerate(coarse):
            expected = (fine[2 * i][name] + fine[2 * i + 1][name]) / 2
            assert line[name] == pytest.approx(expected, rel=1e-6)
    assert [("loss/late/mean" in line) for line in fine].count(True) == 6


def test_stopped_run_goes_on_to_the_same_bits(unbroken: TrainResult, tmp_path: Path) -> None:
    def interrupt(state: State) -> None:
        if state.images == 72:
            os.kill(os.getpid(), signal.SIGINT)

    config = toy_config(sample_every=8)
    handler = signal.getsignal(signal.SIGINT)
    stopped = run_toy(tmp_path, config, hooks=[interrupt])
    assert signal.getsignal(signal.SIGINT) is handler
    # The hook of an iteration runs after the loop asked: the signal is seen one iteration later.
    assert not stopped.finished
    assert stopped.state.images == 80
    resumed = run_toy(tmp_path, resume=True)
    assert resumed.finished
    assert_same_bits(resumed, unbroken)
    assert lines(tmp_path) == lines(unbroken.state.out)


def test_goes_on_in_another_folder(unbroken: TrainResult, tmp_path: Path) -> None:
    source = list_checkpoints(unbroken.state.out)[-2]
    resumed = run_toy(tmp_path / "new", resume=source)
    assert_same_bits(resumed, unbroken)
    assert lines(tmp_path / "new") == lines(unbroken.state.out)
    longer = toy_config(200)
    assert run_toy(tmp_path / "long", longer, resume=tmp_path / "new").state.images == 200
    assert list_checkpoints(tmp_path / "long")[0].name == "000000000160"


def test_killed_run_goes_on_to_the_same_bits(unbroken: TrainResult, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tmp_path), "160", "no", "--slow"]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while latest_checkpoint(tmp_path) is None and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    resumed = run_toy(tmp_path, resume=True)
    assert_same_bits(resumed, unbroken)
    assert lines(tmp_path) == lines(unbroken.state.out)


@pytest.mark.slow
def test_two_processes_compute_the_same_losses(tmp_path: Path) -> None:
    config = toy_config(log_every=8, gradient_norms=True)
    one = lines(run_toy(tmp_path / "one", config).state.out)
    changes = ["training.log_every=8", "training.gradient_norms=true"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    command += [str(SCRIPT), str(tmp_path / "two"), "160", "no", *changes]
    environ = {**environment(), "PYTHONWARNINGS": "default"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    two = lines(tmp_path / "two")
    assert len(one) == len(two) == 20
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            if name != "warnings":
                assert b[name] == pytest.approx(a[name], rel=1e-4, abs=1e-6), name


def test_gradient_norms_change_nothing_and_add_up(unbroken: TrainResult, tmp_path: Path) -> None:
    result = run_toy(tmp_path, toy_config(gradient_norms=True))
    assert_same_bits(result, unbroken)
    system = build(toy_config())
    generator = generator_for(3, "train", 0)
    losses = system.losses("D", toy_batches(0, 8), generator, 0)
    parameters = list(system.discriminator.parameters())
    gradients = torch.autograd.grad(losses["r1"], parameters, allow_unused=True)
    expected = torch.cat([g.flatten() for g in gradients if g is not None]).norm()
    first = lines(
        run_toy(tmp_path / "8", toy_config(8, gradient_norms=True, log_every=8)).state.out
    )
    assert first[0]["grad/D/r1"] == pytest.approx(expected.item(), rel=1e-5)


def test_diverging_run_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    config = replace(toy_config(), system=Toy.Config(bomb=7))
    with pytest.raises(TrainingDiverged, match=r"loss/G/adversarial reached nan.*000000000040"):
        run_toy(tmp_path, config)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["000000000040"]
    assert latest_checkpoint(tmp_path) is not None
    with pytest.raises(TrainingDiverged, match=r"limit 0\.5.*no checkpoint yet"):
        run_toy(tmp_path / "b", toy_config(explode=0.5))


def test_bad_weights_are_never_saved(tmp_path: Path) -> None:
    def poison(state: State) -> None:
        if state.images == 160:
            state.system.get_parameter("fixed.weight").fill_(math.inf)

    with pytest.raises(TrainingDiverged, match=r"fixed\.weight is not finite"):
        run_toy(tmp_path, hooks=[poison])
    assert list_checkpoints(tmp_path)[-1].name == "000000000120"


def test_strength_out_of_range_warns_once_a_run(
    unbroken: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = [
        line for line in read_metrics(unbroken.state.out / "metrics.jsonl") if "warnings" in line
    ]
    assert len(found) == 1
    assert "shift is -0.5" in found[0]["warnings"][0]
    run_toy(tmp_path, resume=list_checkpoints(unbroken.state.out)[0], silent=False)
    assert "sane range" not in capsys.readouterr().err


def test_hooks_run_at_the_start_at_cadence_and_at_the_end(tmp_path: Path) -> None:
    seen: list[int] = []
    run_toy(tmp_path, toy_config(100, sample_every=40), hooks=[lambda s: seen.append(s.images)])
    assert seen == [0, 40, 80, 104]


def test_a_folder_with_a_run_is_not_overwritten(unbroken: TrainResult, tmp_path: Path) -> None:
    out = unbroken.state.out
    with pytest.raises(FileExistsError, match="holds a run"):
        run_toy(out)
    with pytest.raises(FileNotFoundError, match="no whole checkpoint"):
        run_toy(tmp_path, resume=tmp_path)
    with pytest.raises(ValueError, match="not the newest"):
        run_toy(out, resume=list_checkpoints(out)[0])
    changed = replace(toy_config(200), system=Toy.Config(lr=1e-4))
    with pytest.raises(ValueError, match=r"system\.lr was 0\.002 and is 0\.0001"):
        run_toy(out, changed, resume=True)
    assert run_toy(tmp_path / "other", changed, resume=out).finished
    assert len(list_checkpoints(out)) == 3


@pytest.mark.parametrize("resume", [None, True])
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "samples", "report.html", "run"])
def test_files_of_others_are_not_overwritten(
    name: str, resume: bool | None, tmp_path: Path
) -> None:
    out = tmp_path / "run" if name == "run" else tmp_path
    (tmp_path / name).write_text('{"type": "Chain"}')
    with pytest.raises(FileExistsError, match=r"choose (another|a) folder"):
        run_toy(out, resume=resume)
    assert (tmp_path / name).read_text() == '{"type": "Chain"}'
    assert [p.name for p in tmp_path.iterdir()] == [name]


def brighter_batches(images_seen: int, batch: int) -> Tensor:
    return toy_batches(images_seen, batch) * 0.9


@pytest.mark.parametrize(
    ("batches", "count", "message"),
    [
        (brighter_batches, 40, "the first ones differ"),
        (toy_batches, 41, "were 40 and there are 41"),
    ],
)
def test_other_images_are_refused_in_a_folder_and_told_in_another(
    batches: Batches,
    count: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, longer = toy_config(40), toy_config(80)
    out = tmp_path / "a"
    run_toy(out, config, count=40)
    with pytest.raises(ValueError, match=message):
        train(build(longer), batches, longer, out, device="cpu", resume=True, count=count)
    other = tmp_path / "b"
    train(build(longer), batches, longer, other, device="cpu", resume=out, count=count)
    assert re.search(f"Changed: the images are not those .*{message}", capsys.readouterr().err)
    assert run_toy(out, longer, resume=True, count=40).finished
    state = load_checkpoint(latest_checkpoint(other)).state
    assert state["observed"]["count"] == count


def test_interrupted_run_prints_the_command_that_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = toy_config()
    stop = [lambda state: os.kill(os.getpid(), signal.SIGTERM)]
    out, command = tmp_path / "a", "blemish train toy --resume"
    train(build(config), slow_batches, config, out, device="cpu", hooks=stop, command=command)
    assert f"To go on: {command}\n" in capsys.readouterr().err
    train(build(config), slow_batches, config, tmp_path / "b", device="cpu", hooks=stop)
    assert f"resume=True, out='{tmp_path / 'b'}'" in capsys.readouterr().err


def test_bf16_stays_near_and_reaches_the_networks(unbroken: TrainResult, tmp_path: Path) -> None:
    half = lines(run_toy(tmp_path, toy_config(precision="bf16")).state.out)
    for a, b in zip(half, lines(unbroken.state.out), strict=True):
        assert a["loss/G/adversarial"] == pytest.approx(b["loss/G/adversarial"], rel=0.02)
        assert a["loss/G/adversarial"] != b["loss/G/adversarial"]


@pytest.mark.parametrize("device", ["tpu", "cpu:x", "cuda:99"])
def test_unknown_device_is_named(device: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(device)):
        run_toy(tmp_path, device=device)


def test_deterministic_mode_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.training.loop._has_cuda", lambda: True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    modes: list[bool] = []

    def look(state: State) -> None:
        modes.append(torch.are_deterministic_algorithms_enabled())

    run_toy(tmp_path / "on", hooks=[look])
    run_toy(tmp_path / "off", toy_config(deterministic=False), hooks=[look])
    assert modes == [True] * 3 + [False] * 3
    assert not torch.are_deterministic_algorithms_enabled()


def test_configuration_is_written(unbroken: TrainResult) -> None:
    written = json.loads((unbroken.state.out / "config.json").read_text())
    assert written["system"] == {"type": "Toy", "lr": 2e-3, "r1": 1.0, "bomb": -1}
    assert (unbroken.state.out / "tensorboard").is_dir()
