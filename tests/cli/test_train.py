"""`ddamfn train` as its user meets it: what it prints, refuses and leaves behind, stopped or not."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="needs the extra train")

from ddamfn.cli import main
from ddamfn.cli.progress import EpochBars
from ddamfn.synthetic import synthetic_face, write_synthetic_folder
from ddamfn.train import RECIPES
from ddamfn.train.run_folder import RunFolder

TINY = [
    "data.alignment.side_px=32",
    'phases=[{"epochs":2,"side_px":32,"batch_size":8}]',
    "checkpoint_steps=1",
]
LIGHT = 'model.options={"num_heads":2,"mixed_kernels":false,"coordinate_attention":false}'
CLASSES = ("neutral", "happiness", "surprise", "anger")
WaitUntil = Callable[[Callable[[], object], str], None]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module", autouse=True)
def _thin(thin_trunk: object) -> None:
    """What is tested here is the command, not the network that it trains."""


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen synthetic faces of four classes to train on, as class folders; one more is truncated, one has no face."""
    root = write_synthetic_folder(tmp_path_factory.mktemp("faces") / "faces", 4, np.random.default_rng(1), 64, CLASSES)
    image = (root / "train" / "anger" / "00003.png").read_bytes()
    (root / "train" / "anger" / "torn.png").write_bytes(image[: len(image) // 2])
    Image.new("RGB", (64, 64), "white").save(root / "train" / "happiness" / "blank.png")
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep prepared sets out of the user's cache, and prepare in this process: two dozen images need no others."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr("ddamfn.preparation.preparing.num_cores", lambda: 1)


def arguments(faces: Path, runs: Path, *more: str, settings: list[str] | None = None) -> list[str]:
    chosen = [part for setting in (TINY if settings is None else settings) for part in ("--set", setting)]
    return ["train", "ddamfn_quick", "--data", str(faces), "--runs", str(runs), "--num-threads", "1", *chosen, *more]


def test_a_run_from_images_to_weights(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    assert main(arguments(faces, runs)) == 0
    out, err = capsys.readouterr()
    folder = runs / "ddamfn_quick-seed0"
    result = json.loads((folder / "result.json").read_text())

    lines = out.splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, ("last", "best"), strict=False):
        valid = result[name]["valid"]
        assert line.startswith(
            f"{name}: epoch {result[name]['epoch']}, validation {valid['correct']}/8 = {valid['accuracy']:.4f} (95 %: "
        )
    assert lines[2] == f"weights: {folder / 'checkpoints' / 'best.safetensors'}"

    assert len(re.findall(r"^ddamfn: prepared images: ", err, re.MULTILINE)) == 1
    # The bad files are counted, and the unreadable one is named.
    assert "no face found in 1 of 34 images; they are used whole" in err
    assert re.search(r"1 of 34 images cannot be read and are left out:\nddamfn:   train/anger/torn\.png: ", err)
    assert "ddamfn: 17 images to train on, 8 to select on (val of " in err
    assert len([line for line in err.splitlines() if re.match(r"epoch   [12]  32 px  lr ", line)]) == 2

    with Image.open(folder / "curves.png") as image:
        assert image.format == "PNG"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names >= {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "curves.png",
        "result.json",
        "checkpoints/best.safetensors",
        "checkpoints/last.safetensors",
    }
    assert json.loads((folder / "environment.json").read_text())["argv"] == ["ddamfn", *arguments(faces, runs)]
    # The data set's own folder is as it was.
    assert not list(faces.rglob("*.npy"))

    # The same command again would overwrite the run.
    assert main(arguments(faces, runs)) == 2
    assert "holds a run already; add --resume to go on, or choose another --name" in capsys.readouterr().err
    assert main(arguments(faces, runs, "--resume", "--set", "seed=1", "--name", "ddamfn_quick-seed0")) == 2
    assert "different in seed" in capsys.readouterr().err


def test_seven_classes_of_eight_and_another_network(faces: Path, tmp_path: Path) -> None:
    settings = [*TINY, 'data.classes=["surprise","neutral"]', 'model={"name":"mfn"}', "phases.0.epochs=1"]
    assert main(arguments(faces, tmp_path, "--name", "two", "--quiet", settings=settings)) == 0
    row = json.loads((tmp_path / "two" / "metrics.jsonl").read_text())
    assert row["valid"]["classes"] == ["surprise", "neutral"]
    assert row["train"]["n"] == 8


def test_list_names_every_recipe_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    assert all(len(line) <= 120 for line in lines)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "optimizer.lr=fast"], "optimizer.lr takes a number, not 'fast'"),
        (["--set", "optimiser.lr=1"], "no setting optimiser; a run has recipe, model,"),
        (["--set", "seed"], "--set takes FIELD=VALUE, not 'seed'"),
        (["--set", "data.classes=anger"], "data.classes takes a list in square brackets, not 'anger'"),
        (["--set", "phases.0.side_px=96"], "a phase asks for images of 96 px, and the crops have 32 px"),
        (["--set", "model.options.heads=3"], "model: ddamfn has no option heads"),
        (["--name", "../elsewhere"], "--name '../elsewhere' is no folder's name"),
        (["--name", ".."], "--name '..' is no folder's name"),
        (["--device", "gpu"], "no device 'gpu' here: "),
        (["--num-threads", "0"], "'0' is not a whole number of at least 1"),
        (["--kind", "photos"], "invalid choice: 'photos'"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(
    more: list[str], message: str, faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(arguments(faces, tmp_path / "runs", *more))
    except SystemExit as leaving:  # argparse's own way
        status = leaving.code  # type: ignore[assignment]
    assert status == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert message in err
    assert not (tmp_path / "runs").exists()


def test_an_unknown_recipe_no_data_and_no_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "resnet", "--data", "x"]) == 2
    assert "no recipe named 'resnet'; there are: ddamfn_rafdb" in capsys.readouterr().err
    assert main(["train", "ddamfn_quick"]) == 2
    assert "needs --data ROOT" in capsys.readouterr().err
    assert main(["train", "ddamfn_quick", "--data", str(tmp_path / "nowhere"), "--runs", str(tmp_path)]) == 1
    assert "nowhere does not exist" in capsys.readouterr().err


def test_an_empty_class_names_the_folder(faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [*TINY, 'data.classes=["anger","fear"]']
    assert main(arguments(faces, tmp_path / "runs", "--quiet", settings=settings)) == 1
    err = capsys.readouterr().err.splitlines()
    assert err[-1].startswith(f"ddamfn: error: {faces} has no class fear; it has neutral, ")
    assert not (tmp_path / "runs").exists()


def test_without_pytorch_one_line_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from ddamfn.cli import main; sys.exit(main(['train', 'list']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == 'ddamfn: error: Training needs torch: pip install "ddamfn[train]"\n'


def test_without_matplotlib_the_run_is_not_lost(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(arguments(faces, tmp_path, "--name", "x", "--quiet", "--set", "phases.0.epochs=1")) == 0
    assert "curves.png is not drawn: " in capsys.readouterr().err
    assert (tmp_path / "x" / "checkpoints" / "best.safetensors").exists()
    assert not (tmp_path / "x" / "curves.png").exists()


# ---------------------------------------------------------------- the bar


class Terminal:
    """A standard error that says it is a terminal, and remembers."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def shown(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return True


ROW: dict[str, Any] = {
    "epoch": 2,
    "side_px": 48,
    "lr": 0.001,
    "train": {"loss": 1.5, "accuracy": 0.5},
    "valid": {"accuracy": 0.25},
    "head_means": [0.25, 0.75],
    "max_attention_mean": 0.8,
    "images_per_second": 100.0,
}


@pytest.mark.parametrize("quiet", [False, True])
def test_the_bar_shows_loss_accuracy_rate_and_time(
    quiet: bool, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    terminal, drawn = Terminal(), []
    bar = re.compile(r"epoch 2/3, 48 px .*600/1000 \d+/s 0:00:\d\d loss 1\.250  accuracy 0\.625")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("ddamfn.cli.progress._SECONDS_BETWEEN_DRAWINGS", -1.0)
    with EpochBars(quiet=quiet, draw=lambda: drawn.append(1)) as bars:
        bars.epoch_started(2, 3, 1000, 200, 48)
        for _ in range(3):
            bars.step_done(100, 1.25, 0.625)
        bars.step_done(100, None, None)
        if not quiet:
            # The bar is drawn ten times a second in a thread of its own, its time every half second.
            wait_until(lambda: bar.search(terminal.shown()), "the bar is not drawn")
        bars.epoch_done(ROW)
    line = "epoch   2  48 px  lr 1.00e-03  loss 1.500  train 0.5000  valid 0.2500  heads 0.25 0.75 (maximum 0.80)  "
    line += "100/s\n"
    if quiet:
        assert terminal.text == line
        assert drawn == [1]
        return
    assert terminal.shown().endswith(line)


# ---------------------------------------------------------------- stopped


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT to send")
def test_ctrl_c_leaves_a_run_that_goes_on(
    faces: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wait_until: WaitUntil,
) -> None:
    settings = [*TINY, "phases.0.epochs=3", "phases.0.batch_size=4"]
    assert main(arguments(faces, tmp_path, "--quiet", "--name", "whole", settings=settings)) == 0
    capsys.readouterr()

    state, over, append = tmp_path / "stopped" / "checkpoints" / "state.pt", threading.Event(), RunFolder.append

    def wait_after_two(folder: RunFolder, row: dict[str, Any]) -> None:
        # The last epoch but one waits for the signal, so that the run is surely stopped before its end.
        append(folder, row)
        if row["epoch"] == 2:
            over.wait(240)

    def interrupt() -> None:
        wait_until(lambda: state.exists() or over.is_set(), "the run never got to its first checkpoint")
        # Somewhere in a step, wherever that is on this machine.
        over.wait(random.Random(11).uniform(0.0, 0.2))
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    finger = threading.Thread(target=interrupt)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "append", wait_after_two)
            finger.start()
            status = main(arguments(faces, tmp_path, "--name", "stopped", settings=settings))
    finally:
        over.set()
        finger.join()
        signal.signal(signal.SIGINT, before)
    err = capsys.readouterr().err
    assert status == 130, err
    assert err.splitlines()[-1] == "ddamfn: stopped; the same command with --resume goes on"
    assert "Traceback" not in err

    assert main(arguments(faces, tmp_path, "--quiet", "--name", "stopped", "--resume", settings=settings)) == 0
    for weights in ("best", "last"):
        path = f"checkpoints/{weights}.safetensors"
        assert (tmp_path / "stopped" / path).read_bytes() == (tmp_path / "whole" / path).read_bytes()


# ---------------------------------------------------------------- learning


@pytest.mark.slow
def test_a_drawn_data_set_is_learned_in_seconds(tmp_path: Path) -> None:
    generator, classes = np.random.default_rng(0), CLASSES[:3]
    for split, per_class in (("train", 16), ("val", 8)):
        for label in classes:
            folder = tmp_path / "faces" / split / label
            folder.mkdir(parents=True)
            for number in range(per_class):
                Image.fromarray(synthetic_face(label, generator, 64)[0]).save(folder / f"{number}.png")
    command = ["train", "ddamfn_quick", "--data", str(tmp_path / "faces"), "--runs", str(tmp_path), "--quiet"]
    assert main([*command, "--set", LIGHT, "--set", "phases.0.batch_size=4"]) == 0
    last = json.loads((tmp_path / "ddamfn_quick-seed0" / "result.json").read_text())["last"]
    assert last["valid"]["n"] == 24
    # A third is chance, and three quarters are usual; how much exactly depends on the processor's rounding.
    assert last["valid"]["accuracy"] > 0.6


def test_a_trunk_is_trained_without_labels_and_begins_a_run(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["data.alignment.side_px=32", 'phases=[{"epochs":1,"side_px":32,"batch_size":8}]', LIGHT]
    more = [part for setting in settings for part in ("--set", setting)]
    common = ["--data", str(faces), "--runs", str(tmp_path), "--quiet", *more]
    assert main(["train", "pretrain_rotation", *common, "--name", "turned"]) == 0
    told = capsys.readouterr()
    assert f"--set initial={tmp_path / 'turned'}" in told.out
    assert re.search(r"epoch   1  32 px .* train 0\.\d{4}  \d+/s", told.err)
    assert main(["train", "ddamfn_quick", *common, "--name", "begun", "--set", f"initial={tmp_path / 'turned'}"]) == 0
    begun = json.loads((tmp_path / "begun" / "environment.json").read_text())["initial"]
    assert begun["file"] == str(tmp_path / "turned" / "checkpoints" / "trunk.safetensors")
    assert 0 < begun["taken"] < begun["tensors"]
    assert main(["export", str(tmp_path / "turned"), "--name", "none"]) == 1
    assert "trained a trunk by rotation" in capsys.readouterr().err
