"""Write the generated sections of the documents, so that no figure is typed by hand.

    python tools/docs/refresh.py            checks that the documents are up to date
    python tools/docs/refresh.py --write    updates them

| section | source |
|---|---|
| `results` in both READMEs, MODEL_CARD.md and docs/index.md | the cards of the bundled weights |
| the sections of docs/method.md and docs/responsible.md | the same |
| robustness in MODEL_CARD.md and docs/responsible.md | the newest docs/benchmarks/*-robustness.json of the weights |
| `tree` in ARCHITECTURE.md | the modules and their docstrings |
| `layers` in ARCHITECTURE.md | the import rules in pyproject.toml |
"""

import argparse
import ast
import re
import shlex
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from card_sections import describe, interval, parts, people, percent, read_robustness, robustness_key, seeds, table
from site_sections import attention_of, cost, rights, where_they_fail

from ddamfn.errors import DdamfnError
from ddamfn.weights import Card, list_weights

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "ddamfn"
NOTHING = (
    "No weights have been trained yet, so there is no figure to show. Until then `ddamfn predict` and `ddamfn demo` "
    "need `--weights PATH`."
)
_WIDTH = 118
_INDENT = 18


def replace_section(text: str, name: str, section: str) -> str:
    """Replace the section between the marks `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: if the document does not hold the two marks exactly once, in this order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"the document needs {begin} and, below it, {end}, each once")
    return pattern.sub(lambda _: f"{begin}\n{section}\n{end}", text)


def stale(root: Path = ROOT, cards: Sequence[Card] | None = None) -> dict[Path, str]:
    """Return the outdated documents and their new content."""
    known = list_weights() if cards is None else cards
    measured = read_robustness(root / "docs" / "benchmarks")
    results = {"results": lambda: readme_results(known)}
    sections: dict[str, dict[str, Callable[[], str]]] = {
        "README.md": results,
        "README.zh-CN.md": results,
        "MODEL_CARD.md": {"results": lambda: model_card_results(known, measured)},
        "ARCHITECTURE.md": {"tree": tree, "layers": lambda: _fenced(import_layers())},
        "docs/index.md": results,
        "docs/method.md": {"attention": lambda: attention_of(known) or NOTHING, "cost": lambda: cost(known) or NOTHING},
        "docs/responsible.md": {
            "rights": lambda: rights(known) or NOTHING,
            "failures": lambda: where_they_fail(known, measured) or NOTHING,
        },
    }
    wanted = {}
    for name, makers in sections.items():
        text = current = (root / name).read_text(encoding="utf-8")
        for section, make in makers.items():
            current = replace_section(current, section, make())
        if current != text:
            wanted[root / name] = current
    return wanted


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, or with --write update the documents; return 1 if they are outdated."""
    parser = argparse.ArgumentParser(description="Updates the generated sections of the documents.")
    parser.add_argument("--write", action="store_true", help="rewrite them")
    args = parser.parse_args(arguments)
    documents = stale()
    names = ", ".join(sorted(path.name for path in documents))
    if args.write:
        for path, text in documents.items():
            path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"written: {names or 'nothing, all up to date'}\n")
        return 0
    sys.stdout.write(f"outdated: {names}; run python tools/docs/refresh.py --write\n" if documents else "up to date\n")
    return 1 if documents else 0


# ---------------------------------------------------------------- ARCHITECTURE.md


def import_layers() -> list[str]:
    """Return the rows of the import rules from top to bottom; siblings are separated by `|`."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return list(layers)


def tree() -> str:
    """Return every package and module in the order of the import rules, with the first sentence of its docstring."""
    names = [name.strip() for row in import_layers() for name in row.split("|")]
    return _fenced(["src/ddamfn/", *(line for name in names for line in _branch(PACKAGE / name, 1))])


def _branch(place: Path, depth: int) -> list[str]:
    """Return the lines of one module, or of a package, its modules, and the packages in it."""
    if not place.is_dir():
        return _lines(f"{place.name}.py", _summary(place.with_suffix(".py")), depth)
    lines = _lines(f"{place.name}/", _summary(place / "__init__.py"), depth)
    modules = sorted(path.name for path in place.glob("*.py") if path.stem != "__init__")
    inset = "  " * (depth + 2)
    lines += textwrap.wrap(" ".join(modules), _WIDTH, initial_indent=inset, subsequent_indent=inset)
    inner = sorted(path.parent for path in place.glob("*/__init__.py"))
    return [*lines, *(line for package in inner for line in _branch(package, depth + 1))]


def _lines(name: str, summary: str, depth: int) -> list[str]:
    start = f"{'  ' * depth}{name}".ljust(_INDENT)
    return textwrap.wrap(summary, _WIDTH, initial_indent=start, subsequent_indent=" " * _INDENT)


def _summary(module: Path) -> str:
    """Return the first sentence of a module's docstring."""
    line = (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    return line.partition(". ")[0].rstrip(".")


def _fenced(lines: Iterable[str]) -> str:
    return "\n".join(["```text", *lines, "```"])


# ---------------------------------------------------------------- README.md and MODEL_CARD.md


def readme_results(cards: Sequence[Card]) -> str:
    """Return README.md's tables: one row per score on a test split, beside people, and how it was measured."""
    rows = [row for card in cards for row in _readme_rows(card)]
    if not rows:
        return NOTHING
    head = ("weights", "scored on", "accuracy", "95 % interval", "mean class accuracy", "macro-F1")
    return "\n\n".join([table(head, rows), *people(cards), *(_origin(card) for card in cards)])


def model_card_results(cards: Sequence[Card], measured: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Return MODEL_CARD.md's figures of each weights file: facts, scores, failures, robustness.

    Args:
        cards: the cards of the weights.
        measured: the newest robustness reports, as `card_sections.read_robustness` returns them.
    """
    keys = [robustness_key(card.sha256, card.preprocessing) for card in cards]
    found = measured or {}
    blocks = [block for card, key in zip(cards, keys, strict=True) for block in describe(card, found.get(key))]
    return "\n\n".join(blocks) or NOTHING


def _readme_rows(card: Card) -> list[tuple[str, ...]]:
    rows = []
    for score in card.scores:
        if score["split"] != "test":
            continue
        for title, part in parts(score):
            rows.append(
                (
                    f"`{card.name}`",
                    title,
                    f"{part['correct']:,} of {part['n']:,} = **{percent(part['accuracy'])}**",
                    interval(part),
                    percent(part["mean_class_accuracy"]),
                    f"{part['macro_f1']:.4f}",
                )
            )
    return rows


def _origin(card: Card) -> str:
    """Describe when the figures were measured and how the network was trained."""
    training = card.training
    dates = sorted({str(score["date"]) for score in card.scores if "date" in score})
    measured = f"measured on {' and '.join(dates)} with" if dates else "measured with"
    several = f"\nCorrect on validation: {seeds(training['seeds'])}." if "seeds" in training else ""
    begun = " It was initialized from an earlier run." if "initial" in training else ""
    count = len(training.get("teachers", {}))
    taught = f" It was distilled from {count} earlier network{'s' * (count > 1)}." if count else ""
    if training.get("distillation", {}).get("name") == "self":
        taught = " Its last phase is self-distillation."
    changed = " and other settings" if _differs(training.get("command", "")) else ""
    return (
        f"`{card.name}`: {measured} `ddamfn eval`, which preprocesses images as `ddamfn predict` does. Trained with "
        f"the recipe `{training.get('recipe', 'not recorded')}`{changed}, seed {training.get('seed', 'not recorded')}, "
        f"from commit `{training.get('commit', 'not recorded')}`; chosen by "
        f"{training.get('selection', 'not recorded')}.{begun}{taught}{several}"
    )


def _differs(command: str) -> bool:
    """Return whether a training command changes more of its recipe than the seed."""
    words = shlex.split(command)
    return any(word == "--set" and not value.startswith("seed=") for word, value in pairwise(words))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DdamfnError, ValueError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
