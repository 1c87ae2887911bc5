import pytest
import torch
from torch.testing import assert_close

from blemish.functional.anscombe import anscombe, anscombe_inverse, anscombe_mean, denoise

READ, SHOT = [0.02, 0.003, 0.05, 0.01], [0.0, 0.03, 0.05, 0.1]


def levels() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(READ, dtype=torch.float64), torch.tensor(SHOT, dtype=torch.float64)


def noisy(x: torch.Tensor, read: torch.Tensor, shot: torch.Tensor, seed: int = 0) -> torch.Tensor:
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=x.dtype)
    view = (-1, *(1,) * (x.ndim - 1))
    return x + (shot.view(view) ** 2 * x + read.view(view) ** 2).sqrt() * eps


@pytest.mark.parametrize("light", [0.3, 0.6, 1.0])
def test_the_noise_gets_the_variance_one(light: float) -> None:
    read, shot = levels()
    x = torch.full((4, 200_000), light, dtype=torch.float64)
    z = anscombe(noisy(x, read, shot), read, shot)
    assert_close(z.var(dim=1), torch.ones(4, dtype=torch.float64), rtol=0, atol=0.02)


def test_is_the_closed_form_with_shot_noise_and_linear_without() -> None:
    y = torch.linspace(0, 1, 20, dtype=torch.float64).expand(4, 20)
    read, shot = levels()
    z = anscombe(y, read, shot)
    assert_close(z[0], y[0] / READ[0])
    a = shot[1:, None].square()
    v = read[1:, None].square() + 7 / 8 * a.square()
    assert_close(z[1:], 2 / a * ((a * y[1:] + v).sqrt() - v.sqrt()))


def test_mean_agrees_with_many_samples() -> None:
    read, shot = levels()
    x = torch.linspace(0, 1, 5, dtype=torch.float64)
    means = anscombe_mean(x.expand(4, 5), read, shot)
    samples = noisy(x.repeat(4, 100_000, 1), read, shot)
    sampled = anscombe(samples, read, shot).mean(dim=1)
    # Four standard errors of noise of variance at most about 1.5.
    assert_close(means, sampled, rtol=0, atol=5 / 100_000**0.5)


def test_inverse_undoes_the_mean() -> None:
    read, shot = levels()
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = anscombe_mean(x.flatten(1), read, shot).view_as(x)
    assert_close(anscombe_inverse(z, read, shot), x, rtol=0, atol=1e-4)


def test_inverse_is_unbiased_where_the_plain_one_is_too_dark() -> None:
    read, shot = torch.tensor([0.01]).double(), torch.tensor([0.11]).double()
    x = torch.full((1, 1, 300, 300), 0.1, dtype=torch.float64)
    z = anscombe(noisy(x, read, shot), read, shot).mean(dim=(-2, -1), keepdim=True)
    a, v = shot**2, read**2 + 7 / 8 * shot**4
    plain = ((z * a / 2 + v.sqrt()) ** 2 - v) / a
    unbiased = anscombe_inverse(z, read, shot)
    assert plain < 0.0985
    assert_close(unbiased, x[..., :1, :1], rtol=0, atol=5 * 0.037 / 300)


def test_inverse_stays_in_range() -> None:
    z = torch.tensor([-5.0, 1e4]).view(1, 1, 1, 2)
    x = anscombe_inverse(z, torch.tensor([0.01]), torch.tensor([0.05]))
    assert x.flatten().tolist() == [0, 1]


def pieces(n: int) -> torch.Tensor:
    rows, columns = torch.arange(32)[:, None], torch.arange(32)
    x = 0.05 + 0.5 * ((rows + 2 * columns) % 24 < 12) + 0.3 * (rows > 16)
    return (x * torch.tensor([1, 0.8, 0.5]).view(3, 1, 1)).expand(n, 3, 32, 32)


def test_denoises_each_image_by_its_levels() -> None:
    read, shot = torch.tensor(READ), torch.tensor(SHOT)
    x = pieces(4)
    y = noisy(x, read, shot).clamp(0, 1)
    clean = denoise(y, read, shot)
    gain = 10 * ((y - x).square().mean((1, 2, 3)) / (clean - x).square().mean((1, 2, 3))).log10()
    assert (gain > 6).all()
    alone = [denoise(y[i : i + 1], READ[i], SHOT[i]) for i in range(4)]
    assert_close(clean, torch.cat(alone), rtol=0, atol=1e-4)


def test_without_noise_nothing_changes() -> None:
    y = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(denoise(y, 0.0, 0.0), y)
    assert torch.equal(denoise(y, torch.tensor([0.0, 0.1]), 0.0)[0], y[0])
    assert_close(denoise(y, 1e-4, 0.0), y, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("read", "shot", "message"),
    [(-0.1, 0.0, "sigma_read=-0.1"), (0.1, torch.ones(3), "got sigma_shot with shape")],
)
def test_says_what_does_not_fit(read: object, shot: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        denoise(torch.zeros(2, 3, 8, 8), read, shot)  # type: ignore[arg-type]
