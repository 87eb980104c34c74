"""Cross-entropy against a distribution: one-hot labels, annotators' votes, or either of them smoothed."""

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Mean over the batch of -sum_k t_k log softmax(z)_k, in float32.

    Args:
        logits: (B, K) float.
        targets: (B, K) float, rows of which sum to 1; with votes this is the KL divergence plus a constant.
        label_smoothing: e in [0, 1): targets become (1 - e) t + e / K.

    Returns:
        A float32 scalar in nats.

    Source: Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
    Distribution", ICMI 2016, section 4.4; Szegedy et al., CVPR 2016, section 7, for the smoothing.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return F.cross_entropy(logits.float(), targets.float(), label_smoothing=label_smoothing)
