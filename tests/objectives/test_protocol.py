"""What holds for every objective."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives import OBJECTIVES, Context, Criterion, CrossEntropyObjective, PretextObjective, TrainingSplit

MakeOutput = Callable[..., ModelOutput]

CLASSES = ("neutral", "happiness", "surprise", "sadness")
BATCH, DIM = 6, 512

# Pretext tasks have no labels; their own tests are in test_pretext.py.
NAMES = sorted(name for name, kind in OBJECTIVES.items() if not issubclass(kind, PretextObjective))
RULES_OF_THEIR_OWN = {"dacl", "mvit", "scn"}
"""Objectives that learn by something else than gradients."""


def _criterion(name: str) -> Criterion:
    return OBJECTIVES[name]().create_criterion(TrainingSplit(classes=CLASSES, num_images=20))


@pytest.fixture
def output(make_output: MakeOutput) -> ModelOutput:
    logits = 8 * torch.eye(4)[torch.tensor([1, 2, 3, 0, 1, 2])]
    return make_output(
        logits.requires_grad_(),
        crop_weights=torch.rand(BATCH, 6),
        importance=torch.rand(BATCH),
        embedding=torch.randn(BATCH, DIM),
        channel_weights=torch.rand(BATCH, DIM),
        heads=torch.randn(BATCH, 3, DIM),
        branch_logits=torch.randn(BATCH, 3, len(CLASSES), requires_grad=True),
    )


@pytest.fixture
def targets() -> torch.Tensor:
    """Labels, every one of which contradicts the output."""
    return torch.eye(4)[torch.tensor([0, 0, 1, 1, 2, 3])]


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_has_a_total_and_parts_on_record(name: str, output: ModelOutput, targets: torch.Tensor) -> None:
    loss = _criterion(name)(output, targets, Context(rows=torch.arange(BATCH), epoch=0))
    assert loss.total.shape == ()
    assert loss.total.dtype == torch.float32
    assert "cross_entropy" in loss.parts
    for part, value in loss.parts.items():
        assert torch.isfinite(value), part
        assert not value.requires_grad, part
    loss.total.backward()
    assert output.logits.grad is not None or output.extra["branch_logits"].grad is not None


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_judged_in_float32(name: str, output: ModelOutput, targets: torch.Tensor) -> None:
    short = output._replace(
        logits=output.logits.bfloat16(), extra={key: value.bfloat16() for key, value in output.extra.items()}
    )
    torch.manual_seed(0)
    found = _criterion(name)(short, targets).total
    torch.manual_seed(0)
    expected = _criterion(name)(output, targets).total
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_run_remembers_is_in_its_state(name: str, output: ModelOutput, targets: torch.Tensor) -> None:
    torch.manual_seed(1)
    criterion, context = _criterion(name), Context(rows=torch.arange(BATCH), epoch=30)
    before = {key: value.clone() for key, value in criterion.state_dict().items()}
    criterion.after_step(output, targets, context)
    changed = [key for key, value in criterion.state_dict().items() if not torch.equal(value, before[key])]
    assert bool(changed) == (name in RULES_OF_THEIR_OWN)

    torch.manual_seed(2)
    resumed = _criterion(name)
    resumed.load_state_dict(criterion.state_dict())
    found, expected = resumed(output, targets, context).total, criterion(output, targets, context).total
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_is_a_frozen_set_of_plain_numbers(name: str) -> None:
    objective = OBJECTIVES[name]()
    assert objective == OBJECTIVES[name]()
    assert objective.name == name
    assert hash(objective) == hash(OBJECTIVES[name]())
    assert all(isinstance(value, int | float | str) for value in dataclasses.asdict(objective).values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        objective.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["dacl", "dan", "psr", "ran", "scn"])
def test_a_network_of_another_paper_is_refused(name: str, make_output: MakeOutput, targets: torch.Tensor) -> None:
    other = make_output(torch.randn(BATCH, 4), something=torch.zeros(BATCH))
    with pytest.raises(ConfigError, match=f"the objective {name} needs '.*' from the network .*gives something"):
        _criterion(name)(other, targets)


@pytest.mark.parametrize(
    ("name", "options", "pattern"),
    [
        ("cross_entropy", {"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1"),
        ("ran", {"margin": -0.1}, "margin must be 0 or more, not -0.1"),
        ("scn", {"high_share": 1.0}, "high_share must lie between 0 and 1"),
        ("scn", {"relabel_group": "high"}, "relabel_group is one of low, all, not 'high'"),
        ("scn", {"relabel_margin": float("nan")}, "relabel_margin must be 0 or more, not nan"),
        ("dacl", {"center_weight": -1.0}, "center_weight"),
        ("dan", {"affinity_weight": -1.0}, "affinity_weight"),
        ("mvit", {"relabel_epoch": -1}, "relabel_epoch"),
        ("psr", {"label_share": 0.0}, "label_share must be above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, options: dict[str, object], pattern: str) -> None:
    with pytest.raises(ConfigError, match=pattern):
        OBJECTIVES[name](**options)


def test_a_stateless_criterion_only_passes_the_question_on(output: ModelOutput, targets: torch.Tensor) -> None:
    objective = CrossEntropyObjective(label_smoothing=0.1)
    criterion = objective.create_criterion(TrainingSplit(classes=CLASSES, num_images=20))
    assert torch.equal(criterion(output, targets).total, objective(output, targets).total)
    assert not criterion.state_dict()
    assert not list(criterion.parameters())


def test_poster_s_loss_is_three_times_a_weaker_smoothing(make_output: MakeOutput, targets: torch.Tensor) -> None:
    logits = torch.randn(BATCH, 4)
    published = 2 * nn.functional.cross_entropy(logits, targets, label_smoothing=0.2)
    published += nn.functional.cross_entropy(logits, targets)
    ours = CrossEntropyObjective(label_smoothing=0.4 / 3)(make_output(logits), targets).total
    torch.testing.assert_close(3 * ours, published)
