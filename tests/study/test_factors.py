"""The table of factors: one change a row, scored on validation, on any base."""

from dataclasses import fields, replace
from typing import Any

import pytest

from ddamfn.errors import ConfigError, UsageError
from ddamfn.objectives import CachedDistillation, LiveDistillation, SelfDistillation
from ddamfn.study.jobs import Plan, Study
from ddamfn.study.tables.factors import FACTORS, GROUPS, AblationOptions, factors, factors_of
from ddamfn.train import Run, override, recipe
from ddamfn.train.config import to_dict

WANTED = {
    "labels-majority", "labels-multi", "labels-vote-weight", "labels-smoothing", "labels-prior",
    "optimization-no-sam", "optimization-no-ema", "optimization-sgd", "optimization-twice", "optimization-balanced",
    "optimization-logit-adjustment", "optimization-progressive", "optimization-no-warmup", "optimization-no-decay",
    "optimization-twice-the-batch", "optimization-precise-bn", "regularization-no-flip",
    "regularization-no-erasing", "regularization-mixup", "regularization-cutmix", "regularization-no-affine",
    "regularization-any-gray", "regularization-photometry", "regularization-flip-consistency",
    "regularization-drop-path",
    "attention-none", "attention-1e-4", "attention-1e-2", "attention-heads0",
    "alignment-arcface", "alignment-five-pose", "alignment-margin",
}  # fmt: skip


@pytest.fixture(scope="module")
def best() -> Study:
    """The whole table of the recipe for accelerators: made once, since every row builds its network to check it."""
    return factors(recipe("ddamfn_ferplus_112"), Plan(data="faces", dataset="f", seeds=2), AblationOptions())


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in leaves(part, f"{prefix}{key}.").items()}
    return {prefix[:-1]: value}


@pytest.mark.parametrize("name", ["ddamfn_ferplus_best", "ddamfn_ferplus_112", "ddamfn_ferplus_cpu"])
def test_every_factor_fits_the_recipes_that_it_is_for(name: str) -> None:
    base = recipe(name)
    found, unfit = factors_of(base, AblationOptions())
    # Self-distillation caches targets of single images, not of mixtures.
    mixtures = {"regularization-mixup", "regularization-cutmix"} if base.distillation else set()
    assert {factor.key for factor in unfit} == mixtures
    assert all("not for mixtures" in reason for reason in unfit.values())
    keys = {factor.key for factor in found}
    growing = {"optimization-progressive", "optimization-full-size"}
    either = (
        {"optimization-no-sam", "optimization-sam"},
        {"regularization-any-gray", "regularization-one-gray"},
        {"distillation-self", "distillation-votes"},
    )
    assert WANTED - growing - set().union(*either) - mixtures <= keys
    assert [len(keys & pair) for pair in either] == [1, 1, 1]
    assert len(keys & growing) == (len(base.phases) == 1)
    assert ("optimization-no-precise-bn" in keys) is (base.precise_bn is not None)


def test_phases_of_several_sides_can_all_be_of_the_last(best: Study) -> None:
    base = override(best.row("base").run, {"phases": [{"epochs": 2, "side_px": 64}, {"epochs": 3, "side_px": 112}]})
    (run,) = factors_of(base, AblationOptions(only=("optimization-full-size",)))[0].values()
    assert [(phase.epochs, phase.side_px) for phase in run.phases] == [(5, 112)]


def test_a_base_can_distill_itself_or_learn_from_the_votes_to_the_end(best: Study) -> None:
    base = best.row("base").run
    run = best.row("distillation-self").run
    assert run.distillation == SelfDistillation(flip_average=True)
    assert run.phases[:-1] == base.phases
    assert (run.phases[-1].epochs, run.phases[-1].lr_factor) == (base.epochs // 2, 0.5)
    ((factor, plain),) = factors_of(run, AblationOptions(only=("distillation",)))[0].items()
    assert (factor.key, plain) == ("distillation-votes", replace(run, distillation=None))
    mixed = override(base, {"augment.mixup": 0.2})
    assert any(
        "of self-distillation" in note
        for note in factors(mixed, Plan(data="faces", dataset="f"), AblationOptions()).notes
    )


def test_a_row_changes_the_settings_that_it_names_and_no_other(best: Study) -> None:
    base = recipe("ddamfn_ferplus_112")
    assert best.row(str(best.reference)).run == base
    plain, named = leaves(to_dict(base)), {factor.key: factor for factor in FACTORS}
    for row in best.rows:
        changed = {key for key, value in leaves(to_dict(row.run)).items() if plain.get(key) != value}
        if row.name == best.reference:
            assert not changed
        elif row.name in named:
            # Of an optimizer's four numbers some may be the base's.
            assert changed
            assert changed <= set(named[row.name].settings)
        elif row.name == "optimization-twice-the-batch":
            assert changed == {"phases", "optimizer.lr", "ema"}
        elif row.name == "regularization-any-gray":
            assert changed == {"augment.erase_gray"}
        elif row.name == "distillation-self":
            assert {key.split(".")[0] for key in changed} == {"distillation", "phases", "schedule"}
        else:
            assert changed == {"phases"}
    assert len({job.id for job in best.jobs}) == len(best.jobs) == 2 * len(best.rows)


@pytest.mark.parametrize(
    ("name", "before", "after"), [("sgd", 0.1, 0.2), ("adamw", 0.1, 0.141), ("adam", 0.0005, 0.000707)]
)
def test_a_larger_batch_goes_as_far_in_a_image_as_before(name: str, before: float, after: float) -> None:
    base = override(recipe("ddamfn_ferplus_112"), {"optimizer.name": name, "optimizer.lr": before, "ema": None})
    ((factor, run),) = factors_of(base, AblationOptions(only=("optimization-twice-the-batch",)))[0].items()
    assert (run.optimizer.lr, run.ema) == (after, None)
    assert [phase.batch_size for phase in run.phases] == [2 * phase.batch_size for phase in base.phases]
    assert ("root" in factor.title) == (name != "sgd")
    # Two steps of the average before are one of it now.
    averaged = override(base, {"ema": 0.99})
    (run,) = factors_of(averaged, AblationOptions(only=("optimization-twice-the-batch",)))[0].values()
    assert run.ema == pytest.approx(0.99**2)


def test_the_attention_loss_is_weighed_around_the_recipe_s_own_weight(best: Study) -> None:
    weights = {row.name: getattr(row.run.objective, "attention_weight", None) for row in best.rows}
    assert weights["base"] == 0.001
    chosen = {name: weight for name, weight in weights.items() if name.startswith("attention") and weight != 0.001}
    assert chosen == {
        "attention-none": 0.0, "attention-1e-4": 1e-4, "attention-1e-2": 1e-2, "attention-0.1": 0.1
    }  # fmt: skip
    # Without rows of alignment their missing neighbor need not be explained.
    assert any("leaves faces unaligned" in note for note in best.notes)
    prepared = factors(
        recipe("ddamfn_ferplus_112"),
        Plan(data="faces", dataset="f"),
        AblationOptions(only=("attention",), one_alignment=True),
    )
    assert not any("leaves faces unaligned" in note for note in prepared.notes)


def test_no_row_is_the_baseline_again() -> None:
    base = override(recipe("ddamfn_ferplus_112"), {"objective.attention_weight": 0.01, "augment.erase": 0.0})
    chosen = ("attention", "regularization")
    keys = {factor.key for factor in factors_of(base, AblationOptions(only=chosen))[0]}
    assert {"attention-0.1", "regularization-erasing"} <= keys
    assert not keys & {"attention-1e-2", "regularization-no-erasing", "regularization-any-gray"}


def test_the_test_split_is_never_scored(best: Study) -> None:
    assert {job.scored for job in best.jobs} == {"valid"}


def test_rows_and_groups_can_be_chosen() -> None:
    base = recipe("ddamfn_ferplus_112")
    found, _ = factors_of(base, AblationOptions(only=("labels-majority", "attention")))
    assert {factor.group for factor in found} == {"labels", "attention"}
    assert next(iter(found)).key == "labels-majority"
    with pytest.raises(UsageError, match="no factor named nonsense"):
        factors_of(base, AblationOptions(only=("nonsense",)))
    with pytest.raises(UsageError, match="alignment needs the data set itself"):
        factors_of(base, AblationOptions(only=("alignment",), one_alignment=True))


def test_what_does_not_fit_the_base_is_left_out_and_said() -> None:
    balanced = override(recipe("ddamfn_ferplus_112"), {"data.balanced": True})
    study = factors(balanced, Plan(data="faces", dataset="f"), AblationOptions())
    assert "optimization-logit-adjustment" not in {row.name for row in study.rows}
    assert any("Left out: optimization, logit adjustment" in note for note in study.notes)
    with pytest.raises(ConfigError):
        factors(balanced, Plan(data="faces", dataset="f"), AblationOptions(only=("optimization-logit-adjustment",)))


def test_rows_of_other_runs_stand_there_only_if_runs_are_named(best: Study) -> None:
    assert not any(row.name.startswith("pretraining") for row in best.rows)
    assert not {row.name for row in best.rows} & {"distillation-teachers", "distillation-cached"}
    trunks = ("/home/me/runs/trunk", "/home/me/runs/turned")
    given = AblationOptions(only=("pretraining", "distillation"), pretrained=trunks, teachers=("/home/me/big", "/b"))
    study = factors(recipe("ddamfn_ferplus_112"), Plan(data="faces", dataset="f"), given)
    begun = ["pretraining-trunk", "pretraining-turned"]
    taught_by = ["distillation-self", "distillation-teachers", "distillation-cached"]
    assert [row.name for row in study.rows] == ["base", *begun, *taught_by]
    assert tuple(study.row(name).run.initial for name in begun) == trunks
    taught = study.row("distillation-teachers").run.distillation
    assert taught == LiveDistillation(teachers=("/home/me/big", "/b"))
    assert study.row("distillation-cached").run.distillation == CachedDistillation(teachers=("/home/me/big", "/b"))
    assert '"name": "cached"' in study.row("distillation-cached").note
    # A report names the runs without their places on this machine.
    assert "trunk" in study.row("pretraining-trunk").note
    assert not any("/home/me" in row.note for row in study.rows)


def test_two_runs_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="duplicate name"):
        factors(
            recipe("ddamfn_ferplus_112"),
            Plan(data="faces", dataset="f"),
            AblationOptions(pretrained=("/one/trunk", "/two/trunk")),
        )


def test_groups_and_names_are_unique() -> None:
    assert len({factor.key for factor in FACTORS}) == len(FACTORS)
    assert {factor.group for factor in FACTORS} < set(GROUPS)
    assert "seed" in {field.name for field in fields(Run)}
