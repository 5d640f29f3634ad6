from pathlib import Path

import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from theorylens.locale import LANGUAGES, translator
from theorylens.locale._translator import _merged
from theorylens.results import Message


def test_english_is_the_source():
    assert translator("en")("any {text}") == "any {text}"
    assert LANGUAGES == ("en", "zh")


def test_chinese_sentences_keep_their_numbers():
    said = Message("require.missing", "{name} was not measured in this run", name="TL101").render(translator("zh"))
    assert said == "本次运行没有测量 TL101"


def test_a_sentence_that_no_catalogue_knows_comes_back_and_the_header_never_shows():
    translate = translator("zh")
    assert translate("never written") == "never written"
    assert translate("") == ""


def test_an_unknown_language_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown language 'fr'; known are en, zh"):
        translator("fr")


def _catalogue(folder: Path, name: str, entry: str, *, compiled: bool = True) -> None:
    po = folder / f"{name}.po"
    po.write_text(f'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n{entry}\n', encoding="utf-8")
    if compiled:
        with po.open("rb") as source, po.with_suffix(".mo").open("wb") as target:
            write_mo(target, read_po(source))


def test_the_catalogues_of_all_parts_are_read_together(tmp_path):
    _catalogue(tmp_path, "one", 'msgid "a"\nmsgstr "甲"')
    _catalogue(tmp_path, "two", 'msgid "b"\nmsgstr "乙"')
    translate = _merged(tmp_path, "zh")
    assert (translate("a"), translate("b"), translate("c")) == ("甲", "乙", "c")


def test_a_catalogue_that_is_not_compiled_says_what_to_run(tmp_path):
    _catalogue(tmp_path, "one", 'msgid "a"\nmsgstr "甲"', compiled=False)
    with pytest.raises(FileNotFoundError, match=r"one\.po is not compiled; run 'make locale'"):
        _merged(tmp_path, "zh")
