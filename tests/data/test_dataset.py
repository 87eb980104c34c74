"""Samples to targets: labels and votes, in the set's own order of classes."""

import os
from pathlib import Path

import numpy as np
import pytest

from ddamfn.data.catalog import RAFDB
from ddamfn.data.dataset import FileImages, sample_targets
from ddamfn.errors import DataError, UnknownLabel, UnreadableImage, UsageError
from ddamfn.labels import EXPRESSIONS

BALLOT = (8.0, 2.0, 0, 0, 0, 0, 0, 0, 0, 0)
TIE = (5.0, 5.0, 0, 0, 0, 0, 0, 0, 0, 0)


def test_only_a_file_of_a_sane_size_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with (tmp_path / "huge.jpg").open("wb") as file:
        file.truncate(3 * 2**30)
    for name, noun in (("pipe.jpg", "pipe"), ("huge.jpg", "larger"), ("a\0b.jpg", "null")):
        with pytest.raises(UnreadableImage, match=noun):
            FileImages(tmp_path).read(name)


def test_labels_become_columns_of_the_sets_own_order() -> None:
    keep, target = sample_targets(["surprise", "neutral"], [None, None], RAFDB.classes, "majority")
    assert keep.tolist() == [True, True]
    assert target.dtype == np.float32
    assert target.argmax(axis=1).tolist() == [0, 6]
    assert target.sum() == 2


def test_votes_follow_the_rule_and_any_order_of_classes() -> None:
    keep, target = sample_targets([None, None], [BALLOT, TIE], EXPRESSIONS[::-1], "majority")
    assert keep.tolist() == [True, False]
    assert target[0].tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
    assert not target[1].any()
    keep, target = sample_targets([None], [TIE], EXPRESSIONS, "probability")
    assert target[0, :2].tolist() == [0.5, 0.5]


def test_both_kinds_at_once_and_none() -> None:
    keep, target = sample_targets(["fear", None], [None, BALLOT], EXPRESSIONS, "majority")
    assert target.argmax(axis=1).tolist() == [6, 0]
    keep, target = sample_targets([], [], EXPRESSIONS, "majority")
    assert keep.shape == (0,)
    assert target.shape == (0, 8)


def test_refusals() -> None:
    with pytest.raises(UnknownLabel, match="contempt"):
        sample_targets(["contempt"], [None], RAFDB.classes, "majority")
    with pytest.raises(DataError, match="sample 1"):
        sample_targets(["fear", None], [None, None], EXPRESSIONS, "majority")
    with pytest.raises(UsageError, match="plurality"):
        sample_targets(["fear"], [None], EXPRESSIONS, "plurality")
    with pytest.raises(UsageError, match="contempt"):
        sample_targets([None], [BALLOT], RAFDB.classes, "majority")
