"""Animated WebP read through Pillow: times, cuts, transparency, damage."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.errors import UnreadableVideo, UsageError
from ddamfn.recognizer import Recognizer
from ddamfn.video import read_video
from ddamfn.video.animation import AnimatedWebp, is_animated_webp
from ddamfn.video.pixels import upright_rgb

av = pytest.importorskip("av", reason="needs PyAV")

_SHOWN_MS = [100, 200, 100, 300, 0]


@pytest.fixture
def moving(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, list[np.ndarray]]:
    """Return an animation of five frames of noise, the last one too short, and their pixels."""
    pixels = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in _SHOWN_MS]
    first, *more = map(Image.fromarray, pixels)
    first.save(tmp_path / "a.webp", save_all=True, append_images=more, duration=_SHOWN_MS, lossless=True)
    return tmp_path / "a.webp", pixels


def read(path: Path, **times_s: float) -> tuple[list[tuple[int, float, np.ndarray]], str | None]:
    source = AnimatedWebp(path, start_s=times_s.get("start"), end_s=times_s.get("end"))
    found = [(raw.index, raw.time_s, upright_rgb(raw.frame)) for raw in source.frames()]
    source.close()
    return found, source.damage


def test_frames_come_with_their_times(moving: tuple[Path, list[np.ndarray]]) -> None:
    path, pixels = moving
    found, damage = read(path)
    assert damage is None
    assert [(index, time_s) for index, time_s, _ in found] == list(enumerate([0.0, 0.1, 0.3, 0.4, 0.7]))
    np.testing.assert_array_equal([image for _, _, image in found], pixels)
    cut, _ = read(path, start=0.1, end=0.7)
    assert [time_s for _, time_s, _ in cut] == [0.1, 0.3, 0.4]
    np.testing.assert_array_equal([image for _, _, image in cut], pixels[1:4])


def test_it_is_read_as_any_video(moving: tuple[Path, list[np.ndarray]], recognizer: Recognizer) -> None:
    with read_video(moving[0], recognizer, every=2) as reading:
        assert (reading.info.codec, reading.info.frames, reading.info.rate) == ("webp", 3, 10)
        assert [(frame.index, frame.time_s) for frame in reading] == [(0, 0.0), (2, 0.3), (4, 0.7)]


def test_transparency_is_white(tmp_path: Path) -> None:
    frames = [Image.new("RGBA", (64, 48), (255, 0, 0, alpha)) for alpha in (0, 255)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    assert [image[0, 0].tolist() for _, _, image in read(tmp_path / "a.webp")[0]] == [[255] * 3, [255, 0, 0]]


def test_damage_is_one_line(moving: tuple[Path, list[np.ndarray]]) -> None:
    content = bytearray(moving[0].read_bytes())
    moving[0].write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableVideo, match="damaged or truncated") as caught:
        AnimatedWebp(moving[0], start_s=None, end_s=None)
    assert str(caught.value).startswith(str(moving[0]))
    assert len(str(caught.value).splitlines()) == 1
    third = content.index(b"VP8L", len(content) // 2) + 13
    content[third : third + 1000] = b"\xff" * 1000
    moving[0].write_bytes(content)
    found, damage = read(moving[0])
    assert 0 < len(found) < 5
    assert damage is not None
    assert damage.startswith("damaged at 0.")


def test_times_that_hold_nothing_are_named(moving: tuple[Path, list[np.ndarray]]) -> None:
    with pytest.raises(UnreadableVideo, match="no frame from 9 s"):
        read(moving[0], start=9)
    with pytest.raises(UsageError, match="after the start"):
        read(moving[0], start=0.5, end=0.5)


def test_a_still_one_and_other_files_are_not_animated(tmp_path: Path, moving: tuple[Path, list[np.ndarray]]) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "still.webp")
    Image.new("RGBA", (64, 48)).save(tmp_path / "alpha.webp")
    (tmp_path / "short.webp").write_bytes(moving[0].read_bytes()[:20])
    assert is_animated_webp(moving[0])
    for name in ("still.webp", "alpha.webp", "short.webp", "gone.webp", "."):
        assert not is_animated_webp(tmp_path / name)
