"""The page's words: the same in both languages, and none missing."""

import re
from importlib.resources import files

from ddamfn.labels import EXPRESSIONS
from ddamfn.results import UNCERTAIN

PAGE = files("ddamfn").joinpath("serve", "page")
SOURCES = {entry.name: entry.read_text(encoding="utf-8") for entry in PAGE.iterdir() if entry.name != "icon.svg"}
ENGLISH, CHINESE = SOURCES["texts.js"].split("const CHINESE")


def keys(language: str) -> list[str]:
    return re.findall(r"^  (\w+):", language, re.MULTILINE)


def test_both_languages_have_the_same_texts_once() -> None:
    assert keys(ENGLISH) == keys(CHINESE)
    assert len(set(keys(ENGLISH))) == len(keys(ENGLISH)) > 50


def test_every_text_that_is_asked_for_exists_and_every_text_is_asked_for() -> None:
    code = "\n".join(text for name, text in SOURCES.items() if name != "texts.js")
    asked = set(re.findall(r'\btext\("(\w+)"', code)) | set(re.findall(r'data-(?:text|label)="(\w+)"', code))
    assert asked <= set(keys(ENGLISH))
    # Others are chosen by a state, a problem or a refusal's kind, whose names stand in the code as strings or stems.
    rest = {key.removesuffix("Title").removesuffix("Text") for key in set(keys(ENGLISH)) - asked} - {"expressions"}
    spoken = set(re.findall(r'["`](\w+)["`]', code + SOURCES["texts.js"]))
    assert rest <= spoken


def test_every_expression_has_a_name_in_both_languages() -> None:
    for language in (ENGLISH, CHINESE):
        named = re.search(r"expressions: \{(.*?)\}", language, re.DOTALL)
        assert named is not None
        assert re.findall(r"(\w+):", named.group(1)) == [*EXPRESSIONS, UNCERTAIN]


def test_the_page_says_what_it_must_not_be_used_for() -> None:
    assert "Article 5(1)(f) of the AI Act forbids" in ENGLISH
    assert "《人工智能法》第 5 条第 1 款 (f) 项禁止" in CHINESE


def test_nothing_is_loaded_from_elsewhere_and_nothing_stands_inline() -> None:
    for name, text in SOURCES.items():
        addresses = [found for found in re.findall(r"https?://[^\s\"'`)]+", text) if "www.w3.org" not in found]
        assert addresses == [], name
    markup = SOURCES["index.html"]
    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", markup) == []
