"""The command line as a whole: quick to answer, light to import, clear when arguments make no sense."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ddamfn import __version__
from ddamfn.cli import main


def _modules_after(arguments: list[str], names: tuple[str, ...], cwd: Path) -> str:
    """Run a command in a process of its own and return those of `names` that it imported."""
    code = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print([n for n in {names!r} if n in sys.modules], file=sys.stderr))\n"
        "from ddamfn.cli import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1]


def _children_s() -> float:
    """Return the processor time of all processes that were started and have ended."""
    times = os.times()
    return times.children_user + times.children_system


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the processor time of ended processes")
@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_is_quick_and_needs_no_numeric_library(argument: str, tmp_path: Path) -> None:
    seconds = []
    # The best of three, and what it computes instead of what passes on the clock, which on a busy machine is longer.
    for _ in range(3):
        start = _children_s()
        assert _modules_after([argument], ("numpy", "PIL", "onnxruntime", "rich", "torch"), tmp_path) == "[]"
        seconds.append(_children_s() - start)
    assert 0 < min(seconds) < 1


def test_predict_and_demo_and_models_never_import_the_workshop(tmp_path: Path, stand_in_weights: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    workshop = ("torch", "torchvision", "kornia", "cv2", "onnx", "matplotlib", "scipy", "skimage")
    weights = ["--weights", str(stand_in_weights)]
    for arguments in (["predict", "a.png", *weights], ["demo", *weights], ["models"]):
        assert _modules_after(arguments, workshop, tmp_path) == "[]"


def test_the_help_names_the_verbs_and_the_law(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in ("predict", "demo", "models"))
    assert "EU AI Act, Article 5(1)(f)" in text.splitlines()[-1]


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out == f"ddamfn {__version__}\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["models", "--format", "xml"]])
def test_bad_arguments_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert leaving.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--help" in line


def test_a_reader_that_goes_away_ends_the_run_quietly(tmp_path: Path, stand_in_weights: Path) -> None:
    for index in range(40):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{index}.png")
    code = "import sys; from ddamfn.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "predict", str(tmp_path), "--weights", str(stand_in_weights), "--quiet"]
    reading, writing = os.pipe()
    process = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    os.close(reading)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 141
    assert err == b""


def test_a_name_without_letters_in_the_terminal_s_encoding_is_no_reason_to_stop(
    tmp_path: Path, stand_in_weights: Path
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "ü☕.png")
    (tmp_path / "ü.jpg").touch()
    code = "import sys; from ddamfn.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "predict", str(tmp_path), "--format", "json"]
    done = subprocess.run(
        [*command, "--weights", str(stand_in_weights)],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)[1]["source"].endswith("ü☕.png")
    assert b"Traceback" not in done.stderr
