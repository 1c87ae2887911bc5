r"""Diffusion models: a network that tells noise from image, and the chain on which it learned to.

What is needed of one is :math:`\hat x_0(x_t)`, its estimate of the image, and the variance of a step back; the formulas
stand in :mod:`blemish.functional.diffusion`. :func:`from_diffusers` takes models of the library diffusers.

References:
    | Denoising Diffusion Probabilistic Models (Ho et al., 2020), https://arxiv.org/abs/2006.11239
    | Improved Denoising Diffusion Probabilistic Models (Nichol & Dhariwal, 2021)
    | https://arxiv.org/abs/2102.09672
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, final, get_args

import torch
from torch import Tensor, nn

from ..functional.diffusion import (
    Prediction,
    Step,
    ancestral_step,
    clean_estimate,
    learned_variance,
    linear_betas,
    small_variance,
    steps_of,
)
from ..functional.random import Randomness, randn

__all__ = ["Denoiser", "Guide", "Variance", "from_diffusers", "sample_chain"]

Variance = Literal["small", "large", "learned"]
"""The variance of a step back: of a chain that ends in one image, of one that ends in noise, or said by the network."""

Guide = Callable[[Tensor, Tensor, Step], Tensor]
r"""A function of x_t, of :math:`\hat x_0` as a function of it, and of the step, to what is taken off x_{t-1}."""


@final
class Denoiser(nn.Module):
    r"""Estimates images from noisy ones.

    Arguments:
        network: A function of noisy images (B, C, H, W) and of times (B,), int64, to what it says of them: (B, C, H, W),
            or (B, 2C, H, W) with a learned variance. It must not mix samples: call ``eval()`` on a module.
        betas: The variances of the chain's steps, with shape (T,); by default 1000 of
            :func:`~blemish.functional.diffusion.linear_betas`.
        prediction: What the network says.
        variance: The variance of a step back.
        clip: The limit of :math:`|\hat x_0|`; None for none. Where it holds, there is no gradient.
        multiple: What the sides of images must be multiples of.

    Raises:
        ValueError: If a setting is not known.
    """

    def __init__(
        self,
        network: Callable[[Tensor, Tensor], Tensor],
        *,
        betas: Tensor | None = None,
        prediction: Prediction = "noise",
        variance: Variance = "small",
        clip: float | None = 1.0,
        multiple: int = 1,
    ) -> None:
        super().__init__()
        if prediction not in get_args(Prediction) or variance not in get_args(Variance):
            kinds = (", ".join(get_args(kind)) for kind in (Prediction, Variance))
            raise ValueError(
                f"prediction={prediction!r}, variance={variance!r}; allowed are {', and '.join(kinds)}"
            )
        if clip is not None and clip <= 0:
            raise ValueError(f"clip={clip}; give a limit above 0, or None")
        betas = linear_betas() if betas is None else betas
        steps_of(betas)
        self.betas = tuple(betas.tolist())
        self.network, self.prediction, self.variance = network, prediction, variance
        self.clip, self.multiple = clip, multiple

    def steps(self, count: int | None = None) -> tuple[Step, ...]:
        """Returns the steps from noise to image, or so many of them; see :func:`~blemish.functional.diffusion.steps_of`."""
        return steps_of(torch.tensor(self.betas, dtype=torch.float64), count)

    def forward(self, x_t: Tensor, step: Step) -> tuple[Tensor, Tensor | float]:
        r"""Estimates images.

        Arguments:
            x_t: Noisy images, with shape (B, C, H, W).
            step: Where in the chain they are.

        Returns:
            :math:`\hat x_0`, of the same shape, and the variance of the step: a number, or of the same shape.
        """
        time = torch.full((len(x_t),), step.time, dtype=torch.int64, device=x_t.device)
        said = self.network(x_t, time)
        channels = x_t.shape[1] * (2 if self.variance == "learned" else 1)
        expected = (len(x_t), channels, *x_t.shape[2:])
        if said.shape != expected:
            raise ValueError(
                f"the network says {tuple(said.shape)} of images {tuple(x_t.shape)}; with "
                f"variance={self.variance!r} it must say {expected}"
            )
        variance: Tensor | float = step.beta if self.variance == "large" else small_variance(step)
        if self.variance == "learned":
            said, range_ = said.chunk(2, dim=1)
            variance = learned_variance(step, range_.detach())
        x0 = clean_estimate(x_t, said, step, self.prediction)
        return (x0 if self.clip is None else x0.clamp(-self.clip, self.clip)), variance


def sample_chain(
    denoiser: Denoiser,
    start: Tensor,
    *,
    generator: Randomness,
    steps: int | None = None,
    guide: Guide | None = None,
) -> Tensor:
    """Walks from noise to images.

    Arguments:
        denoiser: The diffusion model.
        start: Noise from N(0, 1), with shape (B, C, H, W).
        generator: The source of the noise of each step.
        steps: How many steps of the chain are taken; None takes all.
        guide: What is taken off each step's result; by default nothing, and images are those of the model.

    Returns:
        Images, as a rule in [-1, 1], of the same shape.
    """
    x_t = start
    for step in denoiser.steps(steps):
        z = randn(tuple(start.shape), generator).to(start)
        # A caller may have switched gradients off, as one does where images are restored.
        with torch.inference_mode(mode=False), torch.set_grad_enabled(guide is not None):
            x_t = x_t.detach().clone().requires_grad_(guide is not None)
            x0, variance = denoiser(x_t, step)
            off = guide(x_t, x0, step) if guide else None
        with torch.no_grad():
            x_t = ancestral_step(x_t, x0, z, step, variance)
            x_t = x_t if off is None else x_t - off
    return x_t.detach()


def from_diffusers(folder: str | Path) -> Denoiser:
    """Loads a diffusion model that the library diffusers saved.

    Arguments:
        folder: What ``save_pretrained`` wrote: a ``DDPMPipeline``, or a ``UNet2DModel`` alone, which says nothing of
            its chain and is taken to have learned on that of Ho et al. (2020). The weights are safetensors.

    Returns:
        The model, in the mode of evaluation, with frozen weights.

    Raises:
        ModuleNotFoundError: If diffusers is not installed.
        ValueError: If there is no such model in the folder, or one that needs more than an image and a time.
    """
    folder = Path(folder)
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    if not (unet / "config.json").is_file() or not any(unet.glob("*.safetensors")):
        raise ValueError(
            f"{unet} has no config.json with weights in safetensors; give a folder that diffusers' "
            "save_pretrained wrote, from a DDPMPipeline or a UNet2DModel"
        )
    diffusers = _diffusers()
    # Nothing is unpickled, and nothing is fetched.
    network = diffusers.UNet2DModel.from_pretrained(
        unet, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
    )
    if network.config.class_embed_type or network.config.num_class_embeds:
        raise ValueError(f"{unet} is told classes; only models of an image and a time are taken")
    chain: dict[str, Any] = {}
    if (folder / "scheduler").is_dir():
        scheduler = diffusers.DDPMScheduler.from_pretrained(folder / "scheduler")
        chain = {"betas": scheduler.betas.double(), **_read(scheduler.config)}
    if network.config.out_channels == 2 * network.config.in_channels:
        chain["variance"] = "learned"
    multiple = 2 ** (len(network.config.block_out_channels) - 1)
    network.eval().requires_grad_(False)
    return Denoiser(_Saying(network), multiple=multiple, **chain)


class _Saying(nn.Module):
    """A network of diffusers as a function of tensors."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, x_t: Tensor, time: Tensor) -> Tensor:
        said: Tensor = self.unet(x_t, time, return_dict=False)[0]
        return said


_PREDICTIONS = {"epsilon": "noise", "sample": "clean", "v_prediction": "velocity"}

_VARIANCES = {
    "fixed_small": "small",
    "fixed_small_log": "small",
    "fixed_large": "large",
    "fixed_large_log": "large",
    "learned_range": "learned",
}


def _read(config: Any) -> dict[str, Any]:
    """Returns a denoiser's settings out of a scheduler's, in diffusers' words."""
    if config.prediction_type not in _PREDICTIONS or config.variance_type not in _VARIANCES:
        raise ValueError(
            f"prediction_type={config.prediction_type!r}, variance_type={config.variance_type!r}; taken are "
            f"{', '.join(_PREDICTIONS)}, and {', '.join(_VARIANCES)}"
        )
    if config.thresholding:
        raise ValueError("thresholding=True is not taken; only fixed limits of the image are")
    return {
        "prediction": _PREDICTIONS[config.prediction_type],
        "variance": _VARIANCES[config.variance_type],
        "clip": float(config.clip_sample_range) if config.clip_sample else None,
    }


def _diffusers() -> Any:
    """Returns the library, or fails with the one line that says how to get it."""
    try:
        import diffusers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"diffusion models of diffusers need the package {error.name}, which is not installed; "
            'run: pip install "blemish[diffusers]"'
        ) from error
    return diffusers
