import io
import json
import os
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.data import ImageBatches, load_images, open_images, open_source


def pixels(seed: int, height: int = 8, width: int = 8, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels == 3 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).reshape(*array.shape[:2], -1).permute(2, 0, 1)


def write(place, files: dict[str, bytes]):
    """Writes files to a folder, or to a ZIP file if the place is called so."""
    if place.suffix == ".zip":
        with zipfile.ZipFile(place, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return place
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


PLACES = pytest.mark.parametrize("place", ["folder", "pictures.zip"])
MEMORY = pytest.mark.parametrize("memory", [0, 2**30], ids=["streamed", "held"])


@PLACES
@MEMORY
def test_pictures_are_found_in_sorted_order(tmp_path, place, memory):
    names = ["b/2.png", "a.PNG", "b/10.png", "B.png"]
    files = {name: png(pixels(i)) for i, name in enumerate(names)}
    junk = {".hidden.png": b"", "__MACOSX/x.png": b"", "b/.cache/y.png": b"", "notes.txt": b""}
    source = open_source(write(tmp_path / place, files | junk), memory=memory)
    assert [source.name(i) for i in range(len(source))] == sorted(names)
    expected = torch.stack([tensor(pixels(names.index(name))) for name in sorted(names)])
    assert load_images(source).equal(expected)
    assert source.read(1).equal(expected[1])
    assert source.size == (8, 8)
    assert f"{place}: 4 RGB images, 8x8" in source.describe()


def test_a_single_picture_is_a_source(tmp_path):
    write(tmp_path, {"one.png": png(pixels(0, channels=1)), "two.png": b""})
    source = open_source(tmp_path / "one.png")
    assert (len(source), source.name(0), source.channels) == (1, "one.png", 1)
    assert source.describe().endswith("one.png: 1 grey image, 8x8 (height x width)")


@PLACES
@pytest.mark.parametrize("labels", [[["0/a.png", 7], ["1/b.png", 3]], None])
def test_labels_are_those_of_dataset_json(tmp_path, place, labels):
    files = {"0/a.png": png(pixels(0)), "1/b.png": png(pixels(1))}
    catalogue = {"dataset.json": json.dumps({"labels": labels}).encode()}
    source = open_source(write(tmp_path / place, files | catalogue))
    assert [source.label(0), source.label(1)] == ([7, 3] if labels else [None, None])


@MEMORY
def test_labels_are_else_the_topmost_folders(tmp_path, memory):
    files = {name: png(pixels(0)) for name in ("cat/1.png", "ant/x/2.png", "cat/0.png")}
    source = open_source(write(tmp_path, files), memory=memory)
    assert [source.label(i) for i in range(3)] == [0, 1, 1]
    write(tmp_path, {"loose.png": png(pixels(0))})
    source = open_source(tmp_path, memory=memory)
    assert [source.label(i) for i in range(4)] == [None] * 4


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"labels": [1]}'])
def test_a_broken_dataset_json_is_named(tmp_path, content):
    with pytest.raises(ValueError, match=r"dataset\.json .*remove it"):
        open_source(write(tmp_path, {"a.png": png(pixels(0)), "dataset.json": content}))


@pytest.mark.parametrize("kind", ["damaged", "encrypted"])
def test_a_dataset_json_that_a_zip_file_cannot_give_is_named(tmp_path, kind):
    path = write(tmp_path / "a.zip", {"dataset.json": b'{"labels": null}', "a.png": png(pixels(0))})
    content = bytearray(path.read_bytes())
    if kind == "damaged":
        content[content.index(b'{"labels"') + 2] ^= 1
    else:  # Both of the member's headers say so.
        for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"dataset\.json in .*a\.zip cannot be read"):
        open_source(path)


def test_links_to_folders_are_followed_once(tmp_path):
    folder = write(tmp_path / "data", {"x/1.png": png(pixels(1)), "2.png": png(pixels(2))})
    other = write(tmp_path / "other", {"3.png": png(pixels(3))})
    (folder / "linked").symlink_to(other)
    (folder / "x" / "round").symlink_to(folder)
    (folder / "y").symlink_to(folder / "x")
    source = open_source(folder)
    assert [source.name(i) for i in range(len(source))] == ["2.png", "linked/3.png", "x/1.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    folder = write(tmp_path / "data", {"a/1.png": png(pixels(1)), "b/2.png": png(pixels(2))})
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match=r"data/b"):
        open_source(folder)


@MEMORY
def test_grey_and_colour_together_are_rgb(tmp_path, memory):
    files = {"a.png": png(pixels(0, channels=1)), "b.png": png(pixels(1))}
    write(tmp_path, files)
    mixed = open_source(tmp_path, memory=memory)
    assert mixed.channels == 3
    assert mixed.read(0).equal(tensor(pixels(0, channels=1)).expand(3, 8, 8))
    grey = open_source(tmp_path, channels=1, memory=memory)
    assert load_images(grey).shape == (2, 1, 8, 8)
    assert open_source(tmp_path, limit=1, memory=memory).channels == 1


@PLACES
@MEMORY
def test_broken_files_are_named_or_skipped(tmp_path, place, memory):
    good = {f"{i:02d}.png": png(pixels(i)) for i in range(0, 20, 2)}
    bad = {f"{i:02d}.png": png(pixels(i))[:20] for i in range(1, 14, 2)}
    path = write(tmp_path / place, good | bad)
    with pytest.raises(ValueError, match="7 images cannot be read") as caught:
        open_source(path, memory=memory)
    assert all(f"{i:02d}.png (" in str(caught.value) for i in (1, 3, 5, 7, 9))
    assert "and 2 more" in str(caught.value)
    assert str(caught.value).endswith("--skip-bad")
    assert "\n" not in str(caught.value)
    source = open_source(path, skip_bad=True, memory=memory)
    assert [name for name, _ in source.skipped] == sorted(bad)
    assert [source.name(i) for i in range(10)] == sorted(good)
    assert source.read(1).equal(tensor(pixels(2)))
    assert len(open_source(path, skip_bad=True, limit=3, memory=memory)) == 3
    assert "7 skipped" in source.describe()


@pytest.mark.parametrize("side", [9, 150])  # With threads only where the pictures are large.
def test_images_are_read_in_the_order_that_is_asked_for(tmp_path, side):
    write(tmp_path, {f"{i:02d}.png": png(pixels(i, side, side)) for i in range(40)})
    source = open_source(tmp_path, memory=0)
    order = [*range(39, -1, -1), 7, 7]
    assert source.threads == (side > 128)
    for i, image in zip(order, source.read_each(order), strict=True):
        assert image.equal(source.read(i))
        assert image.equal(tensor(pixels(i, side, side)))
    assert list(source.read_each([])) == []


def test_a_file_that_breaks_later_is_named_when_it_is_read(tmp_path):
    cut = png(pixels(0, 64, 64))[:-2000]
    source = open_source(write(tmp_path, {"a.png": png(pixels(1, 64, 64)), "b.png": cut}), memory=0)
    batches = ImageBatches(open_images(source, memory=0), seed=0)
    with pytest.raises(ValueError, match=r": b\.png cannot be read .*--skip-bad"):
        batches(0, 2)
    assert len(open_source(tmp_path, memory=0, skip_bad=True)) == 1


@MEMORY
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"6 are 8x8, but b0\.png \(9x7\), b1\.png .* and 1 more; choose a size with --size N"),
        ({"size": 8}, r"6 of 12 images are not 8x8: b0\.png \(9x7\), .* and 1 more; .*--fit crop"),
        ({"size": 8, "fit": "crop"}, r"6 of 12 images are smaller than 8x8: .*--fit resize"),
    ],
)
def test_images_of_other_sizes_are_named(tmp_path, memory, options, message):
    files = {f"a{i}.png": png(pixels(i)) for i in range(6)}
    write(tmp_path, files | {f"b{i}.png": png(pixels(i, 9, 7)) for i in range(6)})
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path, memory=memory, **options)
    assert load_images(open_source(tmp_path, size=6, fit="resize", memory=memory)).shape[2:] == (
        6,
        6,
    )


@MEMORY
def test_mixed_sizes_are_allowed_on_request(tmp_path, memory):
    write(tmp_path, {"a.png": png(pixels(0)), "b.png": png(pixels(1, 24, 32))})
    source = open_source(tmp_path, mixed=True, memory=memory)
    assert source.size is None
    assert [tuple(source.read(i).shape) for i in (0, 1)] == [(3, 8, 8), (3, 24, 32)]
    assert "various sizes" in source.describe()
    with pytest.raises(ValueError, match="different sizes"):
        load_images(source)
    crops = ImageBatches(open_images(source, random_crop=8), seed=0, random_crop=True)
    assert torch.equal(crops(0, 2), crops(0, 2))
    assert crops(0, 2).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "b/../../a.png", "c:a.png"])
def test_zip_files_with_paths_that_lead_out_are_refused(tmp_path, name):
    path = write(tmp_path / "x.zip", {"good.png": png(pixels(0)), name: png(pixels(1))})
    with pytest.raises(ValueError, match="leads out of it"):
        open_source(path)


def test_progress_counts_files(tmp_path):
    write(tmp_path, {f"{i}.png": png(pixels(i)) for i in range(3)})
    seen = []
    open_source(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3, 3)


def test_what_cannot_be_opened_is_said_in_one_line(tmp_path):
    write(tmp_path, {"x.txt": b"text", "broken.zip": b"PK\3\4", "all/a.png": b"", "empty/x": b""})
    write(tmp_path / "none.zip", {"readme": b""})
    cases = {
        "nothing here": "does not exist; give a folder",
        "x.txt": "unknown kind; allowed are pictures",
        "broken.zip": "broken ZIP file",
        "none.zip": "holds no pictures",
        "empty": "holds no pictures",
        "all": r"no image can be read: a\.png \(empty file\)",
        "empty:test": "has no splits",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            open_source(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert name.removesuffix(":test") in str(caught.value)
    with pytest.raises(ValueError, match="limit=0"):
        open_source(tmp_path, limit=0)


# The library's types of columns are known by their names.
ImageColumn, ClassLabel = type("Image", (), {}), type("ClassLabel", (), {})


class Rows(list):
    def __init__(self, rows=()):
        super().__init__(rows)
        self.features = {"id": int, "picture": ImageColumn(), "label": ClassLabel()}


def fake_datasets(version: str, rows: list) -> types.ModuleType:
    module = types.ModuleType("datasets")
    module.__version__ = version
    module.__spec__ = types.SimpleNamespace(name="datasets")
    module.load_dataset = lambda name, split: {("me/set", "train"): rows}[name, split]
    return module


def test_hub_sets_are_read_through_the_library(monkeypatch):
    rows = Rows({"picture": Image.fromarray(pixels(i)), "label": 5 - i} for i in range(4))
    monkeypatch.setitem(sys.modules, "datasets", fake_datasets("4.1.0", rows))
    source = open_source("hub:me/set")
    assert load_images(source).equal(torch.stack([tensor(pixels(i)) for i in range(4)]))
    assert [source.label(0), source.name(3)] == [5, "train/000003"]
    with pytest.raises(ValueError, match="me/other cannot be loaded from the Hub"):
        open_source("me/other")
    rows.append({"picture": None, "label": 0})
    assert open_source("me/set", skip_bad=True).skipped[0][0] == "train/000004"


def test_hub_sets_need_a_recent_library_and_images(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", fake_datasets("2.9", Rows()))
    with pytest.raises(ValueError, match="update it"):
        open_source("me/set")
    rows = Rows()
    rows.features = {"text": ClassLabel()}
    monkeypatch.setitem(sys.modules, "datasets", fake_datasets("3.0", rows))
    with pytest.raises(ValueError, match="no column of images; its columns are text"):
        open_source("me/set")
    monkeypatch.delitem(sys.modules, "datasets")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install datasets"):
        open_source("me/set")
