"""The command on a card makes the very run that the card is of."""

import json
import shlex
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="recipes need PyTorch")

from ddamfn.cli import build_parser
from ddamfn.cli.train import assignments
from ddamfn.export.adjusting import Tau
from ddamfn.export.command import conversion_command, export_command, portable, settings_of, training_command
from ddamfn.export.gates import Format
from ddamfn.export.lean import Precision
from ddamfn.objectives import OBJECTIVES, CachedDistillation
from ddamfn.train import RECIPES, Optimizer, Phase, Run, override, recipe
from ddamfn.train.config import to_dict
from ddamfn.train.run_folder import Checkpoint
from ddamfn.weights import find_weights


def made_by(command: str) -> Run:
    """Read a command as the command line does."""
    program, verb, name, *options = shlex.split(command)
    assert (program, verb, options[:2]) == ("ddamfn", "train", ["--data", "ROOT"])
    assert options[2::2] == ["--set"] * len(options[3::2])
    return override(recipe(name), assignments(options[3::2]))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_as_it_is_needs_no_setting(name: str) -> None:
    assert training_command(recipe(name)) == f"ddamfn train {name} --data ROOT"


def test_the_recipe_called_best_is_that_of_the_shipped_weights_but_for_the_seed() -> None:
    made = made_by(find_weights("ddamfn-ferplus")[1].training["command"])
    best = recipe("ddamfn_ferplus_best")
    assert replace(made, seed=best.seed) == best


def test_settings_that_differ_are_set() -> None:
    run = recipe("ddamfn_ferplus_112")
    changed = replace(
        run,
        seed=3,
        ema=None,
        optimizer=replace(run.optimizer, lr=0.003),
        augment=replace(run.augment, erase_area=(0.1, 0.3)),
        phases=tuple(replace(phase, batch_size=64) for phase in run.phases),
    )
    command = training_command(changed)
    assert "--set optimizer.lr=0.003" in command
    assert "--set seed=3" in command
    assert "--set phases.0.batch_size=64" in command
    assert made_by(command) == changed


def test_other_phases_and_another_objective_are_set_as_a_whole() -> None:
    run = recipe("ddamfn_quick")
    kind = next(kind for name, kind in sorted(OBJECTIVES.items()) if name != run.objective.name)
    changed = replace(
        run, objective=kind(), phases=(Phase(epochs=1, side_px=48), Phase(epochs=2, side_px=48)), optimizer=Optimizer()
    )
    command = training_command(changed)
    assert """'phases=[{"epochs": 1, "side_px": 48}, {"epochs": 2, "side_px": 48}]'""" in command
    assert to_dict(made_by(command)) == json.loads(json.dumps(to_dict(changed)))


def test_of_teachers_only_what_was_chosen_is_set() -> None:
    run = recipe("ddamfn_quick")
    changed = replace(run, distillation=CachedDistillation(teachers=("first", "second"), temperature=3.0))
    command = training_command(changed)
    wanted = '--set \'distillation={"name": "cached", "temperature": 3.0, "teachers": ["first", "second"]}\''
    assert command.endswith(wanted)
    assert made_by(command) == changed


def test_another_optimizer_is_named() -> None:
    changed = replace(recipe("ddamfn_ferplus_112"), optimizer=Optimizer(lr=0.1))
    command = training_command(changed)
    assert command.endswith('--set \'optimizer={"name": "sgd", "lr": 0.1}\'')
    assert made_by(command) == changed


def test_a_recipe_that_is_gone_is_named_alone() -> None:
    assert training_command(replace(recipe("ddamfn_quick"), recipe="gone")) == "ddamfn train gone --data ROOT"


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("/home/someone/runs/first/checkpoints/best.safetensors", "first/checkpoints/best.safetensors"),
        ("/home/someone/runs/first", "first"),
        ("runs/first", "runs/first"),
    ],
)
def test_a_card_says_nothing_of_whose_machine_it_was(place: str, shown: str) -> None:
    run = recipe("ddamfn_quick")
    changed = replace(run, model=replace(run.model, options={"weights": [place]}))
    assert settings_of(changed)["model"]["options"] == {"weights": [shown]}
    assert portable({place: "sha"}) == {shown: "sha"}


@pytest.mark.parametrize("has_data", [False, True])
@pytest.mark.parametrize("checkpoint", ["best", "last"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("adjustment", [0.0, 0.05, "fit"])
def test_export_is_asked_for_as_it_was(
    has_data: bool, checkpoint: Checkpoint, precision: Precision, adjustment: Tau
) -> None:
    command = export_command("my weights", checkpoint, precision, adjustment, has_data=has_data)
    args = build_parser().parse_args(shlex.split(command)[1:])
    assert command.startswith("ddamfn export ")
    assert (args.weights, args.name, args.data) == ("RUN", "my weights", "ROOT" if has_data else None)
    assert (args.checkpoint, args.precision, args.logit_adjustment) == (checkpoint, precision, adjustment)


def test_export_says_no_more_than_it_must() -> None:
    assert export_command("mine", "best", "float32", 0.0, has_data=True) == "ddamfn export RUN --name mine --data ROOT"


@pytest.mark.parametrize("has_data", [False, True])
@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize(("kind", "precision"), [("onnx", "float16"), ("onnx-int8", "float32")])
def test_conversion_is_asked_for_as_it_was(has_data: bool, forced: bool, kind: Format, precision: Precision) -> None:
    command = conversion_command("my.onnx", kind, "my weights", precision, has_data=has_data, forced=forced)
    args = build_parser().parse_args(shlex.split(command)[1:])
    assert command.startswith("ddamfn export ")
    assert (args.weights, args.name, args.data) == ("my.onnx", "my weights", "ROOT" if has_data else None)
    assert (args.format, args.precision, args.force) == (kind, precision, forced)
