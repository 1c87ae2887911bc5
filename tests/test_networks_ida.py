"""What an IDA layer can do, exactly: four convolutions whose taps vary over the image, in fixed proportions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.random import generator_for, randn
from blemish.networks import IDA, IDASFT, Redegrader

C, H, W = 3, 4, 5  # the features have 2 H x 2 W pixels
PHASES = [(0, 0), (0, 1), (1, 0), (1, 1)]


def _draw(*shape: int, name: str = "ida") -> Tensor:
    return randn(shape, generator_for(name, *shape)).double()


def _four_convolutions(features: Tensor, kernels: Tensor) -> Tensor:
    """Applies four depthwise 2x2 convolutions of stride 2, and weaves what they make into phases of one image.

    The kernels have shape (4, H, W, C, 2, 2): each pixel and channel has its own.
    """
    blocks = F.unfold(features, 2, stride=2).unflatten(1, (C, 4)).unflatten(3, (H, W))
    taps = kernels.flatten(4).permute(0, 3, 4, 1, 2)  # (4, C, 4, H, W)
    results = (blocks[:, None] * taps).sum(dim=3)  # (B, 4, C, H, W)
    return F.pixel_shuffle(results.transpose(1, 2).flatten(1, 2), 2)


def _constructed(u: Tensor, *, rectify: bool) -> IDA:
    """Returns the layer whose weights depend on the proportions u, with shape (4, C, 2, 2), alone."""
    layer = IDA(C, 4 * C, 4 * C, rectify=rectify).double()
    for p in layer.parameters():
        torch.nn.init.zeros_(p)
    with torch.no_grad():
        for j in range(4 * C):
            layer.spread.weight[j, j, 0, 0] = 1
            layer.read.weight[j, j, 1, 1] = 1
        for p in range(C):
            for q, r in PHASES:
                j = 4 * p + 2 * q + r
                layer.reduce.weight[j, p, q + 1, r + 1] = 1
                for a, b in PHASES:
                    layer.restore.weight[j, p, a, b] = u[2 * a + b, p, q, r]
    return layer


def _map_of(first: Tensor, *, rectify: bool) -> Tensor:
    """Returns the map e that depends on the first kernels, with shape (H, W, C, 2, 2), alone."""
    e = first.flatten(2).permute(2, 0, 1)[None]
    return torch.where(e < 0, 10 * e, e) if rectify else e


@pytest.mark.parametrize("rectify", [False, True])
def test_it_is_four_convolutions_in_proportion(rectify: bool) -> None:
    features, first = _draw(2, C, 2 * H, 2 * W), _draw(H, W, C, 2, 2)
    u = _draw(4, C, 2, 2, name="u")
    u[0] = 1
    layer = _constructed(u, rectify=rectify)
    found = layer(features, _map_of(first, rectify=rectify).expand(2, -1, -1, -1))
    assert_close(found, _four_convolutions(features, u[:, None, None] * first), rtol=0, atol=1e-12)


def test_without_the_inverse_of_its_rectifier_it_is_not() -> None:
    features, first = _draw(2, C, 2 * H, 2 * W), _draw(H, W, C, 2, 2)
    u = torch.ones(4, C, 2, 2, dtype=torch.float64)
    layer = _constructed(u, rectify=True)
    found = layer(features, _map_of(first, rectify=False).expand(2, -1, -1, -1))
    assert (found - _four_convolutions(features, u[:, None, None] * first)).abs().max() > 1


def test_the_kernels_that_it_makes_have_rank_one() -> None:
    # Whatever its 4 C channels are told, the kernels of one tap are proportional in the four phases: free ones are not.
    layer = _constructed(_draw(4, C, 2, 2, name="u"), rectify=False)
    e = _draw(1, 4 * C, H, W)
    for p in range(C):
        for q, r in PHASES:
            tap = torch.zeros(1, C, 2 * H, 2 * W, dtype=torch.float64)
            tap[:, p, q::2, r::2] = 1
            answer = layer(tap, e)[0, p]
            rows = torch.stack([answer[a::2, b::2].flatten() for a, b in PHASES])
            assert torch.linalg.matrix_rank(rows, atol=1e-10) == 1
    free = _draw(4, H * W)
    assert torch.linalg.matrix_rank(free) == 4
    energies = torch.linalg.svdvals(_draw(4, 4000, name="free")).square()
    # 59 % of the energy of free kernels would be left of those of 4 x 20 cells; of many cells three quarters.
    assert_close((energies[1:].sum() / energies.sum()).item(), 0.75, rtol=0, atol=0.02)


def test_four_channels_for_each_tap_make_free_convolutions() -> None:
    features, kernels = _draw(2, C, 2 * H, 2 * W), _draw(4, H, W, C, 2, 2)
    layer = IDA(C, 16 * C, 16 * C, rectify=False).double()
    for weight in layer.parameters():
        torch.nn.init.zeros_(weight)
    with torch.no_grad():
        for j in range(16 * C):
            k, p, q, r = j // (4 * C), j // 4 % C, j // 2 % 2, j % 2
            layer.spread.weight[j, j, 0, 0] = 1
            layer.read.weight[j, j, 1, 1] = 1
            layer.reduce.weight[j, p, q + 1, r + 1] = 1
            layer.restore.weight[j, p, k // 2, k % 2] = 1
    e = kernels.flatten(3).permute(0, 3, 1, 2).flatten(0, 1)[None].expand(2, -1, -1, -1)
    assert_close(layer(features, e), _four_convolutions(features, kernels), rtol=0, atol=1e-12)


@pytest.mark.parametrize("rectify", [False, True])
def test_it_is_linear_in_the_features_and_without_rectifier_in_the_map(rectify: bool) -> None:
    torch.manual_seed(3)
    layer = IDA(4, 6, rectify=rectify).double()
    torch.nn.init.zeros_(layer.restore.bias)
    a, b = _draw(1, 4, 8, 6), _draw(1, 4, 8, 6, name="b")
    e, f = _draw(1, 6, 4, 3), _draw(1, 6, 4, 3, name="f")
    assert_close(layer(a + 2 * b, e), layer(a, e) + 2 * layer(b, e), rtol=0, atol=1e-12)
    additive = torch.allclose(layer(a, e + f), layer(a, e) + layer(a, f), rtol=0, atol=1e-9)
    assert additive == (not rectify)


def test_a_cell_of_the_map_is_seen_near_it_alone() -> None:
    torch.manual_seed(4)
    layer = IDA(4, 6).double()
    features, e = _draw(1, 4, 16, 16), _draw(1, 6, 8, 8)
    other = e.clone()
    other[..., 3, 4] += 1
    changed = (layer(features, other) != layer(features, e)).any(dim=1)[0].nonzero()
    assert len(changed)
    # D_1 writes the pixels 6, 7 x 8, 9; C_1 reads one beyond; D_2 writes 2 x 2.
    assert changed.min(dim=0).values.tolist() >= [6, 8]
    assert changed.max(dim=0).values.tolist() <= [9, 11]


@pytest.mark.parametrize("ida", [False, True])
def test_ida_sft_is_its_formula(ida: bool) -> None:
    torch.manual_seed(5)
    layer = IDASFT(8, 4, ida=ida).double()
    f, c, n = _draw(2, 8, 6, 4), _draw(2, 4, 6, 4), _draw(2, 1, 6, 4)
    half = F.avg_pool2d(c, 2)
    expected = f * (1 + layer.gamma(c)) + layer.beta(torch.cat([c, n], dim=1))
    if layer.ida is not None:
        expected = expected + layer.ida(f, half)
    assert_close(layer(f, c, half, n), expected)
    assert (layer.ida is not None) == ida


def test_a_fresh_redegrader_makes_no_lattice_of_nothing() -> None:
    config = Redegrader.Config(
        widths=(6, 8, 8), blocks=(1, 1, 1), condition=4, embedding=6, local=2, ratio=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = config.build().double()
    x = torch.full((1, 3, 160, 160), 0.3).double()
    e_l = torch.ones(1, 2, 40, 40).double()
    noise = [torch.zeros(1, 1, *size).double() for size in config.noise_shapes(160, 160)]
    with torch.no_grad():
        y = network(x, _draw(1, 6), e_l, noise)
        louder = network(x, _draw(1, 6), e_l, [torch.randn_like(n) for n in noise])
    # Far from the borders, which have zeros beyond them.
    inside = y[..., 72:88, 72:88]
    assert (inside - 0.3).abs().max() > 1e-3
    assert inside.std(dim=(2, 3)).max() < 1e-9
    assert louder[..., 72:88, 72:88].std(dim=(2, 3)).min() > 1e-4
