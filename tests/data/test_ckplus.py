"""CK+: the last three frames, with their subjects, and folds that keep subjects apart."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddamfn.data.ckplus import open_ckplus
from ddamfn.data.dataset import subject_folds
from ddamfn.data.opening import recognize
from ddamfn.errors import DataError, UsageError


@pytest.fixture
def root(own_layout: Callable[[str], Path]) -> Path:
    return own_layout("ckplus")


def test_the_last_three_frames_with_their_subjects(root: Path) -> None:
    dataset = open_ckplus(root)
    assert len(dataset.samples) == 21
    assert [s.key for s in dataset.samples[:3]] == [f"S005_001_0000000{n}.png" for n in (4, 5, 6)]
    assert {s.subject for s in dataset.samples} == {"S005"}
    assert [s.label for s in dataset.samples[::3]] == list(dataset.classes)
    assert dataset.splits == ("all",)


def test_unlabeled_takes_neutral_ones_and_stray_files_are_passed_over(root: Path) -> None:
    expected = open_ckplus(root).samples[3:]
    (root / "cohn-kanade-images/S005/002/.DS_Store").write_bytes(b"x")
    (root / "cohn-kanade-images/S005/002/Thumbs.png").write_bytes(b"x")
    (root / "Emotion/S005/008").mkdir()
    (root / "Emotion/S005/001/S005_001_00000006_emotion.txt").write_text("   0.0000000e+00\n")
    assert open_ckplus(root).samples == expected


def test_class_folders_of_frames(root: Path, tmp_path: Path) -> None:
    dataset = open_ckplus(root)
    other = tmp_path / "folders"
    for sample in dataset.samples:
        assert sample.label is not None
        name = "happy" if sample.label == "happiness" else sample.label
        (other / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "cohn-kanade-images" / sample.location, other / name / sample.key)
    assert recognize(other) == "ckplus"
    again = open_ckplus(other)
    assert {(s.label, s.subject, s.key.split("/")[1]) for s in again.samples} == {
        (s.label, s.subject, s.key) for s in dataset.samples
    }


def test_damaged_copies(root: Path) -> None:
    frames = sorted((root / "cohn-kanade-images/S005/003").iterdir())
    for path in frames[:4]:
        path.unlink()
    with pytest.raises(DataError, match="003 has 2 frames"):
        open_ckplus(root)
    (root / "Emotion/S005/001/S005_001_00000006_emotion.txt").write_text("")
    with pytest.raises(DataError, match="no class number"):
        open_ckplus(root)


def test_folds_keep_subjects_apart() -> None:
    subjects = [f"S{i % 23:03d}" for i in range(200)]
    folds = subject_folds(subjects, 10)
    assert len(folds) == 10
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(200))
    for train, test in folds:
        assert len(train) + len(test) == 200
        assert not {subjects[i] for i in train} & {subjects[i] for i in test}
    sizes = [len({subjects[i] for i in test}) for _, test in folds]
    assert max(sizes) - min(sizes) == 1


def test_folds_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        subject_folds(["a", "b"], 1)
    with pytest.raises(DataError, match="no subject"):
        subject_folds(["a", None], 2)
    with pytest.raises(DataError, match="1 subjects do not make 2"):
        subject_folds(["a", "a"], 2)
