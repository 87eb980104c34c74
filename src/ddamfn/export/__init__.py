"""From a trained network to the files and card that others use, and back. Needs PyTorch, onnx and onnxscript."""

from ddamfn.export.gates import Parity, check_parity, measure_parity
from ddamfn.export.loading import LoadedNetwork, create_model, load_network
from ddamfn.export.onnx import export_onnx

__all__ = [
    "LoadedNetwork", "Parity", "check_parity", "create_model", "export_onnx", "load_network", "measure_parity",
]  # fmt: skip
