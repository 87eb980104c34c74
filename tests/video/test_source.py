"""Files as they are found: uneven rates, no duration, no index, broken tails, things that are no videos."""

import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddamfn.errors import MissingExtra, UnreadableVideo, UsageError
from ddamfn.video.pixels import turned, upright_rgb
from ddamfn.video.source import VideoSource

Write = Callable[..., Path]
Numbered = Callable[[int], list[np.ndarray]]


def read(path: Path | int, *, every: int = 1, start: float | None = None, end: float | None = None) -> tuple[list, str]:
    """Return (index, time, number in the image) of every frame, and the damage."""
    source = VideoSource(path, every=every, start_s=start, end_s=end)
    try:
        found = [
            (raw.index, round(raw.time_s, 3), round(float(raw.frame.to_ndarray(format="rgb24").mean()) / 5))
            for raw in source.frames()
        ]
    finally:
        source.close()
    return found, source.damage or ""


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "ffv1"), ("a.ts", "libx264"), ("a.webm", "libvpx-vp9")],
)
def test_frames_come_with_their_times_and_a_cut_is_exact(
    write_video: Write, numbered: Numbered, tmp_path: Path, name: str, codec: str
) -> None:
    path = write_video(tmp_path / name, numbered(40), codec=codec)
    whole, damage = read(path)
    assert damage == ""
    assert whole == [(number, number / 10, number) for number in range(40)]
    for start, end in ((1.2, 2.0), (0.0, 0.35), (2.55, None), (3.9, None), (0.01, 0.15)):
        wanted = [number for number in range(40) if start <= number / 10 < (end or 9)]
        cut, damage = read(path, start=start, end=end)
        assert [(time, number) for _, time, number in cut] == [(number / 10, number) for number in wanted]
        assert [index for index, _, _ in cut] == list(range(len(wanted)))
        assert damage == ""
    assert read(path, every=7)[0] == whole[::7]


def test_uneven_times_are_the_containers(write_video: Write, numbered: Numbered, tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.54, 0.61, 2.0, 2.3]
    for name in ("a.mp4", "a.mkv"):
        found, damage = read(write_video(tmp_path / name, numbered(7), times_s=times))
        assert [(time, number) for _, time, number in found] == list(zip(times, range(7), strict=True))
        assert damage == ""


def test_a_start_after_a_long_image_is_found_too(write_video: Write, numbered: Numbered, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", numbered(4), times_s=[0.0, 0.1, 5.0, 5.1])
    assert [number for _, _, number in read(path, start=3.0)[0]] == [2, 3]


def test_without_a_duration_all_frames_come_and_cuts_work(
    write_video: Write, numbered: Numbered, tmp_path: Path
) -> None:
    # Matroska as it is streamed: no duration, no index.
    path = write_video(tmp_path / "a.mkv", numbered(30), options={"live": "1"})
    source = VideoSource(path, start_s=None, end_s=None)
    assert (source.info.duration_s, source.info.frames) == (None, None)
    source.close()
    assert [number for _, _, number in read(path)[0]] == list(range(30))
    assert [number for _, _, number in read(path, start=1.25, end=2.0)[0]] == list(range(13, 20))
    with pytest.raises(UnreadableVideo, match="no frame from 99 s"):
        read(path, start=99)


def test_a_stream_without_times_is_given_the_rate(write_video: Write, numbered: Numbered, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.h264", numbered(20))
    whole = read(path)[0]
    assert [number for _, _, number in whole] == list(range(20))
    steps = np.diff([time for _, time, _ in whole])
    assert steps.min() == pytest.approx(steps.max(), abs=0.002)
    start = whole[8][1]
    assert [number for _, _, number in read(path, start=start - 0.001)[0]] == list(range(8, 20))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("a.mp4", "libx264", {"movflags": "faststart"}), ("a.mkv", "libx264", {}), ("a.avi", "mpeg4", {})],
)
def test_a_broken_tail_is_named_and_the_rest_is_read(
    write_video: Write, rng: np.random.Generator, tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    noise = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(40)]
    path = write_video(tmp_path / name, noise, codec=codec, options=options)
    whole, damage = read(path)
    assert damage == ""
    content = path.read_bytes()
    path.write_bytes(content[: int(0.6 * len(content))])
    found, damage = read(path)
    assert 10 < len(found) < 35
    # The very last frame may lack its end.
    assert [entry[:2] for entry in found] == [entry[:2] for entry in whole[: len(found)]]
    assert [entry[2] for entry in found[:-1]] == [entry[2] for entry in whole[: len(found) - 1]]
    broken_at = float(damage.removeprefix("breaks off at ").split()[0])
    assert broken_at == pytest.approx(len(found) / 10, abs=0.11)
    # What ends before the break is not broken.
    assert read(path, end=0.5)[1] == ""


def test_damage_in_the_middle_is_stepped_over(write_video: Write, rng: np.random.Generator, tmp_path: Path) -> None:
    noise = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(40)]
    path = write_video(tmp_path / "a.mp4", noise)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6000] = bytes(6000)
    path.write_bytes(content)
    found, damage = read(path)
    assert found[-1][1] > 3
    assert len(found) > 20
    assert damage.startswith("damaged at ")


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.wmv", "msmpeg4v3"), ("a.mp4", "libx264"), ("a.flv", "flv1")],
)
def test_a_segment_that_starts_late_is_whole(
    write_video: Write, rng: np.random.Generator, tmp_path: Path, name: str, codec: str
) -> None:
    noise = [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(20)]
    path = write_video(tmp_path / name, noise, codec=codec, times_s=[number / 10 + 60 for number in range(20)])
    source = VideoSource(path, start_s=None, end_s=None)
    assert source.info.duration_s == pytest.approx(2, abs=0.25)
    source.close()
    whole, damage = read(path)
    assert ([time for _, time, _ in whole], damage) == ([number / 10 for number in range(20)], "")
    cut, damage = read(path, start=0.55, end=1.5)
    assert ([time for _, time, _ in cut], damage) == ([number / 10 for number in range(6, 15)], "")
    if name.endswith(".mkv"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "breaks off" in read(path)[1]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_sound_that_goes_on_longer_is_no_damage(
    write_video: Write, numbered: Numbered, tmp_path: Path, name: str
) -> None:
    found, damage = read(write_video(tmp_path / name, numbered(10), sound_s=4.0))
    assert (len(found), damage) == (10, "")


# ---------------------------------------------------------------- what is no video


def test_what_is_no_video_says_why(write_video: Write, numbered: Numbered, tmp_path: Path) -> None:
    import av

    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    video = write_video(tmp_path / "real.mp4", numbered(5))
    (tmp_path / "headless.mp4").write_bytes(video.read_bytes()[:-200])
    (tmp_path / "unknown.mp4").write_bytes(video.read_bytes().replace(b"avc1", b"zzz1"))
    with av.open(str(tmp_path / "song.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        silence.rate = 8000
        container.mux(stream.encode(silence))
    reasons = {
        "missing.mp4": "no such file",
        "empty.mp4": "the file is empty",
        "text.mp4": "not a video that can be read",
        "headless.mp4": "its index at the end is missing",
        "unknown.mp4": "a codec that this build of PyAV cannot decode",
        "song.wav": "no video in it, audio alone",
        ".": "a folder",
    }
    with pytest.raises(UnreadableVideo, match="an address"):
        VideoSource("rtsp://camera.example/1", start_s=None, end_s=None)
    for name, reason in reasons.items():
        with pytest.raises(UnreadableVideo, match=reason) as caught:
            VideoSource(tmp_path / name, start_s=None, end_s=None)
        assert len(str(caught.value).splitlines()) == 1
        assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize(
    ("start", "end", "named"),
    [(99.0, None, "past the end"), (1.0, None, "past the end"), (0.5, 0.5, "after the start"), (0.0, 0.0, "after")],
)
def test_times_that_hold_nothing_are_usage_errors(
    write_video: Write, numbered: Numbered, tmp_path: Path, start: float, end: float | None, named: str
) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(10))
    with pytest.raises(UsageError, match=named):
        VideoSource(path, start_s=start, end_s=end)


def test_a_span_between_two_frames_holds_none(write_video: Write, numbered: Numbered, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(10))
    with pytest.raises(UsageError, match=r"no frame of .* lies from 0\.31 s to 0\.32 s"):
        read(path, start=0.31, end=0.32)


def test_a_name_that_looks_like_an_address_is_a_file(
    write_video: Write, numbered: Numbered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", numbered(3)).rename(tmp_path / "data:1.mp4")
    monkeypatch.chdir(tmp_path)
    assert len(read(Path("data:1.mp4"))[0]) == 3


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r'pip install "ddamfn\[video\]"'):
        VideoSource(tmp_path / "a.mp4", start_s=None, end_s=None)


# ---------------------------------------------------------------- cameras


def test_a_camera_that_is_not_there_is_named() -> None:
    pytest.importorskip("av", reason="needs PyAV")
    if Path("/dev/video97").exists():
        pytest.skip("this machine has 98 cameras")
    with pytest.raises(UnreadableVideo, match="camera"):
        VideoSource(97, start_s=None, end_s=None)


def test_a_cameras_clock_starts_at_its_first_frame(
    write_video: Write, numbered: Numbered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file in the camera's place, whose times begin late.
    path = write_video(tmp_path / "a.ts", numbered(12), options={"mpegts_flags": "+initial_discontinuity"})
    monkeypatch.setattr("ddamfn.video.source._place", lambda av, number: (str(path), "mpegts", {}))
    found, damage = read(0, end=0.75)
    assert [(time, number) for _, time, number in found] == [(number / 10, number) for number in range(8)]
    assert damage == ""
    source = VideoSource(0, start_s=None, end_s=None)
    assert (source.info.source, source.info.live, source.info.duration_s, source.info.frames) == (
        "camera 0",
        True,
        None,
        None,
    )
    source.close()
    with pytest.raises(UsageError, match="a camera has no start"):
        VideoSource(0, start_s=1.0, end_s=None)


_ONE = 65536


@pytest.mark.parametrize(("a", "b"), [(1, 0), (0, 1), (-1, 0), (0, -1)])
@pytest.mark.parametrize("mirrored", [1, -1])
def test_every_pixel_lands_where_the_matrix_takes_it(a: int, b: int, mirrored: int, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (3, 5, 3), np.uint8)
    # Rows are what a step to the right and a step down become.
    matrix = np.array([[a, b, 0], [-b * mirrored, a * mirrored, 0], [0, 0, 0]], np.int32) * _ONE
    result = turned(pixels, matrix)
    y, x = np.mgrid[:3, :5]
    places = np.stack([x.ravel(), y.ravel()], axis=1) @ (matrix[:2, :2] // _ONE)
    places -= places.min(axis=0)
    expected = np.zeros((*(places.max(axis=0) + 1)[::-1], 3), np.uint8)
    expected[places[:, 1], places[:, 0]] = pixels.reshape(-1, 3)
    np.testing.assert_array_equal(result, expected)


def test_no_matrix_and_an_empty_one_leave_the_image_alone(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (3, 5, 3), np.uint8)
    for matrix in (None, np.zeros((3, 3), np.int32)):
        np.testing.assert_array_equal(turned(pixels, matrix), pixels)


@pytest.mark.parametrize(
    ("rotation", "mirrored", "upright"),
    [
        (0, False, lambda pixels: pixels),
        (90, False, lambda pixels: np.rot90(pixels, 1)),
        (-90, False, lambda pixels: np.rot90(pixels, -1)),
        (180, False, lambda pixels: pixels[::-1, ::-1]),
        (0, True, lambda pixels: pixels[:, ::-1]),
    ],
)
def test_a_file_that_was_filmed_sideways_comes_upright(
    write_video: Callable[..., Path],
    tmp_path: Path,
    rotation: int,
    mirrored: bool,
    upright: Callable[[np.ndarray], np.ndarray],
) -> None:
    # Four quarters of four grays, which no compression mixes up.
    pixels = np.repeat(np.kron([[0, 80], [160, 240]], np.ones((24, 32)))[..., None], 3, axis=2).astype(np.uint8)
    path = write_video(tmp_path / "phone.mp4", [pixels] * 3, rotation=rotation, mirrored=mirrored)
    source = VideoSource(path, start_s=None, end_s=None)
    for raw in source.frames():
        np.testing.assert_allclose(upright_rgb(raw.frame).astype(int), upright(pixels).astype(int), atol=12)
    source.close()


def test_pixels_that_are_not_square_are_stretched(write_video: Callable[..., Path], tmp_path: Path) -> None:
    frames = [np.full((48, 64, 3), 90, np.uint8)] * 2
    path = write_video(tmp_path / "wide.mkv", frames, aspect=Fraction(3, 2))
    source = VideoSource(path, start_s=None, end_s=None)
    assert source.aspect == pytest.approx(1.5)
    assert [upright_rgb(raw.frame, source.aspect).shape for raw in source.frames()] == [(48, 96, 3)] * 2
    source.close()


# ---------------------------------------------------------------- moving images


def test_an_animated_avif_is_its_frames_and_not_its_first_image(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV")
    frames = [Image.new("RGB", (64, 48), (gray, gray, gray)) for gray in range(0, 200, 40)]
    shown_ms = [100, 200, 100, 300, 100]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:], duration=shown_ms, quality=95)
    frames[2].save(tmp_path / "still.avif", quality=95)
    found, damage = read(tmp_path / "a.avif")
    assert (found, damage) == ([(i, t, 8 * i) for i, t in enumerate([0.0, 0.1, 0.3, 0.4, 0.7])], "")
    assert [number for _, _, number in read(tmp_path / "a.avif", start=0.2, end=0.5)[0]] == [16, 24]
    assert read(tmp_path / "still.avif") == ([(0, 0.0, 16)], "")
