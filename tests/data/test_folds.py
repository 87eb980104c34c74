"""Folds that give every class its share."""

import numpy as np
import pytest

from ddamfn.data.dataset import stratified_folds
from ddamfn.errors import DataError, UsageError


def test_every_image_is_tested_once_and_every_class_has_its_share(rng: np.random.Generator) -> None:
    labels = np.repeat([0, 1, 2, 3], [40, 3, 57, 103])
    folds = stratified_folds(labels, 10, np.random.default_rng(0))
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(203))
    for train, test in folds:
        assert set(train.tolist()) | set(test.tolist()) == set(range(203))
        assert not set(train.tolist()) & set(test.tolist())
        counts = np.bincount(labels[test], minlength=4)
        assert np.all(np.abs(counts - np.array([4.0, 0.3, 5.7, 10.3])) < 1)
    assert {len(test) for _, test in folds} == {20, 21}


def test_folds_depend_on_the_generator_alone() -> None:
    labels = [0, 1] * 20
    one, same, other = (stratified_folds(labels, 4, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(one, same, strict=True))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(one, other, strict=True))


def test_too_few_folds_or_images_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        stratified_folds([0, 1, 0], 1, np.random.default_rng(0))
    with pytest.raises(DataError, match="ask for fewer"):
        stratified_folds([0, 1, 0], 4, np.random.default_rng(0))
