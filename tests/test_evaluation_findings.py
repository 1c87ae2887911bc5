"""Findings: draws are reduced rightly, and distances are what closed forms say."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch.testing import assert_close

from blemish.degradations import (
    Blur,
    Chain,
    DiskLaw,
    Fixed,
    GaussianNoise,
    Identity,
    LearnedBlur,
    LearnedJPEG,
    LearnedNoise,
    Partial,
    ReadShotNoise,
    setting,
)
from blemish.degradations.blur import BlurParams
from blemish.degradations.noise import ReadShotParams
from blemish.evaluation import Drawn, Findings, inspect_degradation, noise_curve
from blemish.functional.kernels import delta, disk, disk_radius
from blemish.functional.random import generator_for
from blemish.networks import ResNetGenerator

SHAPE = (3, 16, 16)
NOISE = ResNetGenerator.Config(latent=4, channels=(4, 4), image_channels=6)


def learned() -> Chain:
    torch.manual_seed(0)
    return Chain(
        [
            LearnedBlur.Config(size=5, latent=4, hidden=8).build(),
            LearnedNoise.Config(network=NOISE).build(),
            LearnedJPEG.Config(latent=4, hidden=8).build(),
        ]
    )


def fixed_disk(radius: float, size: int = 9) -> Fixed:
    return Fixed(Blur(DiskLaw()), BlurParams(disk(torch.tensor([radius]), size)))


def fixed_noise(read: float, shot: float) -> Fixed:
    levels = [torch.full((1, 1, 1, 1), level) for level in (read, shot)]
    eps = torch.zeros(1, *SHAPE)
    return Fixed(ReadShotNoise(), ReadShotParams(*levels, eps, eps))


def test_values_are_those_of_the_draws() -> None:
    degradation = learned()
    drawn = inspect_degradation(degradation, SHAPE, count=30, seed=3).learned
    params = degradation.sample((30, *SHAPE), generator=generator_for(3, "learned"))
    assert_close(drawn.kernels, params.stages[0].kernel.detach())
    for name, values in params.detach().summary().items():
        assert_close(drawn.values[name], values, msg=name)
    read, shot = drawn.values["sigma_read"], drawn.values["sigma_shot"]
    assert_close(drawn.values["sigma_grey"], (read**2 + shot**2 / 2).sqrt())
    assert_close(drawn.levels[0], params.stages[1].sigma_read.detach().abs().mean(dim=0))
    assert_close(drawn.examples[:, 1], params.stages[1].sigma_shot.detach().abs()[:8])


def test_more_draws_go_on_where_fewer_end() -> None:
    few, many = (inspect_degradation(learned(), SHAPE, count=n).learned for n in (50, 73))
    for name, values in few.values.items():
        assert_close(values, many.values[name][:50])
        assert len(many.values[name]) == 73
    assert not torch.equal(
        few.values["radius"],
        inspect_degradation(learned(), SHAPE, count=50, seed=1).learned.values["radius"],
    )


@pytest.mark.parametrize(("a", "b"), [(1.0, 2.0), (0.7, 0.7)])
def test_distances_of_fixed_disks(a: float, b: float) -> None:
    found = inspect_degradation(fixed_disk(a), SHAPE, truth=fixed_disk(b), count=7).distances()
    radii, kernels = disk_radius(disk(torch.tensor([a, b]), 9)), disk(torch.tensor([a, b]), 9)
    assert_close(found["radius"], float(radii.diff().abs()), atol=1e-6, rtol=0)
    assert_close(
        found["mean_kernel"], float((kernels[0] - kernels[1]).abs().sum()), atol=1e-6, rtol=0
    )
    centre = kernels[:, 0, 4, 4]
    assert_close(found["kernel_centre"], float(centre.diff().abs()), atol=1e-6, rtol=0)


def test_kernels_of_different_sizes_are_compared_about_their_middle() -> None:
    found = inspect_degradation(fixed_disk(1.5, 7), SHAPE, truth=fixed_disk(1.5, 9), count=2)
    assert found.distances()["mean_kernel"] == pytest.approx(0, abs=1e-6)


def test_a_sharp_kernel_with_a_halo_is_told_from_a_disk() -> None:
    halo = torch.full((1, 1, 9, 9), 1 / 81)
    kernel = 0.85 * delta(9) + 0.15 * halo
    found = inspect_degradation(
        Fixed(Blur(DiskLaw()), BlurParams(kernel)),
        SHAPE,
        truth=fixed_disk(float(disk_radius(kernel))),
        count=2,
    ).distances()
    assert found["radius"] < 0.15
    assert found["kernel_centre"] > 0.5


def test_noise_grows_with_intensity_as_its_variance_says() -> None:
    drawn = inspect_degradation(fixed_noise(0.03, 0.1), SHAPE, count=3).learned
    x = torch.linspace(0, 1, 5)
    expected = (0.03**2 + 0.1**2 * x).sqrt().expand(3, -1)
    assert_close(noise_curve(drawn, x), expected)
    assert_close(drawn.values["sigma_grey"], torch.full((3,), math.sqrt(0.03**2 + 0.1**2 / 2)))
    quantiles = noise_curve(
        Drawn({"sigma_read": torch.arange(101.0), "sigma_shot": torch.zeros(101)}), x
    )
    assert_close(quantiles[:, 2], torch.tensor([5.0, 50.0, 95.0]))


def test_spared_images_count_as_undamaged() -> None:
    stages = [Partial(fixed_disk(2.0), 0.25), Partial(fixed_noise(0.1, 0.1), 0.25)]
    drawn = inspect_degradation(Chain(stages), SHAPE, count=400).learned
    radius = drawn.values["radius"]
    blurred = radius > 0
    assert 0.15 < float(blurred.float().mean()) < 0.35
    assert_close(
        radius[blurred], disk_radius(disk(torch.tensor([2.0]), 9)).expand(int(blurred.sum()))
    )
    assert bool((drawn.values["kernel_centre"][~blurred] == 1).all())
    noisy = drawn.values["sigma_read"] > 0
    assert 0.15 < float(noisy.float().mean()) < 0.35
    assert not torch.equal(noisy, blurred)


def test_quality_is_that_of_compressed_images() -> None:
    drawn = inspect_degradation(setting("K"), SHAPE, count=200).learned
    mask = drawn.values["quality_mask"]
    assert set(mask.tolist()) == {0.0, 1.0}
    assert len(drawn.values["quality"]) == int(mask.sum()) < 100
    assert float(drawn.values["quality"].min()) >= 60


def test_a_degradation_is_as_near_to_itself_as_two_samples_are() -> None:
    found = inspect_degradation(setting("N"), SHAPE, truth=setting("N"), count=400).distances()
    assert set(found) == {
        "radius",
        "kernel_centre",
        "kernel_sum",
        "sigma_read",
        "sigma_shot",
        "sigma_grey",
        "quality",
        "quality_mask",
        "sigma_white",
        "mean_kernel",
        "nearest_kernel",
        "nearest_kernel_back",
        "noise_curve",
        "clean_blur",
        "clean_noise",
        "clean_jpeg",
    }
    assert (found["clean_noise"], found["clean_jpeg"]) == (0, 0)
    assert found["noise_curve"] < 0.01
    assert 0 < found["radius"] < 0.15
    assert 0 < found["quality"] < 3
    assert found["quality_mask"] == 0
    assert found["mean_kernel"] < 0.1


def test_equal_sets_of_kernels_are_at_no_distance_and_roles_are_symmetric() -> None:
    few, many = (inspect_degradation(setting(name), SHAPE, count=40).learned for name in "BD")
    same = Findings(40, 0, SHAPE, many, many).distances()
    assert (same["nearest_kernel"], same["nearest_kernel_back"], same["mean_kernel"]) == (0, 0, 0)
    there, back = Findings(40, 0, SHAPE, few, many), Findings(40, 0, SHAPE, many, few)
    assert there.distances()["nearest_kernel"] == back.distances()["nearest_kernel_back"]
    assert there.distances()["nearest_kernel_back"] == back.distances()["nearest_kernel"]
    # All disks lie within the set of disks and paths; the paths are far from every disk.
    assert 2 * there.distances()["nearest_kernel"] < there.distances()["nearest_kernel_back"]


def test_disks_are_told_from_rings_of_the_same_radius() -> None:
    kernel = disk(torch.tensor([2.0]), 9) - 0.3 * disk(torch.tensor([1.0]), 9)
    ring = kernel.clamp_min(0) / kernel.clamp_min(0).sum()
    alike = float(disk_radius(ring).square() - 1 / 3) ** 0.5
    found = inspect_degradation(
        Fixed(Blur(DiskLaw()), BlurParams(ring)), SHAPE, truth=fixed_disk(alike), count=2
    )
    distances = found.distances()
    l1 = float((ring - disk(torch.tensor([alike]), 9)).abs().sum())
    assert distances["radius"] < 0.04
    assert l1 > 10 * distances["radius"] > 0
    for name in ("nearest_kernel", "nearest_kernel_back"):
        assert distances[name] == pytest.approx(l1, rel=1e-5)
    assert found.kernel_floor == 0


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_distance_of_scaled_noise_has_a_closed_form(factor: float) -> None:
    read, shot = 0.03, 0.1
    truth = fixed_noise(read, shot)
    found = inspect_degradation(
        fixed_noise(factor * read, factor * shot), SHAPE, truth=truth, count=2
    ).distances()
    # The integral of sqrt(read² + shot² x) over [0, 1].
    mean = 2 / (3 * shot**2) * ((read**2 + shot**2) ** 1.5 - read**3)
    assert found["noise_curve"] == pytest.approx(abs(factor - 1) * mean, rel=1e-4, abs=1e-7)
    for name, x in (("sigma_read", 0.0), ("sigma_grey", 0.5), ("sigma_white", 1.0)):
        level = math.sqrt(read**2 + shot**2 * x)
        assert found[name] == pytest.approx(abs(factor - 1) * level, rel=1e-5, abs=1e-7)


def clean_disks() -> float:
    """The share of disks, of radii from U[0.5, 2], whose middle pixel holds more than 0.9 of their light."""

    def middle(r: float) -> float:
        angle = math.acos(0.5 / r)  # four segments of the disk lie beyond the pixel
        return 1 - 4 * (angle - math.sin(angle) * math.cos(angle)) / math.pi

    radii = [0.5 + 1.5 * (i + 0.5) / 3000 for i in range(300)]
    return sum(middle(r) > 0.9 for r in radii) / 3000


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_clean_draws_are_those_that_are_spared_and_the_smallest_disks(fraction: float) -> None:
    stages = [Blur(DiskLaw((0.5, 2.0))), fixed_noise(0.1, 0.1)]
    drawn = inspect_degradation(Chain([Partial(s, fraction) for s in stages]), SHAPE, count=1000)
    clean, spread = drawn.learned.clean(), 3 * math.sqrt(0.25 / 1000)
    assert 0.04 < clean_disks() < 0.05
    assert set(clean) == {"clean_blur", "clean_noise"}
    assert clean["clean_blur"] == pytest.approx(1 - fraction * (1 - clean_disks()), abs=spread)
    assert clean["clean_noise"] == pytest.approx(1 - fraction, abs=spread if fraction < 1 else 0)


@pytest.mark.parametrize(("letter", "spared"), [("F", 0.5), ("L", 0.5), ("O", 0.75), ("N", 0.0)])
def test_clean_shares_of_the_settings(letter: str, spared: float) -> None:
    clean = inspect_degradation(setting(letter), SHAPE, count=300).learned.clean()
    assert len(clean) == {"F": 1, "L": 1, "O": 3, "N": 3}[letter]
    for share in clean.values():
        assert share == pytest.approx(spared, abs=0.09)


def test_a_kernel_is_clean_below_its_bound() -> None:
    halo = torch.full((1, 1, 9, 9), 1 / 80)
    halo[..., 4, 4] = 0
    for share, clean in ((0.09, 1.0), (0.11, 0.0)):
        kernel = (1 - share) * delta(9) + share * halo
        assert Drawn(kernels=kernel).clean() == {"clean_blur": clean}
    # A kernel that only darkens is not the identity either.
    assert Drawn(kernels=0.79 * delta(9)).clean() == {"clean_blur": 0.0}
    levels = torch.tensor([0.4, 0.6]) / 255
    assert Drawn({"sigma_grey": levels}).clean() == {"clean_noise": 0.5}
    assert Drawn({"quality_mask": torch.tensor([0.05, 0.15])}).clean() == {"clean_jpeg": 0.5}


def test_two_learned_degradations_are_compared_without_a_truth() -> None:
    one = learned()
    findings = inspect_degradation(one, SHAPE, other=one, count=40)
    assert findings.reference == "other"
    assert not torch.equal(findings.learned.values["radius"], findings.true.values["radius"])
    document = json.loads(findings.to_json(), parse_constant=pytest.fail)
    assert (document["reference"], document["true"]) == ("other", None)
    assert document["other"]["clean"] == findings.true.clean()
    assert document["distances"] == pytest.approx(findings.distances(), rel=1e-5)
    with pytest.raises(ValueError, match="not both"):
        inspect_degradation(one, SHAPE, other=one, truth=setting("N"))


def test_other_damage_speaks_for_itself() -> None:
    chain = Chain([GaussianNoise((0.1, 0.2)), Identity()])
    findings = inspect_degradation(chain, SHAPE, truth=setting("B"), count=20)
    assert set(findings.learned.values) == {"sigma"}
    assert findings.learned.summary()["sigma"]["q50"] == pytest.approx(0.15, abs=0.04)
    assert findings.distances() == {}


def test_document_is_strict_json_and_says_all() -> None:
    findings = inspect_degradation(learned(), SHAPE, truth=setting("O"), count=20)
    document = json.loads(findings.to_json(), parse_constant=lambda text: pytest.fail(text))
    assert document["count"] == 20
    assert document["reference"] == "truth"
    assert document["kernel_floor"] == pytest.approx(findings.kernel_floor, rel=1e-5)
    assert set(document["learned"]["clean"]) == {"clean_blur", "clean_noise", "clean_jpeg"}
    assert "other" not in document
    assert document["shape"] == list(SHAPE)
    assert document["distances"]["radius"] == pytest.approx(
        findings.distances()["radius"], rel=1e-5
    )
    for role, drawn in (("learned", findings.learned), ("true", findings.true)):
        assert drawn is not None
        assert document[role]["values"]["radius"] == pytest.approx(
            drawn.values["radius"].tolist(), rel=1e-5
        )
        mean = document[role]["summary"]["radius"]["mean"]
        assert mean == pytest.approx(float(drawn.values["radius"].mean()), rel=1e-5)
    assert document["learned"]["mean_kernel_centroid"] == pytest.approx([0, 0], abs=0.2)


def test_a_number_json_does_not_have_becomes_null() -> None:
    drawn = Drawn({"radius": torch.tensor([1.0, math.nan])})
    text = Findings(2, 0, SHAPE, drawn).to_json()
    assert json.loads(text, parse_constant=pytest.fail)["learned"]["values"]["radius"] == [
        1.0,
        None,
    ]


def test_no_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="count=0"):
        inspect_degradation(Identity(), SHAPE, count=0)
    seen: list[int] = []
    inspect_degradation(Identity(), SHAPE, count=70, progress=seen.append)
    assert seen == [50, 70]
