"""Data sets on disk: readers of the official layouts, vote rules, and what is known about each set. No PyTorch."""

from ddamfn.data.catalog import CARDS, DatasetCard
from ddamfn.data.dataset import Dataset, Sample
from ddamfn.data.rules import RULES

__all__ = ["CARDS", "RULES", "Dataset", "DatasetCard", "Sample"]
