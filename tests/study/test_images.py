"""The images of jobs: shared where they are the same, limited by class, and the test split left alone."""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddamfn.errors import ConfigError
from ddamfn.preparation import Prepared
from ddamfn.study.images import StudyImages, limited
from ddamfn.study.jobs import Fold, Job, identify
from ddamfn.train import override, recipe
from ddamfn.train.tensorset import TensorSplit

RUN = override(recipe("ddamfn_quick"), {"data.alignment.side_px": 32, "phases.0.side_px": 32})


def split(*counts: int) -> TensorSplit:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    targets = torch.nn.functional.one_hot(labels, len(counts)).float()
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return TensorSplit(images, targets, tuple(map(str, range(len(labels)))), tuple("abcd"[: len(counts)]))


def test_jobs_that_ask_for_the_same_images_share_the_tensors(faces: Path) -> None:
    images = StudyImages(faces, torch.device("cpu"))
    job = Job(row="a", run=RUN, data=str(faces), dataset="faces")
    other = override(RUN, {"seed": 7, "model.name": "mobilefacenet", "model.options": {}, "optimizer.lr": 0.5})
    one, two = images.parts(job), images.parts(replace(job, row="b", run=other))
    assert [part.images.data_ptr() for part in one] == [part.images.data_ptr() for part in two]
    assert len({part.images.data_ptr() for part in one}) == 3


def test_a_job_scored_on_validation_needs_no_test_split(faces: Path) -> None:
    images = StudyImages(faces, torch.device("cpu"))
    parts = images.parts(Job(row="a", run=RUN, data=str(faces), dataset="faces", scored="valid"))
    assert parts.test is parts.valid
    assert not set(parts.train.keys) & set(parts.valid.keys)
    assert all(not key.startswith("test") for part in parts for key in part.keys)


def test_votes_weigh_a_job_s_images_too(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(row="a", run=override(RUN, {"data.vote_weight": True}), data=str(faces), dataset="faces")
    with pytest.raises(ConfigError, match="has no votes"):
        StudyImages(faces, torch.device("cpu")).parts(job)
    calls: list[int] = []

    def vote_weights(_: Prepared, keys: Sequence[str]) -> NDArray[np.float32]:
        calls.append(len(keys))
        return np.arange(1, len(keys) + 1, dtype=np.float32)

    monkeypatch.setattr("ddamfn.train.splits.vote_weights", vote_weights)
    parts = StudyImages(faces, torch.device("cpu")).parts(replace(job, images=12))
    assert calls == [12]
    assert parts.train.weights is not None
    assert parts.valid.weights is None
    assert parts.test.weights is None


def test_the_limit_keeps_rare_classes_whole_and_every_other_with_its_share() -> None:
    whole = split(60, 30, 8, 2)
    part = limited(whole, 50)
    assert Counter(part.targets.argmax(dim=1).tolist()) == {0: 27, 1: 13, 2: 8, 3: 2}
    assert limited(whole, 50).keys == part.keys
    assert limited(whole, 100) is whole
    # Also where its share is less than one image.
    assert set(limited(split(90, 9, 1), 10).targets.argmax(dim=1).tolist()) == {0, 1, 2}
    assert part.keys != whole.keys[:50]


def test_the_limit_is_on_the_images_trained_on(faces: Path) -> None:
    images = StudyImages(faces, torch.device("cpu"))
    job = Job(row="a", run=RUN, data=str(faces), dataset="faces", images=12)
    plain = images.parts(replace(job, images=None))
    parts = images.parts(job)
    assert len(parts.train) == 12
    assert Counter(parts.train.targets.argmax(dim=1).tolist()) == {0: 4, 1: 4, 2: 4}
    assert (parts.valid.keys, parts.test.keys) == (plain.valid.keys, plain.test.keys)
    folds = [images.parts(replace(job, images=3, fold=Fold(number=k, of=2))) for k in range(2)]
    assert sorted(key for fold in folds for key in fold.test.keys) == sorted(plain.train.keys)
    assert all(len(fold.train) == 3 for fold in folds)
    assert job.id != replace(job, images=None).id


def test_compared_rows_share_the_part_held_out_and_runs_to_export_keep_their_own(faces: Path) -> None:
    images = StudyImages(faces, torch.device("cpu"))
    run = override(RUN, {"data.holdout": 0.25})
    fold = Fold(number=0, of=2)

    def held(scored: str, seed: int) -> tuple[str, ...]:
        job = Job(row="a", run=replace(run, seed=seed), data=str(faces), dataset="faces", fold=fold)
        return images.parts(replace(job, scored=scored)).valid.keys  # type: ignore[arg-type]

    assert held("valid", 0) == held("valid", 1)
    assert held("own_valid", 0) != held("own_valid", 1)
    assert held("own_valid", 1) == held("test", 1)


def test_a_job_is_the_same_wherever_its_data_set_is(drawn: Path, faces: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(drawn, tmp_path / "elsewhere")
    places = (drawn, copy, faces)
    jobs = [Job(row="a", run=RUN, data=str(root), dataset=identify(root, None)) for root in places]
    assert len({job.id for job in jobs}) == 1
    next(iter(copy.rglob("*.png"))).unlink()
    assert identify(copy, None) != jobs[0].dataset


@pytest.mark.parametrize("n", [1, 3])
def test_the_smallest_limits_are_kept(n: int) -> None:
    assert len(limited(split(10, 5, 5), n)) == n
