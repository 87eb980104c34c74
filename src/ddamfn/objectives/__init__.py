"""What a network is trained for, one file a paper. Needs PyTorch."""

from ddamfn.objectives.attention_loss import AttentionLossForm, attention_loss, head_means
from ddamfn.objectives.cross_entropy import CrossEntropyObjective, soft_cross_entropy
from ddamfn.objectives.dacl import DACLObjective
from ddamfn.objectives.dan import DANObjective
from ddamfn.objectives.ddamfn import DDAMFNObjective
from ddamfn.objectives.mvit import MViTObjective
from ddamfn.objectives.protocol import Context, Criterion, Loss, Objective, TrainingSplit
from ddamfn.objectives.psr import PSRObjective
from ddamfn.objectives.ran import RANObjective
from ddamfn.objectives.scn import SCNObjective

OBJECTIVES: dict[str, type[Objective]] = {
    kind.name: kind
    for kind in (
        CrossEntropyObjective, DACLObjective, DANObjective, DDAMFNObjective, MViTObjective, PSRObjective, RANObjective,
        SCNObjective,
    )
}  # fmt: skip
"""Name of an objective -> its class, for configurations that are read from a file."""

__all__ = [
    "OBJECTIVES", "AttentionLossForm", "Context", "Criterion", "CrossEntropyObjective", "DACLObjective", "DANObjective",
    "DDAMFNObjective", "Loss", "MViTObjective", "Objective", "PSRObjective", "RANObjective", "SCNObjective",
    "TrainingSplit", "attention_loss", "head_means", "soft_cross_entropy",
]  # fmt: skip
