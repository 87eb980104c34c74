import math

import numpy as np
import pytest

from ddamfn.video import Smoother

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
