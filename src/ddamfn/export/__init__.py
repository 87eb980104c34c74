"""From a trained network to the file and card that the instrument half uses. Needs PyTorch, onnx and onnxscript."""

from ddamfn.export.onnx import export_onnx
from ddamfn.export.parity import Parity, check_parity, measure_parity

__all__ = ["Parity", "check_parity", "export_onnx", "measure_parity"]
