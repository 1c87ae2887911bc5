import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from blemish.data import BadImage, Preparation, decode, to_channels
from blemish.data.images import peek

LOSSLESS = {
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
    "TIFF": {},
    "BMP": {},
}


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def random_pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(pixels: np.ndarray, mode: str) -> Image.Image:
    return Image.frombytes(mode, pixels.shape[1::-1], pixels.tobytes())


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_give_rgb_exactly(kind):
    pixels = random_pixels(9, 14, 3)
    data = encoded(picture(pixels, "RGB"), kind, **LOSSLESS[kind])
    assert torch.equal(decode(data), torch.from_numpy(pixels).permute(2, 0, 1))
    assert peek(io.BytesIO(data)) == (3, 9, 14)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_grey_and_bilevel_stay_grey(kind):
    pixels = random_pixels(9, 14)
    assert decode(encoded(picture(pixels, "L"), kind)).equal(torch.from_numpy(pixels)[None])
    bits = Image.fromarray(pixels).convert("1", dither=Image.Dither.NONE)
    data = encoded(bits, kind)
    assert decode(data).equal(torch.from_numpy(np.where(pixels >= 128, 255, 0)[None]).byte())
    assert peek(io.BytesIO(data)) == (1, 9, 14)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_near(mode):
    ramp = np.add.outer(np.arange(24), 2 * np.arange(16)).astype(np.uint8) * 3
    grey = Image.fromarray(ramp)
    image = grey.convert("RGB").convert("CMYK") if mode == "CMYK" else grey.convert(mode)
    data = encoded(image, "JPEG", quality=98)
    decoded = decode(data)
    assert peek(io.BytesIO(data)) == tuple(decoded.shape) == (1 if mode == "L" else 3, 24, 16)
    assert_close(decoded.float(), torch.from_numpy(ramp).expand_as(decoded).float(), atol=6, rtol=0)


def test_palettes_become_rgb():
    pixels = random_pixels(6, 6) % 4
    colours = np.array([[0, 0, 0], [250, 10, 20], [3, 200, 40], [60, 70, 255]], dtype=np.uint8)
    image = picture(pixels, "P")
    image.putpalette(colours.tobytes())
    expected = torch.from_numpy(colours[pixels]).permute(2, 0, 1)
    for kind in ("PNG", "TIFF", "BMP"):
        assert decode(encoded(image, kind)).equal(expected)
    transparent = encoded(image, "PNG", transparency=1)
    expected = expected * torch.from_numpy(pixels != 1)
    assert decode(transparent).equal(expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_composited_over_black(mode):
    pixels = random_pixels(8, 8, len(mode) - 2 or 2) if mode == "LA" else random_pixels(8, 8, 4)
    pixels[0, :, -1], pixels[1, :, -1] = 255, 0
    decoded = decode(encoded(picture(pixels, mode)))
    colour, alpha = pixels[..., :-1].astype(float), pixels[..., -1:] / 255
    expected = np.round(colour * alpha).transpose(2, 0, 1)
    assert decoded.equal(torch.from_numpy(expected).byte())
    assert decoded[:, 0].equal(torch.from_numpy(pixels[0, :, :-1].T.copy()))
    assert not decoded[:, 1].any()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_by_257(kind):
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = encoded(Image.fromarray(levels), kind)
    expected = torch.from_numpy(np.round(levels / 257)[None]).byte()
    assert decode(data).equal(expected)
    assert peek(io.BytesIO(data)) == (1, 256, 256)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_a_white_level_are_refused(dtype):
    data = encoded(Image.fromarray(np.zeros((4, 4), dtype)), "TIFF")
    with pytest.raises(BadImage, match="without a white level"):
        decode(data)


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_exif_orientation_is_applied(kind, orientation):
    pixels = np.add.outer(60 * np.arange(3), 20 * np.arange(4)).astype(np.uint8)
    pixels = pixels.repeat(8, 0).repeat(8, 1)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if kind == "TIFF" else {"exif": exif}
    data = encoded(Image.fromarray(pixels), kind, **options, **LOSSLESS.get(kind, {"quality": 99}))
    expected = torch.from_numpy(TURNED[orientation](pixels).copy())
    decoded = decode(data)
    assert peek(io.BytesIO(data))[1:] == tuple(expected.shape)
    assert_close(decoded[0].float(), expected.float(), rtol=0, atol=3 if kind == "JPEG" else 0)


def _chunks(data: bytes) -> list[bytes]:
    found, start = [], 8
    while start < len(data):
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        found.append(data[start:end])
        start = end
    return found


def test_an_orientation_behind_the_pixels_of_a_png_is_found():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(random_pixels(200, 300, 3), "RGB"), exif=exif)
    chunks = _chunks(data)
    last = [chunk for chunk in chunks if chunk[4:8] == b"eXIf"]
    moved = [chunk for chunk in chunks if chunk[4:8] != b"eXIf"]
    assert len(last) == 1
    data = data[:8] + b"".join([*moved[:-1], *last, moved[-1]])
    assert peek(io.BytesIO(data)) == tuple(decode(data).shape) == (3, 300, 200)


class Counted(io.BytesIO):
    count = 0

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self.count += len(found)
        return found


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_look_at_a_large_picture_reads_its_header_alone(kind):
    data = encoded(picture(random_pixels(600, 600, 3), "RGB"), kind)
    assert len(data) > 100_000
    file = Counted(data)
    assert peek(file) == (3, 600, 600)
    assert 0 < file.count < 20_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"GIF89a not allowed", "not a JPEG, PNG"),
        (b"\x89PNG\r\n\x1a\n and no more", "."),
        (encoded(picture(random_pixels(64, 64, 3), "RGB"), "JPEG")[:900], "truncated"),
        (encoded(picture(random_pixels(64, 64, 3), "RGB"))[:5000], "truncated|broken"),
    ],
    ids=["empty", "gif", "header", "cut JPEG", "cut PNG"],
)
def test_broken_pictures_are_named_so(data, reason):
    with pytest.raises(BadImage, match=reason) as caught:
        decode(data)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_grey_is_bt601_as_in_pillow():
    pixels = random_pixels(64, 64, 3)
    grey = to_channels(torch.from_numpy(pixels).permute(2, 0, 1), 1)[0].numpy()
    assert (grey == np.array(Image.fromarray(pixels).convert("L"))).all()
    assert np.abs(grey - pixels @ np.array([0.299, 0.587, 0.114])).max() < 0.51


def test_grey_to_rgb_and_back_changes_nothing():
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    assert to_channels(to_channels(grey, 3), 1).equal(grey)
    batch = torch.from_numpy(random_pixels(5, 3, 4, 4))
    assert to_channels(batch, 1).equal(torch.stack([to_channels(image, 1) for image in batch]))


@pytest.mark.parametrize(("height", "width", "corner"), [(321, 481, (128, 208)), (64, 79, (0, 0))])
def test_crops_are_central_on_the_jpeg_grid(height, width, corner):
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack((rows % 256, columns % 256, rows)).to(torch.uint8)
    kept = Preparation(64, "crop")(image)
    assert kept.shape == (3, 64, 64)
    assert tuple(kept[:2, 0, 0].tolist()) == corner
    centre = Preparation(64, "crop", keep_jpeg_grid=False)(image)[:2, 0, 0].tolist()
    assert centre == [(height - 64) // 2, (width - 64) // 2]


def test_resize_is_the_rounded_area_average_of_the_central_square():
    image = torch.from_numpy(random_pixels(3, 30, 40))
    square = image[:, :, 5:35].double().reshape(3, 10, 3, 10, 3).mean((2, 4))
    assert Preparation(10, "resize")(image).equal((square + 0.5).floor().byte())
    assert Preparation(30, "resize")(image[:, :, 5:35]).equal(image[:, :, 5:35])


def test_resize_enlarges_small_images_smoothly():
    flat = torch.full((1, 5, 8), 77, dtype=torch.uint8)
    assert Preparation(12, "resize", channels=3)(flat).equal(torch.full((3, 12, 12), 77).byte())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "at least 1 pixel"),
        ({"size": 8, "fit": "squash"}, "choose 'none', 'crop' or 'resize'"),
        ({"fit": "crop"}, "needs a size"),
        ({"channels": 2}, "choose 1"),
    ],
)
def test_impossible_preparations_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Preparation(**fields)
