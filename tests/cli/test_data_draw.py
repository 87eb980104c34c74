"""`ddamfn data draw`: a synthetic data set from the command line."""

import argparse
from pathlib import Path

import pytest

from ddamfn.cli import data as data_verb
from ddamfn.data import open_dataset
from ddamfn.errors import UsageError
from ddamfn.synthetic import LAYOUTS


def _run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    data_verb._add_draw_parser(parser.add_subparsers())
    args = parser.parse_args(["draw", *argv])
    status: int = args.run(args)
    return status


def test_the_layouts_on_offer_are_those_that_can_be_written() -> None:
    assert set(data_verb.LAYOUTS) == set(LAYOUTS)


def test_it_draws_a_set_and_prints_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(str(tmp_path / "new"), "--per-class", "1", "--layout", "ferplus", "--seed", "4") == 0
    assert capsys.readouterr().out == f"{tmp_path / 'new'}\n"
    dataset = open_dataset(tmp_path / "new")
    assert dataset.card.name == "ferplus"
    assert len(dataset.samples) == 3 * 8


def test_it_mixes_nothing_into_a_folder_with_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(UsageError, match="not an empty folder"):
        _run(str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="negative"):
        _run(str(tmp_path / "new"), "--seed", "-1")
    with pytest.raises(SystemExit):
        _run(str(tmp_path / "new"), "--per-class", "0")
