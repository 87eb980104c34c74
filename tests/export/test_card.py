"""What a card records of a run: its settings and its commands, and nothing of whose machine it was."""

import shlex
from dataclasses import replace

import pytest

pytest.importorskip("torch", reason="recipes need PyTorch")

from ddamfn.cli.train import assignments
from ddamfn.export.card import command_line, config_of, portable
from ddamfn.train import RECIPES, Run, override, recipe
from ddamfn.train.config import to_dict
from ddamfn.train.settings import run_from_dict
from ddamfn.weights import find_weights


def made_by(command: str) -> Run:
    """Read a training command as the command line does."""
    program, verb, name, *options = shlex.split(command)
    assert (program, verb, options[:2]) == ("ddamfn", "train", ["--data", "ROOT"])
    assert options[2::2] == ["--set"] * len(options[3::2])
    return override(recipe(name), assignments(options[3::2]))


def test_the_recipe_called_best_is_that_of_the_shipped_weights_but_for_the_seed() -> None:
    training = find_weights("ddamfn-ferplus")[1].training
    made, best = made_by(training["command"]), recipe("ddamfn_ferplus_best")
    assert replace(made, seed=best.seed) == best
    assert (made.recipe, made.seed, made.epochs) == (training["recipe"], training["seed"], training["epochs"])
    assert (made.data.rule, to_dict(made.objective)) == (training["rule"], training["objective"])


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_config_on_a_card_is_the_run_s(name: str) -> None:
    run = recipe(name)
    assert run_from_dict(config_of(run)) == run


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("/home/someone/runs/first/checkpoints/best.safetensors", "first/checkpoints/best.safetensors"),
        ("/home/someone/runs/first", "first"),
        ("runs/first", "runs/first"),
    ],
)
def test_a_card_tells_nothing_of_whose_machine_it_was(place: str, shown: str) -> None:
    run = recipe("ddamfn_quick")
    changed = replace(run, model=replace(run.model, options={"weights": [place]}))
    assert config_of(changed)["model"]["options"] == {"weights": [shown]}
    assert portable({place: "sha"}) == {shown: "sha"}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--data", "/home/someone/faces"], "--data ROOT"),
        (["--data=/home/someone/faces"], "--data=ROOT"),
        (["--data", "faces"], "--data ROOT"),
        (["/home/someone/runs/first"], "RUN"),
        (["/home/someone/runs/first/"], "RUN"),
        (["--seeds", "/home/someone/runs/second"], "--seeds second"),
        (["--output=/home/someone/out"], "--output=out"),
        (["--set", "initial=/home/someone/runs/second"], "--set initial=second"),
        (["--set", 'teachers=["/home/someone/runs/a", "b"]'], """--set 'teachers=["a", "b"]'"""),
        (["--set", "optimizer.lr=0.10"], "--set optimizer.lr=0.10"),
        (["--name", "my weights"], "--name 'my weights'"),
    ],
)
def test_a_recorded_command_is_shown_without_places(words: list[str], shown: str) -> None:
    argv = ["ddamfn", "export", *words]
    assert command_line(argv, run="/home/someone/runs/first") == f"ddamfn export {shown}"
