"""What every test shares: one thread, and an environment that no user's settings change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    # Golden numbers are those of one thread, and the suite itself runs in several processes.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BLEMISH_ALLOCATOR", "BLEMISH_DEBUG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder named by BLEMISH_DATA: CIFAR-10 and photographs that are not part of the project."""
    folder = os.environ.get("BLEMISH_DATA")
    if not folder:
        pytest.skip("BLEMISH_DATA is unset: it names a folder with cifar-10/ and photos/")
    return Path(folder)
