import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ddamfn.drawing import clock
from ddamfn.drawing.palette import FAINT, expression_color
from ddamfn.results import Face, ImageResult
from ddamfn.video import FrameResult, Timeline

FaceAt = Callable[..., Face]
_CLASSES = ("neutral", "happiness")


def frame(time_s: float, faces: list[Face], tracks: tuple[int | None, ...]) -> FrameResult:
    return FrameResult(ImageResult("clip.mp4", 640, 480, faces, classes=_CLASSES), 0, time_s, tracks)


def share_of(image: np.ndarray, name: str) -> np.ndarray:
    """Return for each column how many pixels of an expression's color it has, left of the plots excluded."""
    return (image == expression_color(name)).all(axis=2)[150:].sum(axis=0)


def test_areas_follow_the_probabilities_and_gaps_stay_empty(face_at: FaceAt) -> None:
    timeline = Timeline(_CLASSES)
    for step in range(100):
        time_s = step / 10
        if not 4 <= time_s < 6:
            happy = 0.25 if time_s < 4 else 0.75
            face = face_at(100, 100, probabilities={"neutral": 1 - happy, "happiness": happy})
            timeline.add(frame(time_s, [face], (1,)))
        else:
            timeline.add(frame(time_s, [], ()))
    image = np.asarray(timeline.draw())
    happy, neutral = share_of(image, "happiness"), share_of(image, "neutral")
    plotted = np.flatnonzero(happy + neutral)
    left, right = plotted[0], plotted[-1]
    at = {time_s: left + round((right - left) * time_s / 9.9) for time_s in (2, 5, 8)}
    assert happy[at[2]] == pytest.approx(33, abs=1)
    assert neutral[at[2]] == pytest.approx(99, abs=1)
    assert happy[at[8]] == pytest.approx(99, abs=1)
    assert happy[at[5]] == neutral[at[5]] == 0
    assert (image[:, at[5]] == FAINT).all(axis=1).sum() == pytest.approx(132, abs=2)


def test_an_image_that_stood_is_no_gap(face_at: FaceAt) -> None:
    timeline = Timeline(_CLASSES)
    calm, glad = ({"neutral": 1 - happy, "happiness": happy} for happy in (0.25, 0.75))
    # Frames come at 0 and 60 s; at 60 s the face is gone, and back after 20 s.
    timeline.add(frame(0.0, [face_at(100, 100, probabilities=calm)], (1,)))
    for step in range(200):
        timeline.add(frame(60 + step / 10, [], ()))
    for step in range(201):
        timeline.add(frame(80 + step / 10, [face_at(100, 100, probabilities=glad)], (1,)))
    image = np.asarray(timeline.draw())
    happy = share_of(image, "happiness")
    plotted = np.flatnonzero(happy + share_of(image, "neutral"))
    left, right = plotted[0], plotted[-1]
    at = {time_s: left + round((right - left) * time_s / 100) for time_s in (2, 30, 58, 70, 90)}
    assert [int(happy[at[time_s]]) for time_s in (2, 30, 58)] == [pytest.approx(33, abs=1)] * 3
    assert happy[at[70]] == 0
    assert happy[at[90]] == pytest.approx(99, abs=1)


def test_an_hour_takes_the_memory_and_time_of_a_minute(face_at: FaceAt) -> None:
    timeline = Timeline(_CLASSES)
    face = face_at(100, 100)
    start = time.process_time()
    for step in range(20_000):
        timeline.add(frame(step * 0.18, [face], (1 + step // 10,)))
    assert time.process_time() - start < 10
    held = sum(series.sums.nbytes + series.counts.nbytes for series in timeline._tracks.values())
    assert held < 4_000_000
    image = timeline.draw()
    # Eight tracks and the note about the others, not two thousand.
    assert image.height < 2500


def test_the_longest_tracks_are_drawn(face_at: FaceAt) -> None:
    timeline = Timeline(_CLASSES)
    glad = face_at(100, 100, probabilities={"neutral": 0.0, "happiness": 1.0})
    for step in range(300):
        faces, tracks = [face_at(100, 100)], (2 + step // 10,)
        if 50 <= step < 150:
            faces, tracks = [*faces, glad], (*tracks, 1)
        timeline.add(frame(step / 10, faces, tracks))
    assert share_of(np.asarray(timeline.draw()), "happiness").max() >= 130


def test_without_a_face_there_is_a_image_too() -> None:
    timeline = Timeline(_CLASSES)
    assert timeline.draw().width == 1600
    timeline.add(frame(0.0, [], ()))
    assert timeline.draw().width == 1600


def test_the_best_seen_crop_stands_beside_its_track(face_at: FaceAt) -> None:
    timeline = Timeline(_CLASSES)
    for score, color in ((0.7, 10), (0.9, 200), (0.8, 90)):
        aligned = np.full((112, 112, 3), (color, 0, 0), np.uint8)
        timeline.add(frame(score, [replace(face_at(100, 100), score=score, aligned=aligned)], (1,)))
    image = np.asarray(timeline.draw())
    assert (image == (200, 0, 0)).all(axis=2).sum() > 10_000


def test_faces_without_tracks_are_refused(face_at: FaceAt) -> None:
    with pytest.raises(ValueError, match="track=True"):
        Timeline(_CLASSES).add(frame(0.0, [face_at(100, 100)], (None,)))


@pytest.mark.parametrize(
    ("seconds", "step", "text"), [(0, 1, "0:00"), (59.6, 1, "1:00"), (3725, 60, "1:02:05"), (7.25, 0.2, "0:07.2")]
)
def test_times_are_written_as_players_do(seconds: float, step: float, text: str) -> None:
    assert clock(seconds, step) == text
