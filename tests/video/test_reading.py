"""The whole way from a file to results: the same as images', whatever the batch, and nothing left running."""

import gc
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import ddamfn
from ddamfn.errors import UnreadableVideo, UsageError, WeightsError
from ddamfn.recognizer import Recognizer
from ddamfn.video import FrameResult, VideoReading, frame_columns, read_video
from ddamfn.video.pixels import upright_rgb
from ddamfn.video.source import VideoSource

Write = Callable[..., Path]
WaitUntil = Callable[[Callable[[], object], str], None]


@pytest.fixture(scope="module")
def clip(write_video: Write, head: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames: the head walks to the right, hides in frames 8 to 11, and a second one stands in the last five."""
    frames = []
    for number in range(20):
        pixels = np.full((120, 240, 3), 120, np.uint8)
        if not 8 <= number < 12:
            pixels[10:106, 2 * number : 2 * number + 96] = head
        if number >= 15:
            pixels[10:106, 140:236] = head[:, ::-1]
        frames.append(pixels)
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", frames)


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    yield
    gc.collect()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("ddamfn")] == []


def plain(frames: Any) -> list[dict[str, Any]]:
    return [frame.to_dict() for frame in frames]


def test_the_threads_are_set_by_the_reading_itself(
    clip: Path, stand_in_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = Recognizer(stand_in_weights, num_threads=4, min_detection_score=0.6)
    opened: list[int] = []
    session = onnxruntime.InferenceSession

    def open_one(network: bytes, options: Any, providers: Any) -> Any:
        opened.append(options.intra_op_num_threads)
        return session(network, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_one)
    with read_video(clip, many) as reading:
        frame = next(reading)
    assert opened == [1, 1]
    assert frame.faces


def test_frames_are_read_as_images_are(clip: Path, recognizer: Recognizer) -> None:
    source = VideoSource(clip, start_s=None, end_s=None)
    images = [recognizer.find_faces(upright_rgb(raw.frame), detection=960) for raw in source.frames()]
    alone = [result.to_dict()["faces"] for result in recognizer.classify(images)]
    source.close()
    frames = list(read_video(clip, recognizer, track=False))
    assert [frame.to_dict()["faces"] for frame in frames] == [
        [{"track": None} | face for face in faces] for faces in alone
    ]
    assert [frame.index for frame in frames] == list(range(20))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 10 for number in range(20)])


def test_neither_batch_nor_threads_change_anything(clip: Path, recognizer: Recognizer) -> None:
    one = plain(read_video(clip, recognizer, batch_size=1, workers=1))
    assert plain(read_video(clip, recognizer, batch_size=16, workers=3)) == one
    assert plain(read_video(str(clip), recognizer, batch_size=3, keep_images=True)) == one


def test_a_face_keeps_its_number_through_a_gap(clip: Path, recognizer: Recognizer) -> None:
    tracks = [frame.tracks for frame in read_video(clip, recognizer)]
    assert tracks[:8] == [(1,)] * 8
    assert tracks[8:12] == [()] * 4
    assert tracks[12:15] == [(1,)] * 3
    assert [sorted(entry) for entry in tracks[15:]] == [[1, 2]] * 5


def test_a_face_keeps_its_number_where_a_recorded_screen_stood(
    write_video: Write, head: np.ndarray, recognizer: Recognizer, tmp_path: Path
) -> None:
    frames = [np.full((120, 240, 3), 120, np.uint8) for _ in range(8)]
    for pixels in frames:
        pixels[10:106, 40:136] = head
    times = [0.0, 0.1, 0.2, 45.0, 45.1, 45.2, 300.0, 300.1]
    reading = read_video(write_video(tmp_path / "a.mkv", frames, times_s=times), recognizer)
    assert [(frame.time_s, frame.tracks) for frame in reading] == [(time_s, (1,)) for time_s in times]


def test_smoothing_follows_each_track_and_can_be_switched_off(clip: Path, recognizer: Recognizer) -> None:
    raw = list(read_video(clip, recognizer, smooth_s=0))
    assert plain(raw) == [
        entry | {"faces": [face | {"track": number} for face, number in zip(entry["faces"], frame.tracks, strict=True)]}
        for entry, frame in zip(plain(read_video(clip, recognizer, track=False)), raw, strict=True)
    ]
    smooth = list(read_video(clip, recognizer, smooth_s=0.5))
    left = np.exp(-0.1 / 0.5)
    first, second = (np.array(list(raw[number].faces[0].probabilities.values())) for number in (0, 1))
    wanted = second + left * (first - second)
    np.testing.assert_allclose(list(smooth[1].faces[0].probabilities.values()), wanted, atol=1e-9)
    assert smooth[1].faces[0].confidence == pytest.approx(wanted.max())
    assert smooth[0].to_dict() == raw[0].to_dict()


def test_abstaining_goes_by_the_smoothed_confidence(clip: Path, calibrated_weights: Path) -> None:
    recognizer = Recognizer(calibrated_weights, num_threads=1, min_precision=0.9)
    frames = list(read_video(clip, recognizer, end_s=0.5))
    assert recognizer.threshold > 0
    for face in (face for frame in frames for face in frame.faces):
        assert (face.expression == "uncertain") == (face.confidence < recognizer.threshold)


def test_rows_have_the_columns_and_no_frame_is_lost(clip: Path, recognizer: Recognizer) -> None:
    frames = list(read_video(clip, recognizer))
    rows = [row for frame in frames for row in frame.to_rows()]
    assert all(list(row) == frame_columns(recognizer.card.labels) for row in rows)
    assert sorted({row["frame"] for row in rows}) == list(range(20))
    assert [row["track"] for row in rows if row["frame"] in (7, 8, 12)] == [1, None, 1]
    assert [row["x1"] is None for row in rows if row["frame"] in (7, 8)] == [False, True]
    assert list(frames[0].to_dict()) == ["source", "frame", "time_s", "width", "height", "faces"]
    assert next(iter(frames[0].to_dict()["faces"][0])) == "track"


def test_between_whole_looks_faces_are_found_around_where_they_were(
    clip: Path, stand_in_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = Recognizer(stand_in_weights, num_threads=1)
    each = list(read_video(clip, recognizer, track=False))
    detector, whole = recognizer._finder.detector, list[int]()
    detect = detector.detect

    def counted(image: Any, **options: Any) -> Any:
        whole.append(1)
        return detect(image, **options)

    monkeypatch.setattr(detector, "detect", counted)
    fewer = list(read_video(clip, recognizer, track=False, detect_every=4, workers=2))
    # Frames 8 to 11 show no face, so each is looked at as a whole. A second face comes in frame 15.
    counts = [len(frame.faces) for frame in each]
    assert counts[15] == 2
    assert [len(frame.faces) for frame in fewer] == [*counts[:15], 1, *counts[16:]]
    assert len(whole) == 8
    for frame in range(15):
        (face,), (same,) = each[frame].faces or [None], fewer[frame].faces or [None]
        if face is not None:
            side = face.bbox.width
            np.testing.assert_allclose(same.landmarks.to_numpy(), face.landmarks.to_numpy(), atol=0.06 * side)


def test_every_start_and_end_choose_frames(clip: Path, recognizer: Recognizer) -> None:
    with read_video(clip, recognizer, every=3, start_s=0.5, end_s=1.5) as reading:
        assert reading.info.frames == 4
        frames = list(reading)
    assert [(frame.index, round(frame.time_s, 2)) for frame in frames] == [(0, 0.5), (3, 0.8), (6, 1.1), (9, 1.4)]


def first(reading: VideoReading) -> FrameResult:
    with reading:
        return next(reading)


def test_a_reading_that_is_closed_in_a_thread_of_its_own_ends(clip: Path, recognizer: Recognizer) -> None:
    # As happens to one that its caller forgot, when the garbage collector comes by in that thread.
    reading = read_video(clip, recognizer, workers=2)
    next(reading)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("ddamfn")]
    reading._pipeline._pool.submit(reading.close).result(timeout=120)
    with pytest.raises(StopIteration):
        next(reading)
    # A thread cannot wait for its own end, so closing was not the end of these.
    for thread in threads:
        thread.join(120)


def test_images_and_crops_are_kept_only_if_asked(clip: Path, recognizer: Recognizer) -> None:
    bare = first(read_video(clip, recognizer))
    assert (bare.image.image, bare.faces[0].aligned) == (None, None)
    with pytest.raises(ValueError, match="keep_images=True"):
        bare.plot()
    cut = first(read_video(clip, recognizer, keep_crops=True))
    assert cut.image.image is None
    assert cut.faces[0].aligned is not None
    assert cut.faces[0].aligned.shape == (112, 112, 3)
    whole = first(read_video(clip, recognizer, keep_images=True))
    assert whole.image.image is not None
    assert whole.image.image.shape == (120, 240, 3)
    # Small frames are enlarged, so that labels can be read; the face's box is in it.
    assert whole.plot().size == (480, 240)


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the index of every frame that is decoded."""
    decoded: list[int] = []
    frames = VideoSource.frames

    def counted(source: VideoSource) -> Iterator[Any]:
        for raw in frames(source):
            decoded.append(raw.index)
            yield raw

    monkeypatch.setattr(VideoSource, "frames", counted)
    return decoded


def count_refusals(ready: Any, decoded: list[int], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows, whenever a pipeline's queue has no room, by how many frames are decoded by then."""
    refused: list[int] = []
    put = ready.put

    def counted(*arguments: Any, **options: Any) -> None:
        try:
            put(*arguments, **options)
        except queue.Full:
            refused.append(len(decoded))
            raise

    monkeypatch.setattr(ready, "put", counted)
    return refused


def test_a_slow_caller_holds_the_decoder_up(
    write_video: Write,
    recognizer: Recognizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: WaitUntil,
) -> None:
    path = write_video(tmp_path / "long.mp4", (np.full((48, 64, 3), 90, np.uint8) for _ in range(300)))
    decoded = count_decoded(monkeypatch)
    with read_video(path, recognizer, workers=2, batch_size=4) as reading:
        held_at = count_refusals(reading._pipeline._ready, decoded, monkeypatch)
        for _ in range(10):
            next(reading)
        # The first refusal may be one from before the last frame was taken.
        told = len(held_at)
        wait_until(lambda: len(held_at) >= told + 6 or len(decoded) == 300, "the decoder neither waits nor ends")
        assert held_at[-5:] == [len(decoded)] * 5
        assert 10 <= len(decoded) < 40
    assert len(decoded) < 40


def test_what_fails_in_a_thread_reaches_the_caller_after_the_frames_before(
    clip: Path, stand_in_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognizer = Recognizer(stand_in_weights, num_threads=1)
    find_faces = recognizer.find_faces

    def failing(image: Any, **options: Any) -> Any:
        if np.asarray(image)[10:106, 140:236].std() > 20:
            raise WeightsError("enough")
        return find_faces(image, **options)

    monkeypatch.setattr(recognizer, "find_faces", failing)
    seen: list[int] = []
    with pytest.raises(WeightsError, match="enough"):
        seen.extend(frame.index for frame in read_video(clip, recognizer, workers=2, batch_size=4))
    assert seen == list(range(15))


def test_a_broken_file_ends_with_an_error_after_its_frames(clip: Path, recognizer: Recognizer, tmp_path: Path) -> None:
    import av

    with av.open(str(clip)) as old, av.open(str(tmp_path / "a.mkv"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: len(content) // 2])
    seen: list[int] = []
    with pytest.raises(UnreadableVideo, match=r"a\.mkv: breaks off at .* what could be read is complete"):
        seen.extend(frame.index for frame in read_video(tmp_path / "a.mkv", recognizer))
    assert seen == list(range(len(seen)))
    assert len(seen) > 3


def test_a_camera_drops_what_comes_too_late(
    write_video: Write,
    recognizer: Recognizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: WaitUntil,
) -> None:
    path = write_video(tmp_path / "a.ts", (np.full((48, 64, 3), 90, np.uint8) for _ in range(40)))
    monkeypatch.setattr("ddamfn.video.source._place", lambda av, number: (str(path), "mpegts", {}))
    decoded = count_decoded(monkeypatch)
    reading = read_video(0, recognizer, workers=1)
    indices = [next(reading).index]
    wait_until(lambda: len(decoded) == 40, "the camera was held up")
    indices += [frame.index for frame in reading]
    assert indices == sorted(set(indices))
    assert indices[-1] == 39
    assert len(indices) < 10


@pytest.mark.parametrize(
    "options",
    [
        {"every": 0},
        {"detect_every": 0},
        {"smooth_s": -1},
        {"start_s": -1},
        {"end_s": float("nan")},
        {"workers": 0},
        {"batch_size": 0},
    ],
)
def test_numbers_out_of_range_are_usage_errors(clip: Path, recognizer: Recognizer, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        read_video(clip, recognizer, **options)


def test_the_package_offers_it() -> None:
    assert ddamfn.read_video is read_video
