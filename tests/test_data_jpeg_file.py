"""What JPEG files say about their compression, and getting at the files of a source."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.data import Glyphs, jpeg_file, open_source
from blemish.functional.jpeg import quantisation_tables


def encode(size: int = 24, kind: str = "JPEG", mode: str = "RGB", **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("quality", [1, 25, 49, 50, 75, 90, 98, 100])
def test_the_quality_is_that_of_the_encoder(quality, mode):
    file = jpeg_file(encode(mode=mode, quality=quality))
    assert (file.exact, file.distance) == (True, 0.0)
    luma = quantisation_tables(quality)[0][0]
    assert torch.equal(file.luma, luma)
    assert torch.equal(quantisation_tables(file.quality)[0][0], luma)
    assert mode == "L" or file.quality == quality


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_the_resolution_of_the_chroma_is_told(subsampling):
    assert jpeg_file(encode(subsampling=subsampling)).subsampling == subsampling
    assert jpeg_file(encode(mode="L")).subsampling == "grey"


@pytest.mark.parametrize("quality", [40, 80])
def test_other_tables_have_a_nearest_quality(quality):
    tables = [t[0].flatten().int() for t in quantisation_tables(quality)]
    tables[0][5] += 1
    file = jpeg_file(encode(qtables=[t.tolist() for t in tables]))
    assert (file.quality, file.exact) == (quality, False)
    step = float(tables[0][5])
    assert file.distance == pytest.approx(np.log(step / (step - 1)) / 128, rel=1e-3)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", encode(kind="PNG"), encode()[:30]])
def test_what_is_no_jpeg_file_says_nothing(content):
    assert jpeg_file(content) is None


@pytest.mark.parametrize("memory", [0, 2**30], ids=["streamed", "held"])
@pytest.mark.parametrize("place", ["folder", "pictures.zip"])
def test_a_source_gives_the_files_of_its_images(tmp_path, place, memory):
    files = {"a.jpg": encode(quality=30), "b.png": encode(kind="PNG"), "c.jpg": encode(quality=80)}
    path = tmp_path / place
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in {**files, "aa.png": b"broken"}.items():
                archive.writestr(name, data)
    else:
        path.mkdir()
        for name, data in {**files, "aa.png": b"broken"}.items():
            (path / name).write_bytes(data)
    # The numbers are those of the good images, and cropping leaves the files alone.
    source = open_source(path, size=16, fit="crop", skip_bad=True, memory=memory)
    assert {source.name(i): source.raw(i) for i in range(len(source))} == files
    assert source.read(2).shape == (3, 16, 16)


def test_images_without_files_have_none():
    assert Glyphs(3).raw(0) is None
