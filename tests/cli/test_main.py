"""The command line as a whole: quick to answer, light to import, clear when arguments make no sense."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from ddamfn import __version__
from ddamfn.cli import VERBS, main


def _modules_after(arguments: list[str], cwd: Path) -> set[str]:
    """Run a command in a process of its own and return the modules that it imported."""
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(list(sys.modules)), file=sys.stderr))\n"
        "from ddamfn.cli import main\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def _seconds_of_computing(arguments: list[str], cwd: Path) -> float:
    """Time that the processor itself spent on a command: other processes may keep it waiting."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", "from ddamfn.cli import main; main()", *arguments],
        cwd=cwd,
        capture_output=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_the_list_of_verbs_needs_no_verb_and_no_numeric_library(argument: str, tmp_path: Path) -> None:
    imported = _modules_after([argument], tmp_path)
    assert not imported & {"numpy", "PIL", "onnxruntime", "rich", "torch"}
    assert not imported & {f"ddamfn.cli.{verb}" for verb in VERBS}


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_is_light(verb: str, tmp_path: Path) -> None:
    imported = _modules_after([verb, "--help"], tmp_path)
    assert not imported & {"onnxruntime", "torch", "av", "rich", "matplotlib"}
    if verb not in ("demo", "study"):  # which call the functions of another verb
        assert {name for name in VERBS if f"ddamfn.cli.{name}" in imported} == {verb}
    # One of three: a cold disk may be slow once.
    assert any(_seconds_of_computing([verb, "--help"], tmp_path) < 1 for _ in range(3))


def test_predict_and_demo_and_models_never_import_the_training_side(tmp_path: Path, stand_in_weights: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    training = {"torch", "torchvision", "kornia", "cv2", "onnx", "matplotlib", "scipy", "skimage"}
    weights = ["--weights", str(stand_in_weights)]
    for arguments in (["predict", "a.png", *weights], ["demo", *weights], ["models"]):
        assert not _modules_after(arguments, tmp_path) & training


def test_predict_of_an_image_imports_no_video_and_no_other_verb(tmp_path: Path, stand_in_weights: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.jpg")
    imported = _modules_after(["predict", "photo.jpg", "--weights", str(stand_in_weights)], tmp_path)
    assert {name for name in VERBS if f"ddamfn.cli.{name}" in imported} == {"predict"}
    packages = {f"ddamfn.{name}" for name in ("video", "study", "train", "export", "evaluate", "data", "serve")}
    assert not imported & {*packages, "av", "ddamfn.cli.predict_video"}


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "a.png", "--output", "s3://bucket/a.csv"],
        ["predict", "a.mp4", "--timeline", "https://example.org/a.png"],
        ["train", "ddamfn_quick", "--data", "s3://bucket/faces"],
        ["eval", "--data", "https://example.org/faces"],
        ["predict", "a.png", "--weights", "https://example.org/a.onnx"],
    ],
)
def test_an_address_is_no_file(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "address" in line


def test_a_reader_that_goes_away_ends_the_run_quietly(tmp_path: Path, stand_in_weights: Path) -> None:
    for index in range(40):
        Image.new("RGB", (32, 32)).save(tmp_path / f"{index}.png")
    code = "import sys; from ddamfn.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "predict", str(tmp_path), "--weights", str(stand_in_weights), "--quiet"]
    reading, writing = os.pipe()
    process = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    os.close(reading)
    _, err = process.communicate(timeout=60)
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
