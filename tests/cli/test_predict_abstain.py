"""`ddamfn predict --min-precision` and `--class-prior`: in every format, and one line where they cannot be had."""

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("kind", ["table", "json", "jsonl", "csv"])
def test_uncertain_is_an_answer_in_every_format(
    photos: Path, predict: Any, calibrated_weights: Path, kind: str
) -> None:
    call = ("photos/face.jpg", "--format", kind)
    _, plain, _ = predict(*call)
    status, out, _ = predict(*call, "--min-precision", "0.9", "--weights", str(calibrated_weights))
    assert status == 0
    assert b"uncertain" in out
    assert b"uncertain" not in plain
    if kind == "table":
        # The likeliest expression's confidence stays to be read.
        assert out.split(b"%")[0].split()[-1] == plain.split(b"%")[0].split()[-1]
    elif kind != "csv":
        (face,), (answered,) = json.loads(out)["faces"], json.loads(plain)["faces"]
        assert face == answered | {"expression": "uncertain"}


def test_uncertain_faces_are_counted_and_drawn(photos: Path, predict: Any, calibrated_weights: Path) -> None:
    options = ("--annotate", "marked", "--weights", str(calibrated_weights), "--min-precision")
    _, _, err = predict("photos/*", *options, "0.9")
    assert "1 face, 1 uncertain, " in err[-1]
    marked = Path("marked/face.jpg").read_bytes()
    _, _, err = predict("photos/*", *options, "0.5")
    assert "uncertain" not in err[-1]
    assert Path("marked/face.jpg").read_bytes() != marked


@pytest.mark.parametrize(
    ("value", "said"), [("0.95", "ask for at most 0.9, which"), ("0", "not a number above 0"), ("95", "at most 1")]
)
def test_a_precision_out_of_reach_is_one_line(
    photos: Path, predict: Any, calibrated_weights: Path, value: str, said: str
) -> None:
    status, out, err = predict("photos", "--min-precision", value, "--weights", str(calibrated_weights))
    assert (status, out, len(err)) == (2, b"", 1)
    assert said in err[0]


def test_the_expected_mix_changes_probabilities(photos: Path, predict: Any, calibrated_weights: Path) -> None:
    call = ("photos/face.jpg", "--format", "json", "--weights", str(calibrated_weights))
    plain, training, other = (
        json.loads(predict(*call, *more)[1])["faces"][0]["probabilities"]
        for more in ((), ("--class-prior", "training"), ("--class-prior", "neutral=.9"))
    )
    assert plain == training
    assert other["neutral"] > plain["neutral"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--class-prior", "even"), "class prior"),
        (("--class-prior", "neutral=2"), "neutral"),
        (("--class-prior", "uniform", "--min-precision", ".9"), "min_precision"),
    ],
)
def test_a_mix_that_cannot_be_had_is_one_line(
    photos: Path, predict: Any, calibrated_weights: Path, arguments: tuple[str, ...], said: str
) -> None:
    status, out, err = predict("photos", "--weights", str(calibrated_weights), *arguments)
    assert (status, out, len(err)) == (2, b"", 1)
    assert said in err[0]
