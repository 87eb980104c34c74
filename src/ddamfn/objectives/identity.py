"""Identity: regression of a face-recognition network's embeddings.

Source: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, for learning another network's features.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from ddamfn.errors import ConfigError
from ddamfn.models import ModelOutput
from ddamfn.objectives.pretext import PretextCriterion, PretextObjective, pooled
from ddamfn.objectives.protocol import Context, Loss, TrainingSplit

IdentityLoss = Literal["cosine", "squared"]


@dataclass(frozen=True, kw_only=True)
class IdentityObjective(PretextObjective):
    """Regress the embeddings of a face-recognition network, see `ddamfn.preparation.identity`."""

    name: ClassVar[str] = "identity"
    takes_identities: ClassVar[bool] = True
    loss: IdentityLoss = "cosine"
    """One minus the cosine, or the squared distance."""
    embedding_dim: int = 128
    """D of the embeddings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in get_args(IdentityLoss):
            raise ConfigError(f"loss is one of {', '.join(get_args(IdentityLoss))}, not {self.loss!r}")

    def create_criterion(self, split: TrainingSplit) -> "IdentityCriterion":
        """Begin a run."""
        return IdentityCriterion(self)


class IdentityCriterion(PretextCriterion):
    """The identity task at work; a linear layer is learned with the network."""

    def __init__(self, config: IdentityObjective) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(config.channels, config.embedding_dim)

    def forward(self, output: ModelOutput, targets: Tensor, context: Context | None = None) -> Loss:
        """Compute the loss of a batch; targets (B, D) float are the embeddings."""
        embedding = self.head(pooled(output, self.config.channels))
        cosine = F.cosine_similarity(embedding, targets, dim=1).mean()
        squared = (embedding - targets).square().sum(dim=1).mean()
        total = 1 - cosine if self.config.loss == "cosine" else squared
        return Loss(total, {"cosine": cosine.detach(), "squared_distance": squared.detach()})
