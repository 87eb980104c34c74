"""`ddamfn data draw`: a synthetic data set from the command line."""

from pathlib import Path

import pytest

from ddamfn.cli import main
from ddamfn.data import open_dataset


def test_it_draws_a_set_and_prints_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--per-class", "1", "--layout", "ferplus", "--seed", "4"]
    assert main(["data", "draw", str(tmp_path / "new"), *options]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new'}\n"
    dataset = open_dataset(tmp_path / "new")
    assert dataset.card.name == "ferplus"
    assert len(dataset.samples) == 3 * 8


def test_it_mixes_nothing_into_a_folder_with_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    assert main(["data", "draw", str(tmp_path)]) == 2
    assert "empty folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_bad_arguments_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "draw", str(tmp_path / "new"), "--seed", "-1"]) == 2
    assert "negative" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["data", "draw", str(tmp_path / "new"), "--per-class", "0"])


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["data", "draw", str(tmp_path / "file" / "set"), "--per-class", "1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot write" in line
    assert "set" in line
