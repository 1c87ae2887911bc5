"""What tests of inversion share: a tiny prior of each kind, a tiny universal model, and damaged pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from blemish.degradations import UniversalDegradation
from blemish.functional.random import generator_for, generators_for, randn
from blemish.networks import Redegrader, ResNetGenerator, StyleGenerator
from blemish.priors import GANPrior, Prior, StylePrior

SIDE = 16


def style_prior() -> StylePrior:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = StyleGenerator.Config(latent=8, channels=(6, 6, 6))
        return StylePrior.Config(network=network).build().eval()


def gan_prior() -> GANPrior:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        network = ResNetGenerator.Config(latent=6, channels=(4, 4))
        return GANPrior.Config(network=network).build().eval()


def universal(*, local: int = 2) -> UniversalDegradation:
    network = Redegrader.Config(
        widths=(4, 6), blocks=(1, 1), condition=4, embedding=6, local=local, ratio=4
    )
    config = UniversalDegradation.Config(redegrader=network, width=4, kernel=5, norm=False)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        d = config.build()
        torch.nn.init.normal_(d.redegrader.last.weight, std=0.2)
    return d.eval()


def damaged(prior: Prior, count: int = 2, seed: int = 0) -> Tensor:
    with torch.no_grad():
        x = prior.sample(count, generator=generators_for(seed, range(count)))
    return (x + 0.1 * randn(tuple(x.shape), generator_for("damage", seed))).clamp(0, 1)
