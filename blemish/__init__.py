r"""Learns how images were damaged, from degraded images alone.

Three nouns compose: a *degradation* maps clean images to observed ones, a *prior* maps latents to clean images, a *restorer* maps
observed images to clean ones. A *system* says how they are trained together; a *recipe* is a full configuration of a run.

.. code-block:: python

    g = torch.Generator().manual_seed(0)
    run = blemish.load("runs/n")                   # what `blemish train` left behind
    clean = run.prior.sample(64, generator=g)      # images in [0, 1], with shape (64, C, H, W)
    d = blemish.degradations.setting("N")
    observed = d(clean, d.sample(clean.shape, generator=g))

Importing ``blemish`` alone loads no other library; each public name loads its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "artefacts",
    "configuration",
    "data",
    "degradations",
    "evaluation",
    "functional",
    "load",
    "losses",
    "metrics",
    "networks",
    "priors",
    "recipes",
    "runs",
    "systems",
    "train",
    "train_restorer",
    "training",
    "types",
]

__version__ = "0.1.0"

# Public names that are not modules, each with the module and the name that define it.
_HOMES = {
    "load": ("runs", "load"),
    "train": ("runs", "start"),
    "train_restorer": ("restoration", "train_restorer"),
}


def __getattr__(name: str) -> Any:
    # Dynamic on purpose: the launcher and `blemish --help` must start without torch, and nothing may import upwards.
    if name in _HOMES:
        module, attribute = _HOMES[name]
        return getattr(importlib.import_module(f".{module}", __name__), attribute)
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'blemish' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
