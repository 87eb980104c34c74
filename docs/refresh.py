"""Writes the parts of the documents that have their source elsewhere, so that no figure and no drawing is typed twice.

    python docs/refresh.py            says whether the documents are in step
    python docs/refresh.py --write    brings them into step

| what stands between two marks | comes from |
|---|---|
| `results` in README.md and MODEL_CARD.md | the cards of the bundled weights; `ddamfn eval --record` fills them |
| `tree` in ARCHITECTURE.md | the modules and their docstrings |
| `layers` in ARCHITECTURE.md | the import rules in pyproject.toml |
"""

import argparse
import ast
import re
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ddamfn.data import CARDS
from ddamfn.errors import DdamfnError, UsageError
from ddamfn.weights import Card, list_weights, threshold_for

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "ddamfn"
NOTHING = (
    "No weights have been trained yet, so there is no figure to show. Until then `ddamfn predict` and `ddamfn demo` "
    "need `--weights PATH`."
)
_WIDTH = 118
_INDENT = 18


def replace_section(text: str, name: str, section: str) -> str:
    """Return a document with another section between the marks `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: if the document does not hold the two marks exactly once, in this order.
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"the document needs {begin} and, below it, {end}, each once")
    return pattern.sub(lambda _: f"{begin}\n{section}\n{end}", text)


def stale(root: Path = ROOT, cards: Sequence[Card] | None = None) -> dict[Path, str]:
    """Return the documents that are not in step with their sources, and what they should say."""
    known = list_weights() if cards is None else cards
    sections: dict[str, dict[str, Callable[[], str]]] = {
        "README.md": {"results": lambda: readme_results(known)},
        "MODEL_CARD.md": {"results": lambda: model_card_results(known)},
        "ARCHITECTURE.md": {"tree": tree, "layers": lambda: _fenced(import_layers())},
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
    """Compare, or write with --write; return 1 if the documents are not in step."""
    parser = argparse.ArgumentParser(description="Brings generated parts of the documents into step.")
    parser.add_argument("--write", action="store_true", help="rewrite them")
    args = parser.parse_args(arguments)
    documents = stale()
    names = ", ".join(sorted(path.name for path in documents))
    if args.write:
        for path, text in documents.items():
            path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"written: {names or 'nothing, all in step'}\n")
        return 0
    sys.stdout.write(f"not in step: {names}; run python docs/refresh.py --write\n" if documents else "in step\n")
    return 1 if documents else 0


# ---------------------------------------------------------------- ARCHITECTURE.md


def import_layers() -> list[str]:
    """Return the rows of the import rules, the uppermost first; siblings are divided by `|`."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")
    return list(layers)


def tree() -> str:
    """Return every package and module in the order of the import rules, with what its docstring's first line says."""
    names = [name.strip() for row in import_layers() for name in row.split("|")]
    return _fenced(["src/ddamfn/", *(line for name in names for line in _branch(PACKAGE / name, 1))])


def _branch(place: Path, depth: int) -> list[str]:
    """Return the lines of one module, or of a package, its modules, and the packages in it."""
    if not place.is_dir():
        return _lines(f"{place.name}.py", _summary(place.with_suffix(".py")), depth)
    lines = _lines(f"{place.name}/", _summary(place / "__init__.py"), depth)
    modules = sorted(path.name for path in place.glob("*.py") if path.stem != "__init__")
    lines += textwrap.wrap(" ".join(modules), _WIDTH, initial_indent=" " * _INDENT, subsequent_indent=" " * _INDENT)
    inner = sorted(path.parent for path in place.glob("*/__init__.py"))
    return [*lines, *(line for package in inner for line in _branch(package, depth + 1))]


def _lines(name: str, summary: str, depth: int) -> list[str]:
    start = f"{'  ' * depth}{name}".ljust(_INDENT)
    return textwrap.wrap(summary, _WIDTH, initial_indent=start, subsequent_indent=" " * _INDENT)


def _summary(module: Path) -> str:
    """Return a module's docstring up to the end of its first line."""
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0].rstrip(".")


def _fenced(lines: Iterable[str]) -> str:
    return "\n".join(["```text", *lines, "```"])


# ---------------------------------------------------------------- README.md and MODEL_CARD.md


def readme_results(cards: Sequence[Card]) -> str:
    """Return README.md's table: one row for each score on a test split, and what it rests on."""
    rows = [row for card in cards for row in _readme_rows(card)]
    if not rows:
        return NOTHING
    head = ("weights", "scored on", "accuracy", "95 % interval", "mean class accuracy", "macro-F1")
    return "\n\n".join([_table(head, rows), *(_origin(card) for card in cards)])


def model_card_results(cards: Sequence[Card]) -> str:
    """Return MODEL_CARD.md's figures: for each weights file what it is, what it scores, and each class's recall."""
    return "\n\n".join(part for card in cards for part in _describe(card)) or NOTHING


def _readme_rows(card: Card) -> list[tuple[str, ...]]:
    rows = []
    for score in card.scores:
        if score["split"] != "test":
            continue
        for title, part in _parts(score):
            rows.append(
                (
                    f"`{card.name}`",
                    title,
                    f"{part['correct']:,} of {part['n']:,} = **{_percent(part['accuracy'])}**",
                    _interval(part),
                    _percent(part["mean_class_accuracy"]),
                    f"{part['macro_f1']:.4f}",
                )
            )
    return rows


def _parts(score: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """Yield a score's title and figures, and those without the pictures that also stand in train."""
    known = CARDS.get(score["dataset"])
    title = f"{known.title if known else score['dataset']} {score['split']}"
    if score.get("rule") != "single label":
        title += f", rule {score['rule']}"
    yield title + ("" if score.get("official", True) else " (not the official split)"), score
    cleaned = score.get("duplicate_free")
    if cleaned:
        yield f"{title}, without {cleaned['removed']:,} twins of training pictures", cleaned


def _origin(card: Card) -> str:
    """Say when and of what the figures were measured."""
    training = card.training
    dates = sorted({str(score["date"]) for score in card.scores if "date" in score})
    measured = f"measured on {' and '.join(dates)} with" if dates else "measured with"
    return (
        f"`{card.name}`: {measured} `ddamfn eval`, which reads pictures the way `ddamfn predict` does. Trained with "
        f"the recipe `{training.get('recipe', 'not recorded')}`, seed {training.get('seed', 'not recorded')}, from "
        f"commit `{training.get('commit', 'not recorded')}`; chosen by {training.get('selection', 'not recorded')}."
    )


def _describe(card: Card) -> list[str]:
    parts = [f"### {card.name}", _table(("what", "value"), _facts(card))]
    scores = [row for score in card.scores for row in _score_rows(score)]
    if scores:
        head = ("scored on", "correct of N", "accuracy", "95 % interval", "mean class accuracy", "macro-F1", "ECE")
        parts += [_table(head, scores), _recalls(card)]
    return [*parts, f"Rights: {card.rights}"]


def _facts(card: Card) -> list[tuple[str, str]]:
    made, training, alignment = card.architecture, card.training, card.alignment
    detail = card.appearance["detail_px"]
    facts = [
        ("network", f"{made['name']}, {made['num_heads']} heads, {made['parameters']:,} parameters"),
        ("cost of one face", f"{made['gmac']:.3f} GMAC at {card.input_side_px} px"),
        ("file", f"`{card.file}`, weights stored as {card.precision}"),
        ("sha256", f"`{card.sha256}`"),
        ("labels, in order of the outputs", ", ".join(card.labels)),
        ("alignment", f"template {alignment['template']}, margin {alignment['margin']:g}, {alignment['side_px']} px"),
        ("detector", alignment["detector"]),
        ("look", f"{card.appearance['colour']}, detail of {detail} px" if detail else card.appearance["colour"]),
        ("mean, std", f"{_numbers(card.mean)}; {_numbers(card.std)}"),
        ("temperature", f"{card.temperature:.4f}; {training.get('temperature', 'not recorded')}"),
        ("trained on", f"{training.get('data', 'not recorded')}, rule {training.get('rule', 'not recorded')}"),
        ("recipe", f"`{training.get('recipe', 'not recorded')}`, seed {training.get('seed', 'not recorded')}"),
        ("epochs", str(training.get("epochs", "not recorded"))),
        ("commit", f"`{training.get('commit', 'not recorded')}`"),
        ("selection", str(training.get("selection", "not recorded"))),
    ]
    parity = training.get("parity")
    if parity:
        facts.append(
            (
                "export gate",
                f"{parity['faces']}: {parity['changed']} answers changed, logits differ by at most "
                f"{parity['logit_difference']:.1e}, attention by {parity['attention_difference']:.1e}",
            )
        )
    return [*facts, *_calibration(card), ("licence", card.licence)]


def _calibration(card: Card) -> list[tuple[str, str]]:
    """Return what is known of the confidence on validation, and what abstaining costs there."""
    known = card.calibration
    if known is None:
        return []
    rows = [
        (
            "calibration error",
            f"{_percent(known['ece_before'])} without the temperature, {_percent(known['ece_after'])} with it",
        )
    ]
    for precision in (0.9, 0.95):
        try:
            threshold = threshold_for(known, precision)
        except UsageError:
            kept = "not reached on validation"
        else:
            coverage = known["coverage"][known["thresholds"].index(threshold)]
            kept = f"answers {100 * coverage:.0f} % of validation pictures, from a confidence of {threshold:.2f} on"
        rows.append((f"`--abstain {precision:g}`", kept))
    return rows


def _score_rows(score: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            title,
            f"{part['correct']:,} of {part['n']:,}",
            _percent(part["accuracy"]),
            _interval(part),
            _percent(part["mean_class_accuracy"]),
            f"{part['macro_f1']:.4f}",
            f"{part['ece']:.4f}",
        )
        for title, part in _parts(score)
    ]


def _recalls(card: Card) -> str:
    """Return the table of recalls: a row a class, a column a score."""
    titles = [next(iter(_parts(score)))[0] for score in card.scores]
    rows = []
    for name in card.labels:
        cells = []
        for score in card.scores:
            recall, n = score["per_class_recall"].get(name), score["support"].get(name, 0)
            cells.append("-" if recall is None else f"{_percent(recall)} of {n:,}")
        rows.append((name, *cells))
    return _table(("recall of", *titles), rows)


def _interval(part: Mapping[str, Any]) -> str:
    low, high = part["ci95"]
    return f"{_percent(low)} to {_percent(high)}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DdamfnError, ValueError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")
