"""The verb restore: pictures, folders, refusals, and what stops it."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from blemish import artefacts, cli
from blemish.commands import restore
from blemish.degradations import LearnedBlur
from blemish.networks import PackedTranslator
from blemish.photos import read_picture, restore_tiled, with_channels
from blemish.photos.channels import EachChannel, GreyAsRGB
from blemish.recipes import configure
from blemish.restorers import FeedForward, Keep, Restorer
from blemish.runs import Run
from blemish.training.processes import find_device

PICTURES = ("a.png", "b.jpg", "sub/a.png", "sub/deep/c.tif")


@dataclass
class Brighter:
    """Adds a sixteenth, and does as asked before the n-th tile."""

    before: dict[int, Callable[[], object]] = field(default_factory=dict)
    receptive_field: int | None = 1
    scale: int = 1
    multiple: int = 1
    calls: int = 0

    def __call__(self, y: Tensor) -> Tensor:
        self.calls += 1
        self.before.get(self.calls, lambda: None)()
        x = y + 1 / 16
        return x.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub" / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in PICTURES:
        pixels = rng.integers(0, 200, (21, 34, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def use(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(restore, "find_restorer", lambda *arguments, **options: restorer)
    return restorer


@pytest.fixture
def brighter(monkeypatch: pytest.MonkeyPatch) -> Any:
    return use(Brighter(), monkeypatch)


def network(channels: int = 3) -> FeedForward:
    config = PackedTranslator.Config(channels=4, blocks=1, image_channels=channels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FeedForward.Config(network=config).build().eval()


def call(*arguments: str | Path) -> int:
    return cli.run(["restore", "r", *map(str, arguments)])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def pixels(file: Path) -> Any:
    return read_picture(file).colours


# What is restored.


def test_a_folder_keeps_its_structure(photos: Path, tmp_path: Path, brighter: Brighter) -> None:
    before = contents(photos)
    (photos / ".hidden.png").write_bytes(b"hidden")
    (photos / "notes.txt").write_text("no picture")
    assert call(photos, tmp_path / "out") == 0
    assert set(contents(tmp_path / "out")) == set(PICTURES)
    assert {name: contents(photos)[name] for name in PICTURES} == before
    for name in ("a.png", "sub/deep/c.tif"):
        assert np.array_equal(pixels(tmp_path / "out" / name), pixels(photos / name) + 16)
    assert not list(tmp_path.rglob("*.part"))


def test_a_restorer_of_an_artefact(photos: Path, tmp_path: Path, capsys: Any) -> None:
    restorer = network()
    folder = artefacts.save(restorer, tmp_path / "restorer")
    assert cli.run(["restore", str(folder), str(photos / "a.png"), str(tmp_path / "x.png")]) == 0
    y = torch.from_numpy(pixels(photos / "a.png")).permute(2, 0, 1)[None]
    assert np.array_equal(
        pixels(tmp_path / "x.png"), restore_tiled(restorer, y)[0].permute(1, 2, 0)
    )
    assert capsys.readouterr().out == f"restored 1 of 1 pictures, to {tmp_path / 'x.png'}\n"


def test_the_restorer_of_a_run(photos: Path, tmp_path: Path, capsys: Any) -> None:
    run = Run(tmp_path / "run", configure("gan", "tiny"))
    artefacts.save(network(), run.folder / "restorer")
    assert isinstance(run.restorer, FeedForward)
    found = _found(run, restore.find_restorer)
    assert isinstance(found, FeedForward)
    assert "using the last checkpoint" in capsys.readouterr().out


def _found(run: Run, find: Callable[..., Any]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restore, "load", lambda *arguments: run)
        return find("run", tell=print)


def test_what_holds_no_restorer_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", configure("gan", "tiny"))
    with pytest.raises(ValueError, match="run has no restorer: its recipe 'gan' trains none"):
        _found(run, restore.find_restorer)
    artefacts.save(LearnedBlur.Config(size=5, latent=4).build(), tmp_path / "d")
    with pytest.raises(ValueError, match="holds a LearnedBlur, which restores nothing"):
        restore.find_restorer(str(tmp_path / "d"))
    with pytest.raises(FileNotFoundError, match="no run and no artefact"):
        restore.find_restorer(str(tmp_path))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels(
    mode: str, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restorer = use(network(channels), monkeypatch)
    low = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 4), dtype=np.uint8))
    low.convert("RGB").convert(mode) if mode == "P" else low.convert(mode).save(tmp_path / "a.png")
    if mode == "P":
        low.convert("RGB").convert("P").save(tmp_path / "a.png")
    assert call(tmp_path / "a.png", tmp_path / "b.png") == 0
    before, after = read_picture(tmp_path / "a.png"), read_picture(tmp_path / "b.png")
    y = torch.from_numpy(before.colours).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        if channels == 3 and y.shape[1] == 1:
            x = restorer(y.expand(1, 3, -1, -1))
            x = (0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]).numpy()
        else:
            x = torch.cat([restorer(part) for part in y.split(channels, dim=1)], dim=1).numpy()
    assert np.abs(255 * x[0].transpose(1, 2, 0) - after.colours).max() <= 0.51
    assert (before.alpha is None) == (after.alpha is None)
    assert before.alpha is None or np.array_equal(before.alpha, after.alpha)


def test_adapted_restorers_declare_what_theirs_does() -> None:
    inner = network()
    for adapted in (GreyAsRGB(inner), EachChannel(inner)):
        assert isinstance(adapted, Restorer)
        for name in ("scale", "receptive_field", "multiple"):
            assert getattr(adapted, name) == getattr(inner, name)
    assert with_channels(Keep(), 5) == Keep()
    with pytest.raises(ValueError, match="images have 2 channels, the restorer takes 3"):
        with_channels(inner, 2)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_and_alpha_go_through(suffix: str, tmp_path: Path, brighter: Brighter) -> None:
    from blemish.photos import Picture, write_picture

    layers = np.random.default_rng(2).integers(0, 60_000, (19, 27, 4), dtype=np.uint16)
    write_picture(Picture(layers[..., :3], layers[..., 3]), tmp_path / f"a{suffix}")
    assert call(tmp_path / f"a{suffix}", tmp_path / f"b{suffix}") == 0
    after = read_picture(tmp_path / f"b{suffix}")
    assert np.array_equal(after.alpha, layers[..., 3])
    assert np.abs(after.colours.astype(int) - layers[..., :3] - 65535 / 16).max() <= 0.51


def test_enlarging_enlarges_alpha(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(Brighter(scale=2), monkeypatch)
    layers = np.random.default_rng(3).integers(0, 200, (5, 7, 4), dtype=np.uint8)
    Image.fromarray(layers).save(tmp_path / "a.png")
    assert call(tmp_path / "a.png", tmp_path / "b.png") == 0
    after = read_picture(tmp_path / "b.png")
    assert np.array_equal(after.colours, (layers[..., :3] + 16).repeat(2, 0).repeat(2, 1))
    assert np.array_equal(after.alpha, layers[..., 3].repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize(
    ("output", "file"), [("x.webp", "x.webp"), ("out", "out/a.png"), ("there", "there/a.png")]
)
def test_one_picture_goes_to_a_file_or_into_a_folder(
    output: str, file: str, photos: Path, tmp_path: Path, brighter: Brighter
) -> None:
    (tmp_path / "there").mkdir()
    assert call(photos / "a.png", tmp_path / output) == 0
    assert np.array_equal(pixels(tmp_path / file), pixels(photos / "a.png") + 16)


# What is there already.


def test_what_is_there_is_stepped_over(
    photos: Path, tmp_path: Path, brighter: Brighter, capsys: Any
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    assert call(photos, out) == 0
    assert (out / "a.png").read_bytes() == b"mine"
    assert (
        "restored 3, skipped 1 that are there (--overwrite restores them) of 4"
        in capsys.readouterr().out
    )
    assert call(photos, out, "--overwrite") == 0
    assert np.array_equal(pixels(out / "a.png"), pixels(photos / "a.png") + 16)
    assert brighter.calls == 3 + 4


@pytest.mark.parametrize("given", [[], ["photos"]])
def test_in_place(
    given: list[str], photos: Path, brighter: Brighter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    before = {name: pixels(photos / name) for name in PICTURES}
    assert call("photos", *given, "--in-place") == 0
    assert set(contents(photos)) == set(PICTURES)
    assert np.array_equal(pixels(photos / "a.png"), before["a.png"] + 16)
    assert call(photos / "a.png", "--in-place") == 0
    assert np.array_equal(pixels(photos / "a.png"), before["a.png"] + 32)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photos"], "give OUTPUT too, or --in-place"),
        (["photos", "photos"], "are one folder"),
        (["photos", "photos/out"], "one lies in the other"),
        (["photos/sub", "photos"], "one lies in the other"),
        (["photos", "link"], "are one folder"),
        (["photos", "x.png"], "is one picture, but photos is a folder"),
        (["photos", "photos/a.png"], "is one picture, but photos is a folder"),
        (["photos", "other", "--in-place"], "other is not the input photos"),
        (["photos/a.png", "photos/a.png"], "is the input itself"),
        (["photos/a.png", "photos"], "is the input itself"),
        (["photos/a.png", "x.gif"], "names ending in .jpg"),
        (["nowhere", "out"], "nowhere does not exist"),
        (["empty", "out"], "empty holds no pictures"),
        (["photos/a.png", "x.png", "--device", "abacus"], "unknown device 'abacus'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals_are_one_line_and_change_nothing(
    arguments: list[str],
    words: str,
    photos: Path,
    brighter: Brighter,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.chdir(photos.parent)
    Path("empty").mkdir()
    Path("link").symlink_to(photos)
    before = contents(photos)
    assert call(*arguments, *([] if "--in-place" in arguments else ["--overwrite"])) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert contents(photos) == before
    assert not Path("out").exists()


def test_links_in_the_output_lead_to_no_original(
    photos: Path, tmp_path: Path, brighter: Brighter, capsys: Any
) -> None:
    out, before = tmp_path / "out", contents(photos)
    out.mkdir()
    (out / "sub").symlink_to(photos / "sub")
    assert call(photos, out, "--overwrite") == 1
    assert contents(photos) == before
    assert "failed sub/a.png" in capsys.readouterr().out


# Broken files.


def test_broken_files_are_stepped_over(
    photos: Path, tmp_path: Path, brighter: Brighter, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    whole = (photos / "a.png").read_bytes()
    (photos / "empty.png").write_bytes(b"")
    (photos / "half.png").write_bytes(whole[: len(whole) // 2])
    (photos / "text.jpg").write_text("no picture")
    (photos / "folder.jpg").mkdir()
    (photos / "folder.jpg" / "in.png").write_bytes(whole)
    (photos / "secret.png").write_bytes(whole)
    frames = [Image.fromarray(np.full((4, 4), n, np.uint8)) for n in (0, 200)]
    frames[0].save(photos / "moving.webp", save_all=True, append_images=frames[1:])
    (tmp_path / "out" / "taken.png").mkdir(parents=True)
    (photos / "taken.png").write_bytes(whole)
    reading = Path.read_bytes

    def guarded(path: Path) -> bytes:
        if path.name == "secret.png":
            raise PermissionError(13, "Permission denied", str(path))
        return reading(path)

    monkeypatch.setattr(Path, "read_bytes", guarded)
    assert call(photos, tmp_path / "out") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"restored 5, failed 6 of 11 pictures, to {tmp_path / 'out'}"
    reasons = dict(line.removeprefix("failed ").split(": ", 1) for line in lines[:-1])
    assert reasons["empty.png"] == "empty file"
    assert "truncated" in reasons["half.png"]
    assert reasons["text.jpg"] == "not a JPEG, PNG, WebP, TIFF or BMP picture"
    assert reasons["secret.png"] == "Permission denied"
    assert reasons["moving.webp"] == "it holds 2 pictures; save them one by one"
    assert reasons["taken.png"].endswith("taken.png is a folder; move it")
    assert set(contents(tmp_path / "out")) == {*PICTURES, "folder.jpg/in.png"}


def test_one_broken_picture_is_one_line(tmp_path: Path, brighter: Brighter, capsys: Any) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert call(tmp_path / "a.png", tmp_path / "b.png") == 1
    assert capsys.readouterr().err == f"error: {tmp_path / 'a.png'}: its header is broken\n"
    assert not (tmp_path / "b.png").exists()


def test_notes_say_what_is_not_kept(
    photos: Path, tmp_path: Path, brighter: Brighter, capsys: Any
) -> None:
    Image.fromarray(pixels(photos / "a.png")).convert("CMYK").save(photos / "z.jpg")
    assert call(photos, tmp_path / "out") == 0
    assert "z.jpg: CMYK becomes RGB, without the profile of its inks\n" in capsys.readouterr().out


# What stops it.


def _interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("in_place", [False, True])
def test_ctrl_c_in_the_middle_of_a_folder(
    in_place: bool, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    restorer, before = use(Brighter({3: _interrupt}), monkeypatch), contents(photos)
    where = ["--in-place"] if in_place else [tmp_path / "out"]
    out = photos if in_place else tmp_path / "out"
    assert call(photos, *where) == 130
    said = capsys.readouterr().err
    assert said.startswith("error: stopped after 2 of 4 pictures")
    assert said.count("\n") == 1
    after = contents(out)
    assert np.array_equal(pixels(out / "a.png"), np.asarray(_decoded(before["a.png"])) + 16)
    if in_place:
        assert "would restore them again" in said
        assert {name: after[name] for name in PICTURES[2:]} == {n: before[n] for n in PICTURES[2:]}
    else:
        assert set(after) == set(PICTURES[:2])
        assert "the same command goes on" in said
        assert call(photos, *where) == 0
        assert set(contents(out)) == set(PICTURES)
        assert restorer.calls == 3 + 2


def _decoded(content: bytes) -> Image.Image:
    import io

    return Image.open(io.BytesIO(content))


@pytest.fixture
def small_files() -> Iterator[None]:
    """Files cannot grow beyond 20 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_space_left_ends_the_run(
    photos: Path, tmp_path: Path, brighter: Brighter, request: pytest.FixtureRequest, capsys: Any
) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "c.png")
    request.getfixturevalue("small_files")
    assert call(photos, tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: {tmp_path / 'out' / 'c.png'}: File too large; stopped after 2 of 5"
    )
    assert error.count("\n") == 1
    assert set(contents(tmp_path / "out")) == {"a.png", "b.jpg"}


def test_memory_that_runs_out_is_said_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    class Small(Brighter):
        def __call__(self, y: Tensor) -> Tensor:
            if y.shape[-1] > 100:
                raise MemoryError
            return super().__call__(y)

    use(Small(), monkeypatch)
    for name in ("p.png", "q.png"):
        Image.fromarray(np.zeros((250, 300, 3), np.uint8)).save(photos / name)
    assert call(photos, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert said.count("not enough memory for tiles of 512 pixels; going on with tiles of 75") == 1
    assert (pixels(tmp_path / "out" / "q.png") == 16).all()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_a_picture_too_large_for_memory_fails_alone(
    error: Exception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def fail() -> None:
        raise error

    use(Brighter({2: fail}, receptive_field=None), monkeypatch)
    assert call(photos, tmp_path / "out") == 1
    said = capsys.readouterr().out
    assert "failed b.jpg: not enough memory for a picture of 34x21 pixels" in said
    assert "restored 3, failed 1 of 4" in said


@pytest.mark.parametrize("room", [10**6, 60 * 60])
def test_a_restorer_that_sees_too_far_is_measured(
    room: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    class Far(Brighter):
        def __call__(self, y: Tensor) -> Tensor:
            if y.shape[-1] * y.shape[-2] > room:
                raise MemoryError
            return super().__call__(y * 0 + y.mean())

    use(Far(receptive_field=999), monkeypatch)
    image = np.zeros((150, 120, 3), np.uint8)
    image[:, 60:] = 160
    Image.fromarray(image).save(photos / "p.png")
    assert call(photos / "p.png", tmp_path / "q.png", "--tile", "60") == 0
    said = capsys.readouterr().out
    assert said.count("sees 999 pixels wide, more than tiles of 60 can overlap") == 1
    if room == 10**6:
        # Of tiles that are all dark, the whole's mean is 80 away.
        assert "(80.00/255 at most, in the middle 120x120 pixels of a picture)" in said
    else:
        assert "(not measured for want of memory)" in said
    assert call(photos / "a.png", tmp_path / "small.png", "--tile", "60") == 0
    assert "the restorer sees" not in capsys.readouterr().out


def test_a_video_goes_frame_by_frame(
    tmp_path: Path, brighter: Brighter, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    frame, seen = np.zeros((9, 8, 3), np.uint8), []

    def each(change: Callable[[Any], Any], source: Path, target: Path, progress: Any) -> None:
        seen.append((change(frame), target))

    monkeypatch.setattr(restore, "restore_video", each)
    (tmp_path / "a.MOV").write_bytes(b"a video")
    assert call(tmp_path / "a.MOV", tmp_path / "b.mp4") == 0
    assert (seen[0][0] == 16).all()
    assert seen[0][1] == tmp_path / "b.mp4"
    assert call(tmp_path / "a.MOV", tmp_path / "b.png") == 1
    assert "videos are written to names ending in .mp4" in capsys.readouterr().err


def test_the_best_device_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("auto") == torch.device("mps")
    assert find_device("auto", mps=False) == torch.device("cpu")
    assert find_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_device("auto") == torch.device("cuda")
    assert find_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("scale", [1, 2])
def test_a_page_shows_pictures_before_and_after(
    scale: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    use(Brighter(scale=scale), monkeypatch)
    page = tmp_path / "pages" / "p.html"
    assert call(photos, tmp_path / "out", "--page", page) == 0
    text = page.read_text()
    assert text.count('type="range"') == len(PICTURES)
    assert all(f"<h3>{name}</h3>" in text for name in PICTURES)
    assert f"{len(PICTURES)} pictures, restored by r." in text
    assert f"wrote {page}" in capsys.readouterr().out
    # Nothing is restored again, and the page stays.
    assert call(photos, tmp_path / "out", "--page", page) == 0
    assert "nothing was restored" in capsys.readouterr().out
    assert page.read_text() == text


def test_a_page_shows_the_first_of_many(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, brighter: Any
) -> None:
    monkeypatch.setattr(restore, "_SHOWN", 2)
    assert call(photos, tmp_path / "out", "--page", tmp_path / "p.html") == 0
    text = (tmp_path / "p.html").read_text()
    assert text.count('type="range"') == 2
    assert "The first 2 are shown." in text


def test_a_strangers_page_is_left_alone(photos: Path, tmp_path: Path, brighter: Any) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("<html>mine</html>")
    assert call(photos, tmp_path / "out", "--page", mine) == 1
    assert mine.read_text() == "<html>mine</html>"
    assert not (tmp_path / "out").exists()
