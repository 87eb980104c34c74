"""Class names of every data set meet in one vocabulary."""

import pytest

from ddamfn.errors import UnknownLabel
from ddamfn.labels import EXPRESSIONS, canonical


def test_the_order_is_that_of_the_ferplus_file() -> None:
    assert EXPRESSIONS == ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_canonical_names_are_fixed_points(name: str) -> None:
    assert canonical(name) == name
    assert canonical(f" {name.upper()} ") == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Happy", "happiness"),
        ("sad", "sadness"),
        ("ANGRY", "anger"),
        ("surprised", "surprise"),
        ("suprise", "surprise"),
        ("fearful", "fear"),
        ("disgusted", "disgust"),
        ("Contemptuous", "contempt"),
        ("3_sad", "sadness"),
        ("0-Neutral", "neutral"),
        ("Joy", "happiness"),
    ],
)
def test_aliases(name: str, expected: str) -> None:
    assert canonical(name) == expected


@pytest.mark.parametrize("name", ["", "3", "unknown", "NF", "happy sad", "confused"])
def test_unknown_names_are_refused_with_the_list(name: str) -> None:
    with pytest.raises(UnknownLabel, match="neutral, happiness"):
        canonical(name)
