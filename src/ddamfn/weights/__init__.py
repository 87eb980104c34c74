"""Weights and their cards: the bridge between training and use."""

from ddamfn.weights.card import (
    AlignmentCard,
    ArchitectureCard,
    CalibrationCard,
    Card,
    PreprocessingCard,
    read_card,
    sha256,
    threshold_for,
    verify,
    write_card,
)
from ddamfn.weights.store import DEFAULT_WEIGHTS, find_weights, list_weights

__all__ = [
    "DEFAULT_WEIGHTS",
    "AlignmentCard",
    "ArchitectureCard",
    "CalibrationCard",
    "Card",
    "PreprocessingCard",
    "find_weights",
    "list_weights",
    "read_card",
    "sha256",
    "threshold_for",
    "verify",
    "write_card",
]
