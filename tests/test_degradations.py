"""The property matrix: every degradation faces every property that its type promises."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from blemish.configuration import decode, encode
from blemish.data import MemorySource
from blemish.degradations import (
    BSRGAN,
    DEGRADATIONS,
    JPEG,
    KINDS,
    AnisotropicGaussianLaw,
    BankLaw,
    Blur,
    Chain,
    Coded,
    ConstantBlur,
    ConstantJPEG,
    Contrast,
    Degradation,
    Differentiable,
    DifferentiableJPEG,
    DifferentiablePoissonNoise,
    DiskLaw,
    Downsample,
    DroppedPixels,
    Encoder,
    Estimated,
    Fixed,
    FrozenSource,
    GaussianBlur,
    GaussianLaw,
    GaussianNoise,
    Identity,
    Imaging,
    KernelLaw,
    LearnedBlur,
    LearnedJPEG,
    LearnedLikelihood,
    LearnedNoise,
    Likelihood,
    Linear,
    Local,
    MixtureLaw,
    MotionLaw,
    NeuralDegradation,
    Partial,
    PoissonNoise,
    Posterise,
    QualityLaw,
    Radii,
    ReadShotNoise,
    RealESRGAN,
    Shake,
    ShakeLaw,
    SincLaw,
    StrokeMask,
    UniversalDegradation,
    approximation,
    is_differentiable,
    is_likelihood,
    plain,
    setting,
    simulator,
    task,
)
from blemish.degradations.compose import NoParams
from blemish.functional.random import Randomness, Shard, generator_for, generators_for, rand, randn
from blemish.functional.stages import to_8_bits
from blemish.networks import ConditionalPixelCNN, Redegrader, ResNetGenerator
from blemish.types import Params, Shape

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

B, H, W = 3, 33, 47


@dataclass(frozen=True)
class Case:
    """A degradation and what is expected of it.

    Attributes:
        make: Makes the degradation.
        channels: The numbers of channels it is tried on.
        smooth: The parameters to which it is smooth, so that differences can be trusted; the image
            is named x.
        random: Whether its parameters are drawn at random.
        saved: Whether its configuration says everything but its weights.
    """

    make: Callable[[], Degradation[Any]]
    channels: tuple[int, ...] = (1, 3)
    smooth: tuple[str, ...] = ()
    random: bool = True
    saved: bool = True


BLUR = ("x", "kernel")
NEURAL = ("x", "centres", "kernels", "slopes", "noise")


def _noise(channels: int) -> LearnedNoise:
    network = ResNetGenerator.Config(latent=5, channels=(6, 4), image_channels=2 * channels)
    return LearnedNoise.Config(network=network).build()


def _estimated() -> Estimated:
    kernel = DiskLaw().kernels(4, generator_for("rows"))
    levels = torch.linspace(0.01, 0.05, 4)
    return Estimated.of(kernel, levels, levels.flip(0), torch.tensor([0.0, 40.0, 70.0, 95.0]))


def _universal(*, local: int = 2) -> UniversalDegradation:
    network = Redegrader.Config(
        widths=(4, 6), blocks=(1, 1), condition=4, embedding=5, local=local, ratio=2
    )
    config = UniversalDegradation.Config(redegrader=network, width=3, kernel=3, norm=False)
    d = config.build()
    torch.nn.init.normal_(d.redegrader.last.weight, std=0.1)
    return d


def _coded() -> Coded:
    d = _universal()
    return Coded(d, d.sample((1, 3, 20, 24), generator=generator_for("code")))


def _likelihood() -> LearnedLikelihood:
    network = ConditionalPixelCNN.Config(
        width=3, blocks=1, components=2, residual=True, encoder=1, phases=8
    )
    return LearnedLikelihood.Config(network=network).build()


def _neural(*, slope: float = 0.1, joint: bool = False, **changes: Any) -> NeuralDegradation:
    radii = Radii(kernel=0.1, slope=slope, noise=0.05, joint=joint)
    return NeuralDegradation.Config(
        **{"channels": 8, "blocks": (1, 1), "radii": radii, **changes}
    ).build()


def _chain(*stages: Degradation[Any]) -> Chain:
    return Chain(stages)


def _fixed(inner: Degradation[Any]) -> Fixed:
    return Fixed(inner, inner.sample((1, 1, H, W), generator=generator_for("fixed")))


MATRIX: dict[str, Case] = {
    "identity": Case(Identity, smooth=("x",), random=False),
    "blur-disk": Case(lambda: Blur(DiskLaw()), smooth=BLUR),
    "blur-motion": Case(lambda: Blur(MotionLaw()), smooth=BLUR),
    "blur-gaussian": Case(lambda: Blur(GaussianLaw()), smooth=BLUR),
    "blur-anisotropic": Case(lambda: Blur(AnisotropicGaussianLaw()), smooth=BLUR),
    "blur-mixture": Case(lambda: Blur(MixtureLaw()), smooth=BLUR),
    "blur-bank": Case(lambda: Blur(BankLaw(DiskLaw(), count=16)), smooth=BLUR),
    "blur-shake": Case(lambda: Blur(ShakeLaw()), smooth=BLUR),
    "blur-small": Case(lambda: Blur(DiskLaw(size=3)), smooth=BLUR),
    "blur-large": Case(lambda: Blur(DiskLaw((1.0, 14.0), size=31)), smooth=BLUR),
    "blur-replicate": Case(lambda: Blur(DiskLaw(), padding="replicate"), smooth=BLUR),
    "blur-circular": Case(lambda: Blur(DiskLaw(), padding="circular"), smooth=BLUR),
    "blur-zeros": Case(lambda: Blur(DiskLaw(), padding="zeros"), smooth=BLUR),
    "gaussian-blur": Case(GaussianBlur, smooth=("x", "sigma")),
    "shake": Case(Shake, smooth=("x",)),
    "contrast": Case(lambda: Contrast(offset=0.1), smooth=("x", "gain", "offset")),
    "local": Case(Local),
    "local-drop": Case(Local.Config(kinds=("drop",)).build),
    "gaussian-noise": Case(lambda: GaussianNoise((0.0, 0.1)), smooth=("x", "sigma", "eps")),
    "gaussian-noise-known": Case(lambda: GaussianNoise((0.1, 0.1)), smooth=("x", "eps")),
    "read-shot": Case(ReadShotNoise, smooth=("sigma_read", "sigma_shot", "eps_shot")),
    "read-shot-gradient": Case(
        lambda: ReadShotNoise(signal_gradient=True),
        smooth=("x", "sigma_read", "sigma_shot", "eps_read", "eps_shot"),
    ),
    "poisson": Case(lambda: PoissonNoise((30.0, 300.0))),
    "poisson-dark": Case(lambda: PoissonNoise((0.5, 0.5))),
    "differentiable-poisson": Case(lambda: DifferentiablePoissonNoise((30.0, 300.0))),
    # Enough photons that nothing is clipped, for the gradient does not know of it.
    "differentiable-poisson-gradient": Case(
        lambda: DifferentiablePoissonNoise((3000.0, 5000.0), signal_gradient=True),
        smooth=("x", "gain"),
    ),
    "dropped": Case(lambda: DroppedPixels(0.3), smooth=("x", "mask")),
    "strokes": Case(lambda: StrokeMask(3, 0.15), smooth=("x", "mask")),
    "jpeg": Case(JPEG),
    "jpeg-444": Case(lambda: JPEG(QualityLaw(1, 100), subsampling="4:4:4")),
    "differentiable-jpeg": Case(DifferentiableJPEG),
    "differentiable-jpeg-444": Case(lambda: DifferentiableJPEG(subsampling="4:4:4")),
    "differentiable-jpeg-real": Case(lambda: DifferentiableJPEG(QualityLaw(1, 100, integer=False))),
    "differentiable-jpeg-8-bit": Case(
        lambda: DifferentiableJPEG(rounding="straight-through", eight_bits=True)
    ),
    "chain": Case(lambda: _chain(Blur(DiskLaw()), ReadShotNoise(), DifferentiableJPEG())),
    "chain-real": Case(lambda: _chain(Blur(DiskLaw()), GaussianNoise((0.0, 0.1)), JPEG())),
    "chain-nested": Case(lambda: _chain(_chain(Blur(DiskLaw())), Partial(ReadShotNoise(), 0.5))),
    "partial-blur": Case(lambda: Partial(Blur(DiskLaw()), 0.6), smooth=("x", "inner.kernel")),
    "partial-jpeg": Case(lambda: Partial(JPEG(), 0.6)),
    "partial-poisson": Case(lambda: Partial(PoissonNoise((30.0, 300.0)), 0.4)),
    "partial-chain": Case(lambda: Partial(_chain(Blur(DiskLaw()), JPEG()), 0.6)),
    "fixed-blur": Case(lambda: _fixed(Blur(DiskLaw())), smooth=BLUR, random=False, saved=False),
    "fixed-jpeg": Case(lambda: _fixed(JPEG()), random=False, saved=False),
    "learned-blur": Case(LearnedBlur.Config(size=7, latent=5).build, smooth=BLUR),
    "learned-blur-no-mask": Case(
        LearnedBlur.Config(size=7, latent=5, masked=False).build, smooth=BLUR
    ),
    "learned-noise": Case(
        lambda: _noise(3), channels=(3,), smooth=("sigma_read", "sigma_shot", "eps_read")
    ),
    "learned-noise-grey": Case(
        lambda: _noise(1), channels=(1,), smooth=("sigma_read", "sigma_shot", "eps_read")
    ),
    "learned-jpeg": Case(LearnedJPEG.Config(latent=5).build),
    "learned-jpeg-no-mask": Case(LearnedJPEG.Config(latent=5, masked=False).build),
    "learned-jpeg-444": Case(LearnedJPEG.Config(latent=5, subsampling="4:4:4").build),
    "learned-chain": Case(
        lambda: _chain(
            LearnedBlur.Config(latent=5).build(), _noise(3), LearnedJPEG.Config(latent=5).build()
        ),
        channels=(3,),
    ),
    "blur-sinc": Case(lambda: Blur(SincLaw()), smooth=BLUR),
    "posterise": Case(Posterise, random=False),
    "constant-blur": Case(ConstantBlur.Config(size=5).build, smooth=BLUR, random=False),
    "constant-jpeg": Case(ConstantJPEG.Config().build, random=False),
    "estimated": Case(_estimated),
    "neural": Case(_neural),
    # Without a bend nothing is in the way of differences.
    "neural-straight": Case(lambda: _neural(slope=0.0), smooth=NEURAL),
    "neural-joint": Case(lambda: _neural(joint=True, blocks=(0, 1))),
    "neural-2": Case(lambda: _neural(scale=2, slope=0.0), smooth=NEURAL),
    "neural-any": Case(lambda: _neural(identity=False)),
    "downsample-bicubic": Case(lambda: Downsample(2), smooth=("x",), random=False),
    "downsample-bilinear": Case(lambda: Downsample(4, "bilinear"), smooth=("x",), random=False),
    "downsample-area": Case(lambda: Downsample(3, "area"), smooth=("x",), random=False),
    "downsample-nearest": Case(lambda: Downsample(4, "nearest"), smooth=("x",), random=False),
    "downsample-chain": Case(lambda: _chain(Blur(DiskLaw()), Downsample(2), DifferentiableJPEG())),
    "bsrgan-1": Case(lambda: BSRGAN(1)),
    "bsrgan-4": Case(lambda: BSRGAN(4)),
    "real-esrgan-2": Case(lambda: RealESRGAN(2)),
    "real-esrgan-3": Case(lambda: RealESRGAN(3)),
    "universal": Case(_universal, channels=(3,)),
    "universal-homogeneous": Case(lambda: _universal(local=0), channels=(3,)),
    "universal-coded": Case(_coded, channels=(3,), saved=False),
    "likelihood": Case(_likelihood, channels=(3,)),
    "imaging": Case(Imaging),
    "imaging-file": Case(Imaging.Config(codec="file").build),
    "imaging-local": Case(Imaging.Config(local=0.6, rounds=2, strength=0.5).build),
    "setting-N": Case(lambda: setting("N")),
    "setting-P": Case(lambda: setting("P")),
    "setting-ffhq/N": Case(lambda: setting("ffhq/N")),
    "simulator-M": Case(lambda: simulator("M")),
    "task-N-L": Case(lambda: task("N-L")),
    "task-UNAP": Case(lambda: task("UNAP")),
    "plain": Case(lambda: plain("disk:1-2+noise:0.02-0.1")),
    "plain-known": Case(lambda: plain("gaussian:1+noise:0.05")),
    "plain-jpeg": Case(lambda: plain("jpeg:10-50")),
    "approximation-UNAP": Case(lambda: approximation(task("UNAP").config).build()),
}

PLAIN = {
    *(
        "poisson",
        "poisson-dark",
        "posterise",
        "plain-jpeg",
        "jpeg",
        "jpeg-444",
        "chain-real",
        "partial-jpeg",
        "fixed-jpeg",
    ),
    *("partial-poisson", "partial-chain", "setting-N", "setting-P", "setting-ffhq/N"),
    *("bsrgan-1", "bsrgan-4", "real-esrgan-2", "real-esrgan-3", "task-N-L", "task-UNAP"),
    *("bsrgan-1", "bsrgan-4", "real-esrgan-2", "real-esrgan-3"),
    "likelihood",
    *("local", "local-drop", "imaging", "imaging-file", "imaging-local"),
}
"""What is not differentiable."""

DIFFERENTIABLE = [name for name in MATRIX if name not in PLAIN]

EVERY = [(name, c) for name, case in MATRIX.items() for c in case.channels]
every = pytest.mark.parametrize(("name", "channels"), EVERY)
"""Tries each degradation on grey and on colour."""


def _make(name: str) -> Degradation[Any]:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return MATRIX[name].make()


def _image(channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return rand((B, channels, H, W), generator_for("image")).to(dtype)


def _draw(d: Degradation[Any], channels: int, seed: int = 0) -> Params:
    return d.sample((B, channels, H, W), generator=generator_for("draw", seed))


@torch.no_grad()
def _case(name: str, channels: int) -> tuple[Degradation[Any], Tensor, Params]:
    d = _make(name)
    return d, _image(channels), _draw(d, channels)


def _assert_same(a: Params, b: Params) -> None:
    assert type(a) is type(b)
    assert_close(a.tensors(), b.tensors(), rtol=0, atol=0)


# What is drawn


@every
def test_drawing_needs_its_generator_alone(name: str, channels: int) -> None:
    d = _make(name)
    before = torch.random.get_rng_state()
    first = _draw(d, channels)
    d(_image(channels), first)
    assert torch.equal(before, torch.random.get_rng_state())
    _assert_same(first, _draw(d, channels))
    other = _draw(d, channels, seed=1)
    same = all(torch.equal(t, other.tensors()[n]) for n, t in first.tensors().items())
    assert same != MATRIX[name].random


@every
@torch.no_grad()
def test_a_sample_does_not_depend_on_its_batch(name: str, channels: int) -> None:
    d, x, indices = _make(name), _image(channels), [11, 7, 19]
    params = d.sample((B, channels, H, W), generator=generators_for(3, indices))
    y = d(x, params)
    for i, index in enumerate(indices):
        alone = d.sample((1, channels, H, W), generator=generators_for(3, [index]))
        assert_close(alone.tensors(), params[i].tensors(), rtol=1e-5, atol=1e-6)
        assert_close(d(x[i : i + 1], alone), y[i : i + 1], rtol=0, atol=2e-6)


@every
@torch.no_grad()
def test_applying_a_batch_is_applying_each_in_any_order(name: str, channels: int) -> None:
    d, x, params = _case(name, channels)
    y, order = d(x, params), torch.tensor([2, 0, 1])
    assert_close(d(x[order], params[order]), y[order], rtol=0, atol=2e-6)
    assert_close(torch.cat([d(x[[i]], params[i]) for i in range(B)]), y, rtol=0, atol=2e-6)


@every
@torch.no_grad()
def test_processes_share_one_draw(name: str, channels: int) -> None:
    d = _make(name)
    whole = d.sample((4, channels, H, W), generator=generator_for("draw"))
    shares = [Shard(generator_for("draw"), rank, 2) for rank in range(2)]
    parts = [d.sample((2, channels, H, W), generator=share) for share in shares]
    joined = type(whole).cat(parts).tensors()
    assert_close(joined, whole.tensors(), rtol=1e-5, atol=1e-6)


# What is applied


@every
def test_the_image_and_the_parameters_say_it_all(name: str, channels: int) -> None:
    d, x, params = _case(name, channels)
    kept, drawn = x.clone(), params.map(Tensor.clone)
    y = d(x, params)
    torch.rand(5)
    assert torch.equal(y, d(x, params))
    assert torch.equal(x, kept)
    _assert_same(params, drawn)
    assert torch.equal(y, copy.deepcopy(d)(x, params))
    assert torch.equal(y, pickle.loads(pickle.dumps(d))(x, params))


@every
@torch.no_grad()
def test_parameters_replay_from_a_file(name: str, channels: int, tmp_path: Path) -> None:
    d, x, params = _case(name, channels)
    tensors = {n: t.contiguous().clone() for n, t in params.tensors().items()}
    save_file(tensors, tmp_path / "params.safetensors")
    template = d.sample((1, channels, H, W), generator=generator_for("template"))
    again = template.replace_tensors(load_file(tmp_path / "params.safetensors"))
    _assert_same(params, again)
    assert torch.equal(d(x, params), d(x, again))


@every
@pytest.mark.parametrize("device", DEVICES)
def test_sizes_types_and_devices_are_kept(name: str, channels: int, device: str) -> None:
    d = _make(name).to(device)
    g = generator_for("device", device=device)
    params = d.sample((B, channels, H, W), generator=g)
    assert len(params) == B
    assert {t.device.type for t in params.tensors().values()} == {device}
    y = d(_image(channels).to(device), params)
    assert y.shape == (B, channels, H // d.scale, W // d.scale)
    assert (y.dtype, y.device.type) == (torch.float32, device)
    assert y.isfinite().all()


@every
@torch.no_grad()
def test_double_precision_is_kept_and_agrees(name: str, channels: int) -> None:
    d, x, params = _case(name, channels)
    double = params.to(torch.float64)
    y = d(x.double(), double)
    assert y.dtype == torch.float64
    # JPEG rounds: a coefficient, or a pixel, at a half may fall on either side.
    error = (y - d(x, params)).abs()
    assert (error > 1e-5).double().mean() < 0.01


# Gradients


@pytest.mark.parametrize("name", DIFFERENTIABLE)
@pytest.mark.parametrize("picture", ["noise", "black", "white"])
def test_gradients_are_finite(name: str, picture: str) -> None:
    d, channels = _make(name), MATRIX[name].channels[-1]
    x = {"noise": _image(channels), "black": torch.zeros(B, channels, H, W)}.get(
        picture, torch.ones(B, channels, H, W)
    )
    with torch.no_grad():
        drawn = _draw(d, channels)
    leaves = {
        n: t.clone().requires_grad_() for n, t in drawn.tensors().items() if t.is_floating_point()
    }
    x = x.clone().requires_grad_()
    y = d(x, drawn.replace_tensors({**drawn.tensors(), **leaves}))
    weights = randn(tuple(y.shape), generator_for("weights"))
    of_x, *others = torch.autograd.grad(
        (y * weights).sum(), (x, *leaves.values()), allow_unused=True
    )
    assert of_x.isfinite().all()
    found = {n: g for n, g in zip(leaves, others, strict=True) if g is not None}
    assert all(g.isfinite().all() for g in found.values()), found.keys()
    if picture == "noise":
        assert of_x.abs().flatten(1).sum(dim=1).min() > 0
        nothing_to_learn = isinstance(d, (Identity, Downsample))
        assert nothing_to_learn or any(g.abs().sum() > 0 for g in found.values())


def test_types_tell_what_is_differentiable() -> None:
    for name in MATRIX:
        assert is_differentiable(_make(name)) == (name not in PLAIN), name
    assert isinstance(_make("learned-jpeg"), Differentiable)
    assert not isinstance(_make("jpeg"), Differentiable)


SMOOTH = [(name, leaf) for name, case in MATRIX.items() for leaf in case.smooth]


@pytest.mark.parametrize(("name", "leaf"), SMOOTH)
def test_gradients_are_those_of_finite_differences(name: str, leaf: str) -> None:
    d, channels = _make(name), MATRIX[name].channels[-1]
    with torch.no_grad():
        params = _draw(d, channels).to(torch.float64)
    values = {"x": 0.2 + 0.6 * _image(channels, torch.float64), **params.tensors()}
    point = values[leaf].contiguous()
    direction = randn(tuple(point.shape), generator_for("direction")).double()
    weights = randn((B, channels, H // d.scale, W // d.scale), generator_for("weights")).double()

    def f(t: Tensor) -> Tensor:
        now = {**values, leaf: point + t * direction}
        y = d(now.pop("x"), params.replace_tensors(now))
        return (y * weights).sum()

    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(f(t), t)
    step = torch.tensor(1e-5, dtype=torch.float64)
    assert_close((f(step) - f(-step)) / (2 * step), slope, rtol=1e-6, atol=1e-6)


LINEAR = [name for name in MATRIX if isinstance(_make(name), Linear)]


@pytest.mark.parametrize("name", LINEAR)
@torch.no_grad()
def test_linear_degradations_are_linear_and_have_their_adjoint(name: str) -> None:
    d, x = _make(name), _image(3, torch.float64)
    params = _draw(d, 3).to(torch.float64)
    other = randn((B, 3, H, W), generator_for("other")).double()
    assert_close(d(2 * x - other, params), 2 * d(x, params) - d(other, params))
    y = randn(tuple(d(x, params).shape), generator_for("y")).double()
    # <A x, y> = <x, A* y>
    assert_close((d(x, params) * y).sum(), (x * d.adjoint(y, params)).sum())


def test_some_degradations_are_linear() -> None:
    assert {
        "blur-zeros",
        "learned-blur",
        "constant-blur",
        "downsample-area",
        "dropped",
        "strokes",
    } <= set(LINEAR)
    assert not set(LINEAR) & {"gaussian-noise", "jpeg", "read-shot"}


# Likelihoods


LIKELIHOODS = ("gaussian-noise-known", "likelihood", "plain-known")


def test_types_tell_what_has_a_likelihood() -> None:
    told = {name for name in MATRIX if is_likelihood(_make(name))}
    assert told == set(LIKELIHOODS)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods_are_of_each_image_alone_and_have_gradients(name: str) -> None:
    d, x = _make(name).eval(), _image(3).requires_grad_()
    assert isinstance(d, Likelihood)
    y = d.prepared(to_8_bits(_image(3).roll(1, 0)))
    found = d.log_prob(y, x)
    assert found.shape == (B,)
    assert (found < 0).all()
    order = torch.tensor([2, 0, 1])
    assert_close(d.log_prob(y[order], x[order]), found[order])
    (slope,) = torch.autograd.grad(found[1], x)
    assert slope.isfinite().all()
    of_each = slope.abs().flatten(1).sum(dim=1)
    assert of_each[1] > 0
    assert of_each[[0, 2]].sum() == 0


@pytest.mark.parametrize("name", LIKELIHOODS)
@torch.no_grad()
def test_what_was_drawn_is_likelier_than_what_was_not(name: str) -> None:
    d, x, params = _case(name, 3)
    assert isinstance(d, Likelihood)
    y = d.prepared(to_8_bits(d.eval()(x, params)))
    assert (d.log_prob(y, x) > d.log_prob(y, x.roll(1, 0))).all()


# Parameters as values


@every
@torch.no_grad()
def test_parameters_can_be_cut_joined_and_told(name: str, channels: int) -> None:
    _, _, params = _case(name, channels)
    kind = type(params)
    assert (len(params), len(params[1]), len(params[-1]), len(params[1:])) == (3, 1, 1, 2)
    _assert_same(kind.cat([params[0], params[1:]]), params)
    _assert_same(kind.cat([params[2], params[0]]), params[torch.tensor([2, 0])])
    _assert_same(params[-1], params[[2]])
    for told in params.summary().values():
        assert told.shape == (B,)
        assert told.dtype == torch.float32
        assert not told.isinf().any()
    _assert_same(params.to("cpu"), params)
    double = params.to(torch.float64)
    assert type(double) is kind
    for n, t in double.tensors().items():
        expected = torch.float64 if params.tensors()[n].is_floating_point() else torch.bool
        assert t.dtype == expected
        assert torch.equal(t, params.tensors()[n].to(t.dtype))


@pytest.mark.parametrize("name", [n for n in MATRIX if n.startswith(("learned", "constant"))])
def test_learned_parameters_carry_gradients_until_detached(name: str) -> None:
    d = _make(name)
    params = _draw(d, MATRIX[name].channels[-1])
    assert any(t.requires_grad for t in params.tensors().values())
    assert not any(t.requires_grad for t in params.detach().tensors().values())
    _assert_same(params.detach(), params.map(Tensor.detach))


# Configurations


@pytest.mark.parametrize("name", [n for n, case in MATRIX.items() if case.saved])
@torch.no_grad()
def test_a_configuration_and_weights_make_it_again(name: str, tmp_path: Path) -> None:
    d, x, params = _case(name, MATRIX[name].channels[-1])
    config = decode(json.loads(json.dumps(encode(d.config))), KINDS)
    assert config == d.config
    again = config.build()
    assert type(again) is type(d)
    assert again.config == d.config
    save_file(d.state_dict(), tmp_path / "weights.safetensors")
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    _assert_same(_draw(again, x.shape[1]), params)
    assert torch.equal(again(x, params), d(x, params))


# The identity at zero strength


def _zeroed(d: Degradation[Any], names: tuple[str, ...]) -> tuple[Degradation[Any], Params]:
    params = _draw(d, 3)
    tensors = {n: t * 0 if n in names else t for n, t in params.tensors().items()}
    return d, params.replace_tensors(tensors)


def _weak(d: Degradation[Any]) -> tuple[Degradation[Any], Params]:
    return d, _draw(d, 3)


def _median(d: Degradation[Any]) -> tuple[Degradation[Any], Params]:
    """Draws the middle of every law."""
    params = _draw(d, 3)
    return d, params.replace_tensors(
        {n: torch.full_like(t, 0.5) if n == "u" else t for n, t in params.tensors().items()}
    )


NOTHING = ResNetGenerator.Config(latent=5, channels=(6, 4), image_channels=6, output_gain=0.0)
ZERO: dict[str, Callable[[], tuple[Degradation[Any], Params]]] = {
    "identity": lambda: _weak(Identity()),
    "chain": lambda: _weak(_chain(Identity(), Identity())),
    "disk": lambda: _weak(Blur(DiskLaw((0.0, 0.0)))),
    "disk-half": lambda: _weak(Blur(DiskLaw((0.5, 0.5)))),
    "gaussian": lambda: _weak(Blur(GaussianLaw((0.0, 0.0)))),
    "anisotropic": lambda: _weak(Blur(AnisotropicGaussianLaw((0.0, 0.0), size=9))),
    "motion": lambda: _weak(Blur(MotionLaw(length=0.0))),
    "gaussian-blur": lambda: _weak(GaussianBlur((0.0, 0.0))),
    "shake": lambda: _weak(Shake(ShakeLaw((0.0, 0.0)))),
    "contrast": lambda: _weak(Contrast((1.0, 1.0))),
    "local": lambda: _zeroed(Local(), ("mask",)),
    "gaussian-noise": lambda: _weak(GaussianNoise((0.0, 0.0))),
    "differentiable-poisson": lambda: _median(DifferentiablePoissonNoise((20.0, 20.0))),
    "dropped": lambda: _weak(DroppedPixels(0.0)),
    "strokes": lambda: _weak(StrokeMask(0)),
    "read-shot": lambda: _zeroed(ReadShotNoise(), ("sigma_read", "sigma_shot")),
    "partial-jpeg": lambda: _weak(Partial(JPEG(), 0.0)),
    "partial-blur": lambda: _weak(Partial(Blur(DiskLaw()), 0.0)),
    "learned-blur": lambda: _weak(LearnedBlur.Config(latent=5, mask_bias=-1e4).build()),
    "learned-noise": lambda: _weak(LearnedNoise.Config(network=NOTHING).build()),
    "learned-jpeg": lambda: _weak(LearnedJPEG.Config(latent=5, mask_bias=-1e4).build()),
    "fixed": lambda: _weak(_fixed(Identity())),
    **{
        f"downsample-{mode}": lambda mode=mode: _weak(Downsample(1, mode))
        for mode in ("bicubic", "bilinear", "area", "nearest")
    },
}


@pytest.mark.parametrize("name", ZERO)
@torch.no_grad()
def test_zero_strength_changes_nothing(name: str) -> None:
    d, params = ZERO[name]()
    x = _image(3)
    # Large kernels go through the Fourier domain, which rounds; all else is exact.
    exact = name not in ("gaussian", "anisotropic")
    assert_close(d(x, params), x, rtol=0, atol=0 if exact else 1e-6)


@pytest.mark.parametrize("zero", [0.1, 0.01])
@torch.no_grad()
def test_weak_damage_tends_to_none(zero: float) -> None:
    x = _image(3)
    for d in (
        Blur(DiskLaw((0.5 + zero, 0.5 + zero))),
        Blur(GaussianLaw((3 * zero, 3 * zero))),
        GaussianNoise((zero, zero)),
        PoissonNoise((zero**-2, zero**-2)),
        DifferentiablePoissonNoise((zero**-2, zero**-2)),
        DroppedPixels(zero**2),
    ):
        error = (d(x, _draw(d, 3)) - x).square().mean().sqrt()
        assert error < 1.5 * zero


# Degradations that change the size


class Half(Degradation[NoParams]):
    """Keeps every second pixel."""

    scale = 2

    def __init__(self) -> None:
        super().__init__()
        self.config = Identity.Config()

    def sample(self, shape: Shape, *, generator: Randomness) -> NoParams:
        return Identity().sample(shape, generator=generator)

    def forward(self, x: Tensor, params: NoParams) -> Tensor:
        return x[..., ::2, ::2]


def test_a_chain_draws_later_stages_for_smaller_images() -> None:
    d, x = (
        Chain([Half(), GaussianNoise((0.0, 0.1)), Half(), ReadShotNoise()]),
        _image(3)[..., :32, :40],
    )
    params = d.sample((B, 3, 32, 40), generator=generator_for("half"))
    assert d.scale == 4
    assert params.stages[1].tensors()["eps"].shape == (B, 3, 16, 20)
    assert d(x, params).shape == (B, 3, 8, 10)
    assert Fixed(Half(), params.stages[0][0]).scale == 2


def test_only_some_images_cannot_change_their_size() -> None:
    with pytest.raises(ValueError, match="scale 2 changes the size: it must befall all"):
        Partial(Half(), 0.5)
    source = MemorySource(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), title="t", names="n")
    with pytest.raises(ValueError, match="scale 2 changes the size; degrade to files"):
        FrozenSource(source, Half(), seed=0)


# Clamping


def test_a_chain_clamps_before_jpeg_and_at_its_end_and_nowhere_else() -> None:
    loud, x = GaussianNoise((2.0, 2.0)), _image(3)
    noisy = Chain([loud, loud])
    params = noisy.sample((B, 3, H, W), generator=generator_for("clamp"))
    first, second = params.stages
    free = loud(loud(x, first), second)
    assert free.min() < 0 < 1 < free.max()
    assert torch.equal(noisy(x, params), free.clamp(0, 1))
    for jpeg in (JPEG(), DifferentiableJPEG(), Partial(JPEG(), 0.5)):
        chain = Chain([loud, jpeg])
        params = chain.sample((B, 3, H, W), generator=generator_for("clamp"))
        first, second = params.stages
        assert torch.equal(chain(x, params), jpeg(loud(x, first).clamp(0, 1), second))


# Errors


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Chain([]), "at least one stage"),
        (lambda: Partial(Identity(), 1.5), "probability=1.5"),
        (lambda: GaussianNoise((0.2, 0.1)), r"sigma=\(0.2, 0.1\)"),
        (lambda: PoissonNoise((0.0, 1.0)), r"gain=\(0.0, 1.0\)"),
        (lambda: DifferentiablePoissonNoise((2.0, 1.0)), r"gain=\(2.0, 1.0\)"),
        (lambda: DroppedPixels(-0.1), "probability=-0.1"),
        (lambda: StrokeMask(-1), "count=-1 is no number of strokes"),
        (lambda: StrokeMask(1, 0.0), "width=0.0; give the brush's share"),
        (lambda: DiskLaw((2.0, 1.0)), r"radius=\(2.0, 1.0\)"),
        (lambda: GaussianLaw((-1.0, 1.0)), r"sigma=\(-1.0, 1.0\)"),
        (lambda: AnisotropicGaussianLaw((2.0, 1.0)), r"sigma=\(2.0, 1.0\)"),
        (lambda: QualityLaw(0, 101), r"quality=\(0, 101\)"),
        (lambda: MixtureLaw((DiskLaw(size=9), DiskLaw(size=11))), r"sizes \[9, 11\]"),
        (lambda: JPEG(QualityLaw(integer=False)), "integer qualities"),
        (lambda: Fixed(Identity(), _draw(Identity(), 3)), "parameters of 3 samples"),
    ],
)
def test_impossible_arguments_are_named(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        make()


def test_generators_must_be_one_for_each_sample() -> None:
    with pytest.raises(ValueError, match="2 generators for a batch of 3"):
        Blur(DiskLaw()).sample((3, 1, 9, 9), generator=generators_for(0, [1, 2]))


# The guard of the guard


def _concrete(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        if child.__module__.startswith("blemish.") and not getattr(
            child, "__abstractmethods__", None
        ):
            yield child
        yield from _concrete(child)


def test_every_degradation_is_in_the_matrix() -> None:
    found = set(_concrete(Degradation)) - {Differentiable, Encoder, Likelihood, Linear}
    assert {type(_make(name)) for name in MATRIX} == found
    assert {c.__name__ for c in found} - {"Coded", "Fixed"} == set(DEGRADATIONS)


def test_every_kernel_law_is_in_the_matrix() -> None:
    blurs = [d for name in MATRIX if isinstance(d := _make(name), Blur)]
    assert {type(d.config.law) for d in blurs} == set(_concrete(KernelLaw))
    assert {d.config.padding for d in blurs} == {"reflect", "replicate", "circular", "zeros"}
