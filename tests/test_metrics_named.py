"""Features by name."""

from __future__ import annotations

import re

import pytest
import torch

from blemish.metrics import extract, named_features, pixels
from blemish.metrics.named import FEATURES


@pytest.mark.parametrize(
    ("name", "channels", "own", "dimension"),
    [
        ("pixels", 1, "pixels@8", 64),
        ("pixels", 3, "pixels@8", 192),
        ("pixels@4", 3, "pixels@4", 48),
        ("effnet-lite0", 3, "effnet-lite0@64", 1280),
        ("effnet-lite0@32", 1, "effnet-lite0@32", 1280),
    ],
)
def test_a_name_means_an_extractor(name: str, channels: int, own: str, dimension: int) -> None:
    if name.startswith("effnet"):
        pytest.importorskip("efficientnet_lite_pytorch")
    found = named_features(name, channels)
    assert (found.name, found.dimension) == (own, dimension)
    images = torch.rand(2, channels, 16, 16)
    assert extract(found, images).shape == (2, dimension)
    side = own.partition("@")[2]
    assert found.resize.startswith(f"{side}x{side}, ")
    # An extractor's own name means it again.
    again = named_features(own, channels)
    assert torch.equal(extract(again, images), extract(found, images))


def test_pixels_are_means_over_areas() -> None:
    images = torch.rand(2, 3, 8, 8)
    blocks = [images[..., i : i + 4, j : j + 4] for i in (0, 4) for j in (0, 4)]
    slow = torch.stack([block.mean(dim=(2, 3)) for block in blocks], dim=-1)
    torch.testing.assert_close(extract(named_features("pixels@2"), images), slow.flatten(1))
    assert pixels(2, 3).resize == "2x2, averages over areas"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "unknown features ''"),
        ("vgg", f"choose {', '.join(FEATURES)}, with @SIZE"),
        ("Pixels", "unknown features"),
        ("pixels@0", "from 1 to 999"),
        ("pixels@-4", "unknown features"),
        ("pixels@1000", "from 1 to 999"),
        ("pixels@4x4", "unknown features"),
        ("pixels@4:", "unknown features"),
        ("pixels@4:weights.pth", "pixels reads no file; write pixels"),
        ("effnet-lite0:weights.pth", "reads no file"),
        ("inception@224:x.pth", "inception has one size, 299; write inception"),
        ("inception-clean@32:x.pth", "has one size, 299"),
        ("dinov2@299:x.pth", "dinov2 has one size, 224; write dinov2"),
        ("dinov2", "write dinov2:FILE"),
    ],
)
def test_names_that_mean_nothing_are_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        named_features(name)


@pytest.mark.parametrize(
    "name", ["inception:no.pth", "inception@299:no.pth", "inception-clean:no:such.pth", "dinov2@224:no.pth"]
)  # fmt: skip
def test_files_are_looked_for(name: str) -> None:
    file = name.partition(":")[2]
    with pytest.raises(FileNotFoundError, match=f"there is no file {file}"):
        named_features(name)
