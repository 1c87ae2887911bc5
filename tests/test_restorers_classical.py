from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from blemish.data.open import open_source
from blemish.degradations import (
    JPEG,
    Blur,
    Chain,
    Degradation,
    DiskLaw,
    GaussianNoise,
    Identity,
    Partial,
    PoissonNoise,
    QualityLaw,
    ReadShotNoise,
    degrade_batch,
    setting,
)
from blemish.restorers import Deblock, Deblur, Denoise, Keep, Restorer, Where, restorer_for
from blemish.restorers.classical import CLEAN_FIDELITY, NOISY_FIDELITY


def pieces(n: int = 4) -> Tensor:
    rows, columns = torch.arange(32)[:, None], torch.arange(32)
    x = 0.1 + 0.5 * ((rows + 2 * columns) % 24 < 12) + 0.3 * (rows > 16)
    return (x * torch.tensor([1, 0.8, 0.5]).view(3, 1, 1)).expand(n, 3, 32, 32)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    return -10 * (x - y).square().mean((1, 2, 3)).log10()


MATRIX = {
    "blur": (Blur(DiskLaw((1.0, 2.0))), Deblur, 6.0),
    "read and shot": (ReadShotNoise(), Denoise, 2.0),
    "gaussian": (GaussianNoise((0.05, 0.1)), Denoise, 4.0),
    "jpeg": (JPEG(QualityLaw(20, 40)), Deblock, 0.0),
    "identity": (Identity(), Keep, None),
}


@pytest.mark.parametrize("name", MATRIX)
def test_what_was_drawn_is_undone(name: str) -> None:
    degradation, kind, gain = MATRIX[name]
    x = pieces()
    params = degradation.sample((4, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    y = degradation(x, params).clamp(0, 1)
    restorer = restorer_for(params)
    assert isinstance(restorer, kind)
    assert isinstance(restorer, Restorer)
    assert restorer.scale == 1
    x_hat = restorer(y)
    assert x_hat.shape == y.shape
    assert x_hat.min() >= 0
    assert x_hat.max() <= 1
    if gain is None:
        assert torch.equal(x_hat, y)
    else:
        assert (psnr(x_hat, x) > psnr(y, x) + gain).all()


def test_a_chain_is_undone_from_its_end() -> None:
    chain = Chain([Blur(DiskLaw((1.0, 2.0))), ReadShotNoise(), JPEG(QualityLaw(60, 80))])
    params = chain.sample((2, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    y = chain(pieces(2), params)
    blur, noise, codec = params.stages
    step = Denoise(noise.sigma_read.flatten(), noise.sigma_shot.flatten())(
        Deblock(codec.quality)(y)
    )
    assert_close(restorer_for(params)(y), Deblur(blur.kernel, NOISY_FIDELITY)(step))
    last = Chain([Blur(DiskLaw())]).sample((2, 3, 32, 32), generator=torch.Generator())
    expected = Deblur(last.stages[0].kernel, CLEAN_FIDELITY)(y)
    assert_close(restorer_for(last)(y), expected)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_only_the_affected_images_are_restored(probability: float) -> None:
    partial = Partial(Blur(DiskLaw((1.0, 2.0))), probability)
    params = partial.sample((6, 3, 32, 32), generator=torch.Generator().manual_seed(2))
    y = partial(pieces(6), params)
    restorer, applied = restorer_for(params), params.applied
    assert isinstance(restorer, Where if applied.any() else Keep)
    x_hat = restorer(y)
    assert torch.equal(x_hat[~applied], y[~applied])
    assert (psnr(x_hat, pieces(6))[applied] > psnr(y, pieces(6))[applied] + 5).all()


def test_says_what_cannot_be_undone() -> None:
    params = PoissonNoise((30.0, 300.0)).sample((1, 3, 8, 8), generator=torch.Generator())
    with pytest.raises(ValueError, match="nothing classical undoes PoissonNoiseParams"):
        restorer_for(params)


def restored(degradation: Degradation, x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns PSNR of 8-bit damaged and of restored images."""
    y, params = degrade_batch(degradation, x, range(len(x)), seed=0)
    y, clean = y.float() / 255, x.float() / 255
    # Images that a disk of half a pixel left as they are have no PSNR.
    changed = (y != clean).flatten(1).any(1)
    x_hat = restorer_for(params)(y)
    return psnr(y, clean)[changed], psnr(x_hat, clean)[changed]


@pytest.mark.parametrize(("name", "gain"), [("D", 8.0), ("R", 3.0), ("J", 0.25), ("N", 1.0)])
def test_improves_photographs(name: str, gain: float, data_folder: Path) -> None:
    source = open_source(data_folder / "cifar-10" / "test.zip")
    x = torch.stack([source.read(i) for i in range(0, len(source), 500)])
    before, after = restored(setting(name), x)
    assert after.mean() > before.mean() + gain


@pytest.mark.parametrize(("quality", "gain"), [(20, 0.4), (50, 0.4), (80, 0.4), (95, 0.2)])
def test_deblocking_gains_on_larger_photographs(
    quality: int, gain: float, data_folder: Path
) -> None:
    source = open_source(data_folder / "photos" / "test")
    x = torch.stack([source.read(i)[:, 100:164, 100:164] for i in range(4)])
    before, after = restored(JPEG(QualityLaw(quality, quality)), x)
    assert after.mean() > before.mean() + gain
