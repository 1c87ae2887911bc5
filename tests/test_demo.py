"""The demo from end to end, with very short trainings."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from blemish.commands import demo
from blemish.runs import load


@pytest.mark.slow
def test_the_demo_trains_measures_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "COUNT", 200)
    assert demo.run(tmp_path, seed=1, images=64) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["seed"] == 1
    assert summary["count"] == 200
    assert summary["features"].startswith("glyphs-cnn32")
    assert summary["br-gan"]["radius_w1"] > 0
    for name in ("gan", "br-gan", "ambient-gan"):
        assert load(tmp_path / name).config.training.images == 64
        for key in ("frechet", "frechet_to_degraded", "sharpness"):
            assert math.isfinite(summary[name][key])
        # After four iterations nothing is learned yet, and the distance says so.
        assert summary[name]["frechet"] > summary["degraded"]["frechet"]
    page = (tmp_path / "report.html").read_text()
    assert "BR-GAN" in page
    assert "learned radii" in capsys.readouterr().out


def test_a_failed_training_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"training .* failed; its log is .*\.log: .*greater than or equal to 1"
    ):
        demo.run(tmp_path, images=-1)


@pytest.mark.parametrize("name", ["report.html", "summary.json"])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match="was not made by blemish; move it"):
        demo.run(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"
