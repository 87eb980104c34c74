"""SCN's objective: importance weights, rank regularization, relabeling."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives.cross_entropy import soft_cross_entropy
from ddamfn.objectives.protocol import Context, Criterion, Loss, TrainingSplit, extra_of, require_at_least_0, weights_of


class LabelBook(nn.Module):
    """The changed labels of a training split of N images; the split itself, which runs may share, stays as it is.

    The buffer `labels` (N,) int64 holds each image's new class, or -1 where the data set's own target holds.
    """

    labels: Tensor

    def __init__(self, num_images: int) -> None:
        super().__init__()
        self.register_buffer("labels", torch.full((num_images,), -1))

    def forward(self, targets: Tensor, rows: Tensor) -> Tensor:
        """Targets (B, K) of the images `rows` (B,) as they stand now: one-hot where changed, else as given."""
        changed = self.labels[rows]
        new = F.one_hot(changed.clamp_min(0), targets.shape[1]).to(targets.dtype)
        return torch.where((changed >= 0).unsqueeze(1), new, targets)

    @torch.no_grad()
    def relabel(
        self, logits: Tensor, targets: Tensor, rows: Tensor, *, margin: float, candidates: Tensor | None = None
    ) -> None:
        """Relabel an image with the predicted class where that is likelier than its label by more than `margin`.

        The change is for good, or until the network is as sure of a third class. `candidates` (B,) None stands for all.
        """
        likely = torch.softmax(logits.float(), dim=1)
        label = self(targets, rows).argmax(dim=1, keepdim=True)
        best, predicted = likely.max(dim=1)
        changes = best - likely.gather(1, label).squeeze(1) > margin
        if candidates is not None:
            changes &= candidates
        # A batch drawn with replacement may hold an image twice; the largest number wins, so that runs repeat.
        values = torch.where(changes, predicted, self.labels[rows])
        self.labels.scatter_reduce_(0, rows, values, "amax", include_self=False)

    def share(self) -> Tensor:
        """Part of the images whose label was changed, float32 scalar from 0 to 1."""
        return (self.labels >= 0).float().mean()


RelabelGroup = Literal["low", "all"]


def trusted(importance: Tensor, share: float) -> Tensor:
    """Tell the images of the batch's upper `share` by their weight, (B,) bool; at least one on each side."""
    high = max(1, min(len(importance) - 1, round(share * len(importance))))
    ranks = importance.argsort(descending=True, stable=True).argsort()
    return ranks < high


def rank_loss(importance: Tensor, share: float, margin: float) -> Tensor:
    """Hinge on the groups' mean weights: max(0, margin - (mean of upper - mean of lower)); 0 for a single image."""
    if len(importance) < 2:
        return importance.new_zeros(())
    high = trusted(importance, share)
    return torch.relu(margin - (_mean(importance, high) - _mean(importance, ~high)))


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of the chosen values, without asking the device how many they are."""
    return (values * chosen).sum() / chosen.sum()


@dataclass(frozen=True, kw_only=True)
class SCNObjective:
    """Cross-entropy of the weighted logits, rank regularization, relabeling."""

    name: ClassVar[str] = "scn"
    takes_mixtures: ClassVar[bool] = False
    high_share: float = 0.7
    """Part of a batch that is to be trusted (beta)."""
    rank_margin: float = 0.15
    """Least difference of the groups' mean weights (delta 1); the authors advise 0.07 for batches of 64."""
    rank_weight: float = 1.0
    relabel_epoch: int = 10
    """First epoch, counted from 0, that changes labels."""
    relabel_margin: float = 0.2
    """By how much the likeliest class must exceed the label's probability (delta 2)."""
    relabel_group: RelabelGroup = "low"
    """Who may change: the paper's lower group, or everybody as in the authors' program."""

    def __post_init__(self) -> None:
        require_at_least_0(
            rank_margin=self.rank_margin, rank_weight=self.rank_weight, relabel_epoch=self.relabel_epoch,
            relabel_margin=self.relabel_margin,
        )  # fmt: skip
        if not 0 < self.high_share < 1:
            raise ConfigError(f"high_share must lie between 0 and 1, not {self.high_share}")
        if self.relabel_group not in get_args(RelabelGroup):
            raise ConfigError(
                f"relabel_group is one of {', '.join(get_args(RelabelGroup))}, not {self.relabel_group!r}"
            )

    def create_criterion(self, split: TrainingSplit) -> "SCNCriterion":
        """Begin a run."""
        return SCNCriterion(self, split.num_images)


class SCNCriterion(Criterion):
    """SCN's objective at work; `book` holds the labels that it changed."""

    def __init__(self, config: SCNObjective, num_images: int) -> None:
        super().__init__()
        self.config = config
        self.book = LabelBook(num_images)

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch against its current labels."""
        importance = extra_of(output, "importance", self.config.name)
        current = targets if context is None else self.book(targets, context.rows)
        classification = soft_cross_entropy(output.logits, current, weights=weights_of(context))
        rank = rank_loss(importance, self.config.high_share, self.config.rank_margin)
        parts = {"cross_entropy": classification.detach(), "rank": rank.detach(), "relabeled": self.book.share()}
        return Loss(classification + self.config.rank_weight * rank, parts)

    @torch.no_grad()
    def after_step(self, output: ModelOutput, targets: Tensor, context: Context) -> None:
        """Change labels that the network contradicts, once it has learned for some epochs."""
        if context.epoch < self.config.relabel_epoch or len(targets) < 2:
            return
        candidates = None
        if self.config.relabel_group == "low":
            importance = extra_of(output, "importance", self.config.name)
            candidates = ~trusted(importance, self.config.high_share)
        self.book.relabel(
            output.logits, targets, context.rows, margin=self.config.relabel_margin, candidates=candidates
        )
