"""The settings of DDAMFN's objective that are off by default, each against its formula."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from ddamfn.errors import ConfigError
from ddamfn.labels import EXPRESSIONS
from ddamfn.models import ModelOutput
from ddamfn.objectives import (
    OBJECTIVES,
    Context,
    Criterion,
    CrossEntropyObjective,
    DDAMFNObjective,
    Objective,
    TrainingSplit,
)
from ddamfn.objectives.cross_entropy import PRIOR
from ddamfn.objectives.ddamfn import flip_consistency_loss

MakeOutput = Callable[..., ModelOutput]

SHARES = (0.6, 0.3, 0.1)
CLASSES = ("neutral", "happiness", "fear")


def criterion(objective: Objective, classes: tuple[str, ...] = CLASSES) -> Criterion:
    return objective.create_criterion(TrainingSplit(classes=classes, num_images=9, class_shares=SHARES))


def plain(**settings: float) -> DDAMFNObjective:
    return DDAMFNObjective(attention_weight=0, **settings)


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


TARGETS = torch.eye(3)[torch.tensor([0, 1, 2, 2])]


def test_logits_are_adjusted_by_the_logarithm_of_the_share(make_output: MakeOutput, logits: torch.Tensor) -> None:
    found = criterion(plain(logit_adjustment=1.5))(make_output(logits), TARGETS).total
    # Menon et al., Eq. 10: log(1 + sum over others of (share' / share)^tau exp(f' - f)).
    expected = 0.0
    for row, label in zip(logits.tolist(), TARGETS.argmax(dim=1).tolist(), strict=True):
        terms = [
            (SHARES[k] / SHARES[label]) ** 1.5 * torch.tensor(row[k] - row[label]).exp() for k in range(3) if k != label
        ]
        expected += float(torch.log1p(sum(terms, torch.tensor(0.0)))) / 4
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_equal_shares_adjust_nothing(make_output: MakeOutput, logits: torch.Tensor) -> None:
    split = TrainingSplit(classes=CLASSES, num_images=9)
    adjusted = plain(logit_adjustment=1.0).create_criterion(split)(make_output(logits), TARGETS).total
    torch.testing.assert_close(adjusted, F.cross_entropy(logits, TARGETS))


def test_labels_follow_what_people_take_them_for(make_output: MakeOutput, logits: torch.Tensor) -> None:
    found = criterion(plain(prior_smoothing=0.25, label_smoothing=0.1))(make_output(logits), TARGETS).total
    columns = [EXPRESSIONS.index(name) for name in CLASSES]
    rows = torch.tensor([[PRIOR[i][k] for k in columns] for i in columns])
    smoothed = 0.75 * TARGETS + 0.25 * (rows / rows.sum(dim=1, keepdim=True))[TARGETS.argmax(dim=1)]
    torch.testing.assert_close(smoothed.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(found, F.cross_entropy(logits, smoothed, label_smoothing=0.1))


def test_a_class_that_the_table_does_not_know_is_named() -> None:
    with pytest.raises(ConfigError, match="does not know boredom"):
        criterion(plain(prior_smoothing=0.2), ("neutral", "boredom", "fear"))


def test_psr_and_ddamfn_smooth_alike_with_eight_classes(make_output: MakeOutput) -> None:
    split, targets = TrainingSplit(classes=EXPRESSIONS, num_images=8), torch.eye(8)
    logits = torch.randn(8, 8)
    ours = plain(prior_smoothing=0.2).create_criterion(split)(make_output(logits), targets).total
    psr = OBJECTIVES["psr"]().create_criterion(split)(make_output(logits, branch_logits=logits[:, None]), targets).total
    torch.testing.assert_close(ours, psr, rtol=1e-5, atol=1e-5)


def test_a_criterion_s_state_holds_nothing_that_follows_from_its_settings() -> None:
    """Checkpoints from before there were these settings load, and others do not grow."""
    judge = criterion(plain(prior_smoothing=0.2, logit_adjustment=1.0, flip_consistency=5.0))
    assert judge.state_dict() == {}
    judge.load_state_dict({})


# ---------------------------------------------------------------- consistency


def test_consistent_maps_cost_nothing_and_the_rest_is_the_sum_of_squares(make_output: MakeOutput) -> None:
    maps = torch.randn(4, 3, 5, 7)
    assert float(flip_consistency_loss(maps, maps.flip(-1))) == 0
    other = torch.randn(4, 3, 5, 7)
    expected = (maps - other.flip(-1)).square().sum() / (4 * 3)
    torch.testing.assert_close(flip_consistency_loss(maps, other), expected)
    output = make_output(torch.randn(4, 3), class_maps=maps, mirrored_class_maps=other)
    loss = criterion(plain(flip_consistency=5.0))(output, TARGETS)
    torch.testing.assert_close(loss.total, loss.parts["cross_entropy"] + 5 * loss.parts["flip_consistency"])
    torch.testing.assert_close(loss.parts["flip_consistency"], expected)


def test_only_who_compares_asks_for_mirror_images() -> None:
    assert criterion(plain(flip_consistency=5.0)).mirrored
    assert not criterion(plain()).mirrored
    for name, kind in OBJECTIVES.items():
        if isinstance(kind(), DDAMFNObjective | CrossEntropyObjective) or name in ("ran", "psr", "dan", "scn"):
            assert not kind().create_criterion(TrainingSplit(classes=EXPRESSIONS, num_images=9)).mirrored, name


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize("name", ["cross_entropy", "dacl", "dan", "ddamfn", "mvit", "psr", "ran", "scn"])
def test_a_image_counts_by_its_weight(name: str, make_output: MakeOutput, logits: torch.Tensor) -> None:
    """An image of weight two costs what the same image twice costs; one of weight 0, nothing."""
    extra = {
        "crop_weights": torch.rand(4, 6), "importance": torch.rand(4), "embedding": torch.randn(4, 512),
        "channel_weights": torch.rand(4, 512), "heads": torch.randn(4, 3, 512),
    }  # fmt: skip
    output = make_output(logits, branch_logits=logits[:, None], **extra)
    torch.manual_seed(0)
    judge = criterion(OBJECTIVES[name]())

    def of(*weights: float) -> float:
        context = Context(rows=torch.arange(4), epoch=0, weights=torch.tensor(weights))
        return float(judge(output, TARGETS, context).total.detach())

    ones = of(1, 1, 1, 1)
    assert ones == pytest.approx(
        float(judge(output, TARGETS, Context(rows=torch.arange(4), epoch=0)).total.detach()), rel=1e-5
    )
    parts = [of(*row) for row in torch.eye(4).tolist()]
    nothing = of(0, 0, 0, 0)
    # What does not depend on labels has no weight.
    assert ones - nothing == pytest.approx(sum(part - nothing for part in parts), rel=1e-4)
    assert of(2, 1, 0, 1) - ones == pytest.approx(parts[0] - parts[2], rel=1e-3, abs=1e-5)
    assert all(part > nothing for part in parts)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("logit_adjustment", -1.0), ("flip_consistency", -0.1), ("prior_smoothing", 1.0), ("prior_smoothing", -0.2)],
)
def test_numbers_out_of_range_are_refused(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=setting):
        DDAMFNObjective(**{setting: value})
