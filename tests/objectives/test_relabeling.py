"""SCN and MViT find planted wrong labels and change them, and SCN trusts some images more than others."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ddamfn.models import ModelOutput
from ddamfn.objectives import Context, MViTObjective, SCNObjective, TrainingSplit
from ddamfn.objectives.protocol import Criterion
from ddamfn.objectives.scn import LabelBook, SCNCriterion, rank_loss, trusted

MakeOutput = Callable[..., ModelOutput]

IMAGES, CLASSES, PLANTED = 120, 3, 12


class _Reader(nn.Module):
    """As SCN: class scores times a weight; a large network knows its images one by one, here they are numbered."""

    def __init__(self) -> None:
        super().__init__()
        self.scores, self.weights = nn.Linear(2, CLASSES), nn.Embedding(IMAGES, 1)
        nn.init.zeros_(self.weights.weight)

    def forward(self, points: Tensor, rows: Tensor, make_output: MakeOutput) -> ModelOutput:
        importance = torch.sigmoid(self.weights(rows))
        return make_output(importance * self.scores(points[rows]), importance=importance.squeeze(1))


def _clusters() -> tuple[Tensor, Tensor, Tensor]:
    """Points around three places, their true classes, and labels of which the first twelve are wrong."""
    generator = torch.Generator().manual_seed(5)
    true = torch.arange(IMAGES) % CLASSES
    places = torch.tensor([[4.0, 0.0], [-2.0, 3.5], [-2.0, -3.5]])
    points = places[true] + 0.6 * torch.randn(IMAGES, 2, generator=generator)
    labels = true.clone()
    labels[:PLANTED] = (true[:PLANTED] + 1) % CLASSES
    return points, true, labels


def _train(criterion: Criterion, make_output: MakeOutput, epochs: int) -> tuple[Tensor, Tensor]:
    """Train a small reader; return the true classes and the labels as the criterion sees them in the end."""
    points, true, labels = _clusters()
    targets = torch.eye(CLASSES)[labels]
    reader = _Reader()
    optimizer = torch.optim.Adam(reader.parameters(), lr=0.05)
    for epoch in range(epochs):
        order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(30):
            context = Context(rows=rows, epoch=epoch)
            output = reader(points, rows, make_output)
            optimizer.zero_grad()
            criterion(output, targets[rows], context).total.backward()
            optimizer.step()
            criterion.after_step(output, targets[rows], context)
    rows = torch.arange(IMAGES)
    return true, criterion.get_submodule("book")(targets, rows).argmax(dim=1)


@pytest.mark.parametrize("group", ["low", "all", "mvit"])
def test_planted_wrong_labels_are_found(group: str, make_output: MakeOutput) -> None:
    objective = MViTObjective(relabel_epoch=5) if group == "mvit" else SCNObjective(
        relabel_epoch=5, relabel_group=group  # type: ignore[arg-type]
    )  # fmt: skip
    criterion = objective.create_criterion(TrainingSplit(classes=("a", "b", "c"), num_images=IMAGES))
    true, seen = _train(criterion, make_output, epochs=25)
    assert int((seen[:PLANTED] == true[:PLANTED]).sum()) >= PLANTED - 1
    assert torch.equal(seen[PLANTED:], true[PLANTED:])
    share = float(criterion.get_submodule("book").share())
    assert share == pytest.approx(PLANTED / IMAGES, abs=1.5 / IMAGES)


def test_no_label_changes_before_its_epoch(make_output: MakeOutput) -> None:
    criterion = SCNObjective(relabel_epoch=25).create_criterion(
        TrainingSplit(classes=("a", "b", "c"), num_images=IMAGES)
    )
    _, seen = _train(criterion, make_output, epochs=10)
    assert torch.equal(seen, _clusters()[2])


def test_the_changed_label_is_what_the_loss_compares_with(make_output: MakeOutput) -> None:
    criterion = SCNObjective(rank_weight=0).create_criterion(TrainingSplit(classes=("a", "b", "c"), num_images=4))
    assert isinstance(criterion, SCNCriterion)
    criterion.book.labels[2] = 1
    logits, importance = torch.randn(2, CLASSES), torch.tensor([0.4, 0.6])
    context = Context(rows=torch.tensor([2, 3]), epoch=0)
    found = criterion(make_output(logits, importance=importance), torch.eye(CLASSES)[[0, 0]], context).total
    torch.testing.assert_close(found, nn.functional.cross_entropy(logits, torch.tensor([1, 0])))


def test_a_book_changes_what_is_contradicted_by_more_than_the_margin() -> None:
    book = LabelBook(10)
    given = torch.eye(3)[[0, 0, 0, 2]]
    likely = torch.tensor([[0.35, 0.6, 0.05], [0.45, 0.5, 0.05], [0.9, 0.05, 0.05], [0.1, 0.8, 0.1]])
    rows = torch.tensor([7, 1, 4, 5])
    book.relabel(likely.log(), given, rows, margin=0.2, candidates=torch.tensor([True, True, True, False]))
    assert book.labels[rows].tolist() == [1, -1, -1, -1]
    assert float(book.share()) == pytest.approx(0.1)
    assert book(given, rows).argmax(dim=1).tolist() == [1, 0, 0, 2]
    assert torch.equal(book(given, rows)[1:], given[1:])
    # What was changed stays changed, until a third class is as sure.
    book.relabel(torch.tensor([[0.5, 0.45, 0.05]]).log(), given[:1], rows[:1], margin=0.2)
    assert int(book.labels[7]) == 1
    book.relabel(torch.tensor([[0.1, 0.2, 0.7]]).log(), given[:1], rows[:1], margin=0.2)
    assert int(book.labels[7]) == 2


def test_votes_stay_votes_until_the_label_changes() -> None:
    book = LabelBook(2)
    votes = torch.tensor([[0.6, 0.4, 0.0], [0.6, 0.4, 0.0]])
    book.relabel(torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.4, 0.1]]).log(), votes, torch.arange(2), margin=0.2)
    assert torch.equal(book(votes, torch.arange(2)), torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.4, 0.0]]))


def test_a_image_that_stands_twice_in_a_batch_has_one_label() -> None:
    book = LabelBook(3)
    likely = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for order in ([0, 1], [1, 0]):
        book.labels.fill_(-1)
        book.relabel(100 * likely[order], torch.eye(3)[[0, 0]], torch.tensor([2, 2]), margin=0.2)
        assert book.labels.tolist() == [-1, -1, 2]


# ---------------------------------------------------------------- the ranks of SCN


def test_the_upper_group_is_the_larger_share() -> None:
    importance = torch.tensor([0.1, 0.9, 0.5, 0.7, 0.3, 0.8, 0.2, 0.6, 0.4, 0.95])
    assert trusted(importance, 0.7).tolist() == [False, True, True, True, False, True, False, True, True, True]
    assert trusted(torch.full((10,), 0.5), 0.7).sum() == 7
    assert trusted(torch.rand(2), 0.99).sum() == 1


@pytest.mark.parametrize(("high", "low", "loss"), [(0.8, 0.3, 0.0), (0.5, 0.45, 0.1), (0.5, 0.5, 0.15)])
def test_rank_loss(high: float, low: float, loss: float) -> None:
    importance = torch.tensor([high] * 7 + [low] * 3)
    assert float(rank_loss(importance, 0.7, 0.15)) == pytest.approx(loss, abs=1e-6)
    assert float(rank_loss(importance[:1], 0.7, 0.15)) == 0


def test_the_rank_loss_drives_the_groups_apart() -> None:
    raw = (0.01 * torch.randn(20)).requires_grad_()
    optimizer = torch.optim.SGD([raw], lr=5.0)
    for _ in range(60):
        optimizer.zero_grad()
        rank_loss(torch.sigmoid(raw), 0.7, 0.15).backward()
        optimizer.step()
    importance = torch.sigmoid(raw.detach())
    high = trusted(importance, 0.7)
    assert float(importance[high].mean() - importance[~high].mean()) >= 0.149
