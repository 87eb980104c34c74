"""What a network is trained for, one file per paper or family of papers. Needs PyTorch."""

from ddamfn.objectives.attention_loss import AttentionLossForm, attention_loss, head_means
from ddamfn.objectives.cross_entropy import CrossEntropyObjective, soft_cross_entropy
from ddamfn.objectives.dacl import DACLObjective
from ddamfn.objectives.dan import DANObjective
from ddamfn.objectives.ddamfn import DDAMFNObjective
from ddamfn.objectives.distillation import (
    CachedDistillation,
    Distillation,
    DistillationLoss,
    LiveDistillation,
    SelfDistillation,
)
from ddamfn.objectives.identity import IdentityObjective
from ddamfn.objectives.mvit import MViTObjective
from ddamfn.objectives.pretext import PretextCriterion, PretextObjective
from ddamfn.objectives.protocol import Context, Criterion, Loss, Objective, SoftTargets, TrainingSplit
from ddamfn.objectives.psr import PSRObjective
from ddamfn.objectives.ran import RANObjective
from ddamfn.objectives.rotation import RotationObjective
from ddamfn.objectives.scn import SCNObjective
from ddamfn.objectives.siamese import BarlowObjective, SimSiamObjective

OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind
    for kind in (
        BarlowObjective, CrossEntropyObjective, DACLObjective, DANObjective, DDAMFNObjective, IdentityObjective,
        MViTObjective, PSRObjective, RANObjective, RotationObjective, SCNObjective, SimSiamObjective,
    )
}  # fmt: skip
"""Name of an objective -> its class, for configurations that are read from a file."""

__all__ = [
    "OBJECTIVES", "AttentionLossForm", "BarlowObjective", "CachedDistillation", "Context", "Criterion",
    "CrossEntropyObjective", "DACLObjective", "DANObjective", "DDAMFNObjective", "Distillation", "DistillationLoss",
    "IdentityObjective", "LiveDistillation", "Loss", "MViTObjective", "Objective", "PSRObjective", "PretextCriterion",
    "PretextObjective", "RANObjective", "RotationObjective", "SCNObjective", "SelfDistillation", "SimSiamObjective",
    "SoftTargets", "TrainingSplit", "attention_loss", "head_means", "soft_cross_entropy",
]  # fmt: skip
