"""What the documents say must be so: code runs, commands parse, links lead somewhere, drawings are the code's."""

import argparse
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from pkgutil import resolve_name

import pytest

from ddamfn import Recognizer
from ddamfn.cli import build_parser
from ddamfn.faces import TEMPLATES
from ddamfn.weights import DEFAULT_WEIGHTS, Card, list_weights

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "ddamfn"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
LOG = sorted((ROOT / "docs" / "studies").glob("log-*/*.md"))
"""The long tables of EXPERIMENTS.md."""
SCRIPTS = [*sorted((ROOT / "examples").glob("*.py")), *sorted((ROOT / "tools" / "docs").glob("*.py"))]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
TOOLS = {
    "pytest": "pytest",
    "ruff": "ruff",
    "mypy": "mypy",
    "lint-imports": "import-linter",
    "mkdocs": "mkdocs-material",
}
"""Command -> the distribution that brings it, which an extra must name."""
ANYBODY_S = ("cat", "curl")
"""Programs that come with the system; a page that uses another must say where to get it."""


def by_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(path.read_text(encoding="utf-8")) if found == language]


def commands(path: Path) -> Iterator[list[str]]:
    """Yield every command of a document's shell blocks as its words; pipes, `&&` and `&` part commands."""
    for line in "".join(blocks(path, "sh")).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for operator, words in groupby(lexer, key=lambda word: word in ("&&", "&", "|", ";")):
            if not operator:
                yield list(words)


@pytest.fixture
def default_weights(stand_in_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the default weights be the bundled ones, or a stand-in in a tree that has none."""
    if DEFAULT_WEIGHTS not in [card.name for card in list_weights()]:
        monkeypatch.setattr("ddamfn.weights.store.DEFAULT_WEIGHTS", str(stand_in_weights))


# ---------------------------------------------------------------- README


def test_the_python_of_the_readme_runs(
    default_weights: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes())
    found = blocks(ROOT / "README.md", "python")
    assert found
    for number, code in enumerate(found):
        exec(compile(code, f"README.md, block {number}", "exec"), {})
    assert re.search(r"^[a-z]+ \d+% \[", capsys.readouterr().out, re.MULTILINE)
    assert Path("annotated.png").stat().st_size > 10_000


def test_the_json_that_is_shown_has_the_form_of_a_result(default_weights: None) -> None:
    (shown,) = (json.loads(block) for block in blocks(ROOT / "docs" / "images.md", "json"))
    real = Recognizer().predict(files("ddamfn").joinpath("demo", "astronaut.jpg").read_bytes()).to_dict()
    assert list(shown) == list(real)
    ((one,), (other,)) = shown["faces"], real["faces"]
    assert list(one) == list(other)
    assert one["bbox"] == pytest.approx(other["bbox"], abs=1)
    assert [len(point) for point in one["landmarks"]] == [2] * 5
    assert set(one["probabilities"]) <= set(other["probabilities"])


def test_the_readme_says_the_essential_on_its_first_screen() -> None:
    """A reader sees what it is, the two commands and the code before anything else."""
    start = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:28]
    for essential in ("![", "pip install . && ddamfn demo", 'pip install -e ".[dev]" && pytest', "Recognizer"):
        assert any(essential in line for line in start), essential


# ---------------------------------------------------------------- commands, links, names


@pytest.mark.parametrize("path", DOCUMENTS, ids=by_name)
def test_every_command_is_one_that_exists(path: Path) -> None:
    for program, *words in commands(path):
        if program == "ddamfn":
            build_parser(words[0]).parse_args(words)
        elif program == "python":
            assert (ROOT / words[0]).is_file(), words
        elif program == "pip":
            for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
                assert set(extra.split(",")) <= set(EXTRAS), words
        elif program in TOOLS:
            assert any(TOOLS[program] in requirement for extra in EXTRAS.values() for requirement in extra), program
        else:
            assert program in ANYBODY_S, f"{program}: a reader may not have it"


@pytest.mark.parametrize("path", [*DOCUMENTS, *SCRIPTS], ids=by_name)
def test_every_verb_and_option_named_in_a_sentence_exists(path: Path) -> None:
    for span in SPAN.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if not span.startswith("ddamfn "):
            continue
        words = span.split()[1:]
        parser: argparse.ArgumentParser = build_parser(words[0])
        for word in words:
            verbs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
            if word.startswith("-"):
                assert word in parser._option_string_actions, span
            elif verbs:
                assert word in verbs[0].choices, span
                parser = verbs[0].choices[word]


@pytest.mark.parametrize("path", [*DOCUMENTS, *LOG], ids=by_name)
def test_every_link_leads_somewhere(path: Path) -> None:
    # Images of the portrait are drawn with the bundled weights, so they cannot be there before them.
    waiting = set() if list_weights() else {"docs/demo.png", "demo.png", "attention.png"}
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if link.startswith("https://") or target in waiting:
            continue
        place = path.parent / target if target else path
        assert place.exists(), link
        if anchor:
            assert anchor in headings(place), link


def headings(path: Path) -> set[str]:
    """Return a document's headings as the anchors that links use."""
    lines = FENCE.sub("", path.read_text(encoding="utf-8")).splitlines()
    titles = [line.lstrip("# ").lower() for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=by_name)
def test_every_file_named_in_a_sentence_exists(path: Path) -> None:
    for span in SPAN.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        for name in re.findall(r"(?<!\S)[\w./]+\.(?:py|md|toml)(?!\S)", span):
            if "NAME" not in name:
                assert any((root / name).is_file() for root in (ROOT, PACKAGE)), name


TEXT = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)


def test_every_environment_variable_exists() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in [*PACKAGE.rglob("*.py"), ROOT / "tests/conftest.py"])
    variables = set(re.findall(r"\bDDAMFN_[A-Z_]+\b", TEXT))
    assert variables
    assert [name for name in variables if name not in code] == []


def test_every_recipe_setting_and_python_name_exists() -> None:
    pytest.importorskip("torch", reason="recipes and networks need PyTorch")
    from ddamfn.cli.train import assignments
    from ddamfn.train import RECIPES, override, recipe

    named = {name for name in SPAN.findall(TEXT) if re.fullmatch(r"ddamfn_\w+", name)}
    assert named - {*RECIPES, *TEMPLATES} == set()
    for setting in re.findall(r"--set ([\w.]+=[^\s`]+)", TEXT):
        override(recipe("ddamfn_quick"), assignments([setting]))
    for name in set(re.findall(r"`(ddamfn(?:\.\w+)+)`", TEXT)):
        resolve_name(name)


# ---------------------------------------------------------------- ARCHITECTURE


def test_the_layers_drawn_are_those_that_the_import_linter_keeps() -> None:
    (layers,) = (c["layers"] for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert "\n".join(layers) + "\n" in blocks(ROOT / "ARCHITECTURE.md", "text")


def test_what_is_drawn_of_the_root_is_there() -> None:
    (drawn,) = (b for b in blocks(ROOT / "ARCHITECTURE.md", "text") if b.startswith("README.md"))
    for line in drawn.splitlines():
        for name in re.findall(r"(?:^|(?<=\s))[\w./]+(?:\.md|\.toml|/run|/)(?=\s|$)|^\w+\.py", line):
            assert any((root / name).exists() for root in (ROOT, ROOT / "tests", PACKAGE)), name


def test_the_card_s_table_names_its_fields() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text[text.index("## The card") : text.index("## The prepared set")]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [field.name for field in fields(Card)]


# ---------------------------------------------------------------- hygiene


@pytest.mark.parametrize("path", [*DOCUMENTS, *LOG, *SCRIPTS], ids=by_name)
def test_documents_name_no_machine_and_leave_nothing_undone(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.~/-])/(?:home|mnt|root|tmp|work)\b|\bshared/", text) == []
    assert re.findall(r"\b(?:TODO|FIXME|XXX)\b", text) == []
    assert max(map(len, text.splitlines())) <= 400


def test_the_log_stays_short_and_links_every_report() -> None:
    path = ROOT / "EXPERIMENTS.md"
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size <= 25_000
    titles = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert [
        title for title in titles if not re.match(r"\d{4}-\d\d-\d\d: (?:kept|negative|neutral|open): ", title)
    ] == []
    reports = [*LOG, *sorted((ROOT / "docs" / "studies").glob("*/report.md"))]
    assert [report.name for report in reports if f"({by_name(report)}" not in text] == []
