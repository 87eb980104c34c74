"""What libraries are told before they are imported, and what the user's own word is worth."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddamfn.environment import cache_folder, share_cache, variables

SILENT = {
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


def child(code: str, **environment: str) -> str:
    """Run code in a process without the variables in question and with those given, and return what it prints."""
    env = {name: value for name, value in os.environ.items() if name not in SILENT} | environment
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout


# A hook sees an import before it begins; what ONNX Runtime reads then counts.
AT_IMPORT = """
import os, sys
def look(event, arguments):
    if event == "import" and arguments[0] == "onnxruntime":
        print(os.environ.get("ORT_DISABLE_TELEMETRY"))
sys.addaudithook(look)
import {module}
"""


@pytest.mark.parametrize("module", ["ddamfn.faces.sessions", "ddamfn.recognizer", "ddamfn.preparation.workers"])
def test_onnx_runtime_is_told_before_it_is_imported(module: str) -> None:
    assert child(AT_IMPORT.format(module=module)).split() == ["1"]


def test_the_package_tells_every_library_and_the_user_has_the_last_word() -> None:
    code = f"import os, ddamfn; print(*(os.environ[name] for name in {tuple(SILENT)}))"
    assert child(code).split() == list(SILENT.values())
    assert child(code, ORT_DISABLE_TELEMETRY="0", DO_NOT_TRACK="no").split() == ["0", "0", "1", "no"]


def test_libraries_keep_things_in_the_package_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there"))
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "mine")
    share_cache()
    assert os.environ["MPLCONFIGDIR"] == str(cache_folder() / "matplotlib")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "mine"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("home", ["file", "none"])
def test_a_cache_that_cannot_be_made_is_not_promised(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    if home == "file":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    else:
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.setattr(logging.getLogger("matplotlib"), "level", logging.NOTSET)
    share_cache()
    assert "MPLCONFIGDIR" not in os.environ
    # It says at every run that it took another folder.
    assert home == "none" or not logging.getLogger("matplotlib").isEnabledFor(logging.WARNING)


def test_variables_are_as_before_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDAMFN_ONE", "before")
    monkeypatch.delenv("DDAMFN_TWO", raising=False)
    with variables({"DDAMFN_ONE": "1", "DDAMFN_TWO": "2"}):
        assert (os.environ["DDAMFN_ONE"], os.environ["DDAMFN_TWO"]) == ("1", "2")
    assert os.environ["DDAMFN_ONE"] == "before"
    assert "DDAMFN_TWO" not in os.environ
