"""Networks of every form behind one call, on one thread: for comparing them."""

import os

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from ddamfn.errors import MissingExtra, WeightsError
from ddamfn.export.comparing import Runner
from ddamfn.export.onnx import INPUT_NAME, OUTPUT_NAMES, exported_outputs


def onnx_runner(path: str | os.PathLike[str]) -> Runner:
    """Run an ONNX file by ONNX Runtime.

    Raises:
        WeightsError: if the runtime cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no public base class
        raise WeightsError(f"ONNX Runtime cannot run {path}: {' '.join(str(error).split())}") from error

    def run(inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, attention = session.run(list(OUTPUT_NAMES), {INPUT_NAME: inputs})
        return logits, attention

    return run


def torch_runner(network: nn.Module) -> Runner:
    """Run a PyTorch network as it is."""
    network.eval()

    def run(inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            logits, attention = exported_outputs(network, torch.from_numpy(inputs))
        finally:
            torch.set_num_threads(threads)
        return logits.numpy(), attention.numpy()

    return run


def openvino_runner(path: str | os.PathLike[str]) -> Runner:
    """Run an OpenVINO network (`.xml` with its `.bin`) on the CPU, computing in float32.

    Raises:
        MissingExtra: if openvino is not installed.
        WeightsError: if OpenVINO cannot run it.
    """
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise MissingExtra("openvino", "openvino", "The format openvino") from error
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        network = openvino.Core().compile_model(os.fspath(path), "CPU", settings)
    except RuntimeError as error:
        raise WeightsError(f"OpenVINO cannot run {path}: {' '.join(str(error).split())}") from error

    def run(inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        said = network({INPUT_NAME: inputs})
        # Copied: the arrays are views of the request's own memory, which the next call overwrites.
        return said[OUTPUT_NAMES[0]].copy(), said[OUTPUT_NAMES[1]].copy()

    return run
