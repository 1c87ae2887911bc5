"""The verbs encode and transfer: codes as files, pictures of every kind, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from blemish import artefacts
from blemish.cli import run
from blemish.degradations import UniversalDegradation, pack_code, unpack_code
from blemish.functional.random import generator_for, rand, randn
from blemish.networks import Redegrader
from blemish.photos import redegrade
from blemish.photos.redegrade import encode_picture, redegrade_picture


def _model(seed: int = 0, *, local: int = 2) -> UniversalDegradation:
    network = Redegrader.Config(
        widths=(4, 6), blocks=(1, 1), condition=4, embedding=6, local=local, ratio=4
    )
    config = UniversalDegradation.Config(redegrader=network, width=4, kernel=5, norm=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        d = config.build()
        torch.nn.init.normal_(d.redegrader.last.weight, std=0.2)
        with torch.no_grad():
            # Codes that say something: embeddings and maps of several steps.
            d.head[1].inner[2].bias.uniform_(-6, 6)
            if d.local_encoder is not None:
                d.local_encoder.tail[2].weight.mul_(60)
    return d.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models")
    artefacts.save(_model(), out / "model")
    artefacts.save(_model(1), out / "other")
    return out


def _picture(path: Path, *shape: int, bits: int = 8) -> Path:
    pixels = rand((*shape,), generator_for(str(shape))).numpy()
    if bits == 16:
        Image.fromarray((pixels * 65535).astype(np.uint16)).save(path)
    else:
        Image.fromarray((pixels * 255).astype(np.uint8)).save(path)
    return path


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


# Codes


@pytest.mark.parametrize("local", [0, 2])
@pytest.mark.parametrize("size", [(16, 16), (37, 50)])
def test_a_code_is_read_as_it_was_written(size: tuple[int, int], local: int) -> None:
    d = _model(local=local)
    params = d.encode(rand((2, 3, *size), generator_for("y")), generator=generator_for("n"))
    assert params.e_g[0].std() > 1
    for i in range(2):
        data = pack_code(d, params[i], size)
        code = unpack_code(d, data, generator=generator_for("m"))
        assert code.size == size
        assert torch.equal(code.params.e_g, params[i].e_g)
        assert torch.equal(code.params.e_l, params[i].e_l)
        assert len(data) == 37 + code.bytes_g + code.bytes_l
        for found, bits in zip((code.bytes_g, code.bytes_l), d.bits(params[i]), strict=True):
            estimate = bits.item() / 8
            assert abs(found - estimate) <= 0.02 * estimate + 8


def test_an_embedding_of_the_papers_length_takes_less_than_two_kibibytes() -> None:
    d = UniversalDegradation.Config(
        redegrader=Redegrader.Config(widths=(4,), blocks=(1,), local=0), width=4, norm=False
    ).build()
    e_g = 10 * randn((1, 256), generator_for("e"))
    params = d.rounded(e_g, torch.zeros(1, 0, 8, 8))
    code = unpack_code(d, pack_code(d, params, (16, 16)), generator=generator_for("n"))
    assert torch.equal(code.params.e_g, params.e_g)
    assert code.bytes_g <= 2048


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: b"", "no code of a degradation"),
        (lambda data: b"GIF8" + data[4:], "no code of a degradation"),
        (lambda data: data[:4] + b"\x07" + data[5:], "layout 7"),
        (lambda data: data[:-4], "damaged"),
        (lambda data: data[:13] + b"\xff" + data[14:], "damaged"),
    ],
)
def test_what_is_no_code_is_refused(spoil, message: str) -> None:
    d = _model()
    params = d.encode(rand((1, 3, 16, 20), generator_for("y")), generator=generator_for("n"))
    with pytest.raises(ValueError, match=message):
        unpack_code(d, spoil(pack_code(d, params, (16, 20))), generator=generator_for("m"))


def test_codes_of_several_images_are_no_file() -> None:
    d = _model()
    params = d.encode(rand((2, 3, 16, 16), generator_for("y")), generator=generator_for("n"))
    with pytest.raises(ValueError, match="2 images; a file holds one"):
        pack_code(d, params, (16, 16))


# Pictures in tiles


def test_a_large_picture_is_read_as_a_small_one() -> None:
    d = _model()
    # Damage that is the same everywhere: what tiles say is what the whole says, but for borders.
    y = 0.5 + 0.1 * randn((1, 3, 320, 260), generator_for("y"))
    whole, tiled = encode_picture(d, y, largest=1024), encode_picture(d, y, largest=128)
    assert whole.e_l.shape == tiled.e_l.shape == (1, 2, 80, 65)
    assert (whole.e_g - tiled.e_g).abs().max() <= 1
    assert (whole.e_l != tiled.e_l).double().mean() < 0.01


def test_tiles_are_redegraded_as_the_whole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    d = _model()
    x = rand((1, 3, 150, 203), generator_for("x"))
    params = encode_picture(d, rand((1, 3, 150, 203), generator_for("y")))
    # Without noise, there is nothing to tell a tile from the whole.
    monkeypatch.setattr(
        UniversalDegradation, "noise", lambda self, shape, g: torch.zeros(1, _size(self, shape))
    )
    whole = redegrade_picture(d, x, params, seed=0)
    tiled = redegrade_picture(d, x, params, seed=0, largest=130)
    assert_close(tiled, whole, rtol=0, atol=1e-5)


def _size(d: UniversalDegradation, shape: tuple[int, ...]) -> int:
    return sum(h * w for h, w in d.config.redegrader.noise_shapes(*shape[2:]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_pixels_keep_their_depth_and_a_seed_its_noise(dtype: torch.dtype) -> None:
    d = _model()
    peak = {torch.uint8: 255, torch.uint16: 65535}.get(dtype, 1)
    x = (rand((1, 3, 33, 41), generator_for("x")) * peak).to(dtype)
    params = encode_picture(d, x)
    y = redegrade_picture(d, x, params, seed=3)
    assert y.dtype == dtype
    assert y.shape == x.shape
    assert torch.equal(y, redegrade_picture(d, x, params, seed=3))
    assert not torch.equal(y, redegrade_picture(d, x, params, seed=4))


# The verbs


def test_a_code_and_its_picture_do_the_same(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    y = _picture(tmp_path / "y.png", 40, 56, 3)
    x = _picture(tmp_path / "x.png", 61, 47, 3)
    model, code, facts = str(folder / "model"), tmp_path / "c.code", tmp_path / "c.json"
    assert run(["encode", model, str(y), str(code), "--json", str(facts)]) == 0
    said = json.loads(facts.read_text())
    assert said["bytes"] == code.stat().st_size
    assert f"{said['bytes']} bytes" in capsys.readouterr().out
    for name, reference in (("a.png", y), ("b.png", code)):
        assert (
            run(["transfer", model, str(x), str(tmp_path / name), "--reference", str(reference)])
            == 0
        )
    a, b = _pixels(tmp_path / "a.png"), _pixels(tmp_path / "b.png")
    assert a.shape == (61, 47, 3)
    assert np.array_equal(a, b)
    assert not np.array_equal(a, _pixels(x))
    arguments = ["transfer", model, str(x), str(tmp_path / "g.png"), "--reference", str(y)]
    assert run([*arguments, "--global-only"]) == 0
    assert not np.array_equal(a, _pixels(tmp_path / "g.png"))
    # Where a file is, it is stepped over, or made again.
    assert run(arguments) == 0
    assert "skipped 1" in capsys.readouterr().out
    assert run([*arguments, "--overwrite", "--seed", "1"]) == 0


def test_a_code_damages_a_folder_and_is_named_in_its_list(folder: Path, tmp_path: Path) -> None:
    y = _picture(tmp_path / "y.png", 40, 56, 3)
    (tmp_path / "in").mkdir()
    for name, size in (("a", (24, 24)), ("b", (33, 20))):
        _picture(tmp_path / "in" / f"{name}.png", *size, 3)
    model, code = str(folder / "model"), tmp_path / "c.code"
    assert run(["encode", model, str(y), str(code)]) == 0
    arguments = ["degrade", model, str(tmp_path / "in"), str(tmp_path / "out"), "--code", str(code)]
    assert run(arguments) == 0
    lines = [json.loads(line) for line in (tmp_path / "out/params.jsonl").read_text().splitlines()]
    digest = hashlib.sha256(code.read_bytes()).hexdigest()[:8]
    assert [line["degradation"] for line in lines] == [f"{model}#{digest}"] * 2
    assert _pixels(tmp_path / "out" / "b.png").shape == (33, 20, 3)
    again = [
        "--replay",
        str(tmp_path / "out" / "params.jsonl"),
        "--params",
        str(tmp_path / "p.jsonl"),
    ]
    assert run([*arguments[:3], str(tmp_path / "o2"), *arguments[4:], *again]) == 0
    for name in ("a.png", "b.png"):
        assert np.array_equal(_pixels(tmp_path / "out" / name), _pixels(tmp_path / "o2" / name))


@pytest.mark.parametrize(
    ("shape", "bits"),
    [((16, 16, 3), 8), ((40, 23), 8), ((40, 23), 16), ((31, 20, 4), 8), ((17, 90, 3), 8)],
    ids=["tiny", "grey", "grey-16", "alpha", "long"],
)
@pytest.mark.parametrize("place", ["reference", "target"])
def test_pictures_of_every_kind_are_taken(
    shape: tuple[int, ...], bits: int, place: str, folder: Path, tmp_path: Path
) -> None:
    odd = _picture(tmp_path / "odd.png", *shape, bits=bits)
    plain = _picture(tmp_path / "plain.png", 30, 44, 3)
    reference, target = (odd, plain) if place == "reference" else (plain, odd)
    out = tmp_path / "out.png"
    arguments = ["transfer", str(folder / "model"), str(target), str(out)]
    assert run([*arguments, "--reference", str(reference)]) == 0
    before, after = _pixels(target), _pixels(out)
    assert before.shape == after.shape
    assert before.dtype == after.dtype
    assert not np.array_equal(before, after)
    if shape[2:] == (4,) and place == "target":
        assert np.array_equal(before[..., 3], after[..., 3])


@pytest.mark.slow
def test_twelve_megapixels_are_taken(folder: Path, tmp_path: Path) -> None:
    pixels = np.tile(_pixels(_picture(tmp_path / "p.png", 60, 80, 3)), (50, 50, 1))
    large, small = tmp_path / "large.png", _picture(tmp_path / "small.png", 24, 24, 3)
    Image.fromarray(pixels).save(large, compress_level=1)
    model, code = str(folder / "model"), tmp_path / "c.code"
    assert run(["encode", model, str(large), str(code)]) == 0
    assert (
        run(["transfer", model, str(small), str(tmp_path / "s.png"), "--reference", str(code)]) == 0
    )
    assert _pixels(tmp_path / "s.png").shape == (24, 24, 3)
    assert (
        run(["transfer", model, str(large), str(tmp_path / "l.png"), "--reference", str(small)])
        == 0
    )
    assert _pixels(tmp_path / "l.png").shape == (3000, 4000, 3)


def test_a_folder_keeps_its_names_and_goes_on_after_what_is_broken(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    y = _picture(tmp_path / "y.png", 24, 24, 3)
    _picture(tmp_path / "in" / "a.png", 20, 30, 3)
    _picture(tmp_path / "in" / "deep" / "b.png", 30, 20, 3)
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    arguments = ["transfer", str(folder / "model"), str(tmp_path / "in"), str(tmp_path / "out")]
    assert run([*arguments, "--reference", str(y)]) == 1
    said = capsys.readouterr().out
    assert "redegraded 2" in said
    assert "failed broken.png" in said
    written = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.png")
    )
    assert written == ["a.png", "deep/b.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["encode", "MODEL", "no.png", "c"], "no.png"),
        (["encode", "MODEL", "small.png", "c"], "15x15 pixels, too few"),
        (["encode", "setting:N", "y.png", "c"], "reads no code off a picture"),
        (["encode", "MODEL", "y.png", "y.png", "--overwrite"], "the picture itself"),
        (["encode", "MODEL", "y.png", "there.code"], "there.code exists; give --overwrite"),
        (
            ["transfer", "MODEL", "y.png", "o.png", "--reference", "no.code"],
            "no.code does not exist",
        ),
        (["transfer", "OTHER", "y.png", "o.png", "--reference", "there.code"], "another model"),
        (["degrade", "setting:N", "y.png", "o.png", "--code", "there.code"], "has no codes"),
        (["degrade", "OTHER", "y.png", "o.png", "--code", "there.code"], "another model"),
        (["transfer", "MODEL", "y.png", "y.png", "--reference", "y.png"], "the input itself"),
        (["transfer", "MODEL", "nothing", "o", "--reference", "y.png"], "nothing does not exist"),
        (["transfer", "MODEL", "y.png", "o.png", "--reference", "text.txt"], "text.txt"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(
    words: list[str],
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    _picture(tmp_path / "y.png", 24, 24, 3)
    _picture(tmp_path / "small.png", 15, 15, 3)
    (tmp_path / "text.txt").write_text("no picture")
    models = {"MODEL": str(folder / "model"), "OTHER": str(folder / "other")}
    assert run(["encode", models["MODEL"], "y.png", "there.code"]) == 0
    before = (tmp_path / "y.png").read_bytes()
    capsys.readouterr()
    assert run([models.get(word, word) for word in words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert (tmp_path / "y.png").read_bytes() == before


def test_largest_tiles_hold_what_the_network_sees() -> None:
    assert 2 * Redegrader.Config().receptive_field < redegrade.LARGEST
