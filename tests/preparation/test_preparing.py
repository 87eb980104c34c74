"""A data set to a prepared one: nothing dropped, nothing mixed, the same result however it was made."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddamfn.data import Dataset, open_dataset
from ddamfn.errors import DataError, UsageError, WeightsError
from ddamfn.faces import FIRST_SIDE_PX, Alignment, RetinaFace, align, decode
from ddamfn.files import exclusive
from ddamfn.preparation import Prepared, load_prepared, prepare
from ddamfn.preparation import workers as workers_module
from ddamfn.synthetic import write_synthetic_ferplus

FRONTAL = Alignment("ddamfn_frontal")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic_ferplus(tmp_path_factory.mktemp("ferplus") / "set", 2, np.random.default_rng(3))


@pytest.fixture(scope="module")
def dataset(root: Path) -> Dataset:
    return open_dataset(root)


@pytest.fixture(scope="module")
def prepared(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(dataset, tmp_path_factory.mktemp("prepared") / "set", FRONTAL, workers=1)


def content(folder: Path) -> dict[str, bytes]:
    # How an image's state is told depends on how young it is.
    others = ("prepared.json", "sources.csv")
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name not in others}


def test_one_row_and_one_crop_a_image(dataset: Dataset, prepared: Prepared) -> None:
    rows = list(prepared.manifest())
    assert [row.key for row in rows] == [s.key for s in dataset.samples]
    assert [row.votes for row in rows] == [s.votes for s in dataset.samples]
    for split in dataset.splits:
        count = len(dataset.select(split).samples)
        assert np.load(prepared.folder / f"{split}.npy").shape == (count, 112, 112, 3)
        assert [row.row for row in rows if row.split == split] == list(range(count))
        assert prepared.counts[split]["images"] == count
    assert sum(c["found"] for c in prepared.counts.values()) > len(rows) // 2


def test_the_crops_are_bit_for_bit_those_of_prediction(dataset: Dataset, prepared: Prepared) -> None:
    detector = RetinaFace(num_threads=2)
    split = prepared.split("test")
    samples = {s.key: s for s in dataset.samples}
    for i, key in enumerate(split.keys):
        image = decode(dataset.read(samples[key]))
        faces = detector.detect(image, detection=FIRST_SIDE_PX)
        assert split.found[i] == bool(faces)
        if len(faces) == 1:
            assert (split.crops[i] == align(image, faces[0].landmarks, FRONTAL).pixels).all()


def test_the_result_does_not_depend_on_the_workers(dataset: Dataset, prepared: Prepared, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    again = prepare(dataset, tmp_path / "two", FRONTAL, workers=2, progress=lambda *done: calls.append(done))
    assert content(again.folder) == content(prepared.folder)
    assert again.counts == prepared.counts
    total = len(dataset.samples)
    assert calls == [(i, total) for i in range(total + 1)]


def test_landmarks_from_another_prepared_set(dataset: Dataset, prepared: Prepared, tmp_path: Path) -> None:
    arcface = Alignment("arcface", 0.1)
    direct = prepare(dataset, tmp_path / "direct", arcface, workers=1)
    reused = prepare(dataset, tmp_path / "reused", arcface, workers=1, landmarks_from=prepared.folder)
    assert content(reused.folder) == content(direct.folder)
    assert content(reused.folder) != content(prepared.folder)


def test_landmarks_of_another_data_set_are_refused(
    prepared: Prepared, drawn_layout: Callable[[str], Path], tmp_path: Path
) -> None:
    other = open_dataset(drawn_layout("rafdb"))
    with pytest.raises(DataError, match="leave out its landmarks"):
        prepare(other, tmp_path / "out", FRONTAL, workers=1, landmarks_from=prepared.folder)


def test_manual_landmarks_are_used(drawn_layout: Callable[[str], Path], tmp_path: Path) -> None:
    dataset = open_dataset(drawn_layout("rafdb"))
    prepared = prepare(dataset, tmp_path / "out", FRONTAL, workers=1)
    for sample, row in zip(dataset.samples, prepared.manifest(), strict=True):
        assert row.outcome.score is None
        assert row.outcome.landmarks is not None
        assert (row.outcome.landmarks == np.array(sample.landmarks, dtype=np.float32)).all()
        assert (row.label, row.group) == (sample.label, sample.group)
    assert prepared.counts["train"] == {"images": 7, "found": 7, "given": 7, "resized": 0, "unreadable": 0}
    split = prepared.split("train")
    assert split.rule == "single label"
    assert split.targets.argmax(axis=1).tolist() == list(range(7))
    assert all(group is not None and group.startswith("gender=") for group in split.groups)


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_files_are_counted_and_named(root: Path, tmp_path: Path, workers: int) -> None:
    copy = shutil.copytree(root, tmp_path / "set")
    names = sorted(path.name for path in (copy / "FER2013Train").glob("*.png"))[:4]
    folder = copy / "FER2013Train"
    (folder / names[0]).write_bytes(b"")
    (folder / names[1]).write_bytes((folder / names[1]).read_bytes()[:200])
    (folder / names[2]).write_text("a letter, not an image")
    (folder / names[3]).unlink()
    prepared = prepare(open_dataset(copy), tmp_path / "out", FRONTAL, workers=workers)
    assert prepared.counts["train"]["unreadable"] == 4
    rows = [row for row in prepared.manifest() if row.split == "train"]
    assert [bool(row.outcome.error) for row in rows] == [True] * 4 + [False] * 12
    assert names[3] in rows[3].outcome.error
    assert not np.load(prepared.folder / "train.npy")[:4].any()
    split = prepared.split("train")
    assert (len(split), split.unreadable) == (12, 4)
    assert split.crops.shape == (12, 112, 112, 3)


def test_votes_meet_their_rule_only_when_a_split_is_taken(prepared: Prepared) -> None:
    for rule in ("majority", "probability"):
        split = prepared.split("train", rule)
        assert split.rule == rule
        assert split.targets.shape == (16, 8)
        assert np.allclose(split.targets.sum(axis=1), 1)
    with pytest.raises(UsageError, match="vote rule"):
        prepared.split("train", "plurality")
    with pytest.raises(DataError, match="no split 'all'; it has train, val, test"):
        prepared.split("all")


def test_the_same_call_again_is_free(dataset: Dataset, prepared: Prepared) -> None:
    before = content(prepared.folder)
    calls: list[tuple[int, int]] = []
    assert prepare(dataset, prepared.folder, FRONTAL, workers=1, progress=lambda *done: calls.append(done)) == prepared
    assert calls == []
    assert content(prepared.folder) == before


def test_another_preparation_is_not_mixed_in(dataset: Dataset, prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"another preparation \(different alignment\)"):
        prepare(dataset, prepared.folder, Alignment("arcface"), workers=1)
    with pytest.raises(DataError, match=r"different samples"):
        prepare(dataset.select("test"), prepared.folder, FRONTAL, workers=1)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="not empty"):
        prepare(dataset, tmp_path, FRONTAL, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_arguments_that_make_no_sense(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        prepare(dataset, tmp_path / "out", FRONTAL, workers=0)
    with pytest.raises(DataError, match="no images"):
        prepare(Dataset(dataset.card, (), dataset.images), tmp_path / "out", FRONTAL)
    doubled = Dataset(dataset.card, dataset.samples + dataset.samples[:1], dataset.images)
    with pytest.raises(DataError, match="the same key"):
        prepare(doubled, tmp_path / "out", FRONTAL, workers=1)


def test_a_full_disk_is_one_clear_line(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full, raising=False)
        with pytest.raises(DataError, match="No space left on device; make room or choose another folder"):
            prepare(dataset, tmp_path / "out", FRONTAL, workers=1)
    assert prepare(dataset, tmp_path / "out", FRONTAL, workers=1).counts["train"]["images"] == 16


def test_a_missing_detector_is_not_the_images_fault(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(num_threads: int | None = None) -> RetinaFace:
        raise WeightsError("the face detector's network is missing")

    with monkeypatch.context() as patch:
        patch.setattr(workers_module, "RetinaFace", missing)
        with pytest.raises(WeightsError, match="missing"):
            prepare(dataset, tmp_path / "out", FRONTAL, workers=1)
    with pytest.raises(DataError, match="not come to its end; run the same"):
        load_prepared(tmp_path / "out")
    assert prepare(dataset, tmp_path / "out", FRONTAL, workers=1).counts["test"]["unreadable"] == 0


def test_folders_that_hold_no_prepared_set(prepared: Prepared, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ddamfn data prepare"):
        load_prepared(tmp_path)
    (tmp_path / "prepared.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        load_prepared(tmp_path)
    card = json.loads((prepared.folder / "prepared.json").read_text())
    (tmp_path / "prepared.json").write_text(json.dumps({**card, "alignment": {"template": "holiday"}}))
    with pytest.raises(DataError, match="not readable by this version"):
        load_prepared(tmp_path)
    (tmp_path / "prepared.json").write_text(json.dumps(card))
    lines = (prepared.folder / "manifest.csv").read_text().splitlines(keepends=True)
    (tmp_path / "manifest.csv").write_text("".join(lines[:-1]))
    assert load_prepared(tmp_path).counts == prepared.counts
    with pytest.raises(DataError, match=r"manifest\.csv: differs from its checksum.* prepare the data set again"):
        load_prepared(tmp_path).split("test")
    (tmp_path / "manifest.csv").write_text("".join(lines))
    with pytest.raises(DataError, match=r"train\.npy: cannot be read"):
        load_prepared(tmp_path).split("train")


def test_a_flipped_bit_is_found(prepared: Prepared, tmp_path: Path, rng: np.random.Generator) -> None:
    folder = shutil.copytree(prepared.folder, tmp_path / "set")
    whole = content(folder)
    for name in ("train.npy", "manifest.csv"):
        for place in rng.integers(0, len(whole[name]), 8).tolist():
            damaged = bytearray(whole[name])
            damaged[place] ^= 1 << int(rng.integers(8))
            (folder / name).write_bytes(damaged)
            with pytest.raises(DataError, match=f"{name}: differs from its checksum"):
                load_prepared(folder).split("train")
        (folder / name).write_bytes(whole[name])
    assert len(load_prepared(folder).split("train")) == len(prepared.split("train"))


def test_two_processes_do_not_prepare_into_one_folder(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with exclusive(out / ".lock") as alone:
        assert alone
        with pytest.raises(DataError, match="another process is preparing images there"):
            prepare(dataset, out, FRONTAL, workers=1)
    assert len(list(prepare(dataset, out, FRONTAL, workers=1).manifest())) == len(dataset.samples)


def test_a_folder_of_something_else_stays_as_it_is(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        prepare(dataset, tmp_path, FRONTAL, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_crops_are_read_like_an_array(prepared: Prepared) -> None:
    crops = prepared.split("train").crops
    whole = np.asarray(crops)
    assert whole.shape == crops.shape == (len(crops), 112, 112, 3)
    assert crops.dtype == whole.dtype == np.uint8
    assert (crops[3] == whole[3]).all()
    assert (crops[2:9:3] == whole[2:9:3]).all()
    assert (crops[[5, 1]] == whole[[5, 1]]).all()
    assert (crops[np.arange(16) % 2 == 0] == whole[::2]).all()
    assert (np.stack(list(crops)) == whole).all()
    assert np.asarray(crops, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="is a copy"):
        np.asarray(crops, copy=False)
    with pytest.raises(IndexError):
        crops[16]
