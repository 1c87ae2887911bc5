"""Diffusion models: what they are told, what they say, and those that diffusers saved."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gaussian_toy import Gaussian, smooth
from torch import Tensor
from torch.testing import assert_close

from blemish.functional.diffusion import Prediction, learned_variance, linear_betas, small_variance
from blemish.functional.random import generator_for, generators_for, randn
from blemish.restorers import Denoiser, from_diffusers, sample_chain


def images(*shape: int) -> Tensor:
    return randn(shape, generator_for("denoiser", *shape))


def zero(x_t: Tensor, time: Tensor) -> Tensor:
    return torch.zeros_like(x_t)


@pytest.mark.parametrize("prediction", ["noise", "clean", "velocity"])
def test_all_predictions_walk_the_same_way(prediction: Prediction) -> None:
    model = smooth(4, 3.0)

    def says(x_t: Tensor, time: Tensor) -> Tensor:
        eps, abar = model(x_t, time), model.abar[int(time[0])]
        x0 = (x_t - math.sqrt(1 - abar) * eps) / math.sqrt(abar)
        velocity = math.sqrt(abar) * eps - math.sqrt(1 - abar) * x0
        return {"noise": eps, "clean": x0, "velocity": velocity}[prediction]

    def walk(denoiser: Denoiser) -> Tensor:
        start = images(3, 1, 4, 4).double()
        return sample_chain(denoiser, start, generator=generator_for("walk"), steps=30)

    assert_close(walk(Denoiser(says, prediction=prediction)), walk(Denoiser(model)))


def test_the_network_is_told_each_samples_time() -> None:
    told: list[Tensor] = []

    def listens(x_t: Tensor, time: Tensor) -> Tensor:
        told.append(time)
        return torch.zeros_like(x_t)

    sample_chain(
        Denoiser(listens, betas=linear_betas(10)),
        images(2, 3, 4, 4),
        generator=generators_for(0, range(2)),
        steps=4,
    )
    assert [time.tolist() for time in told] == [[9, 9], [6, 6], [3, 3], [0, 0]]
    assert told[0].dtype == torch.int64


def test_variances_are_what_they_are_called() -> None:
    x_t, range_ = images(2, 3, 4, 4), images(2, 3, 4, 5)[..., :4]
    step = Denoiser(zero).steps(10)[4]
    assert Denoiser(zero)(x_t, step)[1] == small_variance(step)
    assert Denoiser(zero, variance="large")(x_t, step)[1] == step.beta
    both = Denoiser(lambda x, t: torch.cat([x, range_], dim=1), variance="learned")
    assert_close(both(x_t, step)[1], learned_variance(step, range_))


def test_a_learned_variance_makes_few_steps_exact() -> None:
    # The variance of x_{t-1} where x_t is known is in between; a network that says it draws the right images.
    w = torch.tensor([0.05, 0.3, 0.9, 2.0]).double()
    model = Gaussian(torch.zeros(4), w.diag(), (1, 2, 2))
    steps = {step.time: step for step in Denoiser(model).steps(8)}

    def says(x_t: Tensor, time: Tensor) -> Tensor:
        step = steps[int(time[0])]
        if step.last:
            return torch.cat([model(x_t, time), torch.zeros_like(x_t)], dim=1)
        low, high = small_variance(step), step.beta
        of_image = math.sqrt(step.abar_before) * step.beta / (1 - step.abar)
        true = low + of_image**2 * model.rest(step).diagonal()
        said = 2 * (true.log() - math.log(low)) / (math.log(high) - math.log(low)) - 1
        return torch.cat([model(x_t, time), said.view(1, 1, 2, 2).expand_as(x_t)], dim=1)

    n = 20000
    x = sample_chain(
        Denoiser(says, variance="learned", clip=None),
        randn((n, 1, 2, 2), generator_for("few")).double(),
        generator=generator_for("steps"),
        steps=8,
    )
    found = x.flatten(1).var(dim=0)
    assert_close(found, w, rtol=4 * math.sqrt(2 / n), atol=0.001)


def test_estimates_are_clipped() -> None:
    x_t = 10 * images(2, 3, 4, 4)
    step = Denoiser(zero).steps()[0]
    for clip in (1.0, 0.3):
        assert Denoiser(zero, clip=clip)(x_t, step)[0].abs().max() == torch.tensor(clip)
    free, _ = Denoiser(zero, clip=None)(x_t, step)
    assert_close(free, x_t / math.sqrt(step.abar))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prediction": "score"}, r"prediction='score', .* allowed are noise, clean, velocity"),
        ({"variance": "none"}, r"variance='none'; allowed are .* small, large, learned"),
        ({"clip": 0.0}, r"clip=0.0; give a limit above 0"),
        ({"betas": torch.ones(3)}, r"the betas go from 1 to 1"),
    ],
)
def test_settings_that_say_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Denoiser(zero, **settings)


def test_a_network_that_says_something_else_is_refused() -> None:
    denoiser = Denoiser(zero, variance="learned")
    with pytest.raises(ValueError, match=r"says \(2, 3, 4, 4\) .* must say \(2, 6, 4, 4\)"):
        denoiser(images(2, 3, 4, 4), denoiser.steps()[0])


def saved(folder: Path, *, learned: bool = False, pipeline: bool = True, **scheduler: Any) -> Any:
    """Saves a small random model of diffusers, and returns its network."""
    diffusers = pytest.importorskip("diffusers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(
            sample_size=8,
            in_channels=3,
            out_channels=6 if learned else 3,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
        ).eval()
    if pipeline:
        chain = diffusers.DDPMScheduler(**scheduler)
        diffusers.DDPMPipeline(unet=unet, scheduler=chain).save_pretrained(folder)
    else:
        unet.save_pretrained(folder)
    return unet


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("learned", [False, True])
def test_a_step_is_that_of_diffusers(tmp_path: Path, kind: str, *, learned: bool) -> None:
    diffusers = pytest.importorskip("diffusers")
    settings = {
        "num_train_timesteps": 50,
        "beta_schedule": "squaredcos_cap_v2",
        "prediction_type": kind,
        "variance_type": "learned_range" if learned else "fixed_large",
        "clip_sample_range": 0.8,
    }
    unet = saved(tmp_path, learned=learned, **settings)
    denoiser = from_diffusers(tmp_path)
    scheduler = diffusers.DDPMScheduler(**settings)
    x_t = images(2, 3, 8, 8)
    for step in denoiser.steps()[5:49:11]:
        with torch.no_grad():
            said = unet(x_t, step.time).sample
            x0, variance = denoiser(x_t, step)
        theirs = scheduler.step(said, step.time, x_t, generator=generator_for("z"))
        assert_close(x0, theirs.pred_original_sample, rtol=1e-4, atol=1e-4)
        log = scheduler._get_variance(step.time, predicted_variance=said[:, 3:])
        assert_close(
            torch.as_tensor(variance).float(), log.exp() if learned else log, rtol=1e-3, atol=1e-6
        )


def test_a_network_alone_is_taken_to_have_learned_on_the_usual_chain(tmp_path: Path) -> None:
    unet = saved(tmp_path, pipeline=False)
    denoiser = from_diffusers(str(tmp_path))
    assert denoiser.betas == tuple(linear_betas().tolist())
    assert (denoiser.prediction, denoiser.variance, denoiser.multiple) == ("noise", "small", 2)
    assert denoiser.clip == 1
    x_t = images(1, 3, 8, 8)
    with torch.no_grad():
        assert_close(denoiser.network(x_t, torch.tensor([3])), unet(x_t, 3).sample)
    assert not any(p.requires_grad for p in denoiser.parameters())
    assert len(list(denoiser.parameters())) == len(list(unet.parameters()))


def test_other_models_of_diffusers_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, variance_type="learned")
    with pytest.raises(ValueError, match=r"variance_type='learned'; taken are epsilon"):
        from_diffusers(tmp_path)
    file = tmp_path / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "variance_type": "fixed_small", "thresholding": True}))
    with pytest.raises(ValueError, match=r"thresholding=True is not taken"):
        from_diffusers(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    # Without safetensors nothing is even tried.
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"no config.json with weights in safetensors; give a"):
        from_diffusers(tmp_path)
    with pytest.raises(ValueError, match=r"nowhere has no config.json"):
        from_diffusers(tmp_path / "nowhere")


def test_without_diffusers_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "blemish\[diffusers\]"') as caught:
        from_diffusers(tmp_path)
    assert "\n" not in str(caught.value)
