import pytest
import torch
from torch.testing import assert_close

from blemish.data import Glyphs, load_images, open_source
from blemish.data.glyphs import ALPHABET


@pytest.mark.parametrize(("size", "channels"), [(16, 1), (32, 3), (128, 1)])
def test_an_image_depends_on_seed_and_index_alone(size, channels):
    few = Glyphs(70, size=size, channels=channels, seed=4)
    many = Glyphs(500, size=size, channels=channels, seed=4)
    drawn = few.draw(range(70))
    assert drawn.shape == (70, channels, size, size)
    assert all(many.read(i).equal(drawn[i]) for i in (0, 3, 63, 64, 69))
    assert many.draw(range(60, 70)).equal(drawn[60:])
    assert not Glyphs(70, size=size, channels=channels, seed=5).draw(range(70)).equal(drawn)


def test_labels_name_characters_evenly():
    source = Glyphs(3600)
    counts = torch.tensor([source.label(i) for i in range(3600)]).bincount(minlength=36)
    assert len(counts) == len(ALPHABET)
    assert ((counts - 100).abs() < 5 * 100**0.5).all()


def test_characters_of_one_label_are_more_alike_than_others():
    source = Glyphs(600, alphabet="ILO", rotation=0, shear=0)
    images = source.draw(range(600)).flatten(1).double()
    images = images / images.amax(1, keepdim=True)
    labels = torch.tensor([source.label(i) for i in range(600)])
    means = torch.stack([images[labels == k].mean(0) for k in range(3)])
    nearest = torch.cdist(images, means).argmin(1)
    assert (nearest == labels).double().mean() > 0.9


@pytest.mark.parametrize("size", [16, 64])
def test_characters_are_light_on_dark_and_inside(size):
    images = Glyphs(300, size=size).draw(range(300)).float() / 255
    margin = torch.cat(
        (images[:, 0, 0], images[:, 0, -1], images[:, 0, :, 0], images[:, 0, :, -1]), 1
    )
    background = images[:, 0, 0, :1]
    assert_close(margin, background.expand_as(margin), rtol=0, atol=0)
    assert background.max() <= 0.15 + 1 / 255
    assert (images.amax((1, 2, 3)) - background[:, 0] > 0.2).all()
    assert (images.amax((1, 2, 3)) - background[:, 0] > 0.45).double().mean() > 0.9


def test_images_are_crisp():
    # Hard edges reduced by area: most pixels are fully inside or outside, and the rest lie on edges.
    images = Glyphs(50, size=128).draw(range(50)).float()
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    mask = (images - low) / (high - low)
    partial = ((mask > 0.05) & (mask < 0.95)).double().mean()
    assert partial < 0.06


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"count": 0}, "at least 1"),
        ({"size": 8}, "not in 16..128"),
        ({"channels": 2}, "choose 1"),
        ({"alphabet": "é"}, "ASCII"),
    ],
)
def test_impossible_glyphs_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Glyphs(**fields)


def test_glyphs_are_opened_by_name():
    source = open_source("glyphs:40", size=20, channels=3, seed=1)
    assert load_images(source).equal(Glyphs(40, size=20, channels=3, seed=1).draw(range(40)))
    assert source.name(12) == "glyphs/000012"
    assert source.describe() == (
        "glyphs (seed 1, 36 characters): 40 RGB images, 20x20 (height x width)"
    )
    assert len(open_source("glyphs", limit=7)) == 7
    with pytest.raises(IndexError, match="there are 40 glyphs"):
        source.read(40)
