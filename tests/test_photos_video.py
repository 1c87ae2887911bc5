"""Videos: frames, times and sound go through."""

from __future__ import annotations

import struct
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.photos import VIDEOS, restore_video

STEPS = (0, 1, 2, 4, 7)
"""When the frames are shown, in 1/25 s."""


def frames(height: int, width: int) -> list[Any]:
    rows, columns = np.mgrid[:height, :width]
    ramp = np.stack((rows * 2, columns * 2, rows + columns), axis=-1)
    return [(ramp + 20 * i).clip(0, 200).astype(np.uint8) for i in range(len(STEPS))]


def write(path: Path, height: int, width: int) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as made:
        pictures = made.add_stream("libx264", rate=25, options={"crf": "1"})
        pictures.height, pictures.width, pictures.pix_fmt = height, width, "yuv444p"
        pictures.codec_context.time_base = Fraction(1, 25)
        sound = made.add_stream("aac", rate=44100)
        for step, pixels in zip(STEPS, frames(height, width), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = step, Fraction(1, 25)
            made.mux(pictures.encode(frame))
        wave = np.sin(np.arange(8192) / 20)[None].astype(np.float32)
        tone = av.AudioFrame.from_ndarray(wave.repeat(2, 0), format="fltp", layout="stereo")
        tone.sample_rate, tone.pts = 44100, 0
        made.mux(sound.encode(tone))
        made.mux(sound.encode())
        made.mux(pictures.encode())


def read(path: Path) -> tuple[list[Any], list[float], list[bytes]]:
    av = pytest.importorskip("av")
    with av.open(str(path)) as given:
        decoded = list(given.decode(video=0))
    with av.open(str(path)) as given:
        sound = [bytes(packet) for packet in given.demux(audio=0) if packet.dts is not None]
    return [f.to_ndarray(format="rgb24") for f in decoded], [f.time for f in decoded], sound


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("size", [(48, 64), (45, 51)])
def test_frames_times_and_sound(size: tuple[int, int], suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / f"a{suffix}", tmp_path / "out" / f"b{suffix}"
    write(source, *size)
    done: list[tuple[int, int]] = []
    restore_video(lambda frame: frame + 40, source, target, lambda *n: done.append(n))
    before, after = read(source), read(target)
    assert done[-1][0] == len(after[0]) == len(STEPS)
    assert after[1] == pytest.approx(before[1], abs=2e-3)
    assert after[2] == before[2]
    assert len(after[2]) > 1
    for a, b in zip(before[0], after[0], strict=True):
        assert a.shape == b.shape
        assert np.abs(a.astype(int) + 40 - b).mean() < 3
    assert [p.name for p in target.parent.iterdir()] == [target.name]


def test_frames_may_grow(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", 32, 48)
    restore_video(
        lambda f: f.repeat(2, 0).repeat(2, 1), tmp_path / "a.mp4", tmp_path / "b.mp4", print
    )
    assert read(tmp_path / "b.mp4")[0][0].shape == (64, 96, 3)


def test_a_turned_camera_is_turned_back(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", 32, 48)
    content = (tmp_path / "a.mp4").read_bytes()
    one = 2**16
    # The matrix of the track's header: as it is, and turned by 90 degrees clockwise.
    plain, turned = ((*m, 0, 0, 2**30) for m in ((one, 0, 0, 0, one, 0), (0, one, 0, -one, 0, 0)))
    place = content.index(struct.pack(">9i", *plain), content.index(b"tkhd"))
    content = content[:place] + struct.pack(">9i", *turned) + content[place + 36 :]
    (tmp_path / "a.mp4").write_bytes(content)
    restore_video(lambda f: f, tmp_path / "a.mp4", tmp_path / "b.mp4", lambda *n: None)
    for a, b in zip(frames(32, 48), read(tmp_path / "b.mp4")[0], strict=True):
        assert np.abs(np.rot90(a, -1).astype(int) - b).mean() < 4


@pytest.mark.parametrize("content", [b"", b"no video" * 99])
def test_what_is_no_video_is_refused(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read") as caught:
        restore_video(lambda f: f, tmp_path / "a.mp4", tmp_path / "b.mp4", print)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_what_stops_it_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", 32, 48)

    def stop(frame: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_video(stop, tmp_path / "a.mp4", tmp_path / "b.mp4", print)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_without_pyav_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        ValueError, match=r"need PyAV, which is missing; pip install blemish\[video\]"
    ):
        restore_video(lambda f: f, tmp_path / "a.mp4", tmp_path / "b.mp4", print)
    assert ".mp4" in VIDEOS
