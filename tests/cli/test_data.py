"""`ddamfn data prepare` and `ddamfn data check`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ddamfn.cli import main
from ddamfn.preparation import load_prepared


@pytest.fixture
def root(drawn_layout: Callable[[str], Path]) -> Path:
    return drawn_layout("ferplus")


def test_prepare_says_what_became_of_every_image(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy := tmp_path / "copy").mkdir()
    (copy / "FER2013Test").symlink_to(root / "FER2013Test")
    out = tmp_path / "out"
    arguments = ["data", "prepare", str(copy), str(out), "--template", "arcface", "--margin", "0.1", "--workers", "1"]
    assert main([*arguments, "--kind", "ferplus"]) == 0
    prepared = load_prepared(out)
    assert (prepared.alignment.template, prepared.alignment.margin) == ("arcface", 0.1)
    counts = prepared.counts["test"]
    shown = capsys.readouterr()
    assert f"8 images: {counts['found']} aligned, {counts['resized']} without a face" in shown.out
    assert "label.csv" in shown.out
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_prepare_goes_on(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["data", "prepare", str(root), str(out), "--workers", "1"]
    assert main(arguments) == 0
    card = json.loads((out / "prepared.json").read_text())
    (out / "prepared.json").write_text(json.dumps({**card, "complete": False}))
    lines = (out / "manifest.csv").read_text().splitlines(keepends=True)
    (out / "manifest.csv").write_text("".join(lines[:6]) + lines[6][:20])
    before = capsys.readouterr().out
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert "going on after 5 of 24 images" in shown.err
    assert shown.out == before
    assert (out / "manifest.csv").read_text() == "".join(lines)


def test_prepare_reuses_landmarks(
    drawn_layout: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = drawn_layout("rafdb")
    assert main(["data", "prepare", str(root), str(tmp_path / "a"), "--workers", "1"]) == 0
    assert "7 aligned (7 by the set's own landmarks)" in capsys.readouterr().out
    more = ["--workers", "1", "--landmarks-from", str(tmp_path / "a"), "--template", "ddamfn_five_pose"]
    assert main(["data", "prepare", str(root), str(tmp_path / "b"), *more]) == 0


def test_unreadable_images_are_pointed_out(
    own_layout: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = own_layout("ferplus")
    next((root / "FER2013Test").glob("*.png")).write_bytes(b"")
    assert main(["data", "prepare", str(root), str(tmp_path / "out"), "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert "1 unreadable\n" in shown
    assert "manifest.csv, in the column error" in shown


def test_check_prints_the_report(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(root)]) == 0
    shown = capsys.readouterr().out
    assert "official test: no" in shown
    assert "3,573" in shown
    assert main(["data", "check", str(root), "--format", "json", "--rule", "argmax", "--counts-only"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rule"] == "argmax"
    assert report["official_test"] is False
    assert report["unreadable"] is None


def test_check_fails_where_scores_would_be_wrong(
    own_layout: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = own_layout("table")
    path = root / "table.csv"
    path.write_text(path.read_text().replace(",test000,", ",train000,"))
    assert main(["data", "check", str(root)]) == 1
    assert "subjects occur in more than one split" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["check", "/no/such/folder"], 1, "/no/such/folder does not exist"),
        (["check", ".", "--kind", "jaffe"], 2, "invalid choice: 'jaffe'"),
        (["prepare", "a"], 2, "the following arguments are required: DST"),
        (["prepare", "a", "b", "--margin", "-2"], 2, "--margin"),
        (["prepare", "a", "b", "--template", "profile"], 2, "'profile': choose one of"),
        (["prepare", "a", "b", "--workers", "0"], 2, "--workers"),
        ([], 2, "COMMAND"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        found = main(["data", *arguments])
    except SystemExit as stop:
        found = int(str(stop.code))
    shown = capsys.readouterr()
    assert found == status
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
