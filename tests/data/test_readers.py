"""What holds for every reader: layouts are recognized, images can be read, and readers travel to other processes."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from ddamfn.data import CARDS, KINDS, Dataset, open_dataset, recognize
from ddamfn.errors import DataError, UnknownLabel, UnreadableImage, UsageError
from ddamfn.faces import decode
from ddamfn.labels import EXPRESSIONS
from ddamfn.synthetic import LAYOUTS

OFFICIAL = {"affectnet-manual": "affectnet", "ferplus-zip": "ferplus"}


@pytest.fixture(scope="module", params=sorted(LAYOUTS))
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def root(layout: str, drawn_layout: Callable[[str], Path]) -> Path:
    return drawn_layout(layout)


@pytest.fixture(scope="module")
def dataset(root: Path) -> Dataset:
    return open_dataset(root)


def test_the_layout_is_recognized(layout: str, root: Path, dataset: Dataset) -> None:
    kind = OFFICIAL.get(layout, layout)
    assert recognize(root) == kind
    assert dataset.card.name == kind
    assert open_dataset(root, kind).samples == dataset.samples


def test_keys_are_unique_and_labels_canonical(dataset: Dataset) -> None:
    keys = [s.key for s in dataset.samples]
    assert len(set(keys)) == len(keys)
    for s in dataset.samples:
        assert (s.label is None) == (s.votes is not None)
        assert s.label is None or s.label in EXPRESSIONS


def test_every_split_has_every_class(dataset: Dataset) -> None:
    for split in dataset.splits:
        keep, target = dataset.select(split).targets()
        assert keep.all()
        assert target.shape == (len(keep), len(dataset.classes))
        assert (target.sum(axis=1) == 1).all()
        assert (target.sum(axis=0) > 0).all()


def test_images_decode_also_after_pickling(dataset: Dataset) -> None:
    images = pickle.loads(pickle.dumps(dataset.images))
    for s in (dataset.samples[0], dataset.samples[-1]):
        image = decode(dataset.read(s))
        assert image.std() > 5
        assert (decode(images.read(s.location)) == image).all()


def test_the_same_samples_every_time(root: Path, dataset: Dataset) -> None:
    assert open_dataset(root).samples == dataset.samples


def test_a_split_that_is_not_there(dataset: Dataset) -> None:
    with pytest.raises(DataError, match="has no split 'holiday'"):
        dataset.select("holiday")
    assert dataset.select(None) is dataset


def test_kinds_and_cards_belong_together() -> None:
    assert set(CARDS) <= set(KINDS)


def test_nothing_there_and_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(tmp_path / "none")
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DataError, match="layout") as caught:
        open_dataset(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="use one of ferplus"):
        open_dataset(tmp_path, "jaffe")


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("folder", "table")])
def test_a_named_kind_that_does_not_fit_says_what_is_missing(tmp_path: Path, kind: str) -> None:
    (tmp_path / "holiday").mkdir()
    with pytest.raises(DataError, match=r"holds|lacks") as caught:
        open_dataset(tmp_path, kind)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "first", "label"), [("rafdb", 1, "surprise"), ("affectnet", 0, "neutral"), ("fer2013", 0, "anger")]
)
def test_numbered_folders_need_the_name_of_their_set(tmp_path: Path, kind: str, first: int, label: str) -> None:
    folder = tmp_path / "train" / str(first)
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="--kind"):
        open_dataset(tmp_path)
    dataset = open_dataset(tmp_path, kind)
    assert [(s.key, s.label) for s in dataset.samples] == [(f"train/{first}/a.png", label)]
    assert dataset.card == CARDS[kind]


def test_class_numbers_of_the_cards() -> None:
    rafdb = [CARDS["rafdb"].label(i) for i in range(1, 8)]
    assert rafdb == ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
    with pytest.raises(UnknownLabel, match="1 to 7, not 0"):
        CARDS["rafdb"].label(0)
    assert CARDS["affectnet"].label(3) == "surprise"
    assert CARDS["fer2013"].label(6) == "neutral"
    assert CARDS["ckplus"].label(7) == "surprise"
    assert CARDS["ferplus"].classes == EXPRESSIONS


@pytest.mark.parametrize("card", [c for c in CARDS.values() if not c.votes], ids=lambda c: c.name)
def test_official_counts_add_up(card: object) -> None:
    from ddamfn.data import DatasetCard

    assert isinstance(card, DatasetCard)
    for split, row in card.counts.items():
        assert sum(row.values()) == card.sizes.get(split, sum(card.sizes.values()))
        assert set(row) == set(card.classes)


def test_missing_files_are_unreadable_not_dropped(own_layout: Callable[[str], Path]) -> None:
    root = own_layout("ferplus")
    name = open_dataset(root).samples[0].key
    (root / name).unlink()
    dataset = open_dataset(root)
    assert dataset.samples[0].key == name
    with pytest.raises(UnreadableImage, match=name):
        dataset.read(dataset.samples[0])
