import math
from collections.abc import Callable

import numpy as np
import pytest

from ddamfn.results import Face
from ddamfn.video import Smoother, Tracker

FaceAt = Callable[..., Face]


def test_faces_are_numbered_in_the_order_of_appearance(face_at: FaceAt) -> None:
    tracker = Tracker()
    assert tracker.update(0.0, []) == ()
    assert tracker.update(0.1, [face_at(500, 100), face_at(100, 100)]) == (1, 2)
    assert tracker.update(0.2, [face_at(900, 100), face_at(102, 101), face_at(498, 99)]) == (3, 2, 1)


@pytest.mark.parametrize("rate", [3, 30])
def test_a_walking_face_keeps_its_number(face_at: FaceAt, rate: int) -> None:
    tracker = Tracker()
    # Three face widths a second.
    seen = {tracker.update(step / rate, [face_at(300 * step / rate, 100)]) for step in range(3 * rate)}
    assert seen == {(1,)}


def test_a_number_survives_a_short_gap_and_not_a_long_one(face_at: FaceAt) -> None:
    tracker = Tracker(gap_s=1.0)
    tracker.update(0.0, [face_at(100, 100)])
    for step in range(9):
        assert tracker.update(0.1 + step / 10, []) == ()
    assert tracker.update(1.0, [face_at(110, 100)]) == (1,)
    for step in range(14):
        assert tracker.update(1.1 + step / 10, []) == ()
    assert tracker.update(2.5, [face_at(110, 100)]) == (2,)


def test_a_still_face_keeps_its_number_where_no_frame_came(face_at: FaceAt) -> None:
    tracker = Tracker(gap_s=1.0)
    tracker.update(0.0, [face_at(100, 100), face_at(300, 100)])
    # An hour in which nothing changed on the screen.
    assert tracker.update(3600.0, [face_at(303, 100), face_at(102, 100)]) == (2, 1)
    # What stood elsewhere is somebody else, and what was gone before the image stood stays gone.
    assert tracker.update(3700.0, [face_at(103, 100), face_at(400, 100)]) == (1, 3)
    assert tracker.update(3800.0, [face_at(300, 100)]) == (4,)
    # Missing for a moment after the pause.
    assert tracker.update(3900.0, []) == ()
    assert tracker.update(3900.1, [face_at(300, 100)]) == (4,)


def test_a_moving_face_is_looked_for_where_it_went(face_at: FaceAt) -> None:
    tracker = Tracker()
    for step in range(30):
        tracker.update(step / 30, [face_at(10 * step, 100)])
    # Hidden for 0.4 s, in which it went 1.2 of its sizes, while another face came to where it was hidden.
    moved, newcomer = face_at(290 + 120, 100), face_at(290, 100)
    assert tracker.update(29 / 30 + 0.4, [newcomer, moved]) == (2, 1)


def test_neighbors_are_not_mixed_up_whatever_their_order(face_at: FaceAt, rng: np.random.Generator) -> None:
    tracker = Tracker()
    places = [(100 + 110 * column, 100 + 120 * row) for row in range(3) for column in range(4)]
    first = dict(zip(tracker.update(0.0, [face_at(*place) for place in places]), range(12), strict=True))
    for step in range(1, 40):
        order = rng.permutation(12)
        shaken = [np.array(places[index]) + rng.normal(0, 6, 2) for index in order]
        numbers = tracker.update(step / 30, [face_at(x, y) for x, y in shaken])
        assert [first[number] for number in numbers] == order.tolist()


def test_faces_that_pass_each_other_keep_their_numbers(face_at: FaceAt) -> None:
    tracker = Tracker()
    for step in range(61):
        across, below = 10 * step, 140
        numbers = tracker.update(step / 30, [face_at(across, 100), face_at(600 - across, below)])
        assert numbers == (1, 2)


def test_another_size_is_another_face(face_at: FaceAt) -> None:
    tracker = Tracker()
    tracker.update(0.0, [face_at(100, 100, size=40)])
    assert tracker.update(0.03, [face_at(100, 100, size=100)]) == (2,)
    # Walking towards the camera is growth in small steps.
    sizes = [40 * 1.05**step for step in range(20)]
    fresh = Tracker()
    assert {fresh.update(step / 30, [face_at(100, 100, size=size)]) for step, size in enumerate(sizes)} == {(1,)}


def test_no_number_is_given_twice_in_a_frame(face_at: FaceAt) -> None:
    tracker = Tracker()
    for step in range(5):
        numbers = tracker.update(step / 10, [face_at(100, 100), face_at(105, 100), face_at(110, 100)])
        assert len(set(numbers)) == 3


_CALM, _GLAD = {"neutral": 1.0, "happiness": 0.0}, {"neutral": 0.0, "happiness": 1.0}


@pytest.mark.parametrize("rate", [5, 30, 1000])
def test_a_change_is_followed_by_time_and_not_by_frame(rate: int) -> None:
    smoother = Smoother(0.5)
    smoother.smooth(1, 0.0, _CALM)
    for step in range(1, rate + 1):
        smoothed = smoother.smooth(1, step / rate, _GLAD)
    assert smoothed["neutral"] == pytest.approx(math.exp(-1 / 0.5))
    assert sum(smoothed.values()) == pytest.approx(1)


def test_uneven_times_give_the_same_curve(rng: np.random.Generator) -> None:
    smoother = Smoother(0.3)
    smoother.smooth(1, 0.0, _CALM)
    for time_s in [*np.sort(rng.uniform(0, 0.6, 20)), 0.6]:
        smoothed = smoother.smooth(1, float(time_s), _GLAD)
    assert smoothed["neutral"] == pytest.approx(math.exp(-0.6 / 0.3))


def test_tracks_do_not_touch_each_other() -> None:
    smoother = Smoother(1.0)
    smoother.smooth(1, 0.0, _CALM)
    assert smoother.smooth(2, 0.1, _GLAD) == _GLAD
    assert smoother.smooth(1, 0.2, _CALM) == _CALM


def test_a_time_that_does_not_advance_changes_nothing() -> None:
    smoother = Smoother(1.0)
    smoother.smooth(1, 5.0, _CALM)
    assert smoother.smooth(1, 5.0, _GLAD) == _CALM
    assert smoother.smooth(1, 4.0, _GLAD) == _CALM


def test_a_crowd_that_has_gone_takes_no_memory() -> None:
    smoother = Smoother(0.1)
    for track in range(2000):
        smoother.smooth(track, track / 100, _CALM)
    assert len(smoother._past) < 200


@pytest.mark.parametrize("constant", [0.0, -1.0, math.nan])
def test_a_constant_that_is_none_is_refused(constant: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Smoother(constant)
