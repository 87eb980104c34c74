"""DDAMFN's objective: cross-entropy, attention loss, consistency under flips."""

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives.attention_loss import AttentionLossForm, attention_loss
from ddamfn.objectives.cross_entropy import prior_of, smooth_by_prior, soft_cross_entropy
from ddamfn.objectives.protocol import Context, Criterion, Loss, TrainingSplit, extra_of, require_at_least_0, weights_of


def flip_consistency_loss(class_maps: Tensor, mirrored_class_maps: Tensor) -> Tensor:
    """Squared difference of an image's class maps (B, K, H, W) and its mirror image's, these flipped back.

    Sum over positions, mean over images and classes. The paper takes the mean over positions as well, of maps whose
    mean is the logit and which hence have the logits' size. Ours sum to the logits, and GDConv gives positions weights
    of either sign: it is the sum of their squares that has the size of a squared logit, so that the paper's weight of 5
    means about the same.
    """
    return (class_maps - mirrored_class_maps.flip(-1)).square().sum(dim=(2, 3)).mean()


@dataclass(frozen=True, kw_only=True)
class DDAMFNObjective:
    """Cross-entropy plus `attention_weight` times the attention loss; both are for any network of the registry."""

    name: ClassVar[str] = "ddamfn"
    takes_mixtures: ClassVar[bool] = True
    attention_weight: float = 0.1
    """Lambda of the paper's Eq. 10; 0 leaves the heads to themselves."""
    attention_form: AttentionLossForm = "mean_pair"
    label_smoothing: float = 0.0
    """Share of a target that is spread evenly over the classes (Szegedy et al., CVPR 2016)."""
    prior_smoothing: float = 0.0
    """Share of a target that follows how people confuse its classes; PSR has 0.2 (Vo et al., IEEE Access 2020)."""
    logit_adjustment: float = 0.0
    """Tau: the loss sees logits + tau log(class share), so that rare classes get larger margins; the paper has 1.

    Prediction uses the plain logits, which then hold for equally frequent classes (Menon et al.,
    "Long-Tail Learning via Logit Adjustment", ICLR 2021, Eq. 10).
    """
    flip_consistency: float = 0.0
    """Lambda of EAC: how much the class maps of an image and of its mirror image must agree; the paper has 5.

    Needs a network with class maps. A step then passes every image twice (Zhang et al., "Learn From All: Erasing
    Attention Consistency for Noisy Label Facial Expression Recognition", ECCV 2022). With the paper's random erasing:
    `augment.erase`.
    """

    def __post_init__(self) -> None:
        require_at_least_0(
            attention_weight=self.attention_weight, logit_adjustment=self.logit_adjustment,
            flip_consistency=self.flip_consistency,
        )  # fmt: skip
        if self.attention_form not in get_args(AttentionLossForm):
            raise ConfigError(
                f"attention_form is one of {', '.join(get_args(AttentionLossForm))}, not {self.attention_form!r}"
            )
        for name in ("label_smoothing", "prior_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")

    def create_criterion(self, split: TrainingSplit) -> "DDAMFNCriterion":
        """Begin a run; raise ConfigError if the prior for `prior_smoothing` lacks a class."""
        return DDAMFNCriterion(self, split)


class DDAMFNCriterion(Criterion):
    """DDAMFN's objective at work.

    Its buffers follow from the objective and the split, so they are no part of its state: `offsets` (K,) float32, added
    to the logits inside the loss, and `prior` (K, K) float32, whose rows sum to 1 also for fewer than eight classes.
    """

    offsets: Tensor
    prior: Tensor

    def __init__(self, config: DDAMFNObjective, split: TrainingSplit) -> None:
        super().__init__()
        self.config = config
        self.mirrored = config.flip_consistency > 0
        if config.logit_adjustment:
            shares = split.class_shares or (1 / len(split.classes),) * len(split.classes)
            offsets = config.logit_adjustment * torch.tensor(shares, dtype=torch.float32).log()
            self.register_buffer("offsets", offsets, persistent=False)
        if config.prior_smoothing:
            prior = prior_of(split.classes)
            self.register_buffer("prior", prior / prior.sum(dim=1, keepdim=True), persistent=False)

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch; "cross_entropy" is what classification is trained for, all settings applied."""
        classification = self._classification(output.logits, targets, weights_of(context))
        apart = attention_loss(output.attention, self.config.attention_form)
        total = (
            classification + self.config.attention_weight * apart if self.config.attention_weight else classification
        )
        parts = {"cross_entropy": classification.detach(), "attention": apart.detach()}
        if self.mirrored:
            maps, mirrored = (extra_of(output, key, self.config.name) for key in ("class_maps", "mirrored_class_maps"))
            consistency = flip_consistency_loss(maps, mirrored)
            total = total + self.config.flip_consistency * consistency
            parts["flip_consistency"] = consistency.detach()
        return Loss(total, parts)

    def _classification(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        if self.config.prior_smoothing:
            targets = smooth_by_prior(targets, self.prior, self.config.prior_smoothing)
        if self.config.logit_adjustment:
            logits = logits.float() + self.offsets
        return soft_cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing, weights=weights)
