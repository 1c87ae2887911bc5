from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from blemish.functional.random import generator_for, rand
from blemish.metrics import (
    DISTSNetwork,
    Extractor,
    LPIPSNetwork,
    Moments,
    NIQEModel,
    RankIQANetwork,
    dists,
    frechet,
    kid,
    kid_subsets,
    lpips,
    manifold,
    ms_ssim,
    niqe,
    pixels,
    psnr,
    rank_title,
    rankiqa,
    ssim,
)
from blemish.metrics.classes import (
    DISTS,
    LPIPS,
    MSSSIM,
    NIQE,
    PSNR,
    SSIM,
    FrechetDistance,
    KernelDistance,
    Manifold,
    RankIQA,
)
from blemish.networks import VGG16

FEATURES = pixels(2, channels=3)


class Offset:
    """Float64 features far from zero, where sums of squares have lost the variances."""

    name = "inception@299"
    dimension = 12

    def __call__(self, images: Tensor) -> Tensor:
        return FEATURES(images).double() + 1e7


def pictures(n: int, name: str, scale: float = 1.0, size: int = 12) -> Tensor:
    return scale * rand((n, 3, size, size), generator_for("classes", name, n))


REAL, FAKE = pictures(40, "real"), pictures(30, "fake", 0.9)

SUBSETS = {"subsets": 5, "subset_size": 9, "seed": 2}

DISTANCES: dict[str, tuple[Callable[..., Metric], dict[str, Any], Callable[..., Any]]] = {
    "frechet": (FrechetDistance, {}, frechet),
    "kernel": (KernelDistance, {}, kid),
    "subsets": (KernelDistance, SUBSETS, lambda a, b: kid_subsets(a, b, **SUBSETS)),
    "manifold": (Manifold, {"k": 3}, lambda a, b: manifold(a, b, 3)),
}

FIDELITY = {"psnr": (PSNR, psnr, 12), "ssim": (SSIM, ssim, 12), "ms-ssim": (MSSSIM, ms_ssim, 180)}

every_distance = pytest.mark.parametrize("name", DISTANCES)


def distance(name: str, features: Any = FEATURES, **kwargs: Any) -> Metric:
    kind, options, _ = DISTANCES[name]
    return kind(features, **options, **kwargs)


def filled(metric: Metric, real: Tensor, fake: Tensor, batch: int = 7) -> Metric:
    for side, images in ((True, real), (False, fake)):
        for part in images.split(batch):
            metric.update(part, real=side)
    return metric


def numbers(result: Any) -> list[float]:
    if dataclasses.is_dataclass(result):
        return list(vars(result).values())
    return [float(v) for v in result.values()] if isinstance(result, dict) else [float(result)]


@every_distance
def test_distances_are_their_functions(name: str) -> None:
    metric = filled(distance(name), REAL, (255 * FAKE).round().to(torch.uint8))
    expected = DISTANCES[name][2](FEATURES(REAL), FEATURES((255 * FAKE).round() / 255))
    result = metric.compute()
    assert numbers(result) == pytest.approx(numbers(expected), rel=1e-6)
    values = result.values() if isinstance(result, dict) else [result]
    assert all(v.shape == () and v.dtype == torch.float64 for v in values)


@pytest.mark.parametrize("name", ["frechet", "kernel", "manifold"])
def test_merged_distances_are_those_of_one_process(name: str) -> None:
    # Moments and radii are the same at every offset, the kernel is not.
    features = FEATURES if name == "kernel" else Offset()
    one = filled(distance(name, features), REAL, FAKE)
    # Three uneven parts, of which one has seen no generated image and one nothing at all.
    parts = [(REAL[:5], FAKE), (REAL[5:], FAKE[:0]), (REAL[:0], FAKE[:0])]
    first, *others = (filled(distance(name, features), *part) for part in parts)
    for other in others:
        first.merge_state(other)
    assert numbers(first.compute()) == pytest.approx(numbers(one.compute()), rel=1e-6)
    if name == "frechet":
        expected = torch.cov(FEATURES(REAL).double().T)
        torch.testing.assert_close(Moments.unpack(first.real).cov, expected, rtol=1e-6, atol=1e-8)


@every_distance
def test_synchronised_distances_are_those_of_one_process(name: str) -> None:
    other = filled(distance(name), REAL[25:], FAKE[:0])
    states = iter([other.real, other.fake])

    def gather(state: Tensor, group: object) -> list[Tensor]:
        theirs = next(states)
        return [state, torch.cat(theirs) if isinstance(theirs, list) else theirs]

    metric = filled(
        distance(name, dist_sync_fn=gather, distributed_available_fn=lambda: True), REAL[:25], FAKE
    )
    one = filled(distance(name), REAL, FAKE)
    assert numbers(metric.compute()) == pytest.approx(numbers(one.compute()), rel=1e-9)
    # Afterwards it has its own images again.
    metric._to_sync = False
    metric.update(REAL[25:], real=True)
    assert numbers(metric.compute()) == pytest.approx(numbers(one.compute()), rel=1e-9)


PROCESS = """
import datetime, sys
import torch
from blemish.metrics import pixels
from blemish.metrics.classes import PSNR, FrechetDistance, Manifold

def scores(rank, folder):
    images = torch.load(f"{folder}/images.pt")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2,
        timeout=datetime.timedelta(seconds=100),
    )
    frechet, manifold, psnr = FrechetDistance(pixels(2, 3)), Manifold(pixels(2, 3), k=3), PSNR()
    # The second process sees no generated image.
    for metric in (frechet, manifold):
        metric.update(images["real"][rank::2], real=True)
        if rank == 0:
            metric.update(images["fake"], real=False)
    psnr.update(images["real"][rank:30:2], images["fake"][rank::2])
    values = [frechet.compute(), *manifold.compute().values(), psnr.compute()]
    torch.distributed.destroy_process_group()
    return [float(value) for value in values]
"""


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    torch.save({"real": REAL, "fake": FAKE}, tmp_path / "images.pt")
    here: dict[str, Any] = {}
    exec(PROCESS, here)
    command = [sys.executable, "-c", f"{PROCESS}\nprint(*scores(1, sys.argv[1]))", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            found = here["scores"](0, tmp_path)
            output, _ = process.communicate(timeout=100)
        finally:
            process.kill()
    one = [filled(distance(name), REAL, FAKE).compute() for name in ("frechet", "manifold")]
    expected = [*numbers(one[0]), *numbers(one[1]), float(psnr(REAL[:30], FAKE).mean())]
    assert found == pytest.approx(expected, rel=1e-9)
    assert [float(word) for word in output.split()] == found


@every_distance
def test_reset_forgets(name: str) -> None:
    metric = filled(distance(name), FAKE, REAL)
    metric.compute()
    metric.reset()
    again = filled(metric, REAL, FAKE).compute()
    assert numbers(again) == numbers(filled(distance(name), REAL, FAKE).compute())


@every_distance
def test_too_few_images_are_no_number(name: str) -> None:
    least = {"frechet": 2, "kernel": 2, "subsets": 9, "manifold": 4}[name]
    metric = filled(distance(name), REAL, FAKE[: least - 1])
    with pytest.raises(
        ValueError, match=rf"pixels@2.* saw 40 real and {least - 1} generated.* {least} of"
    ):
        metric.compute()
    metric.update(FAKE[least:], real=False)
    assert all(value == value for value in numbers(metric.compute()))


@every_distance
def test_broken_images_are_refused_and_leave_no_trace(name: str) -> None:
    metric = filled(distance(name), REAL, FAKE)
    before = numbers(metric.compute())
    broken = REAL[:6].clone()
    broken[2, 1, 0, 0], broken[4] = torch.nan, torch.inf
    with pytest.raises(ValueError, match="2 of 6 images are not finite"):
        metric.update(broken, real=False)
    assert numbers(metric.compute()) == before


@pytest.mark.parametrize("space", ["rgb", "y"])
@pytest.mark.parametrize("name", FIDELITY)
def test_fidelity_is_the_mean_over_images(name: str, space: str) -> None:
    kind, function, size = FIDELITY[name]
    x, y = pictures(5, "x", size=size), pictures(5, "y", size=size)
    one, first, second = (kind(space=space) for _ in range(3))
    expected = function(x, y, space=space)
    for part in torch.arange(5).split(2):
        torch.testing.assert_close(one(x[part], y[part]), expected[part].mean())
    first.update(x[:1], y[:1])
    second.update(x[1:], y[1:])
    first.merge_state(second)
    for metric in (one, first):
        torch.testing.assert_close(metric.compute(), expected.mean())
    one.reset()
    with pytest.raises(ValueError, match="saw 0 images"), pytest.warns(UserWarning, match="before"):
        one.compute()


def test_fidelity_has_its_protocol() -> None:
    x, y = REAL[:3], REAL[3:6]
    metric = PSNR(space="y", crop=3)
    metric.update(x, y)
    torch.testing.assert_close(metric.compute(), psnr(x, y, space="y", crop=3).mean())
    assert (metric.title, SSIM().title, MSSSIM(space="y").title) == (
        "PSNR (Y, crop 3)",
        "SSIM",
        "MS-SSIM (Y)",
    )
    with pytest.raises(ValueError, match="not finite"):
        metric.update(x / 0, y)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PSNR(space="lab"), "space is 'lab'"),
        (lambda: SSIM(crop=-2), "crop is -2"),
        (lambda: Manifold(FEATURES, k=0), "k is 0"),
        (lambda: KernelDistance(FEATURES, subsets=0), "subsets is 0"),
        (lambda: KernelDistance(FEATURES, subset=3), "subset"),
    ],
)
def test_mistakes_are_found_before_the_images_come(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_collection_shares_features_and_confuses_nothing() -> None:
    calls = []

    class Counted(Offset):
        def __call__(self, images: Tensor) -> Tensor:
            calls.append(len(images))
            return FEATURES(images)

    names = ("frechet", "kernel", "manifold")
    collection = MetricCollection({name: distance(name, Counted()) for name in names})
    filled(collection, REAL, FAKE)
    result = collection.compute()
    for name in names:
        one = filled(distance(name), REAL, FAKE).compute()
        found = {key: result[key] for key in one} if isinstance(one, dict) else result[name]
        assert numbers(found) == pytest.approx(numbers(one), rel=1e-9)
    # Three times for the first batch, then twice: for the moments and for all features.
    assert sum(calls) == 2 * 70 + 7


def test_a_collection_keeps_protocols_apart_after_equal_images() -> None:
    kinds = {"rgb": PSNR(), "y": PSNR(space="y"), "crop": PSNR(crop=2), "ssim": SSIM()}
    collection = MetricCollection(kinds)
    collection.update(REAL[:0], REAL[:0])
    collection.update(REAL[:4], REAL[4:8])
    result = collection.compute()
    expected = {
        "rgb": psnr(REAL[:4], REAL[4:8]),
        "y": psnr(REAL[:4], REAL[4:8], space="y"),
        "crop": psnr(REAL[:4], REAL[4:8], crop=2),
        "ssim": ssim(REAL[:4], REAL[4:8]),
    }
    assert {name: float(value) for name, value in result.items()} == pytest.approx(
        {name: float(value.mean()) for name, value in expected.items()}
    )


@every_distance
def test_a_model_that_holds_it_leaves_the_extractor_alone(name: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 8), nn.BatchNorm1d(8))
    model = nn.Module()
    model.metric = distance(name, Extractor("net", 8, network))
    filled(model.metric, REAL, FAKE[:20])
    model.train().half()
    assert not network.training
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert list(model.parameters()) == []
    assert model.state_dict() == {}
    filled(model.metric, REAL[:0], FAKE[20:])
    expected = DISTANCES[name][2](network(REAL), network(FAKE))
    assert numbers(model.metric.compute()) == pytest.approx(numbers(expected), rel=1e-6)


@every_distance
def test_states_and_extractor_move_together(name: str) -> None:
    # The meta device holds no numbers, but shows what has moved.
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 8))
    metric = filled(distance(name, Extractor("net", 8, network)), REAL, FAKE).to("meta")
    states = [metric.real, metric.fake]
    tensors = [t for state in states for t in (state if isinstance(state, list) else [state])]
    assert len(tensors) >= 2
    assert all(t.device.type == "meta" for t in [*tensors, *network.parameters()])


def test_titles_and_directions() -> None:
    def titles(features: Any) -> list[str]:
        return [kind(features).title for kind in (FrechetDistance, KernelDistance, Manifold)]

    assert titles(Offset())[:2] == ["FID", "KID"]
    assert titles(FEATURES)[:2] == ["Fréchet distance (pixels@2)", "kernel distance (pixels@2)"]
    assert titles(FEATURES)[2] == "precision, recall, density, coverage (pixels@2, k = 5)"
    kinds = (FrechetDistance, KernelDistance, Manifold, PSNR, SSIM, MSSSIM)
    assert [kind.higher_is_better for kind in kinds] == [False, False, True, True, True, True]
    assert not any(kind.is_differentiable or kind.full_state_update for kind in kinds)


WIDTHS = (2, 3, 3, 4, 4)


def made_lpips() -> LPIPSNetwork:
    torch.manual_seed(0)
    return LPIPSNetwork(VGG16(WIDTHS), [torch.rand(c) for c in WIDTHS])


def made_dists() -> DISTSNetwork:
    torch.manual_seed(0)
    maps = 3 + sum(WIDTHS)
    return DISTSNetwork(VGG16(WIDTHS), torch.rand(maps), torch.rand(maps))


def made_niqe() -> NIQEModel:
    return NIQEModel(torch.zeros(36).double(), torch.eye(36).double(), "nothing", block=12)


JUDGES = {
    "lpips": (LPIPS, made_lpips, lpips, 2),
    "dists": (DISTS, made_dists, dists, 2),
    "niqe": (NIQE, made_niqe, niqe, 1),
}


@pytest.mark.parametrize("name", JUDGES)
def test_judges_average_over_images_and_merge(name: str) -> None:
    kind, made, function, sides = JUDGES[name]
    network = made()
    batches = [torch.rand(sides, n, 3, 24, 24, generator=generator_for(n)) for n in (2, 3)]
    one, other = kind(network), kind(network)
    one.update(*batches[0])
    other.update(*batches[1])
    one.merge_state(other)
    expected = torch.cat([function(*batch, network).double() for batch in batches]).mean()
    assert float(one.compute()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert one.title == network.name
    assert "-like" in one.title
    assert kind.higher_is_better is False


@pytest.mark.parametrize("name", JUDGES)
def test_judges_refuse_what_is_no_image(name: str) -> None:
    kind, made, _, sides = JUDGES[name]
    metric = kind(made())
    with pytest.raises(ValueError, match="2 of 2 images are not finite"):
        metric.update(*torch.full((sides, 2, 3, 24, 24), torch.nan))
    with pytest.raises(ValueError, match="saw 0 images; it needs at least 1"):
        metric.compute()


def made_rankiqa() -> RankIQANetwork:
    torch.manual_seed(0)
    layers = [nn.Linear(49 * WIDTHS[-1], 3), nn.Linear(3, 3), nn.Linear(3, 1)]
    return RankIQANetwork(VGG16(WIDTHS), layers)


@pytest.mark.parametrize(("resize", "statistic"), [(None, "mean"), (240, "median")])
def test_rankiqa_averages_a_statistic_over_images(
    resize: int | None, statistic: Literal["mean", "median"]
) -> None:
    network = made_rankiqa()
    one = RankIQA(network, resize=resize, statistic=statistic, crops=3, seed=5)
    batches = [torch.rand(n, 3, 230, 226, generator=generator_for(n)) for n in (1, 2)]
    for batch in batches:
        one.update(batch)
    scores = [rankiqa(batch, network, resize=resize, crops=3, seed=5) for batch in batches]
    expected = torch.cat([getattr(score, statistic) for score in scores]).mean()
    assert float(one.compute()) == pytest.approx(float(expected), rel=1e-6)
    assert one.title == rank_title("RankIQA-like", resize, statistic)
    assert one.higher_is_better is False
    with pytest.raises(ValueError, match="1 of 1 images are not finite"):
        one.update(torch.full((1, 3, 224, 224), torch.nan))
    with pytest.raises(ValueError, match="statistic='mode' is not known"):
        RankIQA(network, statistic="mode")  # type: ignore[arg-type]
