"""The objectives of DACL, DAN, RAN and PSR move what they claim to move."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.labels import EXPRESSIONS
from ddamfn.models import ModelOutput
from ddamfn.models.baselines.dan import CrossAttentionHead
from ddamfn.objectives import Context, DACLObjective, DANObjective, PSRObjective, TrainingSplit
from ddamfn.objectives.cross_entropy import PRIOR
from ddamfn.objectives.dacl import DACLCriterion
from ddamfn.objectives.dan import affinity_loss, partition_loss
from ddamfn.objectives.psr import PSRCriterion
from ddamfn.objectives.ran import region_bias_loss

MakeOutput = Callable[..., ModelOutput]

K, D = 3, 8


def _dacl(**options: float) -> DACLCriterion:
    criterion = DACLObjective(embedding_dim=D, **options).create_criterion(
        TrainingSplit(classes=("a", "b", "c"), num_images=9)
    )
    assert isinstance(criterion, DACLCriterion)
    return criterion


def _context(batch: int) -> Context:
    return Context(rows=torch.arange(batch), epoch=0)


# ---------------------------------------------------------------- DACL


def test_centers_converge_to_the_classes_means(make_output: MakeOutput) -> None:
    means = torch.tensor([[3.0], [-2.0], [0.5]]).expand(K, D) + torch.randn(K, D)
    criterion = _dacl()
    labels = torch.arange(60) % K
    start = (criterion.centers - means).norm(dim=1)
    for _ in range(40):
        embedding = means[labels] + 0.1 * torch.randn(60, D)
        output = make_output(torch.zeros(60, K), embedding=embedding, channel_weights=torch.full((60, D), 0.5))
        criterion.after_step(output, torch.eye(K)[labels], _context(60))
    assert ((criterion.centers - means).norm(dim=1) < 0.1).all()
    assert (start > 1).all()


def test_a_channel_without_weight_leaves_its_center_alone(make_output: MakeOutput) -> None:
    criterion = _dacl()
    before = criterion.centers.clone()
    weights = torch.ones(4, D)
    weights[:, 2] = 0
    output = make_output(torch.zeros(4, K), embedding=torch.randn(4, D), channel_weights=weights)
    criterion.after_step(output, torch.eye(K)[[0, 0, 1, 1]], _context(4))
    moved = (criterion.centers - before).abs() > 0
    assert moved[:2].all(dim=0).tolist() == [True, True, False] + [True] * (D - 3)
    assert not moved[2].any()


def test_a_center_moves_by_the_printed_rule(make_output: MakeOutput) -> None:
    criterion = _dacl(center_rate=0.5)
    center = criterion.centers[1].clone()
    embedding, weights = torch.randn(2, D), torch.rand(2, D)
    criterion.after_step(
        make_output(torch.zeros(2, K), embedding=embedding, channel_weights=weights), torch.eye(K)[[1, 1]], _context(2)
    )
    torch.testing.assert_close(criterion.centers[1], center + 0.5 * (weights * (embedding - center)).sum(dim=0) / 3)


def test_gradients_of_the_sparse_center_loss_are_the_papers(make_output: MakeOutput) -> None:
    criterion = _dacl(center_weight=1.0)
    embedding, weights = torch.randn(5, D, requires_grad=True), torch.rand(5, D, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 1, 0])
    criterion(
        make_output(torch.zeros(5, K), embedding=embedding, channel_weights=weights), torch.eye(K)[labels]
    ).total.backward()
    difference = (embedding - criterion.centers[labels]).detach()
    torch.testing.assert_close(embedding.grad, weights.detach() * difference / 5)
    torch.testing.assert_close(weights.grad, difference.square() / 10)


def test_features_come_close_to_their_center(make_output: MakeOutput) -> None:
    criterion = _dacl(center_weight=1.0)
    embedding = torch.randn(6, D, requires_grad=True)
    labels = torch.arange(6) % K
    optimizer = torch.optim.SGD([embedding], lr=1.0)
    distances = []
    for _ in range(30):
        output = make_output(torch.zeros(6, K), embedding=embedding, channel_weights=torch.ones(6, D))
        loss = criterion(output, torch.eye(K)[labels])
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        distances.append(float((embedding - criterion.centers[labels]).detach().norm()))
    assert distances[-1] < 0.1 * distances[0]


# ---------------------------------------------------------------- DAN


def test_the_partition_loss_drives_dan_s_heads_apart() -> None:
    heads = torch.nn.ModuleList(CrossAttentionHead() for _ in range(2))
    # Small, so that the heads begin near each other: far apart the logarithm has little left to ask for.
    features = 0.03 * torch.rand(4, 512, 3, 3)
    optimizer = torch.optim.SGD(heads.parameters(), lr=0.1)

    def outputs() -> Tensor:
        return F.log_softmax(torch.stack([head(features)[0] for head in heads], dim=1), dim=1)

    variances = []
    for _ in range(5):
        found = outputs()
        optimizer.zero_grad()
        partition_loss(found).backward()
        optimizer.step()
        variances.append(float(found.detach().var(dim=1).mean()))
    assert variances[-1] > 1.5 * variances[0]


def test_partition_loss_against_its_definition() -> None:
    heads = torch.randn(3, 4, D)
    variance = sum(float(heads[b, :, j].var()) for b in range(3) for j in range(D)) / (3 * D)
    assert float(partition_loss(heads)) == pytest.approx(float(torch.log(torch.tensor(1 + 4 / variance))), rel=1e-4)
    assert float(partition_loss(heads[:, :1])) == 0
    equal = torch.ones(3, 4, D, requires_grad=True)
    partition_loss(equal).backward()
    assert torch.isfinite(equal.grad).all()


def test_affinity_loss_against_its_definition() -> None:
    embedding, centers, labels = torch.randn(4, D), torch.randn(K, D), torch.tensor([0, 2, 2, 1])
    within = sum(float((embedding[i] - centers[labels[i]]).square().sum()) for i in range(4)) / 4
    between = sum(float(centers[:, j].var()) for j in range(D))
    assert float(affinity_loss(embedding, centers, labels)) == pytest.approx(within / between, rel=1e-4)


def test_classes_come_apart_and_the_centers_learn(make_output: MakeOutput) -> None:
    objective = DANObjective(embedding_dim=D, partition_weight=0)
    criterion = objective.create_criterion(TrainingSplit(classes=("a", "b", "c"), num_images=9))
    embedding = torch.randn(12, D, requires_grad=True)
    labels = torch.arange(12) % K
    optimizer = torch.optim.Adam([embedding, *criterion.parameters()], lr=0.1)
    ratios = []
    for _ in range(60):
        output = make_output(torch.zeros(12, K), embedding=embedding, heads=torch.zeros(12, 1, D))
        loss = criterion(output, torch.eye(K)[labels])
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        groups = embedding.detach().reshape(4, K, D)
        ratios.append(float(groups.var(dim=0).sum() / groups.mean(dim=0).var(dim=0).sum()))
    assert ratios[-1] < 0.2 * ratios[0]
    assert len(list(criterion.parameters())) == 1


# ---------------------------------------------------------------- RAN


@pytest.mark.parametrize("margin", [0.02, 0.1])
def test_the_margin_of_the_best_region_holds(margin: float) -> None:
    raw = (0.1 * torch.randn(10, 6)).requires_grad_()
    optimizer = torch.optim.SGD([raw], lr=1.0)
    for _ in range(300):
        loss = region_bias_loss(torch.sigmoid(raw), margin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = torch.sigmoid(raw.detach())
    assert (weights[:, :-1].amax(dim=1) - weights[:, -1] >= margin - 1e-3).all()


def test_the_region_bias_asks_for_no_more_than_its_margin() -> None:
    weights = torch.tensor([[0.1, 0.9, 0.1, 0.1, 0.1, 0.5], [0.2, 0.2, 0.2, 0.2, 0.2, 0.6]])
    assert float(region_bias_loss(weights[:1], 0.02)) == 0
    assert float(region_bias_loss(weights, 0.02)) == pytest.approx((0 + 0.42) / 2)


# ---------------------------------------------------------------- PSR


def _psr(classes: tuple[str, ...]) -> PSRCriterion:
    criterion = PSRObjective().create_criterion(TrainingSplit(classes=classes, num_images=1))
    assert isinstance(criterion, PSRCriterion)
    return criterion


def test_labels_are_smoothed_towards_what_they_are_taken_for() -> None:
    smoothed = _psr(EXPRESSIONS).smooth(torch.eye(8))
    assert smoothed.sum(dim=1).tolist() == pytest.approx([1.0] * 8, abs=1e-5)
    fear = dict(zip(EXPRESSIONS, smoothed[EXPRESSIONS.index("fear")].tolist(), strict=True))
    assert fear["fear"] == pytest.approx(0.8 + 0.2 * 0.658964)
    assert fear["surprise"] == pytest.approx(0.2 * 0.169483) == max(v for k, v in fear.items() if k != "fear")


def test_the_prior_follows_the_run_s_own_classes() -> None:
    seven = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
    criterion = _psr(seven)
    assert criterion.prior.shape == (7, 7)
    assert float(criterion.prior[1, 0]) == pytest.approx(PRIOR[EXPRESSIONS.index("fear")][2])
    assert float(criterion.prior[6].sum()) == pytest.approx(1 - PRIOR[0][7], abs=1e-5)
    with pytest.raises(ConfigError, match="does not know boredom"):
        _psr(("neutral", "boredom"))


def test_branches_learn_the_smoothed_label(make_output: MakeOutput) -> None:
    criterion = _psr(EXPRESSIONS)
    targets = torch.eye(8)[[6]]
    branches = torch.zeros(1, 3, 8, requires_grad=True)
    optimizer = torch.optim.Adam([branches], lr=0.1)
    for _ in range(300):
        loss = criterion(make_output(branches.mean(dim=1), branch_logits=branches), targets)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    learned = torch.softmax(branches.detach(), dim=2)
    torch.testing.assert_close(learned, criterion.smooth(targets).expand(1, 3, 8), rtol=0.05, atol=2e-3)
