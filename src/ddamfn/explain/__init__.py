"""Explanations: maps of where a network looked, and a measurement of whether they are faithful.

The heads' own maps need NumPy and ONNX Runtime alone; Grad-CAM needs `pip install "ddamfn[explain]"`.
"""

from ddamfn.explain.explaining import Explanation, FaceExplanation, ScoredMap, explain
from ddamfn.explain.faithfulness import Score
from ddamfn.explain.maps import FaceMap

__all__ = ["Explanation", "FaceExplanation", "FaceMap", "Score", "ScoredMap", "explain"]
