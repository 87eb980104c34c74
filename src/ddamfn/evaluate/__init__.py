"""Evaluation: a split becomes one table of logits, the table becomes scores, scores become a report. NumPy only."""

from ddamfn.evaluate.calibration import fit_temperature
from ddamfn.evaluate.scores import Scores, score

__all__ = ["Scores", "fit_temperature", "score"]
