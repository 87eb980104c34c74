"""The site can be built, its pages' code runs, its figures are the code's, and both READMEs say the same."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TOOLS = ROOT / "tools" / "docs"
PAGES = sorted(DOCS.glob("*.md"))
FIGURES = sorted([*DOCS.glob("*.svg"), *DOCS.glob("*.png")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GENERATED = re.compile(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", re.DOTALL)
PORTRAIT = files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()
LARGEST_FIGURE = 300_000


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(text(path)) if found == language]


# ---------------------------------------------------------------- the site


def test_the_site_is_built_without_a_warning_and_asks_nobody(tmp_path: Path) -> None:
    for module in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f'needs {module}: pip install ".[docs]"')
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    # A proxy that is not there: whoever asks for another machine fails.
    nobody = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    built = subprocess.run(command, cwd=ROOT, env=os.environ | nobody, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {page.stem for page in PAGES} <= {page.stem for page in pages}
    for page in pages:
        loaded = re.findall(r'<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)="?(https?:)?//', text(page))
        assert loaded == [], page.name
    reference = text(tmp_path / "site" / "api-reading.html")
    for name in ("Recognizer.predict", "ImageResult.to_dict", "read_video", "create_app", "find_weights"):
        assert re.search(rf'id="ddamfn[\w.]*\.{re.escape(name)}"', reference), name


def test_every_page_stands_in_the_navigation() -> None:
    listed = re.findall(r": ([\w-]+\.md)$", text(ROOT / "mkdocs.yml"), re.MULTILINE)
    assert sorted(listed) == [page.name for page in PAGES]


def test_no_figure_of_the_weights_is_typed_by_hand() -> None:
    for page in ("responsible.md", "index.md", "method.md"):
        assert re.findall(r"\d+(?:\.\d+)? %", GENERATED.sub("", text(DOCS / page))) == [], page


# ---------------------------------------------------------------- figures


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # As when it is run: what lies beside it can be imported.
        patch.syspath_prepend(TOOLS)
        spec.loader.exec_module(module)
    return module


def test_the_drawings_are_those_of_the_code() -> None:
    """If this fails, run: python tools/docs/figures.py --write."""
    pytest.importorskip("torch", reason="the drawings run the networks")
    drawn = load("figures").drawings()
    assert [name for name, content in drawn.items() if text(DOCS / name) != content] == []
    for stage in ("197,208", "1,225,088", "34,864", "4,105,999"):
        assert stage in drawn["network.svg"]


def test_the_images_of_the_portrait_are_drawn_anew_alike() -> None:
    pytest.importorskip("torch", reason="the attention of all channels needs the network itself")
    figures = load("figures")
    first, second = figures.images(), figures.images()
    assert set(first) == {"demo.png", "attention.png"}
    for name, image in first.items():
        assert figures._small(image) == figures._small(second[name])
        with Image.open(DOCS / name) as kept:
            assert kept.size == image.size
            difference = np.abs(np.asarray(kept.convert("RGB"), int) - np.asarray(image.convert("RGB"), int))
            assert difference.mean() < 6, f"{name}: run python tools/docs/figures.py --write"


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.name)
def test_figures_are_small_and_used(path: Path) -> None:
    assert path.stat().st_size < LARGEST_FIGURE
    documents = "".join(text(page) for page in [*PAGES, *ROOT.glob("*.md")])
    assert path.name in documents or path.name in text(TOOLS / "screenshots.py")


# ---------------------------------------------------------------- code of the pages


@pytest.mark.parametrize(
    "path", [ROOT / "README.zh-CN.md", DOCS / "index.md", DOCS / "images.md"], ids=lambda p: p.name
)
def test_the_python_of_a_page_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(PORTRAIT)
    found = blocks(path, "python")
    assert found
    for number, code in enumerate(found):
        exec(compile(code, f"{path.name}, block {number}", "exec"), {})
    assert re.search(r"^[a-z]+ \d+% \[", capsys.readouterr().out, re.MULTILINE)


def test_the_page_on_explanations_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ddamfn.cli import main

    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(PORTRAIT)
    (command,) = "".join(blocks(DOCS / "explain.md", "sh")).splitlines()
    # Grad-CAM is tested where it is made; here it would import PyTorch.
    assert main([*command.split()[1:], "--no-grad-cam", "--random", "1", "--quiet"]) == 0
    assert Path("explained/explain.json").is_file()
    assert list(Path("explained").glob("*/face-1.png"))
    capsys.readouterr()
    (code,) = blocks(DOCS / "explain.md", "python")
    exec(compile(code, "explain.md", "exec"), {})
    assert re.search(r": beats [0-4] of 4 random maps$", capsys.readouterr().out, re.MULTILINE)


def test_the_video_page_runs(
    tmp_path: Path,
    write_video: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from ddamfn.cli import main

    monkeypatch.chdir(tmp_path)
    Path("portrait.jpg").write_bytes(PORTRAIT)
    with Image.open("portrait.jpg") as image:
        frame = np.asarray(image.convert("RGB").crop((90, 0, 370, 280)))
    write_video(Path("clip.mp4"), [frame] * 4, rate=2)
    run = 0
    for line in "".join(blocks(DOCS / "video.md", "sh")).splitlines():
        words = line.partition("#")[0].split()
        # The other lines need two minutes of video, and a camera.
        if words[:3] == ["ddamfn", "predict", "clip.mp4"] and "--start" not in words:
            assert main([*words[1:], "--quiet"]) == 0, line
            run += 1
    assert run == 3
    for name in ("clip.jsonl", "clip.csv", "marked.mp4", "expressions.png"):
        assert Path(name).stat().st_size > 0
    (code,) = blocks(DOCS / "video.md", "python")
    exec(compile(code, "video.md", "exec"), {})
    assert re.search(r"^0\.00 s, face 1: [a-z]+ \d+%$", capsys.readouterr().out, re.MULTILINE)


def test_the_page_on_large_collections_runs(
    tmp_path: Path, head: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray Data's example runs where there is a cluster; Spark and Daft are not installed here."""
    from ddamfn.cli import main

    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Image.fromarray(head).save(Path("photos", "photo.png"))
    run = 0
    for line in "".join(blocks(DOCS / "scale.md", "sh")).splitlines():
        words = line.partition("#")[0].split()
        if words[0] == "ddamfn" and "s3:" not in line and "--ray" not in words:
            assert main([*words[1:], "--quiet"]) == 0, line
            run += 1
    assert run == 4
    codes = {code: compile(code, "scale.md", "exec") for code in blocks(DOCS / "scale.md", "python")}
    assert len(codes) == 4
    (reading,) = (compiled for code, compiled in codes.items() if "read_table" in code)
    exec(reading, {})
    assert capsys.readouterr().out.startswith("1 ")
    for name in ("faces.csv", "faces.jsonl"):
        assert Path(name).stat().st_size > 0


@pytest.fixture
def server(wait_until: Callable[[Callable[[], object], str], None]) -> Iterator[str]:
    """Return the address of a running server."""
    pytest.importorskip("uvicorn", reason="needs the extra serve")
    from ddamfn.serve import Settings, address, bind, make_server

    listener = bind("127.0.0.1", 0)
    running, url = make_server(Settings(workers=1)), address(listener)
    thread = threading.Thread(target=running.run, args=([listener],), daemon=True)
    thread.start()

    def is_ready() -> bool:
        try:
            with urlopen(f"{url}/readyz", timeout=60):
                return True
        except OSError:
            return False

    wait_until(is_ready, "the server never got ready")
    yield url
    running.should_exit = True
    thread.join(120)
    assert not thread.is_alive()


def test_the_server_s_page_and_example_run(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "other.jpg"):
        Path(name).write_bytes(PORTRAIT)
    Path("broken.jpg").write_bytes(b"no image")
    (code,) = blocks(DOCS / "server.md", "python")
    exec(compile(code.replace("http://127.0.0.1:8000", server), "server.md", "exec"), {})
    assert re.search(r"^[a-z]+ 0\.\d+$|^[a-z]+ 1\.0$", capsys.readouterr().out, re.MULTILINE)

    spec = importlib.util.spec_from_file_location("ask_server", ROOT / "examples" / "ask_server.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(["photo.jpg", "broken.jpg", "--server", server])
    told = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"photo\.jpg: [a-z]+ \d+%", told[0])
    assert told[1].startswith("broken.jpg: ")
    assert len(example.ask(server, "photo.jpg", attention=True)["faces"][0]["attention"]) == 2

    if shutil.which("curl") is None:
        pytest.skip("the curl lines need curl")
    lines = [line for line in "".join(blocks(DOCS / "server.md", "sh")).splitlines() if line.startswith("curl")]
    assert len(lines) == 2
    for line in lines:
        command = line.replace("http://127.0.0.1:8000", server)
        asked = subprocess.run(["sh", "-c", f"{command} --silent --fail"], capture_output=True, text=True, timeout=120)
        assert asked.returncode == 0, asked.stderr
        assert '"expression"' in asked.stdout


# ---------------------------------------------------------------- both READMEs

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"


def levels(path: Path) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", FENCE.sub("", text(path)), re.MULTILINE)]


def without_comments(block: str) -> list[str]:
    return [line.partition("  #")[0].rstrip() for line in block.splitlines()]


def test_both_readmes_have_the_same_headings() -> None:
    assert levels(ENGLISH) == levels(CHINESE)
    assert len(levels(ENGLISH)) > 4


def test_both_readmes_have_the_same_code() -> None:
    english, chinese = (FENCE.findall(text(path)) for path in (ENGLISH, CHINESE))
    assert [language for language, _ in english] == [language for language, _ in chinese]
    for (_, one), (_, other) in zip(english, chinese, strict=True):
        assert without_comments(one) == without_comments(other)
    spans = [
        sorted(set(re.findall(r"`((?:pip|ddamfn|mkdocs|python) [^`]+)`", text(path)))) for path in (ENGLISH, CHINESE)
    ]
    assert spans[0] == spans[1]


def test_both_readmes_have_the_same_figures_and_links() -> None:
    for pattern in (GENERATED, re.compile(r"!\[[^\]]*\]\(([^)]+)\)")):
        found = [[match.group(0 if pattern is GENERATED else 1) for match in pattern.finditer(text(path))]
                 for path in (ENGLISH, CHINESE)]  # fmt: skip
        assert found[0]
        assert found[0] == found[1]
    links = [set(re.findall(r"\]\(([^)\s]+)\)", text(path))) for path in (ENGLISH, CHINESE)]
    assert links[0] - {"README.zh-CN.md"} == links[1] - {"README.md"}
    for path, other in ((ENGLISH, "README.zh-CN.md"), (CHINESE, "README.md")):
        assert f"]({other})" in "\n".join(text(path).splitlines()[:5])
