"""What every test may use: a fixed seed, a generator, and FERPlus where this machine has it."""

import gc
import os
import random
import runpy
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

# Before any test module imports ONNX Runtime, which reports what it does unless this package has told it not to.
import ddamfn as _package  # noqa: F401

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers share the cores: one thread each, and each program that they start.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# With PyTorch and its exporter half a million objects are alive; as seldom as this, looking through them costs nothing.
gc.set_threshold(20_000, 10, 10)

_FERPLUS_PARTS = ("FER2013Train", "FER2013Valid", "FER2013Test")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """Seed the global generators, which libraries may use behind a test's back."""
    random.seed(20240229)
    np.random.seed(20240229)  # noqa: NPY002 - the old global state is the point here
    # PyTorch takes seconds to import, so only those tests that have it loaded pay for it.
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(20240229)
    _keep_the_exporters_tables()


def _keep_the_exporters_tables() -> None:
    """Let PyTorch's exporter make its tables of operators once: it parses and collects them anew at every export."""
    registry = getattr(sys.modules.get("torch.onnx._internal.exporter._registration"), "ONNXRegistry", None)
    if registry is not None and not hasattr(registry.from_torchlib, "cache_info"):
        registry.from_torchlib = staticmethod(cache(registry.from_torchlib))
    for name in ("torch.export.exported_program", "torch.export.decomp_utils"):
        module = sys.modules.get(name)
        collect = getattr(module, "_collect_all_valid_cia_ops", None)
        if collect is not None and not hasattr(collect, "cache_info"):
            module._collect_all_valid_cia_ops = cache(collect)


@pytest.fixture(scope="session", autouse=True)
def _nothing_outlives_the_machine() -> Iterator[None]:
    """Leave files to the system's cache: what fsync waits for is only of use after a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a fresh generator with a fixed seed."""
    return np.random.default_rng(20240229)


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], object], str], None]:
    """Return what waits for a condition, and fails with a text after two minutes: only what hangs takes so long."""

    def wait(condition: Callable[[], object], otherwise: str) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline, otherwise
            time.sleep(0.005)

    return wait


@pytest.fixture(scope="session")
def drawn_layout(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what draws a data set of one layout of `ddamfn.synthetic`, one image a class, once: not to be changed."""
    from ddamfn.synthetic import LAYOUTS

    return cache(lambda name: LAYOUTS[name](tmp_path_factory.mktemp(name) / "set", 1, np.random.default_rng(5)))


@pytest.fixture
def own_layout(drawn_layout: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return what copies such a data set into the test's own folder."""
    return lambda name: shutil.copytree(drawn_layout(name), tmp_path / name)


@pytest.fixture(scope="module")
def thin_trunk() -> Iterator[SimpleNamespace]:
    """Give DDAMFN and MFN a trunk with every kind of block, but four narrow ones in place of 34.

    A step takes an eighth of the time, as does an export, and a checkpoint a twentieth of the room. `code` does the
    same in a child process, and `published` are the stages in the package.
    """
    pytest.importorskip("torch", reason="needs the extra train")
    from ddamfn.models import ddamfn
    from ddamfn.models.layers import StageSpec

    stages = (
        StageSpec(64, 16, 32, (3, 5, 7), (16, 8, 8), stride=2),
        StageSpec(16, 16, 32, (3, 5), (24, 8), stride=1),
        StageSpec(16, 32, 64, (3, 5), (32, 32), stride=2),
        StageSpec(32, 64, 128, (3, 5, 7, 9), (32, 32, 32, 32), stride=2),
    )
    code = (
        "from ddamfn.models import ddamfn as thinned\n"
        f"from ddamfn.models.layers import StageSpec\nthinned.STAGES = {stages!r}\n"
    )
    published = ddamfn.STAGES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ddamfn, "STAGES", stages)
        yield SimpleNamespace(code=code, published=published)


@pytest.fixture
def whole_trunk(thin_trunk: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a test of a file with `thin_trunk` the trunk as it is published."""
    monkeypatch.setattr("ddamfn.models.ddamfn.STAGES", thin_trunk.published)


@pytest.fixture(scope="module")
def short_trunk() -> Iterator[None]:
    """Give DDAMFN and MFN every stage at its published width, but one block of each, for what depends on widths."""
    pytest.importorskip("torch", reason="needs the extra train")
    from ddamfn.models import ddamfn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ddamfn, "STAGES", tuple(replace(stage, repeats=1) for stage in ddamfn.STAGES))
        yield


@pytest.fixture(scope="module")
def short_baselines() -> Iterator[None]:
    """Give the networks with many equal residual units few of them, and their trunks a quarter of the channels."""
    pytest.importorskip("torch", reason="needs the extra train")
    from ddamfn.models import resnet
    from ddamfn.models.baselines import psr

    widths = tuple(width // 4 for width in resnet.WIDTHS)
    with pytest.MonkeyPatch.context() as patch:
        for place in ("resnet", "baselines.poster", "baselines.transfer"):
            patch.setattr(f"ddamfn.models.{place}.UNITS_50", (1, 1, 2, 1))
            patch.setattr(f"ddamfn.models.{place}.WIDTHS", widths)
        for place in ("resnet", "baselines.dacl", "baselines.dan", "baselines.ran", "baselines.scn"):
            patch.setattr(f"ddamfn.models.{place}.FEATURE_CHANNELS", widths[-1])
        patch.setattr("ddamfn.models.baselines.transfer._CHANNELS", widths[2])
        patch.setattr(psr, "_SR_BLOCKS", 1)
        patch.setattr(psr, "_SR_WIDTH", 16)
        patch.setattr(psr, "_vgg_stage", lambda before, after, _, stage=psr._vgg_stage: stage(before, after, 1))
        yield


@pytest.fixture(scope="session")
def ferplus_root() -> Path:
    """Return the folder of the official FERPlus archives or folders; skip where there is none.

    The folder named by DDAMFN_FERPLUS counts, else `shared/data/ferplus` beside the checkout.
    """
    named = os.environ.get("DDAMFN_FERPLUS")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data" / "ferplus"
    missing = [n for n in _FERPLUS_PARTS if not (root / n).is_dir() and not (root / f"{n}.zip").is_file()]
    if missing:
        pytest.skip(f"needs FERPlus, and {root} lacks {', '.join(missing)}; name its folder in DDAMFN_FERPLUS")
    return root


@pytest.fixture(scope="session")
def stand_in_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a tiny network with random weights and of a card: the shipped weights' inputs and outputs.

    It pools the face to 7 x 7 and mixes colors and places by chance: its answers mean nothing, but depend on every
    part of the image, so what is tested of the program around a network can be tested with it.
    """
    onnx = pytest.importorskip("onnx", reason="needs onnx to build a network")
    from onnx import TensorProto, helper, numpy_helper

    from ddamfn.files import sha256_bytes
    from ddamfn.labels import EXPRESSIONS
    from ddamfn.weights import Card, write_card

    generator = np.random.default_rng(7)
    shapes = {"mix": (2, 3, 1, 1), "dense": (147, 8), "bias": (8,)}
    scales = {"mix": 1.0, "dense": 0.3, "bias": 0.5}
    values = [
        numpy_helper.from_array(generator.normal(0, scales[name], shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("AveragePool", ["input"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Conv", ["pooled", "mix"], ["mixed"]),
        helper.make_node("Sigmoid", ["mixed"], ["attention"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense", "bias"], ["logits"]),
    ]
    entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 112, 112])
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 8]),
        helper.make_tensor_value_info("attention", TensorProto.FLOAT, ["N", 2, 7, 7]),
    ]
    graph = helper.make_graph(nodes, "stand-in", [entry], outputs, values)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(network)
    folder = tmp_path_factory.mktemp("weights")
    content = network.SerializeToString()
    (folder / "stand-in.onnx").write_bytes(content)
    card = Card(
        name="stand-in",
        architecture={"name": "pooling", "num_classes": 8, "num_heads": 2, "parameters": 1190, "gmac": 0.0},
        labels=EXPRESSIONS,
        input_side_px=112,
        preprocessing={"color": "gray", "detail_px": 48},
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        alignment={"template": "arcface", "margin": 0.0, "side_px": 112, "detector": "retinaface"},
        temperature=1.5,
        training={},
        scores=(),
        license="MIT",
        rights="random numbers",
        file="stand-in.onnx",
        sha256=sha256_bytes(content),
    )
    write_card(card, folder / "stand-in.json")
    return folder / "stand-in.onnx"


@pytest.fixture(scope="session")
def calibrated_weights(stand_in_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the stand-in network with a card that has a curve of precision, and shares of training."""
    from ddamfn.weights import CalibrationCard, read_card, write_card

    curve: CalibrationCard = {
        "split": "validation",
        "rule": "majority",
        "n": 1000,
        "bins": 15,
        "ece_before": 0.12,
        "ece_after": 0.02,
        "thresholds": [0.0, 0.4, 0.999],
        "coverage": [1.0, 0.8, 0.1],
        "precision": [0.6, 0.75, 0.97],
        "precision_low": [0.55, 0.7, 0.9],
    }
    network = tmp_path_factory.mktemp("calibrated") / stand_in_weights.name
    network.write_bytes(stand_in_weights.read_bytes())
    plain = read_card(stand_in_weights.with_suffix(".json"))
    shares = dict(zip(plain.labels, (0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02), strict=True))
    card = replace(plain, calibration=curve, class_prior={"shares": shares, "weight": 1.0})
    write_card(card, network.with_suffix(".json"))
    return network


@pytest.fixture(scope="session")
def head() -> np.ndarray:
    """Return the head of the bundled portrait, uint8 (96, 96, 3) RGB."""
    import io
    from importlib.resources import files

    from PIL import Image

    content = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB").crop((90, 0, 370, 280)).resize((96, 96)))


@pytest.fixture(scope="session")
def heic() -> Callable[..., bytes]:
    """Return what puts HEIC files together, see `heic.py`; without PyAV the test is skipped."""
    pytest.importorskip("av", reason="needs PyAV to code HEVC")
    made: Callable[..., bytes] = runpy.run_path(str(Path(__file__).with_name("heic.py")))["heic"]
    return made


@pytest.fixture(scope="session")
def write_video() -> Callable[..., Path]:
    """Return what writes RGB frames into a video file; without PyAV the test is skipped."""
    av = pytest.importorskip("av", reason="needs PyAV")

    def write(
        path: Path,
        frames: Iterable[np.ndarray],
        *,
        rate: int = 10,
        times_s: Sequence[float] | None = None,
        codec: str = "libx264",
        rotation: int = 0,
        mirrored: bool = False,
        aspect: Fraction | None = None,
        sound_s: float = 0.0,
        options: dict[str, str] | None = None,
        kind: str | None = None,
    ) -> Path:
        ticks = 1000 if times_s else rate
        with av.open(str(path), "w", format=kind, options=options or {}) as container:
            stream = container.add_stream(codec, rate=rate)
            stream.pix_fmt, stream.gop_size = "yuv420p", 5
            stream.codec_context.time_base = Fraction(1, ticks)
            sound = container.add_stream("aac", rate=8000, layout="mono") if sound_s else None
            for index, pixels in enumerate(frames):
                if not index:
                    stream.height, stream.width = pixels.shape[:2]
                    if rotation or mirrored:
                        stream.set_display_rotation(rotation, hflip=mirrored)
                    if aspect:
                        stream.codec_context.sample_aspect_ratio = aspect
                frame = av.VideoFrame.from_ndarray(pixels)
                frame.pts = round(times_s[index] * ticks) if times_s else index
                frame.time_base = Fraction(1, ticks)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if sound is not None:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, int(8000 * sound_s)), np.float32), "fltp", "mono")
                silence.rate, silence.pts, silence.time_base = 8000, 0, Fraction(1, 8000)
                container.mux(sound.encode(silence))
                container.mux(sound.encode(None))
        return path

    return write
