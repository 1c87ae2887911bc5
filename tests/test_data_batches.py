import pytest
import torch
from torch.testing import assert_close

from blemish.data import (
    ImageBatches,
    Images,
    MemorySource,
    StreamedImages,
    batch_indices,
    draw,
    load_images,
    open_images,
)


def numbered(n: int, size: int = 4) -> torch.Tensor:
    """Images whose pixels tell their number and their column."""
    image = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, size, size).clone()
    image[:, :, :, 0] += 100
    return image


@pytest.mark.parametrize(("n", "batch"), [(10, 4), (7, 7), (5, 12), (1, 3)])
def test_every_image_comes_once_an_epoch(n, batch):
    steps = 3 * n
    walk = torch.cat([batch_indices(n, batch, k * batch, seed=3) for k in range(steps)])
    epochs = walk[: len(walk) // n * n].reshape(-1, n)
    assert_close(epochs.sort(dim=1).values, torch.arange(n).expand(len(epochs), n))


def test_the_walk_does_not_depend_on_the_batches_it_is_cut_into():
    whole = batch_indices(10, 60, 0, seed=1)
    for batch in (1, 3, 7, 25):
        starts = range(0, 60, batch)
        parts = [batch_indices(10, min(batch, 60 - start), start, seed=1) for start in starts]
        assert torch.equal(torch.cat(parts), whole)


def test_epochs_and_seeds_have_different_orders():
    first, second = batch_indices(50, 50, 0, seed=1), batch_indices(50, 50, 50, seed=1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, batch_indices(50, 50, 0, seed=2))


@pytest.mark.parametrize(("n", "batch", "seen"), [(0, 1, 0), (3, 0, 0), (3, 1, -1)])
def test_impossible_batches_are_refused(n, batch, seen):
    with pytest.raises(ValueError, match="at least"):
        batch_indices(n, batch, seen, seed=0)


def test_half_of_the_images_are_flipped_and_corners_fill_the_square():
    drawn = draw(1000, 4000, 500, seed=0, flip=True, random_crop=True)
    assert drawn.flips is not None
    assert drawn.corners is not None
    assert abs(drawn.flips.double().mean() - 0.5) < 4 * 0.5 / 4000**0.5
    assert_close(drawn.corners.mean(0), torch.full((2,), 0.5), rtol=0, atol=4 * 0.29 / 4000**0.5)


def test_batches_hold_the_indexed_images_on_the_unit_scale():
    pixels = numbered(6)
    flips = torch.tensor([True, False])
    shown = Images(pixels).batch(torch.tensor([4, 2]), flips=flips)
    assert_close(shown, torch.stack([pixels[4].flip(-1), pixels[2]]).float() / 255)
    with pytest.raises(ValueError, match="takes uint8"):
        Images(pixels.float())


def test_streaming_gives_what_memory_gives():
    source = MemorySource(numbered(9), title="numbers", names="n")
    drawn = draw(9, 20, 13, seed=0, flip=True)
    expected = Images(load_images(source)).batch(drawn.indices, flips=drawn.flips)
    streamed = open_images(source, memory=0)
    assert isinstance(streamed, StreamedImages)
    assert torch.equal(streamed.batch(drawn.indices, flips=drawn.flips), expected)
    assert isinstance(open_images(source), Images)


def crops_source() -> MemorySource:
    """Photographs of different sizes whose pixels tell the position: row in one, column in two."""
    sizes = [(40, 61), (33, 24), (24, 24), (57, 90)]
    planes = [
        torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
        for h, w in sizes
    ]
    images = [torch.cat((p, torch.zeros_like(p[:1]))).to(torch.uint8) for p in planes]
    return MemorySource(images, title="crops", names="c")


def test_random_crops_start_at_every_multiple_of_eight():
    images = StreamedImages(crops_source(), crop=24)
    drawn = draw(4, 2000, 0, seed=0, random_crop=True)
    corners = (
        images.batch(drawn.indices, corners=drawn.corners)[:, :2, 0, 0].mul(255).round().long()
    )
    for index, (rows, columns) in enumerate([(40, 61), (33, 24), (24, 24), (57, 90)]):
        found = {tuple(c) for c in corners[drawn.indices == index].tolist()}
        expected = {(r, c) for r in range(0, rows - 23, 8) for c in range(0, columns - 23, 8)}
        assert found == expected


def test_crops_without_the_grid_start_anywhere_and_without_corners_at_the_centre():
    free = StreamedImages(crops_source(), crop=24, keep_jpeg_grid=False)
    last = torch.full((1, 2), 1 - 2**-24)
    corner = free.batch(torch.tensor([0]), corners=last)[0, :2, 0, 0] * 255
    assert_close(corner, torch.tensor([16.0, 37.0]))
    centre = StreamedImages(crops_source(), crop=24).batch(torch.tensor([3]))[0, :2, 0, 0] * 255
    assert_close(centre, torch.tensor([16.0, 32.0]))
    with pytest.raises(ValueError, match=r"c/000001 \(33x24\) is smaller than the crop 32x32"):
        StreamedImages(crops_source(), crop=32).batch(torch.tensor([1]))
    with pytest.raises(ValueError, match="need a crop"):
        StreamedImages(crops_source())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_resumed_run_sees_what_an_unbroken_one_sees(streamed):
    def batches() -> ImageBatches:
        source = MemorySource(numbered(10), title="numbers", names="n")
        images = open_images(source, memory=0 if streamed else 10**6)
        return ImageBatches(images, seed=5, flip=True)

    unbroken = batches().iterate(4)
    expected = [next(unbroken) for _ in range(9)]
    resumed = batches().iterate(4, images_seen=4 * 4)
    assert all(torch.equal(next(resumed), batch) for batch in expected[4:])


@pytest.mark.parametrize("streamed", [False, True])
def test_processes_share_the_batches_of_one_process(streamed):
    source = MemorySource(numbered(10), title="numbers", names="n")
    images = open_images(source, memory=0 if streamed else 10**6)
    whole = ImageBatches(images, seed=0, flip=True)
    shares = [ImageBatches(images, seed=0, flip=True, stride=6) for _ in range(3)]
    for start in (0, 6, 12, 18):
        parts = [share(start + 2 * rank, 2) for rank, share in enumerate(shares)]
        assert torch.equal(torch.cat(parts), whole(start, 6))


def test_what_is_read_ahead_is_what_is_asked_for_next():
    begun = []

    class Watched:
        def __len__(self) -> int:
            return 10

        def begin(self, draw):
            begun.append(draw.indices.tolist())
            return lambda: draw.indices

    batches = ImageBatches(Watched(), seed=0, stride=4, ahead=2)
    for start in range(1, 41, 4):
        assert len(batches(start, 2)) == 2
    assert begun == [batch_indices(10, 2, start, 0).tolist() for start in range(1, 49, 4)]
