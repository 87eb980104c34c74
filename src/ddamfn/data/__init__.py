"""Data sets on disk: readers of the official layouts, vote rules, and facts about each set. No PyTorch."""

from ddamfn.data.catalog import CARDS, DatasetCard
from ddamfn.data.dataset import Dataset, Progress, Sample
from ddamfn.data.opening import KINDS, open_dataset, recognize
from ddamfn.data.rules import RULES, targets

__all__ = [
    "CARDS",
    "KINDS",
    "RULES",
    "Dataset",
    "DatasetCard",
    "Progress",
    "Sample",
    "open_dataset",
    "recognize",
    "targets",
]
