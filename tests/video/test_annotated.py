from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddamfn.errors import DdamfnError, UsageError
from ddamfn.results import Face, ImageResult
from ddamfn.video import AnnotatedVideo, FrameResult

av = pytest.importorskip("av", reason="needs PyAV")
FaceAt = Callable[..., Face]


def frame(time_s: float, shape: tuple[int, int] = (480, 640), faces: list[Face] | None = None) -> FrameResult:
    image = ImageResult("a.mp4", shape[1], shape[0], faces or [], image=np.full((*shape, 3), 60, np.uint8))
    return FrameResult(image, round(time_s * 10), time_s, tuple(range(1, 1 + len(faces or []))))


def read(path: Path) -> list:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_frames_keep_their_uneven_times(tmp_path: Path, ending: str) -> None:
    times = [2.0, 2.04, 2.5, 2.54, 4.0]
    with AnnotatedVideo(tmp_path / f"new folder/a{ending}", 10.0) as video:
        for time_s in times:
            video.write(frame(time_s))
    frames = read(tmp_path / f"new folder/a{ending}")
    assert [entry.time for entry in frames] == pytest.approx([time_s - 2.0 for time_s in times], abs=0.001)
    assert video.is_h264
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == [f"a{ending}"]


def test_boxes_are_where_the_faces_are(tmp_path: Path, face_at: FaceAt) -> None:
    with AnnotatedVideo(tmp_path / "a.mp4", 10.0) as video:
        for number in range(3):
            video.write(frame(number / 10, faces=[face_at(320, 240, 100)]))
    pixels = read(tmp_path / "a.mp4")[1].to_ndarray(format="rgb24").astype(int)
    # "neutral" is drawn in light gray: on the left edge of the box, and not in its middle.
    assert pixels[240, 270:273].max() > 150
    assert abs(pixels[240, 320] - 60).max() < 12
    # The label stands above the box.
    assert (pixels[150:190, 270:370] > 150).all(axis=2).sum() > 300


@pytest.mark.parametrize("shape", [(481, 641), (480, 641), (90, 121)])
def test_odd_and_small_sizes_are_written(tmp_path: Path, shape: tuple[int, int]) -> None:
    with AnnotatedVideo(tmp_path / "a.mp4", 25.0) as video:
        for number in range(3):
            video.write(frame(number / 25, shape))
    (first, *_) = read(tmp_path / "a.mp4")
    factor = -(-480 // max(shape))
    assert [first.height, first.width] == [side * factor + side * factor % 2 for side in shape]


def test_a_size_that_changes_and_times_that_stand_still_are_no_reason_to_stop(tmp_path: Path) -> None:
    with AnnotatedVideo(tmp_path / "a.mp4", 10.0) as video:
        for time_s, shape in ((0.0, (480, 640)), (0.1, (360, 640)), (0.1, (480, 640)), (0.05, (480, 640))):
            video.write(frame(time_s, shape))
    times = [entry.time for entry in read(tmp_path / "a.mp4")]
    assert len(times) == 4
    assert times == sorted(set(times))


def test_without_h264_the_encoder_is_said_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddamfn.video.annotated._ENCODERS", ("nothing_264", "mpeg4"))
    with AnnotatedVideo(tmp_path / "a.mp4", 10.0) as video:
        for number in range(3):
            video.write(frame(number / 10))
    assert (video.encoder, video.is_h264) == ("mpeg4", False)
    assert len(read(tmp_path / "a.mp4")) == 3
    monkeypatch.setattr("ddamfn.video.annotated._ENCODERS", ("nothing_264",))
    with pytest.raises(DdamfnError, match=r"neither H\.264 nor MPEG-4"):
        AnnotatedVideo(tmp_path / "a.mp4", 10.0)


def test_without_a_frame_an_older_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("older")
    AnnotatedVideo(tmp_path / "a.mp4", 10.0).close()
    assert (tmp_path / "a.mp4").read_text() == "older"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.mp4"):
        AnnotatedVideo(tmp_path / "a.avi", 10.0)
    (tmp_path / "file").touch()
    with pytest.raises(DdamfnError, match="cannot write"):
        AnnotatedVideo(tmp_path / "file" / "a.mp4", 10.0)
