import json
from dataclasses import replace
from typing import Any

import pytest

from ddamfn.errors import ConfigError
from ddamfn.faces import Alignment, Stretch
from ddamfn.objectives import (
    OBJECTIVES,
    CachedDistillation,
    DDAMFNObjective,
    Distillation,
    LiveDistillation,
    SCNObjective,
    SelfDistillation,
)  # fmt: skip
from ddamfn.train import (
    RECIPES,
    Augment,
    Data,
    Optimizer,
    Phase,
    Run,
    Schedule,
    is_pretext,
    override,
    recipe,
    run_from_dict,
    settings,
)
from ddamfn.train.config import MAX_SEED, to_dict


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_survives_json(name: str) -> None:
    run = recipe(name)
    assert run_from_dict(json.loads(json.dumps(to_dict(run)))) == run


def test_fields_change_by_dotted_name() -> None:
    run = override(
        recipe("ddamfn_rafdb"),
        {
            "seed": 3,
            "optimizer.lr": 1,
            "optimizer.sam_rho": 0.05,
            "ema": 0.9,
            "phases.0.epochs": 2,
            "data.classes": ["anger", "fear"],
            "data.alignment.margin": 0.1,
            "augment.scale": [0.5, 2],
            "model.options.num_heads": 3,
            "schedule.name": "cosine",
        },
    )
    assert (run.seed, run.optimizer.lr, run.optimizer.sam_rho, run.ema) == (3, 1.0, 0.05, 0.9)
    assert type(run.optimizer.lr) is float
    assert run.phases == (Phase(epochs=2, batch_size=256),)
    assert run.data.classes == ("anger", "fear")
    assert run.data.alignment == Alignment("ddamfn_frontal", 0.1)
    assert run.augment.scale == (0.5, 2.0)
    assert run.model.options == {"num_heads": 3}
    assert run.schedule.name == "cosine"
    # What was not named is as it was.
    assert run.optimizer.momentum == 0.9
    assert run.augment.flip == 0.5


def test_whole_fields_can_be_replaced() -> None:
    phases = [{"epochs": 3, "side_px": 48, "batch_size": 64}, {"epochs": 1, "lr_factor": 2}]
    run = override(recipe("ddamfn_rafdb"), {"phases": phases, "augment": {"flip": 0}, "data.classes": None})
    assert run.phases == (Phase(epochs=3, side_px=48, batch_size=64), Phase(epochs=1, lr_factor=2.0))
    assert run.augment == Augment(flip=0.0)
    assert run.data.classes is None


def test_a_stretch_is_set_changed_and_switched_off() -> None:
    run = recipe("ddamfn_rafdb")
    assert run.data.preprocessing.stretch is None
    stretched = override(run, {"data.preprocessing.stretch": {}})
    assert stretched.data.preprocessing.stretch == Stretch()
    assert run_from_dict(json.loads(json.dumps(to_dict(stretched)))) == stretched
    assert override(run, {"data.preprocessing.stretch.least_range": 90}).data.preprocessing.stretch == Stretch(90)
    assert override(stretched, {"data.preprocessing.stretch": None}) == run
    with pytest.raises(ConfigError, match=r"data\.preprocessing\.stretch: .*clip_percent"):
        override(run, {"data.preprocessing.stretch.clip_percent": 50})


def test_a_run_without_a_stretch_is_recorded_as_before_there_was_one() -> None:
    """A study's jobs are named by a hash of this record; those that were done must be found again."""
    plain = to_dict(recipe("ddamfn_rafdb"))["data"]["preprocessing"]
    assert plain == {"color": "rgb", "detail_px": None}


def test_the_order_of_changes_does_not_matter() -> None:
    changes: dict[str, Any] = {"data.alignment.side_px": 48, "phases.0.side_px": 48}
    run = recipe("ddamfn_rafdb")
    assert override(run, changes) == override(run, dict(reversed(changes.items())))


WRONG: list[tuple[str, Any, str]] = [
    ("optimizer.lrr", 1, "no setting optimizer.lrr; optimizer has name, lr, momentum"),
    ("foo.bar", 1, "no setting foo; a run has recipe, model, data"),
    ("", 1, "no setting ; a run has"),
    ("optimizer.lr", "fast", "optimizer.lr takes a number, not 'fast'"),
    ("optimizer.lr", True, "optimizer.lr takes a number, not True"),
    ("optimizer.lr", float("nan"), "optimizer.lr takes a number, not nan"),
    ("optimizer.lr", 0, "optimizer: lr must be above 0, not 0.0"),
    ("optimizer.name", "sdg", "optimizer.name is one of sgd, adam, adamw, not 'sdg'"),
    ("optimizer", "sgd", "optimizer takes an object of names and values, not 'sgd'"),
    ("optimizer.lr.x", 1, "optimizer.lr.x: there is nothing below that has the name 'x'"),
    ("ema", "x", "ema takes a number, not 'x'"),
    ("ema", 1, "ema must lie between 0 and 1, not 1.0"),
    ("seed", 1.5, "seed takes a whole number, not 1.5"),
    ("seed", -1, f"seed must be 0 to {MAX_SEED - 1}, not -1"),
    ("data.balanced", 1, "data.balanced takes true or false, not 1"),
    ("data.classes", "anger", "data.classes takes a list in square brackets, not 'anger'"),
    ("data.classes", ["joy", "fear"], "data: no expression named joy; there are: neutral"),
    ("data.classes", ["fear", "fear"], "data: duplicate class"),
    ("data.classes", ["fear"], "data: a network needs at least two classes"),
    ("data.validation", "test", "data: the test split is for `ddamfn eval` alone"),
    ("data.rule", "most", "data: no rule named 'most'; there are: majority, probability"),
    ("data.mean", [0.5], "data.mean takes a list of 3, not [0.5]"),
    ("data.std", [1, 1, 0], "data: std must be above 0"),
    ("data.alignment.template", "mask", "data.alignment: unknown alignment template 'mask'"),
    ("augment.scale", ["a", 1], "augment.scale.0 takes a number, not 'a'"),
    ("augment.scale", [2, 1], "augment: scale must be two rising numbers above 0"),
    ("augment.mixup", -1, "augment: mixup is the alpha of a Beta distribution, 0 or more, not -1.0"),
    ("augment.cutmix", "a", "augment.cutmix takes a number, not 'a'"),
    ("data.vote_weight", 1, "data.vote_weight takes true or false, not 1"),
    ("objective.prior_smoothing", 1, "objective: prior_smoothing must be at least 0 and below 1, not 1.0"),
    ("model.options.drop_path", 1, "model: drop_path must be at least 0 and below 1, not 1"),
    ("augment.flip", 2, "augment: flip is a probability from 0 to 1, not 2.0"),
    ("augment.rotate_deg", -5, "augment: rotate_deg must be 0 to 180"),
    ("phases.3.epochs", 1, "phases.3.epochs: '3' is no place in a list of 1"),
    ("phases.x", 1, "phases.x: 'x' is no place in a list of 1"),
    ("phases", [{"epoch": 5}], "no setting phases.0.epoch; phases.0 has epochs, side_px"),
    ("phases", [{}], "phases.0 needs epochs"),
    ("phases", [5], "phases.0 takes an object of names and values, not 5"),
    ("phases", [], "a run needs at least one phase"),
    ("phases.0.epochs", 0, "phases.0: a phase needs at least one epoch"),
    ("phases.0.side_px", 128, "a phase asks for images of 128 px, and the crops have 112 px"),
    ("model.options", 3, "model.options takes an object of names and values, not 3"),
    ("model.options.heads", 3, "model: ddamfn has no option heads; it has: num_heads"),
    ("model.options.num_heads", "two", "model.options has a value of the wrong type: "),
    ("objective.name", ["ddamfn"], "objective.name is one of barlow, "),
    ("model.name", "resnet", "model: no network named 'resnet'; there are:"),
    ("objective.attention_form", "sum", "objective.attention_form is one of mean_pair, slide_sum, not 'sum'"),
    ("schedule.warmup_epochs", -1, "schedule: warmup_epochs must be 0 or more"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_what_does_not_fit_is_named_in_one_line(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(recipe("ddamfn_rafdb"), {name: value})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Data(holdout=1.0), "holdout"),
        (lambda: Augment(erase_area=(0.1, 2.0)), "erase_area"),
        (lambda: Augment(erase_gray=1.5), "erase_gray"),
        (lambda: Augment(shift=1.0), "shift"),
        (lambda: Optimizer(name="rmsprop"), "no optimizer named 'rmsprop'"),  # type: ignore[arg-type]
        (lambda: Optimizer(momentum=1.0), "momentum"),
        (lambda: Optimizer(weight_decay=-0.1), "weight_decay"),
        (lambda: Optimizer(sam_rho=0.0), "sam_rho"),
        (lambda: Optimizer(clip_norm=-1.0), "clip_norm"),
        (lambda: Schedule(name="linear"), "no schedule named 'linear'"),  # type: ignore[arg-type]
        (lambda: Schedule(step_epochs=0), "step_epochs"),
        (lambda: Schedule(gamma=0.0), "gamma"),
        (lambda: Schedule(final=1.5), "final"),
        (lambda: Phase(epochs=1, batch_size=1), "batch_size"),
        (lambda: Phase(epochs=1, side_px=16), "side_px"),
        (lambda: Phase(epochs=1, lr_factor=0.0), "lr_factor"),
        (lambda: Run(recipe="x", checkpoint_steps=0), "checkpoint_steps"),
    ],
)
def test_numbers_out_of_range_are_refused_when_made(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_epochs_belong_to_phases_in_turn() -> None:
    run = Run(recipe="x", phases=(Phase(epochs=2, side_px=48), Phase(epochs=1)))
    assert run.epochs == 3
    assert [run.place_of(epoch)[0].side_px for epoch in range(3)] == [48, 48, 112]
    with pytest.raises(IndexError):
        run.place_of(3)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_a_run_for_any_objective_survives_json(name: str) -> None:
    run = replace(recipe("ddamfn_quick"), objective=OBJECTIVES[name]())
    plain = json.loads(json.dumps(to_dict(run)))
    assert plain["objective"]["name"] == name
    assert run_from_dict(plain) == run


def test_another_objective_begins_with_its_own_numbers() -> None:
    run = override(recipe("ddamfn_rafdb"), {"objective.name": "scn", "objective.rank_margin": 0.2})
    assert run.objective == SCNObjective(rank_margin=0.2)


def test_an_objective_without_a_name_is_ddamfns() -> None:
    plain = to_dict(recipe("ddamfn_quick"))
    del plain["objective"]["name"]
    assert run_from_dict(plain) == recipe("ddamfn_quick")


def test_an_unknown_objective_is_told_in_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^objective.name is one of .*cross_entropy, dacl, .*, not 'sum'$"):
        override(recipe("ddamfn_quick"), {"objective.name": "sum"})


FACTORS: dict[str, Any] = {
    "augment.mixup": 0.2,
    "augment.cutmix": 1.0,
    "objective.logit_adjustment": 1.0,
    "objective.prior_smoothing": 0.2,
    "objective.label_smoothing": 0.1,
    "objective.flip_consistency": 5.0,
    "model.options.drop_path": 0.1,
    "data.vote_weight": True,
    "optimizer.sam_rho": 0.05,
    "ema": 0.999,
}


def test_every_combination_of_factors_survives_json() -> None:
    published = json.dumps(to_dict(recipe("ddamfn_rafdb")))
    for chosen in range(2 ** len(FACTORS)):
        changes = {name: value for i, (name, value) in enumerate(FACTORS.items()) if chosen >> i & 1}
        plain = json.loads(published)
        for name, value in changes.items():
            *path, last = name.split(".")
            place = plain
            for step in path:
                place = place[step]
            place[last] = value
        run = run_from_dict(plain)
        assert run_from_dict(json.loads(json.dumps(to_dict(run)))) == run
    assert override(recipe("ddamfn_rafdb"), FACTORS) == run


def test_one_network_serves_every_check_of_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of a study's table differ in other settings, and building a network takes a second."""
    built, create = [], settings.create_network

    def counting(name: str, **options: Any) -> Any:
        built.append((name, options))
        return create(name, **options)

    monkeypatch.setattr(settings, "create_network", counting)
    settings._network_without_memory.cache_clear()
    for seed in range(3):
        override(recipe("ddamfn_quick"), {"seed": seed})
    override(recipe("ddamfn_quick"), {"model.options": {"num_heads": 3}})
    assert built == [("ddamfn", {"num_classes": 2, "num_heads": heads}) for heads in (2, 3)]


@pytest.mark.parametrize("name", [name for name in RECIPES if not is_pretext(recipe(name))])
def test_factors_are_off_by_default(name: str) -> None:
    run = recipe(name)
    assert (run.augment.mixup, run.augment.cutmix, run.data.vote_weight) == (0, 0, False)
    assert isinstance(run.objective, DDAMFNObjective)
    assert (run.objective.logit_adjustment, run.objective.prior_smoothing, run.objective.flip_consistency) == (0, 0, 0)


@pytest.mark.parametrize("name", ["dacl", "dan", "mvit", "scn"])
@pytest.mark.parametrize("factor", ["augment.mixup", "augment.cutmix"])
def test_who_keeps_a_label_of_each_image_takes_no_mixtures(name: str, factor: str) -> None:
    with pytest.raises(ConfigError, match=rf"^the objective {name} keeps a label .* set augment\.mixup"):
        override(recipe("ddamfn_quick"), {"objective": {"name": name}, factor: 0.2})


def test_only_erasing_makes_unerased_images() -> None:
    live = {"distillation": {"teachers": ["a"], "teacher_sees_unerased": True}}
    with pytest.raises(ConfigError, match=r"^distillation\.teacher_sees_unerased needs augment\.erase"):
        override(recipe("ddamfn_ferplus_cpu"), live | {"augment.erase": 0.0})
    override(recipe("ddamfn_ferplus_cpu"), live)


@pytest.mark.parametrize("factor", ["augment.mixup", "augment.cutmix"])
@pytest.mark.parametrize("distillation", [{"name": "cached", "teachers": ["a"]}, {"name": "self"}])
def test_cached_targets_of_single_images_are_none_of_mixtures(factor: str, distillation: dict[str, Any]) -> None:
    settings = {"distillation": distillation, "phases": [{"epochs": 1, "side_px": 48}] * 2}
    with pytest.raises(ConfigError, match=r"^distillation caches .* not for mixtures"):
        override(recipe("ddamfn_ferplus_cpu"), settings | {factor: 0.2})
    override(recipe("ddamfn_ferplus_cpu"), settings)


def test_self_distillation_needs_a_phase_before() -> None:
    with pytest.raises(ConfigError, match=r"^distillation\.name=self .*to phases$"):
        override(recipe("ddamfn_ferplus_cpu"), {"distillation.name": "self"})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"distillation": {"teachers": ["a"]}}, LiveDistillation(teachers=("a",))),
        ({"distillation.teachers": ["a"], "distillation.name": "cached"}, CachedDistillation(teachers=("a",))),
        ({"distillation.temperature": 3}, SelfDistillation(temperature=3.0, flip_average=True)),
        ({"distillation.name": "self"}, SelfDistillation(flip_average=True)),
        ({"distillation": {"name": "self"}}, SelfDistillation()),
        ({"distillation": None}, None),
    ],
)
def test_a_name_chooses_the_kind_of_distillation(settings: dict[str, Any], expected: Distillation | None) -> None:
    run = override(recipe("ddamfn_ferplus_best"), settings)
    assert run.distillation == expected
    assert run_from_dict(json.loads(json.dumps(to_dict(run)))) == run


@pytest.mark.parametrize(
    ("distillation", "message"),
    [
        ({"name": "born_again"}, "distillation.name is one of cached, live, self, not 'born_again'"),
        ({"name": "self", "teachers": ["a"]}, "no setting distillation.teachers; distillation has temperature, "),
        ({"name": "cached", "teachers": ["a"], "features": 1.0}, "no setting distillation.features; "),
        ({}, "distillation needs teachers"),
        ({"teachers": []}, "distillation: teachers must name at least one"),
        (3, "distillation takes an object of names and values, not 3"),
    ],
)
def test_settings_of_another_kind_of_distillation_are_unknown(distillation: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override(recipe("ddamfn_ferplus_best"), {"distillation": distillation})
    assert str(caught.value).startswith(message)


def test_balanced_classes_leave_nothing_to_adjust() -> None:
    with pytest.raises(ConfigError, match=r"^data\.balanced draws .* or set objective\.logit_adjustment to 0$"):
        override(recipe("ddamfn_affectnet"), {"objective.logit_adjustment": 1.0})
