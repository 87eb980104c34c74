"""The comparison: who is in it, under which conditions, with which figures of others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ddamfn.cli import main
from ddamfn.cli.study import METHODS as NAMED_METHODS
from ddamfn.errors import UsageError
from ddamfn.models import list_models
from ddamfn.study.comparison import comparison
from ddamfn.study.methods import METHODS
from ddamfn.train import override, recipe, run_from_dict
from ddamfn.train.config import to_dict

SLIDES = {"ran": 86.90, "scn": 87.03, "dacl": 87.78, "mvit": 88.62, "psr": 88.98, "dan": 89.70, "transfer": 90.91,
          "ddamfn": 90.635}  # fmt: skip


def test_the_slides_methods_and_figures_are_the_table() -> None:
    study = comparison(recipe("ddamfn_rafdb"), methods=None, as_published=False, seeds=1, data="faces", commit=None)
    assert {row.name: row.slides for row in study.rows} == SLIDES
    # The slides take the mean of ten folds; the paper's own figure stands in its own column.
    assert study.row("ddamfn").published == 91.35
    assert any("91.35" in note for note in study.notes)
    assert set(METHODS) <= set(list_models())
    assert tuple(METHODS) == NAMED_METHODS


def test_equal_conditions_differ_in_network_and_objective_alone() -> None:
    base = recipe("ddamfn_rafdb")
    study = comparison(base, methods=None, as_published=False, seeds=1, data="faces", commit=None)
    shared = [{k: v for k, v in to_dict(row.run).items() if k not in ("model", "objective")} for row in study.rows]
    assert all(one == shared[0] for one in shared)
    assert all(type(row.run.objective) is type(METHODS[row.name].objective) for row in study.rows)


@pytest.mark.parametrize("name", METHODS)
def test_each_published_recipe_is_a_run_that_can_be_written_and_read(name: str) -> None:
    run = METHODS[name].as_published(recipe("ddamfn_rafdb"))
    assert run_from_dict(to_dict(run)) == run
    assert run.model.name == name
    assert run.phases[0].side_px == run.data.alignment.side_px
    assert METHODS[name].differs


def test_a_network_that_cannot_take_small_pictures_is_named() -> None:
    small = override(recipe("ddamfn_rafdb"), {"phases.0.side_px": 48})
    with pytest.raises(UsageError, match="psr needs pictures of at least 64 px"):
        comparison(small, methods=["psr"], as_published=False, seeds=1, data="faces", commit=None)
    with pytest.raises(UsageError, match="no method named nobody"):
        comparison(small, methods=["nobody"], as_published=False, seeds=1, data="faces", commit=None)


def test_a_comparison_end_to_end(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    assert main(arguments("comparison", "--methods", "scn", "--seeds", "1")) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "2 of 2 jobs done" in text
    assert "| 87.03 | 87.03 |" in text
    assert "| 91.35 | 90.635 |" in text
