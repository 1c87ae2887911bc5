"""Pages in a real browser: no message on the console, no request, no width beyond a phone's.

Runs where chromium is installed. Every host name is mapped to nothing, so that neither a page nor the
browser itself reaches a network; what a page *tries* to load is read from the browser's network log.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from evaluation_record import make_record, write_run
from test_evaluation_codes import make_model
from test_evaluation_folder import damaged

from blemish.commands import inspect, report
from blemish.degradations import Imaging, setting
from blemish.evaluation import (
    BeforeAfter,
    BlindPair,
    Column,
    Trial,
    before_after_page,
    blind_page,
    blind_pair,
    codes_page,
    comparison_page,
    folder_page,
    inspect_codes,
    inspect_degradation,
    inspect_folder,
    read_choices,
    show,
)
from blemish.functional.random import generator_for, rand

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(NAMES)}")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--enable-logging=stderr",
    "--v=0",
    "--window-size=1200,900",
    "--dump-dom",
)

# Moves over every chart, presses its keys, plays the samples; then says what came of it.
USE = """
<script>
for (const svg of document.querySelectorAll("[data-chart] svg")) {
  const box = svg.getBoundingClientRect();
  for (const share of [0.99, 0.2, 0.6]) {
    svg.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + share * box.width }));
  }
  const before = svg.parentElement.querySelector("output").textContent;
  svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
  const after = svg.parentElement.querySelector("output").textContent;
  svg.dispatchEvent(new PointerEvent("pointerleave"));
  const gone = svg.parentElement.querySelector("output").textContent;
  svg.dataset.used = before && after && before !== after && !gone ? "yes" : `${before}|${after}|${gone}`;
}
for (const input of document.querySelectorAll("input")) {
  input.value = 0;
  input.dispatchEvent(new Event("input"));
  input.dataset.first = input.parentElement.querySelector("output").textContent;
  for (const button of document.querySelectorAll("button")) { button.click(); button.click(); }
  input.dataset.second = input.parentElement.querySelector("output").textContent;
}
const broken = [...document.images].filter((image) => !image.naturalWidth).length;
document.body.dataset.broken = broken;
</script>
</body>
"""

# A frame, because a browser's window cannot be as narrow as a phone.
PHONE = """<!doctype html>
<html><body><iframe style="width: 360px; height: 740px" data-page="PAGE"></iframe>
<script>
const frame = document.querySelector("iframe");
frame.addEventListener("load", () => {
  const page = frame.contentDocument.documentElement;
  document.body.dataset.widths = `${page.scrollWidth} of ${page.clientWidth}`;
});
frame.srcdoc = frame.dataset.page;
delete frame.dataset.page;
</script></body></html>
"""


@dataclass(frozen=True)
class Visit:
    """What came of opening a page: console messages, addresses it asked for, the document after."""

    console: list[str]
    requests: list[str]
    document: str


def visit(text: str, folder: Path) -> Visit:
    page, log = folder / "page.html", folder / "net.json"
    page.write_text(text)
    command = [str(BROWSER), *FLAGS, "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "</html>" in done.stdout, done.stderr
    events = json.loads(log.read_text())["events"]
    asked = [event["params"] for event in events if "url" in event.get("params", {})]
    # The browser's own services have no origin.
    mine = [p["url"] for p in asked if p.get("initiator", "not an origin") != "not an origin"]
    console = [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]
    requests = [url for url in mine if not url.startswith(("data:", page.as_uri()))]
    return Visit(console, requests, done.stdout)


def blind(i: int) -> BlindPair:
    a, b, before = (
        (rand((3, *size), generator_for("blind", i, *size)) * 255).to(torch.uint8)
        for size in ((90, 250), (90, 250), (9, 25))
    )
    return blind_pair(Trial(i, i % 2 == 0), a, 255 - b, before)


PAGES = ("report", "inspect", "codes", "folder", "comparison", "before-after", "blind")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    run = write_run(folder / "run")
    report.run(run, out=None)
    inspect.run(str(run), out=folder / "inspect")
    record = make_record("br-gan", "B")
    findings = inspect_degradation(record.degradation, record.prior.shape, truth=setting("B"))
    x = torch.rand(36, 1, 16, 16)
    columns = [Column(name, "Some words.", x, {"distance": "9"}) for name in "abcde"]
    images, y = damaged("AN", count=20), torch.rand(3, 90, 250)
    summary = {"gan": {"frechet": 2.0, "frechet_to_degraded": 1.0}}
    damage = Imaging(Imaging.Config(strength=0.5, local=0.5))
    codes = inspect_codes(make_model(bend=30.0), damage, count=3)
    return {
        "blind": blind_page([blind(i) for i in range(5)], seed=3),
        "codes": codes_page(codes, title="Title"),
        "report": (run / "report.html").read_text(),
        "inspect": (folder / "inspect" / "index.html").read_text(),
        "folder": folder_page(inspect_folder(images), images, command="blemish train " + "x" * 99),
        "comparison": comparison_page("Title", columns, findings, summary, "Notes."),
        "before-after": before_after_page([show(BeforeAfter(n, y, y.flip(-1))) for n in "ab"]),
    }


@pytest.mark.parametrize("name", PAGES)
def test_page_in_a_browser(name: str, pages: dict[str, str], tmp_path: Path) -> None:
    found = visit(pages[name].replace("</body>", USE), tmp_path)
    assert found.console == []
    assert found.requests == []
    used = re.findall(r'data-used="([^"]*)"', found.document)
    assert len(used) == pages[name].count("data-chart=")
    assert (not used) == (name in ("before-after", "blind"))
    assert set(used) <= {"yes"}
    assert 'data-broken="0"' in found.document
    if name == "report":
        assert 'data-first="after 0 images"' in found.document
        assert 'data-second="after 16 images"' in found.document
    if name == "before-after":
        assert found.document.count('data-first="0 % as it was"') == 2
        assert found.document.count("--at: 0%") == 2


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(name: str, pages: dict[str, str], tmp_path: Path) -> None:
    found = visit(PHONE.replace("PAGE", html.escape(pages[name])), tmp_path)
    assert found.console == []
    widths = re.search(r'data-widths="(\d+) of (\d+)"', found.document)
    assert widths is not None
    assert 300 < int(widths[2]) <= 360
    assert int(widths[1]) <= int(widths[2])


# Presses keys and buttons; says what is shown after each.
CHOOSE = """
<script>
const seen = [];
const look = () => {
  const open = [...document.querySelectorAll(".trial")].findIndex((trial) => !trial.hidden);
  const done = !document.querySelector(".done").hidden;
  seen.push(`${open}${done ? "d" : ""}:${document.querySelector("progress").value}`);
};
look();
for (const act of ACTS) {
  const button = document.querySelector(act[0] === "[" ? act : "none");
  if (button) button.click();
  else document.body.dispatchEvent(new KeyboardEvent("keydown", { key: act, bubbles: true, cancelable: true }));
  look();
}
document.body.dataset.seen = seen.join(" ");
document.body.dataset.exact = document.querySelector("[data-blind]").classList.contains("exact");
</script>
</body>
"""


def chosen(page: str, acts: list[str], folder: Path) -> tuple[str, dict[int, str], str]:
    """Returns what was shown, what the page hands out, and the document after."""
    found = visit(page.replace("</body>", CHOOSE.replace("ACTS", json.dumps(acts))), folder)
    assert found.console == []
    assert found.requests == []
    link = re.search(
        r'<a data-save="" download="choices.json" href="data:[^,]*,([^"]*)"', found.document
    )
    assert link is not None
    (folder / "choices.json").write_text(unquote(link[1]))
    sides = dict(read_choices(folder / "choices.json").sides)
    seen = re.search('data-seen="([^"]*)"', found.document)
    assert seen is not None
    return seen[1], sides, found.document


def test_pairs_are_judged_with_keys(pages: dict[str, str], tmp_path: Path) -> None:
    acts = ["ArrowLeft", "ArrowRight", "x", "ArrowDown", "Backspace", "ArrowRight", "Z"]
    seen, sides, document = chosen(pages["blind"], acts, tmp_path)
    assert seen == "0:0 1:1 2:2 2:2 3:3 2:3 3:3 3:3"
    assert sides == {0: "left", 1: "right", 2: "right"}
    assert 'data-exact="true"' in document
    assert 'aria-pressed="true"' in document
    # The browser remembers, where it lets a page: a visit with the same profile goes on.
    seen, sides, _ = chosen(pages["blind"], ["ArrowDown"], tmp_path)
    assert seen == "3:3 4:4"
    assert sides == {0: "left", 1: "right", 2: "right", 3: "none"}


def test_pairs_are_judged_with_buttons_to_the_end(pages: dict[str, str], tmp_path: Path) -> None:
    left, right, none = (f"[data-choose={side}]" for side in ("left", "right", "none"))
    acts = [left, right, none, left, left, "ArrowRight", "[data-back]", right]
    seen, sides, _ = chosen(pages["blind"], acts, tmp_path)
    assert seen == "0:0 1:1 2:2 3:3 4:4 -1d:5 -1d:5 4:5 -1d:5"
    assert sides == {0: "left", 1: "right", 2: "none", 3: "left", 4: "right"}
    seen, sides, _ = chosen(pages["blind"], ["[data-again]"], tmp_path)
    assert (seen, sides) == ("-1d:5 0:0", {})


BAD = {
    "an error in a script": "<script>nothing.here()</script>",
    "a message": "<script>console.warn('x')</script>",
    "an image from elsewhere": '<img alt="x" src="https://example.com/x.png">',
    "a font from elsewhere": "<style>@font-face { font-family: x; src: url(https://example.com/x.woff) } body { font-family: x }</style>x",
    "a script from elsewhere": '<script src="http://127.0.0.1:9/x.js"></script>',
    "a request": "<script>fetch('https://example.com/x').catch(() => 0)</script>",
}


@pytest.mark.parametrize("fault", BAD)
def test_faults_are_caught(fault: str, pages: dict[str, str], tmp_path: Path) -> None:
    page = pages["comparison"].replace("</body>", f"{BAD[fault]}</body>")
    assert visit(page, tmp_path).console != []


def test_requests_are_caught_without_the_policy(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    page = "<!doctype html><html><body>{}</body></html>"
    image = page.format(BAD["an image from elsewhere"])
    assert visit(image, tmp_path / "a").requests == ["https://example.com/x.png"]
    clean = visit(page.format("nothing"), tmp_path)
    assert clean == replace(clean, console=[], requests=[])
