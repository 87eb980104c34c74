"""The comparison: who is in it, under which conditions, with which figures of others."""

from typing import Any

import pytest

from ddamfn.errors import UsageError
from ddamfn.models import list_models
from ddamfn.objectives import DDAMFNObjective
from ddamfn.study.catalog import NETWORKS
from ddamfn.study.jobs import Plan, Study
from ddamfn.study.tables.comparison import comparison
from ddamfn.study.tables.methods import METHODS
from ddamfn.train import override, recipe, run_from_dict
from ddamfn.train.config import to_dict

REPORTED = {"ran": 86.90, "scn": 87.03, "dacl": 87.78, "mvit": 88.62, "psr": 88.98, "dan": 89.70, "transfer": 90.91,
          "poster": None, "ddamfn": 90.635}  # fmt: skip


def build(*names: str, **settings: Any) -> Study:
    run = override(recipe("ddamfn_rafdb"), settings.pop("settings", {}))
    return comparison(run, Plan(data="faces", dataset="faces"), methods=names or None, **settings)


def test_the_slides_methods_and_figures_are_the_table() -> None:
    study = build()
    assert {row.name: row.reported for row in study.rows} == REPORTED
    # The slides take the mean of ten folds; the paper's own figure stands in its own column.
    assert study.row("ddamfn").published == 91.35
    assert any("91.35" in note for note in study.notes)
    assert any("1.03" in note for note in study.notes)
    assert set(METHODS) <= set(list_models())
    assert tuple(METHODS) == tuple(NETWORKS)


def test_equal_conditions_differ_in_network_and_objective_alone() -> None:
    study = build()
    shared = [{k: v for k, v in to_dict(row.run).items() if k not in ("model", "objective")} for row in study.rows]
    assert all(one == shared[0] for one in shared)
    assert all(type(row.run.objective) is type(METHODS[row.name].objective) for row in study.rows)


def test_settings_of_the_recipe_s_own_objective_reach_its_method_alone() -> None:
    study = build("scn", settings={"objective.attention_weight": 0.001})
    assert study.row("ddamfn").run.objective == DDAMFNObjective(attention_weight=0.001)
    assert study.row("scn").run.objective == METHODS["scn"].objective
    assert any("weighed by 0.001." in note for note in study.notes)
    assert any("may hold rows with heads back" in note for note in build("scn").notes)
    published = build("scn", settings={"objective.attention_weight": 0.001}, as_published=True)
    assert published.row("ddamfn").run.objective == DDAMFNObjective()


@pytest.mark.parametrize("name", METHODS)
def test_each_published_recipe_is_a_run_that_can_be_written_and_read(name: str) -> None:
    run = METHODS[name].as_published(override(recipe("ddamfn_quick"), {"seed": 3}))
    assert run_from_dict(to_dict(run)) == run
    assert run.model.name == name
    assert run.phases[0].side_px == run.data.alignment.side_px
    assert METHODS[name].differs
    # Nothing of the base's training is left; images and seed are.
    assert run == METHODS[name].as_published(override(recipe("ddamfn_rafdb"), {"seed": 3, "data.classes": None}))


def test_the_other_conditions_stand_beside() -> None:
    equal, published = build("scn"), build("scn", as_published=True)
    assert equal.beside is not None
    assert published.beside is not None
    assert (equal.name, equal.beside.name) == ("comparison", published.name)
    assert [job.id for job in published.beside.jobs] == [job.id for job in equal.jobs]
    assert not {job.id for job in equal.jobs} & {job.id for job in published.jobs}


def test_a_network_that_cannot_take_a_side_is_given_the_nearest_and_it_is_said() -> None:
    study = build("psr", "mvit", "scn", settings={"phases.0.side_px": 60})
    sides = {row.name: row.run.phases[0].side_px for row in study.rows}
    assert sides == {"scn": 60, "mvit": 48, "psr": 64, "ddamfn": 60}
    assert "is given 64 px" in study.row("psr").note
    assert "is given" not in study.row("scn").note
    small = {"phases.0.side_px": 48, "data.alignment.side_px": 48}
    with pytest.raises(UsageError, match="psr needs images of at least 64 px, and the crops have 48"):
        build("psr", settings=small)
    # Its own recipe has crops of its own.
    assert build("psr", settings=small, as_published=True).beside is None


def test_unknown_methods_are_named() -> None:
    with pytest.raises(UsageError, match="no method named nobody"):
        build("nobody")
