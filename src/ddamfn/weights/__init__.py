"""Weights and their cards: the bridge between training and use."""

from ddamfn.weights.card import (
    AlignmentCard,
    AppearanceCard,
    ArchitectureCard,
    CalibrationCard,
    Card,
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
    "AppearanceCard",
    "ArchitectureCard",
    "CalibrationCard",
    "Card",
    "find_weights",
    "list_weights",
    "read_card",
    "sha256",
    "threshold_for",
    "verify",
    "write_card",
]
