"""From a folder to a run's tensors: which split is what, and what is refused."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddamfn.data import open_dataset
from ddamfn.errors import ConfigError, DataError
from ddamfn.faces import Alignment
from ddamfn.labels import EXPRESSIONS
from ddamfn.preparation import Prepared, PreparedSplit, prepare
from ddamfn.preparation.cached import sets_folder
from ddamfn.preparation.splits import kept_by_majority, own_validation
from ddamfn.synthetic import write_synthetic_ferplus
from ddamfn.train import Run, load_faces, load_splits, open_prepared
from ddamfn.train.splits import calibration_split

CPU = torch.device("cpu")
ALIGNMENT = Alignment("ddamfn_frontal", side_px=32)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A file is young for two seconds, and how much of a test that is depends on the machine.
    monkeypatch.setattr("ddamfn.data.dataset._CLOCK_NS", 0)
    # The processes that would detect faces side by side start slower than two dozen images are done.
    monkeypatch.setattr("ddamfn.preparation.preparing.num_cores", lambda: 1)


def class_folders(root: Path, count: int = 3) -> Path:
    generator = np.random.default_rng(0)
    for label in ("anger", "fear"):
        (root / label).mkdir(parents=True)
        for i in range(count):
            pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{i}.png")
    return root


def test_a_data_set_is_prepared_once(tmp_path: Path) -> None:
    root, told = class_folders(tmp_path / "set"), []
    first = open_prepared(root, ALIGNMENT, lambda done, total: told.append((done, total)))
    assert told[-1] == (6, 6)
    assert first.folder.parent == sets_folder() == tmp_path / "cache" / "ddamfn" / "prepared"
    told.clear()
    again = open_prepared(root, ALIGNMENT, lambda done, total: told.append((done, total)))
    assert again.folder == first.folder
    assert not told
    other = open_prepared(root, replace(ALIGNMENT, margin=0.1))
    assert other.folder != first.folder


def test_a_prepared_set_is_taken_as_it_is_or_not_at_all(prepared: Prepared) -> None:
    assert open_prepared(prepared.folder, prepared.alignment).folder == prepared.folder
    with pytest.raises(ConfigError, match=r"was aligned with .*, the run asks for .*--set data\.alignment\.template"):
        open_prepared(prepared.folder, ALIGNMENT)


def test_the_cache_is_in_the_home_without_a_word_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sets_folder() == Path.home() / ".cache" / "ddamfn" / "prepared"


def test_own_splits_are_used_and_test_is_never_opened(
    prepared: Prepared, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, whole = [], Prepared.split

    def spy(self: Prepared, name: str, rule: str = "majority") -> object:
        opened.append(name)
        return whole(self, name, rule)

    monkeypatch.setattr(Prepared, "split", spy)
    train, valid = load_splits(prepared, make_run(), CPU)
    assert opened == ["train", "val"]
    assert (len(train), len(valid)) == (32, 16)
    assert train.classes == valid.classes == prepared.classes == EXPRESSIONS
    assert train.origin == f"train of {prepared.folder}"


def test_classes_are_the_run_s(prepared: Prepared, make_run: Callable[..., Run]) -> None:
    run = make_run(data__classes=["fear", "anger", "neutral"])
    train, valid = load_splits(prepared, run, CPU)
    assert train.classes == ("fear", "anger", "neutral")
    assert (len(train), len(valid)) == (12, 6)


def test_a_set_without_validation_holds_some_out(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    for split in ("train", "test"):
        class_folders(tmp_path / "set" / split, count=6)
    prepared = open_prepared(tmp_path / "set", ALIGNMENT)
    assert prepared.splits == ("train", "test")
    train, valid = load_splits(prepared, make_run(data__holdout=0.3), CPU)
    assert (len(train), len(valid)) == (8, 4)
    assert not set(train.keys) & set(valid.keys)
    assert all(key.startswith("train/") for key in (*train.keys, *valid.keys))
    # The seed decides which; the same seed, the same ones.
    assert load_splits(prepared, make_run(data__holdout=0.3), CPU)[1].keys == valid.keys
    assert load_splits(prepared, make_run(data__holdout=0.3, seed=5), CPU)[1].keys != valid.keys


def test_a_set_without_splits_is_parted_by_subject(
    tmp_path: Path, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, whole = open_prepared(class_folders(tmp_path / "set", count=6), ALIGNMENT), Prepared.split
    assert prepared.splits == ("all",)

    def with_subjects(self: Prepared, name: str, rule: str = "majority") -> PreparedSplit:
        split = whole(self, name, rule)
        return replace(split, subjects=[Path(key).stem for key in split.keys])

    monkeypatch.setattr(Prepared, "split", with_subjects)
    train, valid = load_splits(prepared, make_run(data__holdout=0.3), CPU)
    assert (len(train), len(valid)) == (8, 4)
    assert not {Path(key).stem for key in train.keys} & {Path(key).stem for key in valid.keys}


@pytest.mark.parametrize(
    ("dataset", "splits", "expected"),
    [
        ("folder", ("train", "val"), "val"),
        ("ferplus", ("train", "val", "test"), "val"),
        ("table", ("train", "valid", "test"), "valid"),
        ("rafdb", ("train", "test"), None),
        # Papers report on AffectNet's val: to select there would be to select on test.
        ("affectnet", ("train", "val"), None),
    ],
)
def test_which_split_is_for_selection(
    prepared: Prepared, dataset: str, splits: tuple[str, ...], expected: str | None
) -> None:
    asked = replace(prepared, dataset=dataset, counts=dict.fromkeys(splits, prepared.counts["val"]))
    assert own_validation(asked) == expected


def test_what_is_missing_is_named(prepared: Prepared, make_run: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no split 'dev'; it has train, val, test"):
        load_splits(prepared, make_run(data__validation="dev"), CPU)
    two = open_prepared(class_folders(tmp_path / "set"), ALIGNMENT)
    with pytest.raises(DataError, match="has no class contempt; it has anger, fear"):
        load_splits(two, make_run(data__classes=["fear", "contempt"]), CPU)


def test_a_set_of_one_class_is_refused(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    class_folders(tmp_path / "set")
    shutil.rmtree(tmp_path / "set" / "anger")
    one = open_prepared(tmp_path / "set", ALIGNMENT)
    for load in (load_splits, load_faces):
        with pytest.raises(DataError, match=re.escape(f"{tmp_path}/set has the class fear alone")):
            load(one, make_run(), CPU)


def test_an_empty_class_is_refused_with_its_folder(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    root = tmp_path / "set"
    class_folders(root / "train")
    class_folders(root / "val")
    (root / "val" / "anger").rename(root / "val" / "sad")
    prepared = open_prepared(root, ALIGNMENT)
    with pytest.raises(DataError, match=rf"train of {root}: no image of sadness; add some, or train"):
        load_splits(prepared, make_run(), CPU)
    # Validation may lack a class: its recall is then left out.
    train, valid = load_splits(prepared, make_run(data__classes=["anger", "fear"]), CPU)
    assert (len(train), len(valid)) == (6, 3)


def test_nothing_to_validate_on_is_refused(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    prepared = open_prepared(class_folders(tmp_path / "set", count=1), ALIGNMENT)
    with pytest.raises(DataError, match="no image is left to select on"):
        load_splits(prepared, make_run(), CPU)


def test_a_truncated_image_is_left_out_and_told(
    tmp_path: Path, make_run: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    root = class_folders(tmp_path / "set", count=4)
    whole = (root / "fear" / "2.png").read_bytes()
    (root / "fear" / "2.png").write_bytes(whole[: len(whole) // 2])
    prepared = open_prepared(root, ALIGNMENT)
    train, valid = load_splits(prepared, make_run(), CPU)
    assert "fear/2.png" not in (*train.keys, *valid.keys)
    assert len(train) + len(valid) == 7
    assert "1 unreadable images" in caplog.text


def test_votes_weigh_the_training_images_alone(
    prepared: Prepared, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(data__vote_weight=True)
    with pytest.raises(ConfigError, match=r"has no votes; train with --set data\.vote_weight=false$"):
        load_splits(prepared, run, CPU)
    rows = list(prepared.manifest())
    # Ballots of ten: the image's own class has from six to ten votes, "unknown" the rest.
    ballots = {}
    for i, row in enumerate(rows):
        own = 6 + i % 5
        ballots[row.key] = (*(float(own * (name == row.label)) for name in EXPRESSIONS), 10.0 - own, 0.0)
    voted = [replace(row, label=None, votes=ballots[row.key]) for row in rows]
    monkeypatch.setattr(Prepared, "manifest", lambda self: iter(voted))
    train, valid = load_splits(replace(prepared, votes=True), run, CPU)
    assert valid.weights is None
    assert train.weights is not None
    assert float(train.weights.mean()) == pytest.approx(1.0)
    shares = torch.tensor([max(ballots[key][:8]) / 10 for key in train.keys])
    torch.testing.assert_close(train.weights, (shares / shares.mean()).float())
    part = train.subset(torch.tensor([3, 1]))
    assert part.weights is not None
    assert part.weights.tolist() == [train.weights[3], train.weights[1]]


def test_confidence_is_fitted_on_images_that_people_disagree_on_too(
    tmp_path: Path, make_run: Callable[..., Run]
) -> None:
    root = write_synthetic_ferplus(tmp_path / "ferplus", 2, np.random.default_rng(3))
    label = root / "FER2013Valid" / "label.csv"
    lines = label.read_text().splitlines()
    # Five of ten are no majority; of the last, nobody has seen an expression.
    torn = ("5,5,0,0,0,0,0,0,0,0", "3,3,2,2,0,0,0,0,0,0", "0,0,0,0,0,0,0,0,6,4")
    changed_lines = [line.rsplit(",", 10)[0] + f",{votes}" for line, votes in zip(lines, torn, strict=False)]
    label.write_text("\n".join(changed_lines + lines[3:]) + "\n")
    alignment = Alignment("ddamfn_frontal", side_px=64)
    changed, run = prepare(open_dataset(root), tmp_path / "out", alignment, workers=1), make_run()
    _, valid = load_splits(changed, run, CPU)
    every = calibration_split(changed, run, valid, CPU)
    assert (len(valid), len(every)) == (len(lines) - 3, len(lines) - 1)
    assert set(valid.keys) < set(every.keys)
    kept = kept_by_majority(changed, "val", every.keys)
    assert kept is not None
    assert [key for key, is_kept in zip(every.keys, kept, strict=True) if is_kept] == list(valid.keys)


def test_without_votes_it_is_fitted_on_the_images_that_were_selected_on(
    tmp_path: Path, make_run: Callable[..., Run]
) -> None:
    prepared = open_prepared(class_folders(tmp_path / "set", 6), ALIGNMENT)
    run = make_run()
    _, valid = load_splits(prepared, replace(run, data=replace(run.data, alignment=ALIGNMENT)), CPU)
    assert calibration_split(prepared, run, valid, CPU) is valid
    assert kept_by_majority(prepared, "all", valid.keys) is None
