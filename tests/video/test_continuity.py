"""Streams that were put one after the other: times go on, and a time in the second part is found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddamfn.video.source import VideoSource

Write = Callable[..., Path]

_PARTS = [("a.ts", "libx264", "mpegts"), ("a.vob", "mpeg2video", "vob"), ("a.mpg", "mpeg1video", "mpeg")]


def read(path: Path, **times_s: float) -> list[tuple[float, int]]:
    """Return the time of every frame and the number in its image."""
    source = VideoSource(path, start_s=times_s.get("start"), end_s=times_s.get("end"))
    found = [
        (round(raw.time_s, 3), round(float(raw.frame.to_ndarray(format="rgb24").mean()) / 3)) for raw in source.frames()
    ]
    source.close()
    assert source.damage is None
    return found


def frames(numbers: range) -> list[np.ndarray]:
    return [np.full((48, 64, 3), 3 * number, np.uint8) for number in numbers]


@pytest.mark.parametrize(("name", "codec", "kind"), _PARTS)
def test_joined_parts_play_on(write_video: Write, tmp_path: Path, name: str, codec: str, kind: str) -> None:
    path = tmp_path / name
    content = b""
    for part in range(3):
        numbers = range(25 * part, 25 * part + 25)
        content += write_video(path, frames(numbers), rate=25, codec=codec, kind=kind).read_bytes()
    path.write_bytes(content)
    whole = read(path)
    assert [number for _, number in whole] == list(range(75))
    times = np.array([time for time, _ in whole])
    # FFmpeg may take a tiny frame of a program stream for one later.
    np.testing.assert_allclose(times, np.arange(75) / 25, atol=0.041)
    assert np.diff(times).min() > 0
    for start, end in ((0.5, 0.9), (0.97, 1.2), (1.5, 1.6), (2.5, 9.0)):
        assert read(path, start=start, end=end) == [entry for entry in whole if start <= entry[0] < end]


def test_a_part_of_a_later_recording_follows_at_once(write_video: Write, tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    later = [number / 25 + 500 for number in range(25)]
    first = write_video(path, frames(range(25)), rate=25).read_bytes()
    path.write_bytes(first + write_video(path, frames(range(25, 50)), rate=25, times_s=later).read_bytes())
    assert read(path) == [(number / 25, number) for number in range(50)]


def test_a_standing_image_is_no_jump(write_video: Write, tmp_path: Path) -> None:
    times = [0.0, 0.04, 30.0, 30.04]
    for name in ("a.mkv", "a.mp4"):
        found = read(write_video(tmp_path / name, frames(range(4)), rate=25, times_s=times))
        assert [time for time, _ in found] == times
