"""Videos, frame by frame, through PyAV (``pip install blemish[video]``).

Frames are restored as RGB of 8 bits, upright, and coded by H.264 at constant rate factor 16, with colours at half the
resolution (at full resolution where a side is odd, which that would not allow). Each frame keeps its time. Sound is
copied as it is; subtitles and further pictures are left out.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CRF", "VIDEOS", "restore_video"]

VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".m4v", ".webm")
"""The endings of names, in lower case, that are taken for videos."""

CRF = 16
"""The constant rate factor of H.264: 0 is lossless, 51 the worst."""

Restore = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Maps a frame, with shape (H, W, 3), to a restored one."""


def restore_video(
    restore: Restore, source: Path, target: Path, progress: Callable[[int, int], object]
) -> None:
    """Restores a video; the file written is whole or as it was before.

    Arguments:
        restore: Restores a frame.
        source: The video.
        target: Where it is written; the ending says the container.
        progress: Is told how many frames are done, and of how many, where the file says so.

    Raises:
        ValueError: If PyAV is not installed, or the video cannot be read or written.
        OSError: If there is no permission or no space.
    """
    av = _av()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.part{target.suffix}")
    try:
        with av.open(str(source)) as given, av.open(str(temporary), "w") as made:
            _transcode(av, given, made, restore, progress)
        temporary.replace(target)
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
        raise ValueError(f"the video cannot be read or written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise ValueError("videos need PyAV, which is missing; pip install blemish[video]") from None
    return av


def _transcode(
    av: Any, given: Any, made: Any, restore: Restore, progress: Callable[[int, int], object]
) -> None:
    if not given.streams.video:
        raise ValueError("the file holds no video")
    pictures, sounds = given.streams.video[0], given.streams.audio
    # Threads of the decoder give the frames in the same order, sooner.
    pictures.thread_type = "AUTO"
    coded = made.add_stream("libx264", rate=pictures.average_rate or 25, options={"crf": str(CRF)})
    copies = {sound.index: made.add_stream_from_template(sound) for sound in sounds}
    held: list[Any] = []  # until the first frame has told the size, which the file's head needs
    done = 0
    for packet in given.demux(pictures, *sounds):
        if packet.stream.index in copies:
            held += [packet] if packet.dts is not None else []
            packet.stream = copies[packet.stream.index]
        else:
            for frame in packet.decode():
                made.mux(coded.encode(_restored(av, frame, restore, coded, first=done == 0)))
                done += 1
                progress(done, max(done, pictures.frames))
        if done:
            made.mux(held)
            held.clear()
    if not done:
        raise ValueError("the video has no frames")
    made.mux(coded.encode())


def _restored(av: Any, frame: Any, restore: Restore, coded: Any, *, first: bool) -> Any:
    turned = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
    x = np.ascontiguousarray(restore(np.ascontiguousarray(turned)))
    if first:
        coded.height, coded.width = x.shape[:2]
        coded.pix_fmt = "yuv444p" if coded.height % 2 or coded.width % 2 else "yuv420p"
        coded.codec_context.time_base = frame.time_base or Fraction(1, 90_000)
    result = av.VideoFrame.from_ndarray(x, format="rgb24")
    result.pts, result.time_base = frame.pts, frame.time_base
    return result
