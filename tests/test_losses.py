"""The losses against closed forms, finite differences and loops that anybody can read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from blemish.functional.random import generator_for, rand, randn
from blemish.losses import (
    PerceptualLoss,
    blur_weight,
    compression_weight,
    consistency_loss,
    discriminator_loss,
    diversity_loss,
    effnet_features,
    generator_loss,
    r1_penalty,
    vgg19_features,
)
from blemish.metrics import perceptual, perceptual_network
from blemish.networks import VGG19

SHAPE = (3, 2, 4, 5)


def _images(name: str) -> Tensor:
    return rand(SHAPE, generator_for("losses", name)).double()


def test_an_undecided_discriminator_has_the_losses_of_a_coin() -> None:
    assert_close(generator_loss(torch.zeros(4)).item(), math.log(2))
    assert_close(discriminator_loss(torch.zeros(4), torch.zeros(8)).item(), 2 * math.log(2))


def test_adversarial_losses_are_cross_entropies() -> None:
    real = torch.tensor([-1.5, 0.3, 2.0], dtype=torch.float64)
    fake = torch.tensor([0.7, -2.0], dtype=torch.float64)
    expected_d = -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()
    assert_close(discriminator_loss(real, fake), expected_d)
    assert_close(generator_loss(fake), -fake.sigmoid().log().mean())


def test_logits_of_pixels_are_averaged_over_images_and_pixels() -> None:
    real = randn((2, 1, 3, 4), generator_for("real")).double()
    fake = randn((3, 1, 5, 2), generator_for("fake")).double()
    of_each = [generator_loss(logit[None]).item() for logit in fake.flatten()]
    assert_close(generator_loss(fake).item(), sum(of_each) / 30)
    assert_close(discriminator_loss(real, fake), discriminator_loss(real.flatten(), fake.flatten()))


@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
def test_adversarial_losses_do_not_saturate_or_overflow(logit: float) -> None:
    fake = torch.full((2,), logit, requires_grad=True)
    (gradient,) = torch.autograd.grad(generator_loss(fake), fake)
    # d/dl softplus(-l) = -sigmoid(-l): the non-saturating loss pulls hardest where D is surest.
    assert_close(gradient, torch.full((2,), -1 / (1 + math.exp(logit)) / 2))
    assert discriminator_loss(fake, fake).isfinite()


def test_r1_of_a_linear_discriminator_is_the_squared_norm_of_its_weights() -> None:
    weights = randn(SHAPE[1:], generator_for("w")).double().requires_grad_()
    y = _images("real").requires_grad_()
    penalty = r1_penalty((y * weights).sum(dim=(1, 2, 3)), y)
    assert_close(penalty, weights.square().sum())
    (gradient,) = torch.autograd.grad(penalty, weights)
    assert_close(gradient, 2 * weights)


def test_r1_is_the_batch_mean_of_finite_difference_gradients() -> None:
    w = randn((SHAPE[1] * SHAPE[2] * SHAPE[3],), generator_for("w2")).double()

    def judge(y: Tensor) -> Tensor:
        return (y.flatten(1) @ w).tanh() + y.flatten(1).square().sum(dim=1)

    y, step = _images("real"), 1e-6
    penalties = []
    for image in y:
        slopes = []
        for i in range(image.numel()):
            nudge = torch.zeros(image.numel(), dtype=torch.float64)
            nudge[i] = step
            up, down = image + nudge.view_as(image), image - nudge.view_as(image)
            slopes.append((judge(up[None]) - judge(down[None])).item() / (2 * step))
        penalties.append(sum(slope**2 for slope in slopes))
    y.requires_grad_()
    assert_close(r1_penalty(judge(y), y).item(), sum(penalties) / 3, rtol=1e-6, atol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_diversity_equals_a_loop_over_pairs(reduction: str) -> None:
    outputs = randn((6, 2, 3, 3), generator_for("o")).double()
    z = randn((6, 7), generator_for("z")).double()
    ratios = []
    for j in range(3):
        distances = [
            abs(a - b)
            for a, b in zip(
                outputs[2 * j].flatten().tolist(),
                outputs[2 * j + 1].flatten().tolist(),
                strict=True,
            )
        ]
        distance = sum(distances) / (len(distances) if reduction == "mean" else 1)
        latent = sum(
            abs(a - b) for a, b in zip(z[2 * j].tolist(), z[2 * j + 1].tolist(), strict=True)
        )
        ratios.append(distance / (latent / 7))
    loss = diversity_loss(outputs, z, reduction=reduction)  # type: ignore[arg-type]
    assert_close(loss.item(), -sum(ratios) / 3)


def test_diversity_of_a_linear_map_is_its_gain() -> None:
    z = randn((8, 5), generator_for("z"))
    assert_close(diversity_loss(3 * z, z), torch.tensor(-3.0))
    assert_close(diversity_loss(torch.ones(8, 4), z), torch.tensor(0.0))


def test_diversity_keeps_its_pairs_when_a_batch_is_cut() -> None:
    outputs, z = randn((8, 3), generator_for("o")), randn((8, 5), generator_for("z"))
    halves = [diversity_loss(outputs[i : i + 4], z[i : i + 4]) for i in (0, 4)]
    assert_close(diversity_loss(outputs, z), (halves[0] + halves[1]) / 2)


def test_diversity_pushes_a_pair_apart_and_survives_equal_latents() -> None:
    outputs = torch.tensor([[0.2], [0.1]], requires_grad=True)
    diversity_loss(outputs, torch.tensor([[0.0], [1.0]])).backward()
    assert outputs.grad is not None
    assert_close(-outputs.grad, torch.tensor([[1.0], [-1.0]]))
    assert diversity_loss(torch.zeros(2, 1), torch.zeros(2, 1)).item() == 0


def test_diversity_refuses_a_row_without_a_partner() -> None:
    with pytest.raises(ValueError, match="got 3 outputs"):
        diversity_loss(torch.zeros(3, 1), torch.zeros(3, 1))


def test_diversity_refuses_an_unknown_reduction() -> None:
    with pytest.raises(ValueError, match="reduction='avg' is not known; choose mean or sum"):
        diversity_loss(torch.zeros(2, 1), torch.zeros(2, 1), reduction="avg")  # type: ignore[arg-type]


def test_consistency_is_measured_in_the_networks_range() -> None:
    x, y, weight = _images("x"), _images("y"), torch.tensor([0.0, 0.5, 2.0]).double()
    wide = ((2 * x - 1) - (2 * y - 1)).square().flatten(1).mean(dim=1)
    assert_close(consistency_loss(x, y, weight), (weight * wide).mean())


def test_consistency_moves_the_clean_image_alone() -> None:
    x, y = _images("x").requires_grad_(), _images("y").requires_grad_()
    weight = torch.ones(3, dtype=torch.float64, requires_grad=True)
    loss = consistency_loss(x, y, weight)
    of_x, of_y, of_weight = torch.autograd.grad(loss, (x, y, weight), allow_unused=True)
    assert of_y is None
    assert of_weight is None
    assert_close(of_x, 8 * (x - y).detach() / x.numel())


def test_weights_have_the_papers_anchors() -> None:
    flat = torch.tensor(81.0).log()[None]
    assert_close(blur_weight(torch.zeros(1)), torch.ones(1))
    assert_close(blur_weight(flat), torch.tensor([1 / 81]))
    quality = torch.tensor([100.0, 80.0, 60.0])
    expected = torch.tensor([1.0, math.exp(-2), math.exp(-4)])
    assert_close(compression_weight(quality), expected)


def test_weights_without_a_scale_are_constant() -> None:
    assert_close(blur_weight(torch.tensor([0.3, 4.0]), mu=0.0), torch.ones(2))
    assert_close(compression_weight(torch.tensor([1.0, 100.0]), mu=0.0), torch.ones(2))


def pyramid(x: Tensor) -> list[Tensor]:
    """The image itself and its averages: maps that anybody can compute."""
    return [x, F.avg_pool2d(x, 2)]


def small_vgg(*, rectified: bool = False) -> VGG19:
    network = VGG19((3, 4, 4, 3, 2), rectified=rectified).double()
    g = generator_for("vgg19")
    for p in network.parameters():
        deviation = math.sqrt(2 / p[0].numel()) if p.ndim > 1 else 0.2
        p.data.copy_(deviation * randn(tuple(p.shape), g))
    return network


@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_the_perceptual_loss_is_its_equation(criterion: str) -> None:
    x, y = _images("x"), _images("y")
    loss = PerceptualLoss(pyramid, (0.5, 2.0), criterion)  # type: ignore[arg-type]
    p = int(criterion[1])
    rows = []
    for a, b in zip(x, y, strict=True):
        pixels = [
            abs(i - j) ** p for i, j in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
        ]
        small = [
            abs(float((a - b)[c, i : i + 2, j : j + 2].mean())) ** p
            for c in range(2)
            for i in (0, 2)
            for j in (0, 2)
        ]
        rows.append(0.5 * sum(pixels) / len(pixels) + 2.0 * sum(small) / len(small))
    expected = torch.tensor(rows, dtype=torch.float64)
    assert_close(loss.compare(loss.features(x), loss.features(y)), expected)
    assert_close(loss(x, y), expected.mean())


@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_the_perceptual_loss_is_a_distance(criterion: str) -> None:
    loss = PerceptualLoss(small_vgg(), criterion=criterion)  # type: ignore[arg-type]
    x, y = (rand((2, 3, 17, 16), generator_for("perceptual", n)).double() for n in "xy")
    of_x, of_y = loss.features(x), loss.features(y)
    assert torch.equal(loss.compare(of_x, of_x), torch.zeros(2).double())
    assert (loss.compare(of_x, of_y) > 0).all()
    assert torch.equal(loss.compare(of_x, of_y), loss.compare(of_y, of_x))
    assert_close(
        loss.compare(loss.features(x[1:]), loss.features(y[1:])), loss.compare(of_x, of_y)[1:]
    )


@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_the_perceptual_losses_gradient_reaches_the_estimate_alone(criterion: str) -> None:
    network = small_vgg()
    loss = PerceptualLoss(network, criterion=criterion)  # type: ignore[arg-type]
    x, y = (rand((1, 3, 16, 16), generator_for("perceptual", n)).double() for n in "xy")
    x, y = x.requires_grad_(), y.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, y.detach()), x, fast_mode=True)
    of_x, of_y = torch.autograd.grad(loss(x, y), (x, y), allow_unused=True)
    assert of_x.abs().sum() > 0
    assert of_y is None
    assert not any(p.requires_grad for p in loss.parameters())


def test_a_layer_without_weight_is_not_compared() -> None:
    x, y = _images("x"), _images("y")
    nan = torch.full((3, 1), math.nan, dtype=torch.float64)
    loss = PerceptualLoss(lambda z: [z, nan], (1.0, 0.0))
    assert_close(loss(x, y), (x - y).abs().mean())


def test_the_network_of_the_perceptual_loss_stays_in_eval_mode() -> None:
    norm = nn.BatchNorm2d(2).double()

    class Layers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Sequence[Tensor]:
            return [self.norm(x)]

    whole = nn.ModuleList([PerceptualLoss(Layers(), (1.0,))])
    whole.train()
    whole[0](_images("x"), _images("y"))
    assert not norm.training
    assert not norm.running_mean.any()


@pytest.mark.parametrize(
    ("weights", "criterion", "message"),
    [
        ((1.0, -0.1), "l1", r"weights=\(1\.0, -0\.1\); give none below 0"),
        ((0.0, 0.0), "l1", r"weights=\(0\.0, 0\.0\); .* and one above"),
        ((1.0,), "l3", r"criterion='l3' is not known; choose l1 or l2"),
    ],
)
def test_a_perceptual_loss_refuses_what_is_none(
    weights: tuple[float, ...], criterion: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PerceptualLoss(pyramid, weights, criterion)  # type: ignore[arg-type]


def test_a_perceptual_loss_wants_a_weight_for_each_map() -> None:
    loss = PerceptualLoss(pyramid)
    with pytest.raises(ValueError, match=r"got 2 and 2 maps, and 5 weights; give one weight"):
        loss(_images("x"), _images("y"))


@pytest.mark.parametrize("rectified", [False, True])
def test_vgg19_is_read_at_the_last_convolution_of_each_group(rectified: bool) -> None:
    network, x = small_vgg(), rand((2, 3, 35, 32), generator_for("vgg19-x")).double()
    # The layers as torchvision lists them: convolutions, each with a rectification, and a pooling behind each group.
    taps, h, number = [], x, 0
    for count in (2, 2, 4, 4, 4):
        for k in range(count):
            conv = network.features[str(number)]
            h = F.conv2d(h, conv.weight, conv.bias, padding=1)
            if k == count - 1:
                taps.append(h.relu() if rectified else h)
            h, number = h.relu(), number + 2
        h, number = F.max_pool2d(h, 2), number + 1
    assert number == 37
    for found, expected in zip(small_vgg(rectified=rectified)(x), taps, strict=True):
        assert_close(found, expected)


class Narrow(VGG19):
    def __init__(self, *, rectified: bool) -> None:
        super().__init__((3, 4, 4, 3, 2), rectified=rectified)


def test_vgg19_is_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A narrow one with torchvision's names; its classifier is left out.
    state = {name: value.float() for name, value in small_vgg().state_dict().items()}
    save_file({**state, "classifier.0.weight": torch.zeros(1)}, tmp_path / "vgg.safetensors")
    with pytest.raises(ValueError, match=r"features\.0\.weight' .* it must be \(64, 3, 3, 3\)"):
        vgg19_features(tmp_path / "vgg.safetensors")
    monkeypatch.setattr("blemish.losses.perceptual.VGG19", Narrow)
    features = vgg19_features(tmp_path / "vgg.safetensors")
    x = rand((1, 1, 16, 18), generator_for("grey"))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    y = (x.expand(-1, 3, -1, -1) - mean[:, None, None]) / std[:, None, None]
    for found, expected in zip(features(x), small_vgg().float()(y), strict=True):
        assert_close(found, expected)
    with pytest.raises(ValueError, match="got images of 15x18 pixels; VGG-19 needs at least 16x16"):
        features(x[..., :15, :])


def test_effnets_maps_are_those_of_the_perceptual_distance() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    features, distance = effnet_features(), perceptual_network()
    x, y = (rand((2, 1, 40, 33), generator_for("effnet", n)) for n in "xy")
    for found, expected in zip(features(x), distance(x), strict=True):
        assert torch.equal(found, expected)
    # The loss has means over channels, where the distance has sums.
    loss = PerceptualLoss(features, [c / 5 for c in (16, 24, 40, 112, 320)], "l2")
    found = loss.compare(loss.features(x), loss.features(y))
    assert_close(found, perceptual(x, y, distance))
