"""Pages say what they were given, escaped, in one file; steps and walks show what the model does."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from evaluation_record import METRICS, make_record, write_run
from test_evaluation_pictures import pixels
from torch import Tensor

from blemish import artefacts
from blemish.commands import inspect, report
from blemish.data import Images
from blemish.degradations import LearnedBlur, setting
from blemish.evaluation import (
    Column,
    comparison_page,
    inspect_degradation,
    inspect_page,
    report_page,
)
from blemish.evaluation.report import _note
from blemish.evaluation.walks import steps, walks
from blemish.functional.random import generator_for, rand
from blemish.recipes import configure
from blemish.runs import change, start
from blemish.training.grids import save_grid

HOSTILE = "<script>alert('x')</script> & \"quotes\""


class Page(HTMLParser):
    """What a page refers to, which parts it has, and whether its tags match."""

    VOID = ("meta", "link", "img", "input", "line", "path", "circle")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.scripts = 0
        self.images: list[dict[str, str]] = []
        self.text = text
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.links += [
            values[name] for name in ("src", "href", "srcset", "action") if name in values
        ]
        self.ids += [values["id"]] if "id" in values else []
        self.scripts += tag == "script"
        self.images += [values] if tag == "img" else []
        assert not [name for name in values if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(text: str) -> Page:
    page = Page(text)
    assert page.open == []
    assert page.scripts == 1
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert all(image["alt"] for image in page.images)
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\(|https?:", text)
    return page


def column(name: str, n: int = 4) -> Column:
    return Column(name, f"caption of {name}", torch.rand(n, 1, 8, 8), {"distance": "12"})


def test_inspect_page_shows_learned_and_true() -> None:
    record = make_record()
    findings = inspect_degradation(record.degradation, (3, 16, 16), truth=setting("N"), count=60)
    page = check(inspect_page(findings, title="T", lead="L", facts={"Recipe": "r"}))
    assert {"kernels", "distributions", "noise", "numbers"} <= set(page.ids)
    for text in ("Learned kernels", "True kernels", "JPEG mask", "Noise against intensity"):
        assert text in page.text
    kernels = [image for image in page.images if " kernel of radius " in image["alt"]]
    assert len(kernels) == 80
    radii = [float(image["alt"].split()[-2]) for image in kernels]
    assert radii[:40] == sorted(radii[:40])
    assert radii[40:] == sorted(radii[40:])


def test_inspect_page_without_truth_or_damage() -> None:
    record = make_record("br-gan", None)
    page = check(inspect_page(inspect_degradation(record.degradation, (3, 16, 16), count=9)))
    assert "kernels" in page.ids
    assert "noise" not in page.ids
    assert "True kernels" not in page.text
    assert "Wasserstein" not in page.text
    nothing = inspect_degradation(make_record("gan").degradation, (3, 16, 16), count=9)
    assert "no damage to show" in check(inspect_page(nothing)).text


def test_inspect_page_of_two_learned_speaks_of_no_truth() -> None:
    one, two = (make_record().degradation for _ in range(2))
    findings = inspect_degradation(one, (3, 16, 16), other=two, count=60)
    page = check(inspect_page(findings, title="T", name="first"))
    assert {"kernels", "distributions", "noise", "numbers"} <= set(page.ids)
    assert "First kernels" in page.text
    assert "Second kernels" in page.text
    assert "60 first and as many second draws" in page.text
    body = page.text[page.text.index("<body>") : page.text.index("<script>")]
    assert not re.search(r"\b(true|truth)\b", re.sub(r"<[^>]*>", " ", body), re.IGNORECASE)


def test_absent_damage_is_told_where_there_is_some() -> None:
    record = make_record()
    partial, always = (
        inspect_degradation(record.degradation, (3, 16, 16), truth=setting(letter), count=60)
        for letter in ("P", "N")
    )
    text = inspect_page(partial)
    assert re.search(r"Nearly undamaged: without blur \d+ % of the learned draws and \d+ %", text)
    assert all(f"Without {kind}" in text for kind in ("blur", "noise", "JPEG"))
    assert "Without noise" not in inspect_page(always)
    assert "To the nearest kernel" in inspect_page(always)


def test_report_of_everything() -> None:
    record = dataclasses.replace(make_record(), truth=setting("N"))
    page = check(report_page(record))
    expected = {"images", "steps", "learned", "walks", "training", "configuration"}
    assert expected <= set(page.ids)
    assert "time" not in page.ids
    for text in (
        "bncr-gan on glyphs, damage N",
        "Loss of G: adversarial",
        "Mean radius",
        "true mean",
    ):
        assert text in page.text
    for text in (
        "Image and blur kernel",
        "Image and noise",
        "Image and JPEG quality",
        "diversity_noise",
    ):
        assert text in page.text


@pytest.mark.parametrize(
    ("recipe", "absent", "present"),
    [
        ("gan", {"steps", "walks", "learned"}, "as they are"),
        ("ambient-gan", {"walks"}, "that it was told"),
        ("p-ambient-gan", {"walks"}, "from damaged images alone"),
        ("br-gan", {"noise"}, "from damaged images alone"),
        ("cr-gan", {"noise", "kernels"}, "from damaged images alone"),
    ],
)
def test_report_has_only_what_the_model_has(recipe: str, absent: set[str], present: str) -> None:
    page = check(report_page(make_record(recipe, "B")))
    assert absent & set(page.ids) == set()
    assert present in page.text


def test_the_report_says_what_a_likelihood_was_given() -> None:
    record = make_record()
    for recipe, given in (
        ("likelihood", "given the clean image and"),
        ("likelihood-pairs", "given the damaged image itself, taken for a clean one, and"),
    ):
        law = configure(recipe, "tiny").system.degradation.build()
        config = {**record.config, "recipe": recipe}
        one = dataclasses.replace(record, config=config, prior=None, degradation=law)
        assert given in _note(one, learned=True)


def test_report_of_a_run_that_has_just_begun() -> None:
    record = dataclasses.replace(make_record("br-gan"), metrics=())
    page = check(report_page(record))
    assert "0 of 64 images seen so far" in page.text
    assert "training" not in page.ids


def test_warnings_are_shown() -> None:
    line = {**METRICS[0], "warnings": ["quality is 2, outside"]}
    text = report_page(dataclasses.replace(make_record("br-gan"), metrics=(line,)))
    assert "At 4 images: quality is 2, outside" in text


def test_comparison_shows_every_column_and_bar() -> None:
    summary = {
        "seed": 0,
        "degraded": {"frechet": 200.0},
        "gan": {"frechet": 100.0, "frechet_to_degraded": 50.0},
        "br-gan": {"frechet": 25.0, "frechet_to_degraded": 150.0},
    }
    columns = [column("observed"), column("gan", 100), column("br-gan")]
    record = make_record("br-gan")
    findings = inspect_degradation(record.degradation, (3, 16, 16), truth=setting("B"), count=50)
    page = check(comparison_page("Title", columns, findings, summary, "Notes."))
    for each in columns:
        assert each.name in page.text
        assert each.caption in page.text
    widths = [float(w) for w in re.findall(r'<i style="width: ([\d.]+)%', page.text)]
    assert widths == [88.0, 44.0, 22.0, 11.0, 66.0]
    assert "learned" in page.ids
    assert "frechet_to_degraded" in page.text
    bare = check(comparison_page("Title", columns, None, {}, ""))
    assert "learned" not in bare.ids
    assert "distances" not in bare.ids


def test_everything_is_escaped() -> None:
    findings = inspect_degradation(make_record("br-gan").degradation, (3, 16, 16), count=5)
    hostile = dataclasses.replace(
        column("x"), name=HOSTILE, caption=HOSTILE, numbers={HOSTILE: HOSTILE}
    )
    record = make_record("br-gan")
    config = json.loads(json.dumps(record.config))
    config["data"]["source"] = config["recipe"] = HOSTILE
    metrics = [
        {**line, f"loss/G/{HOSTILE}".replace("/s", "s"): 1.0, "warnings": [HOSTILE]}
        for line in METRICS
    ]
    pages = [
        inspect_page(findings, title=HOSTILE, lead=HOSTILE, facts={HOSTILE: HOSTILE}),
        comparison_page(HOSTILE, [hostile], findings, {HOSTILE: {"frechet": 1.0}}, HOSTILE),
        report_page(dataclasses.replace(record, config=config, metrics=metrics)),
    ]
    for text in pages:
        page = check(text)
        assert "<script>alert" not in text
        assert "alert(" in page.text


def test_steps_end_in_what_the_whole_degradation_does() -> None:
    record = make_record()
    found = steps(record.prior, record.degradation, count=3, seed=5)
    assert [step.formula for step in found] == ["x", "x ∗ k", "x ∗ k + n", "ψ(x ∗ k + n, q)"]
    g = generator_for(5, "steps")
    with torch.no_grad():
        x = record.prior.sample(3, generator=g)
        params = record.degradation.sample((3, *record.prior.shape), generator=g)
        y = record.degradation(x, params)
    assert_shows(found[0].pictures, x)
    assert_shows(found[-1].pictures, y)
    summary = params.summary()
    assert [p.caption for p in found[1].pictures] == [
        f"{r:.2f} px" for r in summary["radius"].tolist()
    ]
    assert found[3].pictures[0].caption.startswith(f"q {float(summary['quality'][0]):.0f}, m ")


def assert_shows(pictures: object, images: Tensor) -> None:
    for shown, image in zip(pictures, images, strict=True):  # type: ignore[call-overload]
        expected = (255 * image.clamp(0, 1)).round().permute(1, 2, 0).long()
        assert (pixels(shown) == expected.numpy()).all()


def test_spared_images_are_said_to_be() -> None:
    found = steps(make_record().prior, setting("O"), count=12)
    blurred = [p.caption for p in found[1].pictures]
    assert "spared" in blurred
    clean, after = (pixels(found[i].pictures[blurred.index("spared")]) for i in (0, 1))
    assert (clean == after).all()


def test_walks_keep_the_image_in_a_row_and_the_damage_in_a_column() -> None:
    record = make_record()
    blur, noise, jpeg = walks(record.prior, record.degradation, rows=3, columns=5)
    for walk in (blur, noise, jpeg):
        assert len(walk.header) == 5
        assert [len(row) for row in walk.rows] == [5, 5, 5]
        shown = {picture.uri for row in walk.rows for picture in row}
        assert len(shown) == 15
    assert float(blur.header[0].caption.split()[0]) < float(blur.header[-1].caption.split()[0])
    assert float(noise.header[0].caption.split()[1]) < float(noise.header[-1].caption.split()[1])
    assert float(jpeg.header[0].caption.split()[1]) > float(jpeg.header[-1].caption.split()[1])


def test_a_walk_without_damage_shows_the_images_themselves() -> None:
    prior = make_record().prior
    sharp = LearnedBlur.Config(size=5, latent=4, hidden=8, mask_bias=-100.0).build()
    (walk,) = walks(prior, sharp, rows=3, columns=4, seed=2)
    ends = prior.latents(2, generator=generator_for(2, "walk"))
    with torch.no_grad():
        images = prior.synthesize(torch.stack([ends[0], ends.mean(dim=0), ends[1]]))
    for j in range(4):
        assert_shows([row[j] for row in walk.rows], images)
    assert {picture.caption for picture in walk.header} == {"0.00 px"}


def test_command_inspect_writes_page_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run")
    assert inspect.run(str(folder), out=tmp_path / "a") == 0
    assert "from the truth" in capsys.readouterr().out
    check((tmp_path / "a" / "index.html").read_text())
    document = json.loads((tmp_path / "a" / "findings.json").read_text())
    assert document["count"] == 1000
    assert inspect.run(str(folder / "degradation"), out=tmp_path / "b") == 0
    alone = json.loads((tmp_path / "b" / "findings.json").read_text())
    assert alone["learned"] == document["learned"]
    assert alone["true"] is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "does not exist"),
        ("photos", "holds no pictures"),
        ("run/prior", "holds a GANPrior"),
    ],
)
def test_command_inspect_says_what_is_wrong(name: str, message: str, tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match=message):
        inspect.run(str(tmp_path / name), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_report_writes_into_the_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    assert report.run(folder, out=None) == 0
    page = check((folder / "report.html").read_text())
    assert "time" in page.ids
    assert "generated images after 16 training images" in page.text
    assert report.run(folder, out=tmp_path / "new" / "b.html") == 0
    assert (tmp_path / "new" / "b.html").read_text() == page.text


def test_pages_of_others_are_not_replaced(tmp_path: Path) -> None:
    run, site = tmp_path / "r", tmp_path / "site"
    write_run(run, "br-gan")
    site.mkdir()
    for name in ("index.html", "findings.json"):
        (site / name).write_text("<html>mine</html>")
        with pytest.raises(FileExistsError, match="was not made by blemish; move it"):
            inspect.run(str(run), out=site)
        with pytest.raises(FileExistsError, match="was not made by blemish; move it"):
            report.run(run, out=site / name)
        assert (site / name).read_text() == "<html>mine</html>"
        (site / name).unlink()
    for _ in range(2):
        inspect.run(str(run), out=site)
        report.run(run, out=None)


def test_command_report_says_what_is_wrong(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    with pytest.raises(ValueError, match="try 'blemish inspect'"):
        report.run(folder / "degradation", out=None)
    with pytest.raises(FileNotFoundError):
        report.run(tmp_path, out=None)
    for part in (folder / "prior").iterdir():
        part.unlink()
    (folder / "prior").rmdir()
    with pytest.raises(ValueError, match="no trained parts yet"):
        report.run(folder, out=None)
    (folder / "degradation").rename(folder / "moved")
    with pytest.raises(ValueError, match="no degradation yet"):
        inspect.run(str(folder), out=tmp_path / "x")


def test_large_sheets_are_cut(tmp_path: Path) -> None:
    record = make_record("gan")
    for side, rows in ((16, 8), (128, 2)):
        save_grid(torch.rand(64, 1, side, side), tmp_path / "g.png", columns=8)
        png = (tmp_path / "g.png").read_bytes()
        prior = _Sized(record.prior, side)
        page = Page(report_page(dataclasses.replace(record, prior=prior, samples={0: png, 9: png})))
        heights = {int(i["height"]) for i in page.images if " after " in i["alt"]}
        gap = max(1, side // 16)
        assert heights == {rows * (side + gap) - gap}


class _Sized(torch.nn.Module):
    """A prior that says it makes grey images of another size."""

    def __init__(self, prior: torch.nn.Module, side: int) -> None:
        super().__init__()
        self.prior, self.shape = prior, (1, side, side)

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        return torch.zeros(n, *self.shape)

    def latents(self, n: int, *, generator: torch.Generator) -> Tensor:
        return self.prior.latents(n, generator=generator)

    def synthesize(self, z: Tensor) -> Tensor:
        return torch.zeros(len(z), *self.shape)


def test_artefact_without_a_size_is_drawn_for_small_colour_images(tmp_path: Path) -> None:
    artefacts.save(setting("B"), tmp_path / "disk")
    assert inspect.run(str(tmp_path / "disk"), out=tmp_path / "out", seed=4) == 0
    page = check((tmp_path / "out" / "index.html").read_text())
    assert "Given kernels" in page.text
    assert "Learned" not in page.text
    document = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert document["shape"] == [3, 32, 32]
    assert document["seed"] == 4
    assert document["learned"]["summary"]["kernel_sum"]["mean"] == pytest.approx(1, abs=1e-5)


def test_a_run_that_learns_damage_alone_has_a_report(tmp_path: Path) -> None:
    config = change(
        configure("universal", "tiny"),
        {
            "data.size": "16",
            "data.random_crop": "false",
            "training.images": "32",
            "training.batch": "8",
        },
    )
    x = (rand((8, 3, 16, 16), generator_for("clean")) * 255).to(torch.uint8)
    start(config, tmp_path / "run", device="cpu", silent=True, images=Images(x))
    report.run(tmp_path / "run", out=None)
    text = (tmp_path / "run" / "report.html").read_text()
    assert "It learned to read damage off images" in text
    assert "redegraded images after 32 training images" in text
