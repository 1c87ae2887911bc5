"""Evaluating runs and images: scores against their formulas, the protocol, the cache, and what is refused."""

from __future__ import annotations

import json
import shutil
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from blemish import artefacts, cli
from blemish.commands import evaluate
from blemish.commands.sample import sample_images
from blemish.data import load_images, open_source, to_channels
from blemish.degradations import to_uint8
from blemish.evaluation import (
    SET_METRICS,
    Evaluation,
    FeatureCache,
    ImageSet,
    Judges,
    Score,
    check_counts,
    chosen,
    default_folder,
    in_channels,
    pair_scores,
    prior_set,
    set_scores,
    source_set,
)
from blemish.functional.random import generator_for, randn
from blemish.metrics import (
    Extractor,
    NIQEModel,
    RankIQANetwork,
    extract,
    frechet,
    kid,
    manifold,
    niqe,
    pixels,
    psnr,
    rankiqa,
    rankiqa_network,
    ssim,
)
from blemish.networks import VGG16
from blemish.recipes import configure
from blemish.runs import Run, change, load, start

COUNT = 24
FD = ("--features", "pixels@4", "--metrics", "fd")


def glyphs(count: int, seed: int = 0, size: int = 16, channels: int = 3) -> Tensor:
    """Returns drawn images, uint8, with shape (count, channels, size, size)."""
    return load_images(open_source(f"glyphs:{count}", size=size, channels=channels, seed=seed))


def write(folder: Path, images: Tensor, first: int = 0, ending: str = "png") -> Path:
    """Writes pictures and returns their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images, first):
        array = image.permute(1, 2, 0).numpy()
        picture = Image.fromarray(array if array.shape[2] == 3 else array[..., 0])
        picture.save(folder / f"{i:03d}.{ending}")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    write(root / "a", glyphs(COUNT))
    write(root / "b", glyphs(COUNT, seed=1))
    write(root / "grey", glyphs(COUNT, seed=1, channels=1))
    write(root / "large", glyphs(COUNT, seed=1, size=24))
    write(root / "five", glyphs(5))
    write(root / "one", glyphs(1))
    write(root / "mixed", glyphs(8))
    write(root / "mixed", glyphs(4, size=24), first=8)
    write(root / "broken", glyphs(8))
    torn = root / "broken" / "003.png"
    torn.write_bytes(torn.read_bytes()[:60])
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    changes = {"data.source": "glyphs:64", "training.images": "16"}
    config = change(configure("br-gan", "tiny", "B"), changes)
    found, result = start(config, tmp_path_factory.mktemp("runs") / "br", device="cpu", silent=True)
    assert result.finished
    return found


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("BLEMISH_CACHE", str(folder))
    return folder


def document(out: Path, *arguments: object) -> dict[str, Any]:
    """Runs ``blemish evaluate`` and returns the JSON that it writes."""
    file = out / "new" / "scores.json"
    assert cli.run(["evaluate", *map(str, arguments), "--device", "cpu", "--json", str(file)]) == 0
    found: dict[str, Any] = json.loads(file.read_text(), parse_constant=pytest.fail)
    return found


def values(found: dict[str, Any]) -> dict[str, float]:
    return {score["title"]: score["value"] for score in found["scores"]}


def as_set(images: Tensor) -> ImageSet:
    shape = tuple(images.shape[1:])
    return ImageSet("images", len(images), shape, lambda: iter(images.split(10)))  # type: ignore[arg-type]


# Scores of sets


def test_scores_are_those_of_features_computed_directly(folders: Path, tmp_path: Path) -> None:
    found = document(
        tmp_path, folders / "a", "--reference", folders / "b", "--features", "pixels@4"
    )
    extractor = pixels(4, 3)
    x, y = extract(extractor, glyphs(COUNT)), extract(extractor, glyphs(COUNT, seed=1))
    four = manifold(y, x, 5)
    where = "(pixels@4, k = 5)"
    assert values(found) == {
        "Fréchet distance (pixels@4)": frechet(x, y),
        "kernel distance (pixels@4)": kid(x, y),
        f"precision {where}": four.precision,
        f"recall {where}": four.recall,
        f"density {where}": four.density,
        f"coverage {where}": four.coverage,
    }
    assert found["format"] == 1


def test_a_set_against_itself(folders: Path, tmp_path: Path) -> None:
    found = document(
        tmp_path, folders / "a", "--reference", folders / "a", "--features", "pixels@4"
    )
    scores = values(found)
    assert scores["Fréchet distance (pixels@4)"] < 1e-10
    four = [scores[f"{n} (pixels@4, k = 5)"] for n in ("precision", "recall", "coverage")]
    assert four == [1, 1, 1]
    # Closed balls: itself and k neighbours, of k; where distances tie, more.
    assert scores["density (pixels@4, k = 5)"] == pytest.approx(6 / 5, abs=0.05)


def test_a_zip_file_has_the_scores_of_its_folder(folders: Path, tmp_path: Path) -> None:
    packed = tmp_path / "a.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in (folders / "a").iterdir():
            archive.write(file, file.name)
    reference = ("--reference", folders / "b", *FD)
    of_folder = document(tmp_path, folders / "a", *reference)
    assert document(tmp_path, packed, *reference)["scores"] == of_folder["scores"]


@pytest.mark.parametrize(("first", "second"), [("a", "grey"), ("grey", "a")])
def test_grey_images_become_rgb_and_it_is_said(
    first: str, second: str, folders: Path, tmp_path: Path
) -> None:
    found = document(tmp_path, folders / first, "--reference", folders / second, *FD)
    x = extract(pixels(4, 3), glyphs(COUNT))
    y = extract(pixels(4, 3), to_channels(glyphs(COUNT, seed=1, channels=1), 3))
    assert values(found)["Fréchet distance (pixels@4)"] == pytest.approx(frechet(x, y), rel=1e-9)
    name = "images" if first == "grey" else "reference"
    assert found["protocol"]["colour"] == f"{name}: grey as three equal channels"
    assert found["protocol"]["size"] == "16x16, RGB"


@pytest.mark.parametrize("fit", ["crop", "resize"])
def test_sets_of_different_sizes_are_compared_after_a_stated_fit(
    fit: str, folders: Path, tmp_path: Path
) -> None:
    reference = ("--reference", folders / "large", "--size", 16, "--fit", fit)
    found = document(tmp_path, folders / "a", *reference, *FD)
    large = load_images(open_source(folders / "large", size=16, fit=fit))
    expected = frechet(extract(pixels(4, 3), glyphs(COUNT)), extract(pixels(4, 3), large))
    assert values(found)["Fréchet distance (pixels@4)"] == pytest.approx(expected, rel=1e-9)
    assert found["protocol"]["fit"].startswith(f"{fit} to 16x16, the cent")
    assert (
        document(tmp_path, folders / "mixed", *reference, *FD)["protocol"]["size"] == "16x16, RGB"
    )


def test_fewer_images_than_features_are_told() -> None:
    few, many = torch.rand(2, 40, 8).unbind(0)
    assert not set_scores(many, many, "pixels@4", ["fd"])[1]
    (note,) = set_scores(few[:8], many, "pixels@4", ["fd"])[1]
    assert note.startswith("8 images for 8 features")


@pytest.mark.parametrize(
    ("features", "title"),
    [
        ("inception@299", "FID"),
        ("inception@299-clean", "Fréchet distance (inception@299-clean)"),
        ("inception-like-01234567@299", "Fréchet distance (inception-like-01234567@299)"),
        ("dinov2-vits14@224", "Fréchet distance (dinov2-vits14@224)"),
    ],
)
def test_only_inceptions_distance_is_called_fid(features: str, title: str) -> None:
    found = torch.rand(10, 4)
    scores, _ = set_scores(found, found, features, ["fd", "kid", "prdc"])
    assert scores[0].title == title
    assert ("KID" in [s.title for s in scores]) == (title == "FID")
    assert not any("FID" in score.title for score in scores[title == "FID" :])


# What is taken


@pytest.mark.parametrize(("total", "count"), [(50, 7), (7, 7), (7, 50), (7, None)])
def test_what_is_taken_is_a_function_of_the_seed(total: int, count: int | None) -> None:
    taken = chosen(total, count, seed=3)
    assert taken == chosen(total, count, seed=3)
    assert taken == sorted(set(taken))
    assert len(taken) == min(total, count or total)
    assert set(taken) <= set(range(total))
    if len(taken) < total:
        assert taken != chosen(total, count, seed=4)


def test_every_image_is_taken_equally_often() -> None:
    times = torch.zeros(10)
    for seed in range(400):
        times[chosen(10, 3, seed=seed)] += 1
    # Binomial: mean 120, deviation 9.2; five deviations.
    assert (times - 120).abs().max() < 46


def test_a_set_is_read_again_with_the_same_images(folders: Path) -> None:
    source = open_source(folders / "a")
    on_disk = open_source(folders / "a", memory=0)
    assert not hasattr(on_disk, "images")
    expected = glyphs(COUNT)[chosen(COUNT, 9, seed=2)]
    for one in (source_set(source, 9, seed=2), source_set(on_disk, 9, seed=2)):
        for _ in range(2):
            assert torch.equal(torch.cat(list(one.batches())), expected)
        assert one.title.startswith("9 of 24 images of")


def test_a_set_of_other_colours_is_converted() -> None:
    images = glyphs(12)
    grey = in_channels(as_set(images), 1)
    assert grey.shape == (1, 16, 16)
    assert torch.equal(torch.cat(list(grey.batches())), to_channels(images, 1))


def test_samples_are_those_of_the_verb_sample(run: Run, tmp_path: Path) -> None:
    images = to_uint8(sample_images(run.prior, 70, seed=5))
    samples = prior_set(run.prior, 70, seed=5, title="it")
    assert torch.equal(torch.cat(list(samples.batches())), images)
    found = document(tmp_path, run.folder, "--reference", "glyphs:40", "--seed", 5, "-n", 30, *FD)
    reference = to_channels(load_images(open_source("glyphs:40"))[chosen(40, 30, seed=5)], 3)
    expected = frechet(extract(pixels(4, 3), images[:30]), extract(pixels(4, 3), reference))
    assert values(found)["Fréchet distance (pixels@4)"] == pytest.approx(expected, rel=1e-9)
    assert found["protocol"]["seed"] == 5
    assert found["protocol"]["images"].startswith(f"30 samples of {run.folder}, ")
    of_prior = document(
        tmp_path, run.folder / "prior", "--reference", "glyphs:40", "--seed", 5, "-n", 30, *FD
    )
    assert of_prior["scores"] == found["scores"]


# Scores of pairs


def test_scores_of_pairs_are_means_over_images(folders: Path, tmp_path: Path) -> None:
    names = "psnr,ssim,psnr-y,ssim-y"
    found = document(
        tmp_path,
        folders / "a",
        "--reference",
        folders / "b",
        "--pairs",
        "--metrics",
        names,
        "--crop",
        2,
    )
    x, y = glyphs(COUNT), glyphs(COUNT, seed=1)
    for title, function, space in (
        ("PSNR (crop 2)", psnr, "rgb"),
        ("SSIM (crop 2)", ssim, "rgb"),
        ("PSNR (Y, crop 2)", psnr, "y"),
        ("SSIM (Y, crop 2)", ssim, "y"),
    ):
        one = next(score for score in found["scores"] if score["title"] == title)
        each = torch.stack(
            [function(a[None], b[None], space=space, crop=2)[0] for a, b in zip(x, y, strict=True)]
        )  # type: ignore[operator]
        assert one["value"] == pytest.approx(float(each.double().mean()), rel=1e-12)
        assert one["std"] == pytest.approx(float(each.double().std(correction=0)), rel=1e-9)
    assert len(found["scores"]) == 4
    assert found["protocol"]["partners"] == "by name"


def test_partners_have_any_sizes_and_endings(tmp_path: Path) -> None:
    pairs = []
    for i, size in enumerate((16, 24, 16, 24, 30)):
        x, y = glyphs(1, seed=i, size=size), glyphs(1, seed=i + 9, size=size)
        write(tmp_path / "x" / "deep", x, first=i)
        # Lossless, and sorted otherwise than by number.
        write(tmp_path / "y" / "deep", y, first=i, ending=("bmp", "tiff", "png")[i % 3])
        pairs.append((x, y))
    found = document(tmp_path, tmp_path / "x", "--reference", tmp_path / "y", "--pairs")
    each = torch.cat([psnr(x, y) for x, y in pairs]).double()
    assert values(found)["PSNR"] == pytest.approx(float(each.mean()), rel=1e-12)
    assert "various sizes" in found["protocol"]["images"]
    assert found["protocol"]["count"] == "5 of 5"


def test_some_pairs_are_taken_by_the_seed(folders: Path, tmp_path: Path) -> None:
    words = (folders / "a", "--reference", folders / "b", "--pairs", "-n", 6, "--seed", 4)
    found = document(tmp_path, *words)
    rows = chosen(COUNT, 6, seed=4)
    each = psnr(glyphs(COUNT)[rows], glyphs(COUNT, seed=1)[rows]).double()
    assert values(found)["PSNR"] == pytest.approx(float(each.mean()), rel=1e-12)
    assert (found["protocol"]["count"], found["protocol"]["seed"]) == ("6 of 24", 4)


def test_a_grey_partner_is_compared_as_rgb(folders: Path, tmp_path: Path) -> None:
    found = document(tmp_path, folders / "grey", "--reference", folders / "a", "--pairs")
    grey = to_channels(glyphs(COUNT, seed=1, channels=1), 3)
    expected = float(psnr(grey, glyphs(COUNT)).double().mean())
    assert values(found)["PSNR"] == pytest.approx(expected, rel=1e-12)
    assert "the grey one as RGB" in found["protocol"]["colour"]
    assert "grey" in found["protocol"]["images"]


def test_equal_images_have_no_number_for_psnr(folders: Path, tmp_path: Path, capsys) -> None:
    found = document(tmp_path, folders / "a", "--reference", folders / "a", "--pairs")
    scores = {score["title"]: (score["value"], score["std"]) for score in found["scores"]}
    assert scores == {
        "PSNR": (None, None),
        "SSIM": (pytest.approx(1, abs=1e-12), pytest.approx(0, abs=1e-9)),
    }
    assert found["notes"] == ["the PSNR of equal images, and so its mean, is infinite"]
    assert "nan" not in capsys.readouterr().out


def test_batches_of_pairs_change_nothing(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = open_source(folders / "a"), open_source(folders / "b")
    pairs = [(i, i) for i in range(COUNT)]
    seen: list[tuple[int, int]] = []

    def told(done: int, total: int) -> None:
        seen.append((done, total))

    together = pair_scores(x, y, pairs, ["psnr"], Judges(), progress=told)
    assert seen == [(COUNT, COUNT)]
    monkeypatch.setattr("blemish.evaluation.scores._VALUES", 1)
    alone = pair_scores(x, y, pairs, ["psnr"], Judges(), progress=told)
    assert seen[1:] == [(i + 1, COUNT) for i in range(COUNT)]
    assert alone == together


def test_niqe_needs_no_reference(tmp_path: Path) -> None:
    textures = to_uint8(torch.rand(8, 1, 64, 96, generator=torch.Generator().manual_seed(0)))
    judged = write(tmp_path / "judged", textures[7:] // 2)
    model = NIQEModel.fit((image[None] for image in textures[:7]), "clean", block=16)
    model.save(tmp_path / "niqe.safetensors")
    found = document(tmp_path, judged, "--weights", f"niqe={tmp_path / 'niqe.safetensors'}")
    (score,) = found["scores"]
    expected = float(niqe(textures[7:] // 2, model))
    assert (score["value"], score["std"]) == (pytest.approx(expected, rel=1e-9), 0)
    assert not score["higher"]
    assert "reference" not in found["protocol"]


def test_rankiqa_has_two_forms_and_two_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = RankIQANetwork(
        VGG16((1, 1, 1, 1, 2)), [nn.Linear(98, 2), nn.Linear(2, 2), nn.Linear(2, 1)]
    )
    torch.save(rank_tensors(network), tmp_path / "rank.pt")
    images = to_uint8(torch.rand(2, 3, 230, 240))
    judged = write(tmp_path / "judged", images)
    names = "rankiqa,rankiqa-median,rankiqa-256,rankiqa-256-median"
    found = document(
        tmp_path, judged, "--metrics", names, "--weights", f"rankiqa={tmp_path / 'rank.pt'}"
    )
    own, resized = rankiqa(images, network), rankiqa(images, network, resize=256)
    expected = [own.mean, own.median, resized.mean, resized.median]
    scores = found["scores"]
    assert [s["value"] for s in scores] == pytest.approx([float(e.mean()) for e in expected])
    assert not any(s["higher"] for s in scores)
    name = rankiqa_network(tmp_path / "rank.pt").name
    assert scores[0]["title"] == f"{name}, mean of crops"
    assert scores[3]["title"] == f"{name}, median of crops, resized to 256"


def rank_tensors(network: RankIQANetwork) -> dict[str, torch.Tensor]:
    """Returns a network's weights by torchvision's names."""
    names = {"backbone.": "", "fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
    found = network.state_dict()
    for old, new in names.items():
        found = {key.replace(old, new): value for key, value in found.items()}
    return found


def test_a_broken_images_partner_is_skipped_with_it(folders: Path, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", glyphs(8, seed=1))
    for first, second in ((folders / "broken", whole), (whole, folders / "broken")):
        found = document(tmp_path, first, "--reference", second, "--pairs", "--skip-bad")
        rows = [0, 1, 2, 4, 5, 6, 7]
        expected = psnr(glyphs(8)[rows], glyphs(8, seed=1)[rows]).double().mean()
        assert values(found)["PSNR"] == pytest.approx(float(expected), rel=1e-12)
        assert found["protocol"]["count"] == "7 of 7"
        told = found["protocol"]["images" if first != whole else "reference"]
        assert told.endswith(", 1 skipped")


def test_skipped_images_of_a_set_are_told(folders: Path, tmp_path: Path) -> None:
    found = document(tmp_path, folders / "broken", "--reference", folders / "b", "--skip-bad", *FD)
    assert found["protocol"]["images"].endswith(", 1 broken ones skipped")
    assert found["protocol"]["counts"] == "7 and 24"


# The protocol


def test_the_protocol_is_printed_beside_the_scores(folders: Path, tmp_path: Path, capsys) -> None:
    found = document(
        tmp_path, folders / "a", "--reference", folders / "b", "-n", 20, "--seed", 8, *FD
    )
    assert found["protocol"] == {
        "images": f"20 of 24 images of {folders / 'a'}",
        "reference": f"20 of 24 images of {folders / 'b'}",
        "counts": "20 and 20",
        "size": "16x16, RGB",
        "seed": 8,
        "fit": "none: images as they are",
        "colour": "as it is",
        "features": "pixels@4, 48 of float32; statistics in float64",
        "input": "4x4, averages over areas",
        "device": "cpu",
        "torch": torch.__version__,
    }
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("Fréchet distance (pixels@4) ")
    assert printed[0].endswith("lower is better")
    assert float(printed[0].split()[3]) == pytest.approx(found["scores"][0]["value"], rel=1e-5)
    assert printed[1:] == [
        *(f"{name}: {value}" for name, value in found["protocol"].items()),
        *(f"note: {note}" for note in found["notes"]),
    ]
    assert len(found["notes"]) == 1


def test_a_document_has_no_numbers_that_json_lacks() -> None:
    scores = (Score("a", float("inf"), True, None), Score("b", 2.0, False, 0.5))
    found = json.loads(Evaluation(scores, {"x": 1}).to_json(), parse_constant=pytest.fail)
    assert [score["value"] for score in found["scores"]] == [None, 2.0]
    with pytest.raises(ValueError, match="JSON compliant"):
        Evaluation((), {"x": float("nan")}).to_json()


# The cache


class Counted(torch.nn.Module):
    """Counts how many images were looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0

    def forward(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return x.flatten(1)[:, :5].sin()


def counted(name: str = "net") -> tuple[Extractor, Counted]:
    network = Counted()
    return Extractor(name, 5, network), network


def test_kept_features_are_the_fresh_ones_bit_for_bit(tmp_path: Path) -> None:
    images = as_set(glyphs(25))
    extractor, network = counted("a/net: 5%")
    fresh = FeatureCache(None).features(images, extractor)
    store = FeatureCache(tmp_path / "kept")
    for _ in range(2):
        assert torch.equal(store.features(images, extractor), fresh)
    assert network.images == 50
    assert torch.equal(fresh, extract(extractor, glyphs(25)))
    (file,) = (tmp_path / "kept").iterdir()
    assert file.suffix == ".safetensors"


@pytest.mark.parametrize("change", ["images", "order", "shape", "name", "count"])
def test_other_images_or_features_are_not_taken_from_the_cache(change: str, tmp_path: Path) -> None:
    store = FeatureCache(tmp_path / "kept")
    images = glyphs(12)
    store.features(as_set(images), counted("net/1")[0])
    other = images.clone()
    if change == "images":
        other[5, 0, 0, 0] += 1
    elif change == "order":
        other = other.flip(0)
    elif change == "shape":
        other = other.transpose(1, 2).reshape(12, 3, 8, 32)
    elif change == "count":
        other = other[:11]
    extractor, network = counted("net-1" if change == "name" else "net/1")
    assert torch.equal(store.features(as_set(other), extractor), extract(extractor, other))
    assert network.images == 2 * len(other)


def test_a_file_with_other_images_in_it_is_another_set(
    folders: Path, tmp_path: Path, cache_folder: Path
) -> None:
    place = write(tmp_path / "same", glyphs(8))
    words = (place, "--reference", folders / "b", *FD)
    before = values(document(tmp_path, *words))
    write(place, glyphs(8, seed=6))
    after = document(tmp_path, *words)
    assert values(after) != before
    assert after["scores"] == document(tmp_path, *words, "--no-cache")["scores"]
    assert len(list(cache_folder.iterdir())) == 3


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def forget_the_digest(file: Path) -> None:
    save_file({"values": load_file(file)["values"]}, file)


def rename(file: Path) -> None:
    save_file({"other": torch.zeros(2)}, file)


@pytest.mark.parametrize("damage", [truncate, empty, flip_a_bit, forget_the_digest, rename])
def test_a_damaged_file_of_the_cache_is_made_again(damage: Any, tmp_path: Path) -> None:
    images, (extractor, network) = as_set(glyphs(9)), counted()
    store = FeatureCache(tmp_path / "kept")
    fresh = store.features(images, extractor)
    (file,) = (tmp_path / "kept").iterdir()
    whole = file.read_bytes()
    damage(file)
    assert torch.equal(store.features(images, extractor), fresh)
    assert network.images == 18
    assert file.read_bytes() == whole


def test_a_large_set_is_read_twice_and_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    images = glyphs(9)

    def batches() -> Any:
        reads.append(1)
        return iter(images.split(4))

    one = replace(as_set(images), batches=batches)
    for kept, times in ((2**28, 1), (0, 2)):
        monkeypatch.setattr("blemish.evaluation.cache._KEPT", kept)
        reads.clear()
        found = FeatureCache(tmp_path / f"kept{kept}").features(one, counted()[0])
        assert torch.equal(found, extract(counted()[0], images))
        assert len(reads) == times


def test_two_at_once_fill_the_cache(tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def fill() -> list[Tensor]:
        store, (extractor, _) = FeatureCache(tmp_path / "kept"), counted()
        together.wait(60)
        return [store.features(as_set(glyphs(8, seed=i)), extractor) for i in range(10)]

    with ThreadPoolExecutor(2) as pool:
        both = [one.result() for one in [pool.submit(fill) for _ in range(2)]]
    expected = [extract(counted()[0], glyphs(8, seed=i)) for i in range(10)]
    for found in both:
        assert all(map(torch.equal, found, expected))
    assert len(list((tmp_path / "kept").glob("*"))) == 10


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match=r"\(disk full\).* or give --no-cache"):
        FeatureCache(tmp_path / "kept").features(as_set(glyphs(3)), counted()[0])
    assert not list((tmp_path / "kept").iterdir())


def test_where_features_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folder() == tmp_path / "cache"
    for absent in ("", None):
        if absent is None:
            monkeypatch.delenv("BLEMISH_CACHE")
        else:
            monkeypatch.setenv("BLEMISH_CACHE", absent)
        assert default_folder() == tmp_path / "xdg" / "blemish"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == tmp_path / "home" / ".cache" / "blemish"


@pytest.mark.parametrize("flag", ["--cache", "--no-cache"])
def test_the_cache_can_be_left_out(
    flag: str, folders: Path, tmp_path: Path, cache_folder: Path
) -> None:
    document(tmp_path, folders / "a", "--reference", folders / "b", *FD, flag)
    assert cache_folder.exists() == (flag == "--cache")


# What is refused


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Runs ``blemish evaluate`` and returns its one line of error."""
    assert cli.run(["evaluate", *map(str, arguments)]) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("empty --reference b", "holds no pictures"),
        ("absent --reference b", "does not exist"),
        ("a --reference absent", "does not exist"),
        ("mixed --reference b", "choose a size with --size N and --fit"),
        ("a --reference large", "are 16x16 and 24 of 24 images of large are 24x24"),
        ("a --reference large", "--size 16 and --fit crop or --fit resize"),
        ("a --reference large --size 20", "smaller than 20x20"),
        ("broken --reference b", "broken: 003.png cannot be read (image file is truncated); remove it"),
        ("five --reference b", "prdc needs at least 6 images of each set"),
        ("a --reference five", "5 of 5 images of five: prdc needs at least 6"),
        ("one --reference b --metrics fd", "fd needs at least 2 images of each set"),
        ("a --reference b --metrics fid", "metric 'fid' is unknown; choose fd, kid, prdc"),
        ("a --reference b --metrics fd,", "metric '' is unknown"),
        ("a --reference b --metrics psnr", "'psnr' judges single images: give --pairs"),
        ("a --reference b --metrics niqe", "give --pairs, or leave --reference out"),
        ("a --reference b --pairs --metrics kid", "compares sets: leave --pairs out; choose psnr"),
        ("a", "give --reference SOURCE"),
        ("a --pairs", "give --reference SOURCE"),
        ("a --metrics fd", "needs clean images: give --reference"),
        ("a --metrics niqe", "niqe needs --weights niqe=FILE"),
        ("a --metrics rankiqa-256", "rankiqa needs --weights rankiqa=FILE"),
        ("a --metrics rankiqa --weights rankiqa=absent.pt", "there is no file absent.pt"),
        ("a --metrics niqe --weights rankiqa=x", "rankiqa is not computed; name it in --metrics"),
        ("a --reference b --metrics rankiqa", "give --pairs, or leave --reference out"),
        ("a --reference b --pairs --metrics dists", "dists needs --weights dists-backbone=FILE"),
        ("a --reference b --features vgg", "unknown features 'vgg'; choose effnet-lite0"),
        ("a --reference b --features dinov2", "write dinov2:FILE"),
        ("a --reference b --features inception:absent.pth", "there is no file absent.pth"),
        ("a --reference b --fit crop", "needs a size (--size N)"),
        ("a --reference b --device tpu", "unknown device 'tpu'"),
        ("a --reference b --checkpoint best", "a is no run; leave it out"),
        ("a --reference b --crop 2", "--crop 2 is for pairs"),
        ("a --reference b --pairs --size 8", "--size 8 is for sets"),
        ("a --reference b --pairs --crop 8", "psnr of 000.png: crop is 8"),
        ("a --reference large --pairs", "000.png is 16x16 and its partner 000.png is 24x24"),
        ("a --reference five --pairs", "19 of 24 images of a have no partner of the same name in five: 005.png"),
        ("five --reference a --pairs", "19 of 24 images of a have no partner of the same name in five: 005.png"),
        ("a --reference b --pairs --metrics ms-ssim", "ms-ssim of 000.png: got images of 16x16"),
        ("grey --reference grey --pairs --metrics psnr-y", "psnr-y of 000.png: got images with 1 channel"),
        ("a --reference b --json a", "--json a is a folder; name a file"),
        ("a --reference b --json a/000.png/x.json", "000.png"),
        ("a --reference b --weights niqe=x", "niqe is not computed; name it in --metrics"),
        ("a --reference b --weights vgg=x", "--weights vgg: unknown; choose lpips-backbone"),
        ("a --reference b --weights niqe", "--weights NAME=FILE"),
        ("a --metrics niqe --weights niqe=x --weights niqe=y", "is given twice"),
        ("a --metrics niqe --weights niqe=absent.npz", "absent.npz"),
        ("a --metrics niqe --weights niqe=b", "NIQE needs at least one block"),
        ("a --reference b --pairs --metrics lpips --weights lpips-heads=x", "lpips-backbone=FILE is missing"),
        ("a --reference b -n 1", "-n"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line(
    words: str, message: str, folders: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(folders)
    more = [] if "--features" in words else ["--features", "pixels@4"]
    assert message in refused(capsys, *words.split(), *more)


def test_two_partners_of_one_name_are_refused(folders: Path, tmp_path: Path, capsys) -> None:
    twice = write(tmp_path / "twice", glyphs(3))
    write(twice, glyphs(1), first=1, ending="bmp")
    message = refused(capsys, twice, "--reference", folders / "a", "--pairs")
    assert "001.bmp and 001.png; which one is the partner?" in message


def test_pairs_of_which_none_can_be_read(folders: Path, tmp_path: Path, capsys) -> None:
    for name, bad in (("x", "000.png"), ("y", "001.png")):
        place = write(tmp_path / name, glyphs(2))
        (place / bad).write_bytes(b"nothing")
    message = refused(
        capsys, tmp_path / "x", "--reference", tmp_path / "y", "--pairs", "--skip-bad"
    )
    assert "no pair of" in message


def test_a_run_is_no_folder_of_pictures(run: Run, folders: Path, capsys) -> None:
    for words in (["--metrics", "niqe"], ["--reference", folders / "a", "--pairs"]):
        assert f"blemish sample {run.folder} --out DIR" in refused(capsys, run.folder, *words)


def test_a_degradation_has_no_samples(run: Run, folders: Path, capsys) -> None:
    message = refused(capsys, run.folder / "degradation", "--reference", folders / "a", *FD)
    assert "give a run, a prior or images" in message


def test_samples_of_another_size_are_refused(
    run: Run, folders: Path, tmp_path: Path, capsys
) -> None:
    words = (run.folder, "--reference", folders / "large", "-n", 8, *FD)
    assert "--size 16 and --fit crop" in refused(capsys, *words)
    found = document(tmp_path, *words, "--size", 16, "--fit", "resize")
    assert found["protocol"]["fit"].startswith(
        "of the reference; samples as they are: resize to 16x16"
    )


def test_a_broken_prior_gives_no_number(run: Run, folders: Path, tmp_path: Path, capsys) -> None:
    prior = load(run.folder).prior
    with torch.no_grad():
        next(prior.parameters()).fill_(float("nan"))
    artefacts.save(prior, tmp_path / "prior")
    message = refused(capsys, tmp_path / "prior", "--reference", folders / "a", *FD)
    assert "not finite" in message


def test_features_that_are_not_finite_give_no_number() -> None:
    good = torch.rand(8, 3)
    bad = good.clone()
    bad[2, 1] = torch.nan
    for metric in ("fd", "kid", "prdc"):
        with pytest.raises(ValueError, match="1 of 8 feature vectors are not finite"):
            set_scores(bad, good, "pixels@4", [metric])


@pytest.mark.parametrize(("metric", "least"), [("fd", 2), ("kid", 2), ("prdc", 6)])
def test_the_fewest_images_are_those_that_the_metric_takes(metric: str, least: int) -> None:
    many = torch.rand(20, 3)
    check_counts({"x": least, "y": 20}, [metric])
    assert set_scores(many[:least], many, "pixels@4", [metric])[0]
    with pytest.raises(ValueError, match=f"x: {metric} needs at least {least} images"):
        check_counts({"y": 20, "x": least - 1}, [metric])
    with pytest.raises(ValueError, match="at least"):
        set_scores(many[: least - 1], many, "pixels@4", [metric])


def test_a_cache_that_cannot_be_written_is_told_first(
    folders: Path, cache_folder: Path, capsys
) -> None:
    cache_folder.write_text("a file")
    message = refused(capsys, folders / "a", "--reference", folders / "b", *FD)
    assert "BLEMISH_CACHE, or give --no-cache" in message


def test_missing_packages_are_told_in_one_line(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def absent(*_: object) -> None:
        raise ModuleNotFoundError('it needs a package; run: pip install "blemish[features]"')

    monkeypatch.setattr(evaluate, "named_features", absent)
    message = refused(capsys, folders / "a", "--reference", folders / "b", "--metrics", "fd")
    assert "pip install" in message
    monkeypatch.setattr(NIQEModel, "load", absent)
    assert "pip install" in refused(capsys, folders / "a", "--weights", "niqe=x.mat")


def test_an_unwritable_place_for_the_document_is_told_before_the_work(
    folders: Path, cache_folder: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "there").mkdir()
    words = (folders / "a", "--reference", folders / "b", *FD, "--json", tmp_path / "there")
    refused(capsys, *words)
    assert not cache_folder.exists()
    shutil.rmtree(tmp_path / "there")
    assert cli.run(["evaluate", *map(str, words)]) == 0


@pytest.mark.parametrize("damage", [None, truncate, flip_a_bit])
def test_what_needs_one_set_alone_is_computed_once(damage: Any, tmp_path: Path) -> None:
    found, clean = (randn((30, 4), generator_for("sets", i)) for i in (0, 1))
    store = FeatureCache(tmp_path / "kept")
    calls: list[str] = []

    def counted_statistic(name: str, features: Tensor, function: Any) -> Tensor:
        return store.statistic(name, features, lambda x: calls.append(name) or function(x))

    fresh = set_scores(found, clean, "pixels@4", SET_METRICS)
    first = set_scores(found, clean, "pixels@4", SET_METRICS, counted_statistic)
    if damage is not None:
        for file in (tmp_path / "kept").iterdir():
            damage(file)
    again = set_scores(found, clean, "pixels@4", SET_METRICS, counted_statistic)
    assert fresh == first == again
    assert sorted(calls) == sorted(["sum", "radii"] * (2 if damage is None else 4))
    set_scores(found + 1, clean, "pixels@4", SET_METRICS, counted_statistic)
    assert len(calls) == (6 if damage is None else 10)
