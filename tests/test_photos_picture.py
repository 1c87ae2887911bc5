"""Reading and writing pictures: every bit of the pixels, and all that the file says about them."""

from __future__ import annotations

import io
import itertools
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from blemish.data import BadImage
from blemish.photos import Metadata, Picture, files, png, read_picture, write_picture, write_whole
from blemish.photos.metadata import stored

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="1"/></x:xmpmeta>'
NOTE = bytes(range(256))
ALL = (".jpg", ".png", ".tif", ".webp")


def exif(orientation: int = 1) -> bytes:
    tags = Image.Exif()
    tags[0x010F], tags[0x0110], tags[0x0112] = "A maker", "A model", orientation
    tags[0x8769] = {0x829A: (1, 250), 0x927C: NOTE, 0x9003: "2024:05:06 07:08:09"}
    tags[0x8825] = {1: "N", 2: (52.0, 31.0, 12.5)}
    return tags.tobytes()


def levels(*shape: int, bits: int = 8) -> Any:
    rng = np.random.default_rng(sum(shape) + bits)
    kind = np.uint8 if bits == 8 else np.uint16
    return rng.integers(0, 2**bits, shape, dtype=kind)


def smooth(height: int = 40, width: int = 56) -> Any:
    rows, columns = np.mgrid[:height, :width]
    return np.stack((rows * 5, columns * 4, 128 + rows - columns), axis=-1).astype(np.uint8)


def save(path: Path, pixels: Any, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def photograph(path: Path, orientation: int = 1, **options: Any) -> Path:
    lossless = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    described = {"exif": exif(orientation), "icc_profile": ICC, "xmp": XMP, "dpi": (240, 240)}
    if path.suffix == ".png":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        text.add_text("Author", "somebody")
        described["pnginfo"] = text
    return save(path, smooth(), **described, **lossless, **options)


def copied(path: Path, suffix: str | None = None) -> Path:
    to = path.with_name(f"copy{suffix or path.suffix}")
    write_picture(read_picture(path), to)
    return to


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def says(path: Path) -> dict[str, Any]:
    image = opened(path)
    tags = image.getexif()
    inner, place = dict(tags.get_ifd(0x8769)), dict(tags.get_ifd(0x8825))
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return {
        "maker": (tags[0x010F], tags[0x0110]),
        "inner": inner,
        "place": place,
        "icc": image.info["icc_profile"],
        "xmp": xmp.encode() if isinstance(xmp, str) else xmp,
        "dpi": tuple(round(float(n)) for n in image.info.get("dpi", ())),
    }


# Bits.


def wide_png(pixels: Any, interlaced: bool = False, extra: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    height, width, channels = pixels.shape
    starts = [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]
    passes = [pixels[y::dy, x::dx] for y, x, dy, dx in starts] if interlaced else [pixels]
    raw = b"".join(
        b"\0" + row.astype(">u2").tobytes() for part in passes if part.size for row in part
    )
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, int(interlaced))
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def layers(picture: Picture) -> Any:
    alpha = [] if picture.alpha is None else [picture.alpha[..., None]]
    return np.concatenate([picture.colours, *alpha], axis=2)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits(channels: int, interlaced: bool, tmp_path: Path) -> None:
    pixels = levels(19, 23, channels, bits=16)
    file = tmp_path / "a.png"
    file.write_bytes(wide_png(pixels, interlaced))
    assert np.array_equal(layers(read_picture(file)), pixels)
    again = read_picture(copied(file))
    assert np.array_equal(layers(again), pixels)
    assert again.colours.dtype == np.uint16


@pytest.mark.parametrize(
    ("layout", "byteorder"),
    [*itertools.product(("plain", "deflated", "predicted", "tiled"), "<>"), ("big", "<")],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_of_16_bits(channels: int, layout: str, byteorder: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "plain": {},
        "deflated": {"compression": "zlib"},
        "predicted": {"compression": "zlib", "predictor": True},
        "big": {"bigtiff": True},
        "tiled": {"tile": (16, 16), "compression": "zlib"},
    }[layout]
    pixels = levels(37, 41, channels, bits=16)
    file = tmp_path / "a.tif"
    extra = ["unassalpha"] if channels == 4 else None
    photometric = "rgb" if channels > 1 else "minisblack"
    given = pixels if channels > 1 else pixels[..., 0]
    tifffile.imwrite(
        file, given, photometric=photometric, byteorder=byteorder, extrasamples=extra, **options
    )
    assert np.array_equal(layers(read_picture(file)), pixels)
    again = copied(file)
    assert np.array_equal(layers(read_picture(again)), pixels)
    assert np.array_equal(tifffile.imread(again).reshape(pixels.shape), pixels)


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [*itertools.product((".png", ".tif", ".webp"), (1, 2, 3, 4)), (".bmp", 1), (".bmp", 3)],
)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (31, 2), (29, 43)])
def test_8_bits_round_trip_and_others_read_them(
    size: tuple[int, int], channels: int, suffix: str, tmp_path: Path
) -> None:
    pixels, file = levels(*size, channels), tmp_path / f"a{suffix}"
    picture = Picture(
        pixels[..., : 1 if channels < 3 else 3], pixels[..., -1] if channels in (2, 4) else None
    )
    assert write_picture(picture, file) == ()
    grey_kept = suffix != ".webp"
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    expected = (
        pixels
        if channels > 2 or grey_kept
        else np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], 2)
    )
    image = opened(file)
    assert image.mode == (mode if grey_kept else {3: "RGB", 4: "RGBA"}[expected.shape[2]])
    assert np.array_equal(np.asarray(image).reshape(expected.shape), expected)
    assert np.array_equal(layers(read_picture(file)), expected)


@pytest.mark.parametrize("number", range(5))
def test_every_filter_of_png_is_undone(number: int) -> None:
    # Rows for which each prediction is the best: constant, slope, repeated row, plane, noise.
    rows, columns = np.mgrid[:64, :64]
    noise = levels(64, 64)
    kinds = [
        rows * 0 + 7,
        columns * 3,
        noise[:1].repeat(64, 0),
        (rows * 2 + columns * 3 + noise % 3),
        noise,
    ]
    pixels = kinds[number].astype(np.uint8)[..., None]
    file = io.BytesIO(png.encode(pixels, Metadata()))
    assert np.array_equal(np.asarray(Image.open(file)), pixels[..., 0])


def test_filters_shrink_photographs() -> None:
    from skimage import data

    photograph = data.astronaut()
    plain = io.BytesIO()
    Image.fromarray(photograph).save(plain, format="PNG")
    assert len(png.encode(photograph, Metadata())) < 1.02 * len(plain.getvalue())


@pytest.mark.parametrize(
    ("mode", "channels", "alpha"),
    [
        ("1", 1, False),
        ("L", 1, False),
        ("LA", 1, True),
        ("P", 3, False),
        ("RGB", 3, False),
        ("RGBA", 3, True),
    ],
)
def test_modes_become_grey_or_rgb(mode: str, channels: int, alpha: bool, tmp_path: Path) -> None:
    image = Image.fromarray(smooth()).convert(mode)
    image.save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture.colours.shape == (40, 56, channels)
    assert (picture.alpha is not None) == alpha
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.broadcast_to(picture.colours, expected.shape), expected)


def test_a_palette_with_transparent_colours_gets_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(levels(9, 9) % 4).convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png", transparency=2)
    picture = read_picture(tmp_path / "a.png")
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, np.asarray(image) == 2)
    assert np.array_equal(layers(read_picture(copied(tmp_path / "a.png"))), layers(picture))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_16_bits_gets_alpha(channels: int, tmp_path: Path) -> None:
    pixels = levels(9, 9, channels, bits=16)
    pixels[3, 4] = pixels[0, 0]
    key = pixels[0, 0].astype(">u2").tobytes()
    chunk = (
        struct.pack(">I", len(key)) + b"tRNS" + key + struct.pack(">I", zlib.crc32(b"tRNS" + key))
    )
    (tmp_path / "a.png").write_bytes(wide_png(pixels, extra=chunk))
    picture = read_picture(tmp_path / "a.png")
    assert picture.alpha is not None
    clear = np.zeros((9, 9), bool)
    clear[0, 0] = clear[3, 4] = True
    assert np.array_equal(picture.alpha, np.where(clear, 0, 65535))
    assert np.array_equal(picture.colours, pixels)


# What files say.


@pytest.mark.parametrize("suffix", ALL)
def test_metadata_are_kept(suffix: str, tmp_path: Path) -> None:
    file = photograph(tmp_path / f"a{suffix}")
    again = copied(file)
    assert says(again) == says(file)
    assert says(again)["inner"][0x927C] == NOTE
    assert opened(again).format == opened(file).format
    if suffix != ".tif":
        assert opened(again).info["exif"] == opened(file).info["exif"]


@pytest.mark.parametrize("to", ALL)
@pytest.mark.parametrize("suffix", ALL)
def test_metadata_go_from_one_format_to_another(suffix: str, to: str, tmp_path: Path) -> None:
    file = photograph(tmp_path / f"a{suffix}", orientation=6)
    again = copied(file, to)
    before, after = says(file), says(again)
    if ".webp" in (suffix, to):
        before["dpi"] = after["dpi"] = ()
    assert {**after, "xmp": before["xmp"]} == before
    upright = ImageOps.exif_transpose(opened(file)).convert("RGB")
    difference = np.abs(np.asarray(upright).astype(int) - ImageOps.exif_transpose(opened(again)))
    assert difference.max() <= (8 if to == ".jpg" else 0)
    if suffix != to:
        # Readers that know of no orientation show it upright, too.
        assert opened(again).size == (40, 56)
        assert opened(again).getexif().get(0x0112, 1) == 1


def test_png_keeps_its_chunks(tmp_path: Path) -> None:
    file = photograph(tmp_path / "a.png")
    again = copied(file)
    assert png.chunks_of(again.read_bytes()) == png.chunks_of(file.read_bytes())
    assert opened(again).info["Author"] == "somebody"


@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")
def test_jpeg_keeps_its_segments(tmp_path: Path) -> None:
    file = photograph(tmp_path / "a.jpg", comment=b"a comment")
    content = file.read_bytes()
    press = b"\xff\xed" + struct.pack(">H", 2 + 18) + b"Photoshop 3.0\0data"
    mpf = b"\xff\xe2" + struct.pack(">H", 2 + 6) + b"MPF\0\0\0"
    file.write_bytes(content[:20] + press + mpf + content[20:])
    again = opened(copied(file))
    before = [part for part in opened(file).applist if not part[1].startswith(b"MPF")]
    assert again.applist == before
    assert ("APP13", b"Photoshop 3.0\0data") in before
    assert again.info["comment"] == b"a comment"


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_keeps_its_tags(byteorder: Any, tmp_path: Path) -> None:
    texts = {270: "déscription".encode(), 315: "José Ærø".encode(), 33432: b"copyright\0editor"}
    kinds = {
        65000: (12, (1.5, -3.0)),
        65001: (1, b"\1\2\3"),
        65002: (10, (-3, 7)),
        65003: (9, (-5, 6)),
    }
    tags = [(tag, 2, len(text) + 1, text, True) for tag, text in texts.items()]
    for tag, (kind, value) in kinds.items():
        tags.append((tag, kind, len(value) // (2 if kind == 10 else 1), value, True))
    tags += [(34377, 7, 300, NOTE + bytes(44), True), (33723, 7, 8, b"\x1c\2\0\0\2\0\4a", True)]
    file, pixels = tmp_path / "a.tif", levels(9, 9, 3, bits=16)
    resolution = {"resolution": (118.11, 118.11), "resolutionunit": 3}
    tifffile.imwrite(file, pixels, byteorder=byteorder, extratags=tags, metadata=None, **resolution)
    wanted = [*texts, *kinds, 34377, 33723, 282, 283, 296, 305]
    before, after = (_tags(path, wanted) for path in (file, copied(file)))
    assert len(before) == len(wanted)
    assert after == before


def _tags(path: Path, wanted: list[int]) -> dict[int, Any]:
    with tifffile.TiffFile(path) as file:
        found = {tag.code: tag.value for tag in file.pages[0].tags.values()}  # type: ignore[union-attr]
        return {code: found[code] for code in wanted}


def test_names_in_other_alphabets_go_from_jpeg_to_tiff(tmp_path: Path) -> None:
    name = "José".encode()
    head, entry = b"II*\0\x08\0\0\0\1\0", struct.pack("<HHII", 315, 2, len(name) + 1, 26)
    (tmp_path / "a.jpg").write_bytes(b"")
    save(tmp_path / "a.jpg", smooth(), exif=b"Exif\0\0" + head + entry + bytes(4) + name + b"\0")
    assert _tags(copied(tmp_path / "a.jpg", ".tif"), [315]) == {315: "José"}


def test_jpeg_is_written_finely(tmp_path: Path) -> None:
    file = photograph(tmp_path / "a.jpg", quality=60)
    again = opened(copied(file))
    difference = np.abs(np.asarray(again).astype(int) - np.asarray(opened(file)))
    assert difference.max() <= 6
    assert all(component[1:3] == (1, 1) for component in again.layer)
    best = io.BytesIO()
    Image.fromarray(smooth()).save(best, format="JPEG", quality=95)
    assert again.quantization == Image.open(best).quantization


def test_a_large_profile_goes_into_several_segments(tmp_path: Path) -> None:
    profile = ICC[:128] + levels(150_000).tobytes()
    picture = replace(read_picture(photograph(tmp_path / "a.png")), metadata=Metadata(icc=profile))
    write_picture(picture, tmp_path / "b.jpg")
    assert opened(tmp_path / "b.jpg").info["icc_profile"] == profile


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(orientation: int, suffix: str, tmp_path: Path) -> None:
    file = photograph(tmp_path / f"a{suffix}", orientation)
    picture = read_picture(file)
    upright = np.asarray(ImageOps.exif_transpose(opened(file)).convert("RGB"))
    assert np.array_equal(picture.colours, upright)
    assert np.array_equal(
        ImageOps.exif_transpose(_fake(stored(upright, orientation), orientation)), upright
    )
    again = copied(file)
    assert read_picture(again).metadata.orientation == orientation
    difference = read_picture(again).colours.astype(int) - upright
    assert np.abs(difference).max() <= (6 if suffix == ".jpg" else 0)


def _fake(pixels: Any, orientation: int) -> Image.Image:
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return image


def test_an_orientation_of_16_bits(tmp_path: Path) -> None:
    pixels = levels(20, 30, 3, bits=16)
    picture = Picture(pixels, metadata=Metadata(exif=exif(6)[6:], orientation=6))
    for suffix in (".png", ".tif"):
        write_picture(
            replace(picture, format={".png": "PNG", ".tif": "TIFF"}[suffix], suffix=suffix),
            tmp_path / f"a{suffix}",
        )
        assert opened(tmp_path / f"a{suffix}").getexif().get(0x0112, 6) == 6
        assert np.array_equal(read_picture(tmp_path / f"a{suffix}").colours, pixels)


def test_an_orientation_in_xmp_alone(tmp_path: Path) -> None:
    file = save(tmp_path / "a.jpg", smooth(), xmp=XMP.replace(b'"1"', b'"6"'))
    assert read_picture(file).colours.shape == (56, 40, 3)
    assert opened(copied(file)).size == (56, 40)
    again = opened(copied(file, ".png"))
    assert again.size == (40, 56)
    assert ImageOps.exif_transpose(again).size == (40, 56)


@pytest.mark.parametrize(
    "damaged", [b"", b"II*\0", b"II*\0\xff\xff\0\0aa", b"XX", b"II*\0\x08\0\0\0\x05\0"]
)
def test_broken_exif_stays_as_it_is(damaged: bytes) -> None:
    assert Metadata(exif=damaged).upright().exif == damaged


# Kinds of pictures.


@pytest.mark.parametrize("profile", [None, b"not a profile", ICC])
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_rgb_without_its_profile(
    suffix: str, profile: bytes | None, tmp_path: Path
) -> None:
    image = Image.fromarray(smooth()).convert("CMYK")
    options = {"icc_profile": profile} if profile else {}
    image.save(tmp_path / f"a{suffix}", exif=exif(), **options)
    picture = read_picture(tmp_path / f"a{suffix}")
    assert picture.notes == ("CMYK becomes RGB, without the profile of its inks",)
    assert np.abs(picture.colours.astype(int) - smooth()).mean() < 5
    again = opened(copied(tmp_path / f"a{suffix}"))
    assert again.mode == "RGB"
    assert "icc_profile" not in again.info
    assert again.getexif()[0x010F] == "A maker"


def test_cmyk_is_converted_by_its_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # There is no free profile of inks at hand: what the colour engine returns is taken.
    converted = Image.fromarray(smooth())
    seen: list[Any] = []
    monkeypatch.setattr(
        ImageCms, "profileToProfile", lambda *args, **options: seen.append(args) or converted
    )
    Image.fromarray(smooth()).convert("CMYK").save(tmp_path / "a.tif", icc_profile=ICC)
    assert np.array_equal(read_picture(tmp_path / "a.tif").colours, smooth())
    assert seen[0][0].mode == "CMYK"


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_several_pictures_in_a_file_are_refused(suffix: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(levels(8, 8, 3) // n) for n in (1, 2, 3)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(BadImage, match="it holds 3 pictures; save them one by one"):
        read_picture(tmp_path / f"a{suffix}")


def test_of_a_jpeg_with_previews_the_main_picture_is_kept(tmp_path: Path) -> None:
    main, preview = Image.fromarray(smooth()), Image.fromarray(smooth()[::2, ::2])
    main.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[preview])
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.notes == ("only the main one of its 2 pictures is kept",)
    again = opened(copied(tmp_path / "a.jpg"))
    assert (again.format, again.size) == ("JPEG", main.size)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Image.fromarray(levels(8, 8).astype(np.float32)), "floating point"),
        (lambda: Image.fromarray(levels(8, 8).astype(np.int32)), "32-bit integers"),
    ],
)
def test_pixels_without_a_white_level_are_refused(
    make: Callable[[], Image.Image], words: str, tmp_path: Path
) -> None:
    make().save(tmp_path / "a.tif")
    with pytest.raises(BadImage, match=words):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_channels_that_lie_apart_are_refused_in_16_bits(
    compression: str | None, tmp_path: Path
) -> None:
    pixels = levels(3, 8, 9, bits=16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        photometric="rgb",
        planarconfig="separate",
        compression=compression,
    )
    with pytest.raises(BadImage, match="channels lie apart"):
        read_picture(tmp_path / "a.tif")


def test_premultiplied_colours_of_16_bits_are_read_in_8(tmp_path: Path) -> None:
    pixels = levels(8, 9, 4, bits=16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    picture = read_picture(tmp_path / "a.tif")
    assert picture.notes == ("it is read with 8 of its 16 bits",)
    assert np.array_equal(picture.alpha, pixels[..., 3] >> 8)


@pytest.mark.parametrize("suffix", [*ALL, ".bmp"])
def test_broken_files_are_said_to_be(suffix: str, tmp_path: Path) -> None:
    whole = save(tmp_path / f"a{suffix}", levels(64, 64, 3)).read_bytes()
    for content in (b"", whole[:2], whole[:40], whole[: len(whole) // 2], b"text" * 99):
        (tmp_path / f"b{suffix}").write_bytes(content)
        with pytest.raises(BadImage) as caught:
            read_picture(tmp_path / f"b{suffix}")
        assert "\n" not in str(caught.value)
        assert "0x" not in str(caught.value)


# Formats.


@pytest.mark.parametrize(
    ("to", "lost"),
    [
        (".jpg", ("JPEG holds 8 bits", "JPEG holds no alpha channel")),
        (".webp", ("WEBP holds 8 bits",)),
        (
            ".bmp",
            (
                "BMP holds 8 bits",
                "BMP holds no alpha channel",
                "BMP holds no EXIF, ICC profile or XMP",
            ),
        ),
        (".png", ()),
        (".tiff", ()),
    ],
)
def test_what_a_format_cannot_hold_is_said(to: str, lost: tuple[str, ...], tmp_path: Path) -> None:
    pixels = levels(16, 16, 4, bits=16)
    picture = Picture(pixels[..., :3], pixels[..., 3], metadata=Metadata(icc=ICC))
    assert write_picture(picture, tmp_path / f"a{to}") == lost
    nearest = (pixels.astype(int) + 128) // 257
    if to == ".webp":
        assert np.array_equal(layers(read_picture(tmp_path / f"a{to}")), nearest)


def test_exif_that_is_too_long_for_jpeg_is_left_out(tmp_path: Path) -> None:
    picture = Picture(smooth(), metadata=Metadata(exif=exif()[6:] + bytes(70_000), icc=ICC))
    assert write_picture(picture, tmp_path / "a.jpg") == ("JPEG holds no EXIF or XMP above 64 KiB",)
    assert opened(tmp_path / "a.jpg").info["icc_profile"] == ICC


def test_a_wrong_name_does_not_change_the_format(tmp_path: Path) -> None:
    pixels = levels(12, 12, 4)
    save(tmp_path / "a.jpg", pixels, format="PNG")
    again = copied(tmp_path / "a.jpg")
    assert opened(again).format == "PNG"
    assert np.array_equal(np.asarray(opened(again)), pixels)


@pytest.mark.parametrize("name", ["a.gif", "a", "a.jpg.txt"])
def test_other_endings_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"names ending in \.jpg \.jpeg \.png"):
        write_picture(Picture(smooth()), tmp_path / name)


def test_a_picture_that_is_too_large_for_a_format(tmp_path: Path) -> None:
    picture = Picture(np.zeros((1, 70_000, 3), np.uint8))
    for suffix in (".jpg", ".webp"):
        with pytest.raises(ValueError, match=r"70000x1 pixels cannot be written as \w+: ."):
            write_picture(picture, tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_memory_that_runs_out_while_coding_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> bytes:
        raise MemoryError

    monkeypatch.setattr(png, "encode", fail)
    with pytest.raises(MemoryError):
        write_picture(Picture(smooth()), tmp_path / "a.png")


# Whole files.


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), OSError(28, "No space left on device"), MemoryError()]
)
@pytest.mark.parametrize("step", ["write", "replace"])
def test_what_stops_writing_leaves_nothing_half_written(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def fail(*arguments: Any) -> None:
        raise error

    if step == "replace":
        monkeypatch.setattr(Path, "replace", fail)
    else:
        opening = Path.open
        monkeypatch.setattr(Path, "open", lambda self, mode: _Full(opening(self, mode), fail))
    with pytest.raises(
        type(error), match="No space" if isinstance(error, OSError) else None
    ) as caught:
        write_whole(path, b"after")
    monkeypatch.undo()
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]
    assert getattr(caught.value, "filename", str(path)) == str(path)


class _Full:
    def __init__(self, file: Any, fail: Callable[..., None]) -> None:
        self.file, self.write = file, fail

    def __enter__(self) -> _Full:
        return self

    def __exit__(self, *arguments: object) -> None:
        self.file.write(b"half")
        self.file.close()


def test_permissions_are_kept_and_links_replaced(tmp_path: Path) -> None:
    original, link, plain = tmp_path / "o.png", tmp_path / "l.png", tmp_path / "sub" / "p.png"
    original.write_bytes(b"original")
    original.chmod(0o640)
    link.symlink_to(original)
    for path in (link, plain):
        write_whole(path, b"new")
    assert (original.read_bytes(), link.read_bytes()) == (b"original", b"new")
    assert not link.is_symlink()
    write_whole(original, b"newer")
    assert original.stat().st_mode & 0o777 == 0o640
    mask = os.umask(0)
    os.umask(mask)
    assert plain.stat().st_mode & 0o777 == 0o666 & ~mask
    assert files.write_whole is write_whole
