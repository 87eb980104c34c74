"""Weights and their cards: the bridge between training and use."""

from ddamfn.weights.card import (
    WEIGHT_FORMATS,
    WEIGHT_PRECISIONS,
    CalibrationCard,
    Card,
    ClassPriorCard,
    WeightFormat,
    WeightPrecision,
    read_card,
    threshold_for,
    verify,
    write_card,
)
from ddamfn.weights.prior import ClassPrior
from ddamfn.weights.store import DEFAULT_WEIGHTS, find_weights, list_weights

__all__ = [
    "DEFAULT_WEIGHTS", "WEIGHT_FORMATS", "WEIGHT_PRECISIONS", "CalibrationCard",
    "Card", "ClassPrior", "ClassPriorCard", "WeightFormat", "WeightPrecision", "find_weights", "list_weights",
    "read_card", "threshold_for", "verify", "write_card",
]  # fmt: skip
