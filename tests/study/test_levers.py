"""The table of levers: one change a row, scored on validation, on any base."""

from dataclasses import fields, replace
from typing import Any

import pytest

from ddamfn.errors import ConfigError, UsageError
from ddamfn.study.jobs import Plan, Study
from ddamfn.study.tables.levers import GROUPS, LEVERS, Given, levers, levers_of
from ddamfn.train import Run, override, recipe
from ddamfn.train.config import to_dict

WANTED = {
    "labels-majority", "labels-multi", "labels-vote-weight", "labels-smoothing", "labels-prior",
    "optimisation-no-sam", "optimisation-no-ema", "optimisation-sgd", "optimisation-twice", "optimisation-balanced",
    "optimisation-logit-adjustment", "optimisation-progressive", "optimisation-no-warmup", "optimisation-no-decay",
    "optimisation-twice-the-batch", "optimisation-precise-bn", "regularisation-no-flip",
    "regularisation-no-erasing", "regularisation-mixup", "regularisation-cutmix", "regularisation-no-affine",
    "regularisation-any-grey", "regularisation-photometry", "regularisation-flip-consistency",
    "regularisation-drop-path",
    "attention-none", "attention-1e-4", "attention-1e-2", "attention-heads0",
    "alignment-arcface", "alignment-five-pose", "alignment-margin",
}  # fmt: skip


@pytest.fixture(scope="module")
def best() -> Study:
    """The whole table of the recipe for accelerators: made once, since every row builds its network to check it."""
    return levers(recipe("ddamfn_ferplus_112"), Plan(data="faces", seeds=2), Given())


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in leaves(part, f"{prefix}{key}.").items()}
    return {prefix[:-1]: value}


@pytest.mark.parametrize("name", ["ddamfn_ferplus_best", "ddamfn_ferplus_112", "ddamfn_ferplus_cpu"])
def test_every_lever_fits_the_recipes_that_it_is_for(name: str) -> None:
    base = recipe(name)
    found, unfit = levers_of(base, Given())
    # Answers are kept of single pictures: a network that learns its own has none to mixtures.
    mixtures = {"regularisation-mixup", "regularisation-cutmix"} if base.distillation else set()
    assert {lever.key for lever in unfit} == mixtures
    assert all("born_again keeps answers to single pictures" in reason for reason in unfit.values())
    keys = {lever.key for lever in found}
    growing = {"optimisation-progressive", "optimisation-full-size"}
    either = (
        {"optimisation-no-sam", "optimisation-sam"},
        {"regularisation-any-grey", "regularisation-one-grey"},
        {"distillation-born-again", "distillation-votes"},
    )
    assert WANTED - growing - set().union(*either) - mixtures <= keys
    assert [len(keys & pair) for pair in either] == [1, 1, 1]
    assert len(keys & growing) == (len(base.phases) == 1)
    assert ("optimisation-no-precise-bn" in keys) is (base.precise_bn is not None)


def test_phases_of_several_sides_can_all_be_of_the_last(best: Study) -> None:
    base = override(best.row("base").run, {"phases": [{"epochs": 2, "side_px": 64}, {"epochs": 3, "side_px": 112}]})
    (run,) = levers_of(base, Given(only=("optimisation-full-size",)))[0].values()
    assert [(phase.epochs, phase.side_px) for phase in run.phases] == [(5, 112)]


def test_a_base_can_be_born_again_or_learn_from_the_votes_to_the_end(best: Study) -> None:
    base = best.row("base").run
    run = best.row("distillation-born-again").run
    assert run.distillation is not None
    assert run.distillation.born_again
    assert run.phases[:-1] == base.phases
    assert (run.phases[-1].epochs, run.phases[-1].lr_factor) == (base.epochs // 2, 0.5)
    ((lever, plain),) = levers_of(run, Given(only=("distillation",)))[0].items()
    assert (lever.key, plain) == ("distillation-votes", replace(run, distillation=None))
    mixed = override(base, {"augment.mixup": 0.2})
    assert any("taught by its own answers" in note for note in levers(mixed, Plan(data="faces"), Given()).notes)


def test_a_row_changes_the_settings_that_it_names_and_no_other(best: Study) -> None:
    base = recipe("ddamfn_ferplus_112")
    assert best.row(str(best.reference)).run == base
    plain, named = leaves(to_dict(base)), {lever.key: lever for lever in LEVERS}
    for row in best.rows:
        changed = {key for key, value in leaves(to_dict(row.run)).items() if plain.get(key) != value}
        if row.name == best.reference:
            assert not changed
        elif row.name in named:
            # Of an optimiser's four numbers some may be the base's.
            assert changed
            assert changed <= set(named[row.name].settings)
        elif row.name == "optimisation-twice-the-batch":
            assert changed == {"phases", "optimiser.lr", "ema"}
        elif row.name == "regularisation-any-grey":
            assert changed == {"augment.erase_grey"}
        elif row.name == "distillation-born-again":
            assert {key.split(".")[0] for key in changed} == {"distillation", "phases", "schedule"}
        else:
            assert changed == {"phases"}
    assert len({job.id for job in best.jobs}) == len(best.jobs) == 2 * len(best.rows)


@pytest.mark.parametrize(
    ("name", "before", "after"), [("sgd", 0.1, 0.2), ("adamw", 0.1, 0.141), ("adam", 0.0005, 0.000707)]
)
def test_a_larger_batch_goes_as_far_in_a_picture_as_before(name: str, before: float, after: float) -> None:
    base = override(recipe("ddamfn_ferplus_112"), {"optimiser.name": name, "optimiser.lr": before, "ema": None})
    ((lever, run),) = levers_of(base, Given(only=("optimisation-twice-the-batch",)))[0].items()
    assert (run.optimiser.lr, run.ema) == (after, None)
    assert [phase.batch_size for phase in run.phases] == [2 * phase.batch_size for phase in base.phases]
    assert ("root" in lever.title) == (name != "sgd")
    # Two steps of the average before are one of it now.
    averaged = override(base, {"ema": 0.99})
    (run,) = levers_of(averaged, Given(only=("optimisation-twice-the-batch",)))[0].values()
    assert run.ema == pytest.approx(0.99**2)


def test_the_attention_loss_is_weighed_around_the_recipe_s_own_weight(best: Study) -> None:
    weights = {row.name: getattr(row.run.objective, "attention_weight", None) for row in best.rows}
    assert weights["base"] == 0.001
    chosen = {name: weight for name, weight in weights.items() if name.startswith("attention") and weight != 0.001}
    assert chosen == {
        "attention-none": 0.0, "attention-1e-4": 1e-4, "attention-1e-2": 1e-2, "attention-0.1": 0.1
    }  # fmt: skip
    # Without rows of alignment their missing neighbour need not be explained.
    assert any("leaves faces unaligned" in note for note in best.notes)
    prepared = levers(recipe("ddamfn_ferplus_112"), Plan(data="faces"), Given(only=("attention",), one_alignment=True))
    assert not any("leaves faces unaligned" in note for note in prepared.notes)


def test_no_row_is_the_baseline_again() -> None:
    base = override(recipe("ddamfn_ferplus_112"), {"objective.attention_weight": 0.01, "augment.erase": 0.0})
    chosen = ("attention", "regularisation")
    keys = {lever.key for lever in levers_of(base, Given(only=chosen))[0]}
    assert {"attention-0.1", "regularisation-erasing"} <= keys
    assert not keys & {"attention-1e-2", "regularisation-no-erasing", "regularisation-any-grey"}


def test_the_test_split_is_never_scored(best: Study) -> None:
    assert {job.scored for job in best.jobs} == {"valid"}


def test_rows_and_groups_can_be_chosen() -> None:
    base = recipe("ddamfn_ferplus_112")
    found, _ = levers_of(base, Given(only=("labels-majority", "attention")))
    assert {lever.group for lever in found} == {"labels", "attention"}
    assert next(iter(found)).key == "labels-majority"
    with pytest.raises(UsageError, match="no lever named nonsense"):
        levers_of(base, Given(only=("nonsense",)))
    with pytest.raises(UsageError, match="alignment needs the data set itself"):
        levers_of(base, Given(only=("alignment",), one_alignment=True))


def test_what_does_not_fit_the_base_is_left_out_and_said() -> None:
    balanced = override(recipe("ddamfn_ferplus_112"), {"data.balanced": True})
    study = levers(balanced, Plan(data="faces"), Given())
    assert "optimisation-logit-adjustment" not in {row.name for row in study.rows}
    assert any("Left out: optimisation, logit adjustment" in note for note in study.notes)
    with pytest.raises(ConfigError):
        levers(balanced, Plan(data="faces"), Given(only=("optimisation-logit-adjustment",)))


def test_rows_of_other_runs_stand_there_only_if_runs_are_named(best: Study) -> None:
    assert not any(row.name.startswith("pretraining") for row in best.rows)
    assert not {row.name for row in best.rows} & {"distillation-teachers", "distillation-once"}
    trunks = ("/home/me/runs/trunk", "/home/me/runs/turned")
    given = Given(only=("pretraining", "distillation"), pretrained=trunks, teachers=("/home/me/big", "/b"))
    study = levers(recipe("ddamfn_ferplus_112"), Plan(data="faces"), given)
    begun = ["pretraining-trunk", "pretraining-turned"]
    taught_by = ["distillation-born-again", "distillation-teachers", "distillation-once"]
    assert [row.name for row in study.rows] == ["base", *begun, *taught_by]
    assert tuple(study.row(name).run.initial for name in begun) == trunks
    taught = study.row("distillation-teachers").run.distillation
    assert taught is not None
    assert taught.teachers == ("/home/me/big", "/b")
    assert study.row("distillation-once").run.distillation == replace(taught, once=True)
    assert '"once": true' in study.row("distillation-once").note
    # A report names the runs without their places on this machine.
    assert "trunk" in study.row("pretraining-trunk").note
    assert not any("/home/me" in row.note for row in study.rows)


def test_two_runs_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="a name stands twice: trunk, trunk"):
        levers(recipe("ddamfn_ferplus_112"), Plan(data="faces"), Given(pretrained=("/one/trunk", "/two/trunk")))


def test_groups_and_names_are_unique() -> None:
    assert len({lever.key for lever in LEVERS}) == len(LEVERS)
    assert {lever.group for lever in LEVERS} < set(GROUPS)
    assert "seed" in {field.name for field in fields(Run)}
