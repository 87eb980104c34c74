from collections.abc import Callable

import numpy as np
import pytest

from ddamfn.results import Face
from ddamfn.video import Tracker

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
    assert tracker.update(2.5, [face_at(110, 100)]) == (2,)


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
