"""From a trained network to the files and card that others use, and back. Needs PyTorch, onnx and onnxscript."""

from ddamfn.export.gates import Comparison, Gate, GateFaces, compare, onnx_runner, torch_runner
from ddamfn.export.loading import LoadedNetwork, create_model, load_network
from ddamfn.export.onnx import export_onnx

__all__ = [
    "Comparison", "Gate", "GateFaces", "LoadedNetwork", "compare", "create_model", "export_onnx", "load_network",
    "onnx_runner", "torch_runner",
]  # fmt: skip
