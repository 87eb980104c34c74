"""The vote rules, on votes made by hand and, where it is, on the whole of FERPlus."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ddamfn.data.ferplus import open_ferplus
from ddamfn.data.rules import RULES, VOTE_COLUMNS, leading_share, targets
from ddamfn.errors import UsageError
from ddamfn.labels import EXPRESSIONS

# Columns: neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, NF.


def one(votes: Sequence[float], rule: str) -> dict[str, float] | None:
    keep, target = targets(np.array([votes]), rule)
    if not keep[0]:
        assert not target.any()
        return None
    return {name: round(float(share), 4) for name, share in zip(EXPRESSIONS, target[0], strict=True) if share}


def test_columns_begin_with_the_expressions() -> None:
    assert (*EXPRESSIONS, "unknown", "NF") == VOTE_COLUMNS


def test_the_leading_share_counts_every_vote_and_leads_with_an_expression() -> None:
    votes = [
        [10, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [4, 1, 1, 1, 0, 0, 0, 3, 0, 0],  # single votes count
        [0, 3, 0, 0, 0, 0, 0, 0, 0, 7],  # no face leads, and no face is no expression
        [0, 0, 0, 0, 0, 0, 0, 0, 5, 5],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]
    shares = leading_share(votes)
    assert shares.dtype == np.float32
    assert shares.tolist() == pytest.approx([1.0, 0.4, 0.3, 0.0, 0.0])
    assert leading_share([]).shape == (0,)


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([10, 0, 0, 0, 0, 0, 0, 0, 0, 0], "neutral"),
        ([6, 4, 0, 0, 0, 0, 0, 0, 0, 0], "neutral"),
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], None),  # exactly half is no majority
        ([5, 1, 1, 1, 1, 1, 0, 0, 0, 0], "neutral"),  # single votes do not count against it
        ([4, 1, 1, 1, 0, 0, 0, 3, 0, 0], "neutral"),  # 4 of the 7 left
        ([4, 0, 0, 3, 0, 0, 0, 3, 0, 0], None),
        ([0, 0, 0, 0, 0, 0, 0, 0, 10, 0], None),  # unknown wins
        ([0, 3, 0, 0, 0, 0, 0, 0, 0, 7], None),  # no face wins
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], None),  # nothing is left
        ([0, 0, 0, 0, 0, 0, 0, 8, 2, 0], "contempt"),
    ],
)
def test_majority(votes: list[int], expected: str | None) -> None:
    assert one(votes, "majority") == (None if expected is None else {expected: 1.0})


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([10, 0, 0, 0, 0, 0, 0, 0, 0, 0], {"neutral": 1.0}),
        ([8, 2, 0, 0, 0, 0, 0, 0, 0, 0], {"neutral": 1.0}),  # 80 % is reached by the first alone
        ([6, 4, 0, 0, 0, 0, 0, 0, 0, 0], {"neutral": 0.6, "happiness": 0.4}),
        ([5, 3, 2, 0, 0, 0, 0, 0, 0, 0], {"neutral": 0.625, "happiness": 0.375}),
        ([4, 2, 2, 0, 0, 0, 0, 2, 0, 0], None),  # three tied for the second place make four columns
        ([4, 3, 2, 0, 1, 0, 0, 0, 0, 0], {"neutral": 0.5714, "happiness": 0.4286}),
        ([3, 3, 2, 0, 2, 0, 0, 0, 0, 0], None),
        ([3, 3, 3, 0, 0, 0, 0, 0, 0, 1], {"neutral": 0.3333, "happiness": 0.3333, "surprise": 0.3333}),
        ([6, 0, 0, 0, 0, 0, 0, 0, 4, 0], {"neutral": 1.0}),  # unknown ends the search and gets nothing
        ([5, 0, 0, 0, 0, 0, 0, 0, 5, 0], None),  # half is not more than half
        ([4, 0, 0, 0, 0, 0, 0, 0, 6, 0], None),
        ([3, 2, 2, 0, 0, 0, 0, 0, 2, 1], None),  # unknown tied for the third place counts as a fourth column
    ],
)
def test_probability(votes: list[int], expected: dict[str, float] | None) -> None:
    assert one(votes, "probability") == expected


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([5, 3, 2, 0, 0, 0, 0, 0, 0, 0], {"neutral": 0.625, "happiness": 0.375}),
        ([3, 3, 3, 0, 0, 0, 0, 0, 0, 1], {"neutral": 0.3333, "happiness": 0.3333, "surprise": 0.3333}),
        ([4, 2, 2, 2, 0, 0, 0, 0, 0, 0], None),  # 40 % is not more than half
        ([4, 0, 0, 0, 0, 0, 0, 0, 3, 3], {"neutral": 1.0}),  # shares of the expressions alone
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 10], None),
    ],
)
def test_multi_target(votes: list[int], expected: dict[str, float] | None) -> None:
    assert one(votes, "multi_target") == expected


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([4, 3, 2, 1, 0, 0, 0, 0, 0, 0], {"neutral": 0.4, "happiness": 0.3, "surprise": 0.2, "sadness": 0.1}),
        ([3, 1, 0, 0, 0, 0, 0, 0, 5, 1], {"neutral": 0.75, "happiness": 0.25}),
        ([0, 0, 0, 0, 0, 0, 0, 0, 4, 6], None),
    ],
)
def test_shares(votes: list[int], expected: dict[str, float] | None) -> None:
    assert one(votes, "shares") == expected


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([4, 3, 3, 0, 0, 0, 0, 0, 0, 0], "neutral"),
        ([0, 0, 0, 4, 4, 0, 0, 0, 2, 0], "sadness"),  # the first on a tie
        ([1, 0, 0, 0, 0, 0, 0, 0, 0, 0], "neutral"),  # single votes count
        ([0, 0, 0, 0, 0, 0, 0, 4, 0, 6], None),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0], None),
    ],
)
def test_argmax(votes: list[int], expected: str | None) -> None:
    assert one(votes, "argmax") == (None if expected is None else {expected: 1.0})


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        ([0, 0, 0, 0, 0, 0, 0, 4, 0, 6], "contempt"),
        ([0, 1, 0, 0, 0, 0, 0, 0, 9, 0], "happiness"),
        ([0, 0, 0, 4, 4, 0, 0, 0, 2, 0], "sadness"),  # the first on a tie
        ([0, 0, 0, 0, 0, 0, 0, 0, 4, 6], None),
    ],
)
def test_argmax_of_all_rows(votes: list[int], expected: str | None) -> None:
    assert one(votes, "argmax_all") == (None if expected is None else {expected: 1.0})


@pytest.mark.parametrize("rule", RULES)
def test_shapes_and_sums(rule: str, rng: np.random.Generator) -> None:
    votes = rng.multinomial(10, np.full(10, 0.1), size=500)
    votes[7] = [0] * 8 + [5, 5]
    before = votes.copy()
    keep, target = targets(votes, rule)
    assert keep.shape == (500,)
    assert keep.dtype == np.bool_
    assert 0 < keep.sum() < 500
    assert target.shape == (500, 8)
    assert target.dtype == np.float32
    assert np.allclose(target.sum(axis=1), keep)
    assert (votes == before).all()


@pytest.mark.parametrize("rule", RULES)
def test_no_votes_at_all(rule: str) -> None:
    keep, target = targets(np.zeros((0, 10)), rule)
    assert keep.shape == (0,)
    assert target.shape == (0, 8)


def test_bad_arguments() -> None:
    with pytest.raises(UsageError, match="majority, probability, multi_target, shares, argmax"):
        targets(np.zeros((1, 10)), "plurality")
    with pytest.raises(UsageError, match="10"):
        targets(np.zeros((1, 8)), "majority")


LABEL_CSV = {
    "majority": (25_045, 3_191, 3_137),
    "probability": (27_762, 3_480, 3_481),
    "multi_target": (27_667, 3_472, 3_466),
    "shares": (28_556, 3_579, 3_573),
    "argmax_all": (28_556, 3_579, 3_573),
}
NEW_CSV_ROWS = {"majority": (25_060, 3_199, 3_153), "argmax": (28_389, 3_553, 3_546)}


@pytest.mark.ferplus
@pytest.mark.parametrize(("rule", "counts"), LABEL_CSV.items())
def test_published_counts_of_label_csv(ferplus_root: Path, rule: str, counts: tuple[int, ...]) -> None:
    dataset = open_ferplus(ferplus_root, "label.csv")
    kept = tuple(int(dataset.select(split).targets(rule)[0].sum()) for split in ("train", "val", "test"))
    assert kept == counts
    assert kept == tuple(dataset.card.rule_sizes[rule].values())


@pytest.mark.ferplus
@pytest.mark.parametrize(("rule", "counts"), NEW_CSV_ROWS.items())
def test_published_counts_of_the_rows_of_fer2013new(ferplus_root: Path, rule: str, counts: tuple[int, ...]) -> None:
    lines = (ferplus_root / "fer2013new.csv").read_text().splitlines()[1:]
    for usage, count in zip(("Training", "PublicTest", "PrivateTest"), counts, strict=True):
        votes = [line.split(",")[2:] for line in lines if line.startswith(usage)]
        assert targets(np.array(votes, dtype=np.float64), rule)[0].sum() == count


@pytest.mark.ferplus
def test_images_of_fer2013new(ferplus_root: Path) -> None:
    dataset = open_ferplus(ferplus_root, "fer2013new.csv")
    for rule in RULES:
        kept = {split: int(dataset.select(split).targets(rule)[0].sum()) for split in dataset.splits}
        assert kept == dataset.card.rule_sizes[rule]
    classes = dataset.select("test").targets("majority")[1].sum(axis=0)
    assert dict(zip(dataset.classes, classes.astype(int).tolist(), strict=True)) == {
        "neutral": 1089,
        "happiness": 893,
        "surprise": 396,
        "sadness": 384,
        "anger": 273,
        "disgust": 18,
        "fear": 83,
        "contempt": 16,
    }
