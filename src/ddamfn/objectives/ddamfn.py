"""What DDAMFN is trained for: classification, and heads that look at different places.

Source: Zhang et al. 2023, Eq. 10: L = L_cls + 0.1 L_att.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

from torch import Tensor

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives.attention_loss import AttentionLossForm, attention_loss
from ddamfn.objectives.cross_entropy import soft_cross_entropy
from ddamfn.objectives.protocol import Criterion, Loss, Stateless


@dataclass(frozen=True, kw_only=True)
class DDAMFNObjective:
    """Cross-entropy plus `attention_weight` times the attention loss; both are for any network of the registry.

    Raises:
        ConfigError: if a number is out of range.
    """

    name: ClassVar[str] = "ddamfn"
    attention_weight: float = 0.1
    """Lambda of the paper's Eq. 10; 0 leaves the heads to themselves."""
    attention_form: AttentionLossForm = "mean_pair"
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.attention_weight < 0:
            raise ConfigError(f"attention_weight must be 0 or more, not {self.attention_weight}")
        if self.attention_form not in get_args(AttentionLossForm):
            raise ConfigError(
                f"attention_form is one of {', '.join(get_args(AttentionLossForm))}, not {self.attention_form!r}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be at least 0 and below 1, not {self.label_smoothing}")

    def __call__(self, output: ModelOutput, targets: Tensor) -> Loss:
        """Loss of one batch; targets (B, K) float, rows of which sum to 1."""
        classification = soft_cross_entropy(output.logits, targets, label_smoothing=self.label_smoothing)
        apart = attention_loss(output.attention, self.attention_form)
        total = classification + self.attention_weight * apart if self.attention_weight else classification
        return Loss(total, {"cross_entropy": classification.detach(), "attention": apart.detach()})

    def create_criterion(self, *, classes: Sequence[str], num_pictures: int) -> Criterion:
        """Begin a run."""
        return Stateless(self)
