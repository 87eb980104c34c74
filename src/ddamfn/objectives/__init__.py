"""What a network is trained for, one file a paper. Needs PyTorch."""

from ddamfn.objectives.attention_loss import AttentionLossForm, attention_loss, head_means
from ddamfn.objectives.cross_entropy import soft_cross_entropy
from ddamfn.objectives.ddamfn import DDAMFNObjective, Loss

__all__ = ["AttentionLossForm", "DDAMFNObjective", "Loss", "attention_loss", "head_means", "soft_cross_entropy"]
